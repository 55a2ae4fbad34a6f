"""Runs every configuration of value iteration, and compares its values with the exact solution.

    python benchmarks/value_iteration_figures.py

Runs `fit` and `test` in a temporary folder. Writes `docs/runs/value_iteration.csv`.
"""

import argparse
import contextlib
import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient

from rl_lightning.cli import main as command_line
from rl_lightning.datamodules import TabularDataModule
from rl_lightning.functional.bellman import exact_values, greedy_policy

ROOT = Path(__file__).resolve().parent.parent
LARGE = ("--data.init_args.env_kwargs.map_name", "8x8")
RUNS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "GridWorld 4×4": ("gridworld", (), 20),
    "FrozenLake 4×4, slippery": ("frozenlake", (), 100),
    "FrozenLake 8×8, slippery": ("frozenlake", LARGE, 100),
    "CliffWalking": ("cliffwalking", (), 20),
    "Taxi": ("taxi", (), 20),
}


def measure(run: str) -> dict[str, Any]:
    """Fit and test one configuration in the working folder."""
    name, flags, episodes = RUNS[run]
    common = ["--config", str(ROOT / "configs" / "value_iteration" / f"{name}.yaml"), *flags]
    assert command_line(["fit", *common, "--trainer.enable_progress_bar", "false"]) == 0
    evaluation = ["--data.eval_episodes", str(episodes), "--data.num_eval_envs", str(episodes)]
    assert command_line(["test", *common, *evaluation, "--ckpt_path", "last"]) == 0
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiments = client.search_experiments(filter_string="name LIKE 'value_iteration-%'")
    (found,) = client.search_runs([each.experiment_id for each in experiments])
    metrics = found.data.metrics
    (path,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    saved = torch.load(path, weights_only=True)
    learned = saved["state_dict"]["action_values"]
    arguments = saved["datamodule_hyper_parameters"]
    given = ("env_id", "env_kwargs", "wrappers", "gamma")
    data = TabularDataModule(**{key: arguments[key] for key in given if key in arguments})
    solved = exact_values(data.dynamics, greedy_policy(learned))
    return {
        "run": run,
        "gamma": data.gamma,
        "states": len(learned),
        "sweeps": int(metrics["train/sweeps"]),
        "largest_difference": (learned.amax(dim=1) - solved).abs().max().item(),
        "start_value": (solved @ data.dynamics.initial).item(),
        "return": metrics["test/return"],
        "return_std": metrics["test/return_std"],
        "episodes": episodes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs/runs/value_iteration.csv")
    args = parser.parse_args()
    rows = []
    for run in RUNS:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
            rows.append(measure(run))
        print(rows[-1], flush=True)
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

"""How far Q-learning's values are from those of value iteration, against environment steps.

    python benchmarks/q_learning.py

Writes `docs/q_learning_error.csv` and `.png`: the largest error of a value and the share of states
with an optimal greedy action, with the hyperparameters of `configs/q_learning/` and seed 1. Writes
`docs/runs/q_learning.csv`: for each seed the environment steps after which every state has an
optimal greedy action until the end.
"""

import argparse
import csv
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything

from rl_lightning.datamodules import ReplayDataModule, TabularDataModule
from rl_lightning.functional.bellman import best_actions, optimality_sweep
from rl_lightning.modules import QLearning

DOCS = Path(__file__).parent.parent / "docs"
RUNS: dict[str, dict[str, Any]] = {
    "GridWorld 4x4": {
        "env_id": "rl_lightning/GridWorld-v0",
        "env_kwargs": {"size": 4},
        "gamma": 1.0,
    },
    "FrozenLake 4x4": {"env_id": "FrozenLake-v1", "env_kwargs": {"is_slippery": False}},
    "FrozenLake 8x8, optimistic": {
        "env_id": "FrozenLake-v1",
        "env_kwargs": {"is_slippery": False, "map_name": "8x8"},
        "initial_value": 1.0,
    },
}


class ErrorRecorder(Callback):
    """Compares the table with the optimal one every few updates."""

    def __init__(self, name: str, data: TabularDataModule) -> None:
        self.name = name
        dynamics = data.dynamics
        self.optimal = torch.zeros_like(dynamics.rewards)
        for _ in range(1000):
            self.optimal = optimality_sweep(dynamics, self.optimal)
        # Without terminal states: no action is taken there, so their values are never updated.
        self.open = dynamics.transitions.to_dense().view(*self.optimal.shape, -1).sum((1, 2)) > 0
        self.rows: list[dict[str, Any]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % 10:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        learned = pl_module.action_values.detach()
        chosen = learned.argmax(dim=1, keepdim=True)
        right = best_actions(self.optimal).gather(1, chosen).squeeze(1)[self.open]
        error = (learned.amax(dim=1) - self.optimal.amax(dim=1)).abs()[self.open].max()
        self.rows.append(
            {
                "run": self.name,
                "env_steps": data.collector.env_steps,
                "max_error": error.item(),
                "optimal_actions": right.double().mean().item(),
            }
        )


def learn(name: str, updates: int, seed: int) -> list[dict[str, Any]]:
    """Train one run and return its rows."""
    run = {"gamma": 0.99, "initial_value": 0.0, **RUNS[name]}
    mdp = {key: run[key] for key in ("env_id", "env_kwargs", "gamma")}
    seed_everything(seed, verbose=False)
    data = ReplayDataModule(
        **mdp,
        num_envs=16,
        env_steps_per_update=16,
        batch_size=64,
        capacity=4096,
        warmup_env_steps=64,
        updates_per_epoch=updates,
        seed=seed,
    )
    module = QLearning(
        data.environment,
        initial_value=run["initial_value"],
        epsilon_end=0.1,
        optimizer=partial(torch.optim.SGD, lr=0.5),
    )
    recorder = ErrorRecorder(name, TabularDataModule(**mdp))
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[recorder],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    ).fit(module, data)
    return recorder.rows


def summary(rows: list[dict[str, Any]], seed: int, updates: int) -> dict[str, Any]:
    """The last point at which some state had no optimal action, plus one; and the final error."""
    wrong = [index for index, row in enumerate(rows) if row["optimal_actions"] < 1]
    first = wrong[-1] + 1 if wrong else 0
    return {
        "run": rows[0]["run"],
        "seed": seed,
        "updates": updates,
        "env_steps_to_optimal": rows[first]["env_steps"] if first < len(rows) else None,
        "max_error": rows[-1]["max_error"],
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, summaries = [], []
    for name in RUNS:
        for seed in range(1, args.seeds + 1):
            updates = args.updates
            learned = learn(name, updates, seed)
            rows += learned if seed == 1 else []
            if summary(learned, seed, updates)["env_steps_to_optimal"] is None:
                updates *= 4
                learned = learn(name, updates, seed)
            summaries.append(summary(learned, seed, updates))
            print(summaries[-1], flush=True)
    write(args.out / "q_learning_error.csv", rows)
    write(args.out / "runs" / "q_learning.csv", summaries)

    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=100)
    axes = figure.subplots(1, 2)
    for name in RUNS:
        points = [row for row in rows if row["run"] == name]
        steps = [row["env_steps"] for row in points]
        axes[0].semilogy(steps, [max(row["max_error"], 1e-9) for row in points], label=name)
        axes[1].plot(steps, [row["optimal_actions"] for row in points], label=name)
    axes[0].set(title="largest error of a value", xlabel="environment steps")
    axes[1].set(title="states with an optimal action", xlabel="environment steps")
    axes[1].legend()
    for panel in axes:
        panel.grid(alpha=0.3)
    figure.savefig(args.out / "q_learning_error.png")


if __name__ == "__main__":
    main()

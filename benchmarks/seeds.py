"""Trains a configuration with several seeds and tests the best checkpoint of each.

    python benchmarks/seeds.py --config configs/dqn/cartpole.yaml --seeds 5 \
        --out docs/runs/dqn_cartpole.csv

Runs `fit` and `test`, each in its own process and in a temporary folder. Writes one row for each
seed: seconds of the whole `fit` with the start of the program, environment steps, and the
statistics of the greedy episodes of `test`.
"""

import argparse
import csv
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TABLE_ROW = re.compile(r"test/(\w+)\s*│\s*([-\d.einf]+)")


def run(arguments: list[str], folder: str) -> str:
    command = [sys.executable, "-m", "rl_lightning", *arguments]
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def train_and_test(config: str, seed: int, episodes: int) -> dict[str, float]:
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        common = ["--config", config, "--seed_everything", str(seed)]
        start = time.perf_counter()
        fitted = run(["fit", *common, "--trainer.enable_progress_bar", "false"], folder)
        seconds = time.perf_counter() - start
        checkpoint = re.findall(r"checkpoint ([^,]+),", fitted)[-1]
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        (fit,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        env_steps = max(p.step for p in client.get_metric_history(fit.info.run_id, "val/return"))
        evaluation = ["--data.eval_episodes", str(episodes), "--data.num_eval_envs", str(episodes)]
        tested = run(["test", *common, *evaluation, "--ckpt_path", checkpoint], folder)
    row = {"seed": seed, "fit_seconds": round(seconds, 1), "env_steps": env_steps}
    return row | {name: float(value) for name, value in TABLE_ROW.findall(tested)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = str(arguments.config.resolve())
    rows = []
    for seed in range(1, arguments.seeds + 1):
        rows.append(train_and_test(config, seed, arguments.episodes))
        print(rows[-1], flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for column in ("return", "env_steps", "fit_seconds"):
        print(f"median {column}: {statistics.median(row[column] for row in rows):g}")


if __name__ == "__main__":
    main()

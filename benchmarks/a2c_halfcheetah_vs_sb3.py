"""Environment steps per second of A2C on HalfCheetah-v5 compared with Stable-Baselines3's.

    pip install 'rl_lightning[bench,mujoco,envpool]'
    python benchmarks/a2c_halfcheetah_vs_sb3.py --repeats 3 \
        --out docs/runs/a2c_halfcheetah_vs_sb3.csv

Ours is `configs/a2c/halfcheetah.yaml` through the command line, with tracking, in one process and
in two (`--trainer.devices 2 --trainer.strategy ddp`) that share the environment copies, and with
the environments in EnvPool, on one thread and on two (torch has one). Theirs has
that package's defaults and its VecNormalize, which normalises as ours does, with one thread of
torch and with two. All have the same number of copies, and run in turn. Gymnasium's environments
without a learner are an upper bound on one core for both. The physics alone is measured too.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rl_lightning.tracking.tables import write_table

CONFIG = Path(__file__).resolve().parent.parent / "configs/a2c/halfcheetah.yaml"
ROLLOUT_LENGTH = 16


def ours(processes: int, pool_threads: int, copies: int, env_steps: int) -> float:
    """Environment steps per second between the first and the last logged point."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        updates = env_steps // copies // ROLLOUT_LENGTH
        subprocess.run(
            [
                *(sys.executable, "-m", "rl_lightning", "fit", "--config", str(CONFIG)),
                *("--trainer.devices", str(processes), "--trainer.max_epochs", "1"),
                *(("--trainer.strategy", "ddp") if processes > 1 else ()),
                *("--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", "0"),
                *("--data.num_envs", str(copies // processes)),
                *(("--data.engine", "envpool") if pool_threads else ()),
                *(("--data.num_threads", str(pool_threads)) if pool_threads else ()),
                *("--data.updates_per_epoch", str(updates)),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        points = client.get_metric_history(run.info.run_id, "train/loss")
        first, *_, last = sorted(points, key=lambda point: point.step)
        return (last.step - first.step) / (last.timestamp - first.timestamp) * 1e3


def theirs(threads: int, copies: int, env_steps: int) -> float:
    import torch
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(threads)
    envs = VecNormalize(make_vec_env("HalfCheetah-v5", copies, seed=1))
    model = A2C("MlpPolicy", envs, seed=1, device="cpu")
    start = time.perf_counter()
    model.learn(env_steps)
    return model.num_timesteps / (time.perf_counter() - start)


def environments(copies: int, env_steps: int) -> float:
    from rl_lightning.environments.making import EnvironmentMaker

    envs = EnvironmentMaker("HalfCheetah-v5").make(copies)
    envs.reset(seed=1)
    actions = envs.action_space.sample()
    start = time.perf_counter()
    for _ in range(env_steps // copies):
        envs.step(actions)
    return env_steps / (time.perf_counter() - start)


def physics(copies: int, env_steps: int) -> float:
    import gymnasium as gym

    env = gym.make("HalfCheetah-v5").unwrapped
    env.reset(seed=1)
    action = env.action_space.sample()
    start = time.perf_counter()
    for _ in range(env_steps):
        env.do_simulation(action, env.frame_skip)
    return env_steps / (time.perf_counter() - start)


CONTENDERS: dict[str, Callable[[int, int], float]] = {
    "rl_lightning, one process": partial(ours, 1, 0),
    "rl_lightning, two processes": partial(ours, 2, 0),
    "rl_lightning, EnvPool, one thread": partial(ours, 1, 1),
    "rl_lightning, EnvPool, two threads": partial(ours, 1, 2),
    "stable_baselines3, one thread": partial(theirs, 1),
    "stable_baselines3, two threads": partial(theirs, 2),
    "environments alone": environments,
    "physics alone": physics,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--env_steps", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows: list[dict[str, Any]] = []
    for repeat in range(arguments.repeats):
        for who, run in CONTENDERS.items():
            speed = round(run(arguments.copies, arguments.env_steps))
            rows.append({"who": who, "repeat": repeat, "env_steps_per_second": speed})
            print(rows[-1], flush=True)
    write_table(arguments.out, rows)
    medians = {
        who: statistics.median(row["env_steps_per_second"] for row in rows if row["who"] == who)
        for who in CONTENDERS
    }
    for who, speed in medians.items():
        print(f"{who}: {speed:,.0f} environment steps per second")
    best_ours, best_theirs = (
        max(speed for who, speed in medians.items() if who.startswith(package))
        for package in ("rl_lightning", "stable_baselines3")
    )
    print(f"{best_ours / best_theirs:.2f} times as many, each at its best")


if __name__ == "__main__":
    main()

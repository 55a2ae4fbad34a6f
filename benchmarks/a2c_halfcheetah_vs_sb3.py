"""Environment steps a second of A2C on HalfCheetah-v5 beside Stable-Baselines3's.

    pip install 'rl_lightning[bench,mujoco]'
    python benchmarks/a2c_halfcheetah_vs_sb3.py --repeats 3 \
        --out docs/runs/a2c_halfcheetah_vs_sb3.csv

Ours is `configs/a2c/halfcheetah.yaml` under its Trainer; theirs has that package's
defaults and its VecNormalize, which does for it what our normalisation does. The same
number of copies, one thread each, in turns. The physics is the same for both and
most of what is left to us, so its own speed stands beside them.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.cli import LightningCLI

CONFIG = Path(__file__).resolve().parent.parent / "configs/a2c/halfcheetah.yaml"


class Stopwatch(Callback):
    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.speed = trainer.datamodule.collector.env_steps / (time.perf_counter() - self.start)


def ours(copies: int, env_steps: int) -> float:
    from rl_lightning import cli

    watch = Stopwatch()
    original = LightningCLI.instantiate_trainer

    def with_watch(self: Any, **kwargs: Any) -> Any:
        trainer = original(self, **kwargs)
        trainer.callbacks.append(watch)
        return trainer

    LightningCLI.instantiate_trainer = with_watch  # type: ignore[method-assign]
    try:
        cli.main(
            [
                *("fit", "--config", str(CONFIG), "--num_threads", "1"),
                *("--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "1"),
                *("--trainer.limit_val_batches", "0", "--data.num_envs", str(copies)),
                *("--data.updates_per_epoch", str(env_steps // copies // 16)),
            ]
        )
    finally:
        LightningCLI.instantiate_trainer = original  # type: ignore[method-assign]
    return watch.speed


def theirs(copies: int, env_steps: int) -> float:
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    envs = VecNormalize(make_vec_env("HalfCheetah-v5", copies, seed=1))
    model = A2C("MlpPolicy", envs, seed=1, device="cpu")
    start = time.perf_counter()
    model.learn(env_steps)
    return model.num_timesteps / (time.perf_counter() - start)


def physics(copies: int, env_steps: int) -> float:
    import gymnasium as gym

    env = gym.make("HalfCheetah-v5").unwrapped
    env.reset(seed=1)
    action = env.action_space.sample()
    start = time.perf_counter()
    for _ in range(env_steps):
        env.do_simulation(action, env.frame_skip)
    return env_steps / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--env_steps", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for repeat in range(arguments.repeats):
            for run in (ours, theirs, physics):
                speed = run(arguments.copies, arguments.env_steps)
                row = {"who": run.__name__, "repeat": repeat, "env_steps_per_second": round(speed)}
                rows.append(row)
                print(row, flush=True)
        os.chdir(out.parent)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    speeds = {
        run.__name__: statistics.median(
            row["env_steps_per_second"] for row in rows if row["who"] == run.__name__
        )
        for run in (ours, theirs, physics)
    }
    print(f"medians {speeds}; {speeds['ours'] / speeds['theirs']:.2f} times as many")


if __name__ == "__main__":
    main()

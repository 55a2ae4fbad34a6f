"""Environment steps per second of SAC on HalfCheetah-v5 compared with Stable-Baselines3's.

    pip install 'rl_lightning[bench,mujoco]'
    python benchmarks/sac_vs_sb3.py --repeats 5 --out docs/runs/sac_vs_sb3.csv

Ours is `configs/sac/halfcheetah.yaml` through the command line, with tracking. It runs with that
package's settings (one environment copy, an update for each step, minibatches of 256), and with its
own (eight copies, an update for every second step, minibatches of 128). Theirs has that package's
defaults, which are also those of rl-baselines3-zoo. Networks of 256 and 256 units, one thread of
torch. Both are measured after the warm-up, and run in turn.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback

from front_door import run_watched
from rl_lightning.tracking.tables import write_table

CONFIG = Path(__file__).resolve().parent.parent / "configs/sac/halfcheetah.yaml"
WARMUP, UPDATES, THREADS = 1_000, 1_500, 1


class Stopwatch(Callback):
    """Measures the second epoch."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.start = time.perf_counter()
        collector = trainer.datamodule.collector
        self.begun = collector.env_steps

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.is_last_batch:
            seconds = time.perf_counter() - self.start
            self.speed = (trainer.datamodule.collector.env_steps - self.begun) / seconds


def ours(copies: int, env_steps_per_update: int, batch_size: int) -> float:
    watch = Stopwatch()
    run_watched(
        watch,
        [
            *("fit", "--config", str(CONFIG), "--num_threads", str(THREADS)),
            *("--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0"),
            *("--data.num_envs", str(copies), "--data.warmup_env_steps", str(WARMUP)),
            *("--data.env_steps_per_update", str(env_steps_per_update)),
            *("--data.batch_size", str(batch_size)),
            *("--data.updates_per_epoch", str(UPDATES)),
        ],
    )
    return watch.speed


def theirs() -> float:
    import torch
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    class Clock(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == WARMUP + 100:
                self.start = time.perf_counter()
            return True

    torch.set_num_threads(THREADS)
    clock = Clock()
    model = SAC("MlpPolicy", "HalfCheetah-v5", learning_starts=WARMUP, seed=1, device="cpu")
    model.learn(WARMUP + 100 + UPDATES, callback=clock)
    return UPDATES / (time.perf_counter() - clock.start)


CONTENDERS: dict[str, Callable[[], float]] = {
    "stable_baselines3": theirs,
    "rl_lightning, as Stable-Baselines3": partial(ours, 1, 1, 256),
    "rl_lightning, as configured": partial(ours, 8, 2, 128),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows: list[dict[str, Any]] = []
    for repeat in range(arguments.repeats):
        for who, run in CONTENDERS.items():
            rows.append({"who": who, "repeat": repeat, "env_steps_per_second": round(run(), 1)})
            print(rows[-1], flush=True)
    write_table(arguments.out, rows)
    base, *rest = (
        statistics.median(row["env_steps_per_second"] for row in rows if row["who"] == who)
        for who in CONTENDERS
    )
    for who, speed in zip(list(CONTENDERS)[1:], rest, strict=True):
        print(f"{who}: {speed:.1f} against {base:.1f} steps per second, {speed / base:.2f} times")


if __name__ == "__main__":
    main()

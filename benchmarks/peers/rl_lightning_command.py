"""A contender of the league: this package, through its command line, with tracking.

python rl_lightning_command.py WORK SEED
"""

import sys
import time
from pathlib import Path
from typing import Any

from lightning import Callback
from measured import report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from front_door import run_watched

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_SPEED = (
    *("--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0"),
    *("--data.warmup_env_steps", "1000", "--data.updates_per_epoch", "1500"),
)
_EQUAL = ("--data.num_envs", "1", "--data.env_steps_per_update", "1", "--data.batch_size", "256")
# Configuration, goal, further arguments. A work without a goal measures its second epoch.
WORKS: dict[str, tuple[str, float | None, tuple[str, ...]]] = {
    "cartpole_dqn": ("dqn/cartpole", 475.0, ()),
    "cartpole_a2c": ("a2c/cartpole", 475.0, ()),
    "cartpole_ppo": ("ppo/cartpole", 475.0, ()),
    "cartpole_pqn": ("pqn/cartpole", 475.0, ()),
    "pendulum": ("sac/pendulum", -200.0, ("--data.updates_per_epoch", "1000")),
    "halfcheetah_speed_equal": ("sac/halfcheetah", None, (*_SPEED, *_EQUAL)),
    "halfcheetah_speed": ("sac/halfcheetah", None, _SPEED),
    "halfcheetah": ("sac/halfcheetah", 5_000.0, ()),
}


class Watch(Callback):
    """Stops at the first validation that reaches the goal; measures the last epoch's speed."""

    def __init__(self, goal: float | None) -> None:
        self.goal, self.evaluating, self.reached, self.speed = goal, 0.0, False, 0.0

    def on_train_start(self, *_: Any) -> None:
        self.first_step = time.time()

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        self.epoch_start, self.epoch_steps = time.time(), trainer.datamodule.collector.env_steps

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.is_last_batch:
            self.env_steps = trainer.datamodule.collector.env_steps
            seconds = time.time() - self.epoch_start
            self.speed = (self.env_steps - self.epoch_steps) / seconds

    def on_validation_start(self, *_: Any) -> None:
        self.paused = time.time()

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        self.end = time.time()
        self.evaluating += self.end - self.paused
        assert self.goal is not None
        self.reached = bool(trainer.callback_metrics["val/return"] >= self.goal)
        trainer.should_stop = trainer.should_stop or self.reached


def main() -> None:
    work, seed = sys.argv[1], sys.argv[2]
    config, goal, more = WORKS[work]
    watch = Watch(goal)
    options = ("--num_threads", "1", "--trainer.enable_progress_bar", "false")
    named = ("--config", str(CONFIGS / f"{config}.yaml"), "--seed_everything", seed)
    run_watched(watch, ["fit", *named, *options, *more])
    report(
        first_step=watch.first_step,
        end=time.time() if goal is None else watch.end,
        evaluating=watch.evaluating,
        env_steps=watch.env_steps,
        env_steps_per_second=watch.speed,
        reached=watch.reached,
    )


if __name__ == "__main__":
    main()

"""Seconds and environment steps to a greedy return, of this package and of Stable-Baselines3.

Time is measured from the first environment step to the first evaluation that reaches the goal. The
time of evaluations is subtracted on both sides, with that of our checkpoints after them.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Callback

from front_door import run_watched
from rl_lightning.tracking.tables import write_table


class TimeToGoal(NamedTuple):
    """When the goal was reached, or where training ended without it."""

    seconds: float
    env_steps: int
    reached: bool


class UntilGoal(Callback):
    """Stops training at the first validation whose mean return reaches the goal."""

    def __init__(self, goal: float) -> None:
        self.goal, self.evaluating = goal, 0.0
        self.result = TimeToGoal(0.0, 0, False)

    def on_train_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self.paused = time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:
        if self.result.env_steps:  # after an evaluation and its checkpoint
            self.evaluating += time.perf_counter() - self.paused

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        seconds = self.paused - self.start - self.evaluating
        reached = bool(trainer.callback_metrics["val/return"] >= self.goal)
        self.result = TimeToGoal(seconds, trainer.datamodule.collector.env_steps, reached)
        trainer.should_stop = reached


def fit_until(goal: float, arguments: Sequence[str]) -> TimeToGoal:
    """Run `rl_lightning fit` with these arguments until the goal is reached."""
    watch = UntilGoal(goal)
    run_watched(watch, ["fit", *arguments])
    return watch.result


def learn_until(
    goal: float, model: Any, evaluate: Callable[[], float], every: int, most_steps: int
) -> TimeToGoal:
    """Train a model of Stable-Baselines3 until the goal is reached.

    Args:
        goal: Mean return.
        model: The model.
        evaluate: Gives the mean return of greedy episodes.
        every: Environment steps between two evaluations.
        most_steps: Environment steps after which training ends without the goal.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    class Until(BaseCallback):
        evaluating = 0.0
        result = TimeToGoal(0.0, 0, False)

        def _on_training_start(self) -> None:
            self.start = time.perf_counter()

        def _on_step(self) -> bool:
            if self.num_timesteps % every:
                return True
            paused = time.perf_counter()
            reached = bool(evaluate() >= goal)
            now = time.perf_counter()
            seconds = paused - self.start - self.evaluating
            self.result = TimeToGoal(seconds, self.num_timesteps, reached)
            self.evaluating += now - paused
            return not reached

    until = Until()
    model.learn(most_steps, callback=until)
    return until.result


def compare(
    description: str,
    ours: Callable[[int], TimeToGoal],
    theirs: Callable[[int], TimeToGoal],
    columns: Callable[[TimeToGoal], dict[str, Any]] = TimeToGoal._asdict,
    seeds: int = 1,
) -> list[dict[str, Any]]:
    """Run both with each seed of the command line in turn, in an empty folder, and write a table.

    Args:
        description: Description of the benchmark.
        ours: Trains with a seed.
        theirs: Trains with a seed.
        columns: Makes the columns of a row, in addition to `package` and `seed`.
        seeds: Default number of seeds.

    Returns:
        The rows of the table.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for seed in range(1, arguments.seeds + 1):
            for package, run in (("rl_lightning", ours), ("stable_baselines3", theirs)):
                rows.append({"package": package, "seed": seed, **columns(run(seed))})
                print(rows[-1], flush=True)
        os.chdir(out.parent)
    write_table(out, rows)
    return rows

"""What each contender of the league prints: when it began, when it reached the goal, how fast."""

import json
import time
from collections.abc import Callable
from typing import Any


def report(**measured: Any) -> None:
    """Print the measurement as the last line, which `league.py` reads."""
    print(json.dumps(measured), flush=True)


class Clock:
    """Measures a training until a goal, and subtracts the time of evaluations.

    Args:
        goal: Mean return of greedy episodes that ends the training; none if speed is measured.
        evaluate: Gives the mean return of greedy episodes.
        every: Environment steps between two evaluations.
        ignored_steps: Environment steps before speed is measured.
    """

    def __init__(
        self, goal: float | None, evaluate: Callable[[], float], every: int, ignored_steps: int = 0
    ) -> None:
        self.goal, self.evaluate, self.every = goal, evaluate, every
        self.ignored_steps = ignored_steps
        self.first_step = self.speed_start = time.time()
        self.evaluating = 0.0
        self.reached, self.env_steps = False, 0
        self._next = every

    def goes_on(self, env_steps: int) -> bool:
        """Evaluate where it is due; whether training goes on after so many environment steps."""
        self.env_steps = env_steps
        if env_steps <= self.ignored_steps:
            self.speed_start = time.time()
        if self.goal is None or env_steps < self._next:
            return True
        self._next += self.every
        paused = time.time()
        self.reached = self.evaluate() >= self.goal
        self.evaluating += time.time() - paused
        return not self.reached

    def report(self) -> None:
        now = time.time()
        steps = self.env_steps - self.ignored_steps
        report(
            first_step=self.first_step,
            end=now,
            evaluating=self.evaluating,
            env_steps=self.env_steps,
            env_steps_per_second=steps / (now - self.speed_start),
            reached=self.reached,
        )

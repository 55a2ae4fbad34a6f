"""The command `sweep`."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.search_space import as_flags, draw, example, read_search_space
from rl_lightning.studies.study import Ending, Study
from rl_lightning.studies.subject import Subject
from rl_lightning.studies.trial_table import Trial, short_value

Curve = Sequence[Sequence[float]]


class Sweep(Study):
    """One configuration with hyperparameters that Optuna draws from a search space.

    All trials have the same number of environment steps, and are compared at equal numbers.
    """

    name = "sweep"
    summary = "Search for hyperparameters of a configuration with Optuna."

    def __init__(self, options: argparse.Namespace, arguments: Sequence[str]) -> None:
        super().__init__(options, arguments)
        self.space = read_search_space(options.space)

    @staticmethod
    def add_options(parser: argparse.ArgumentParser, number: dict[str, Any]) -> None:
        """Add the search space, the number of trials and their environment steps."""
        parser.add_argument("--space", required=True, help="YAML file, or YAML text, with ranges")
        parser.add_argument("--trials", default=20, **number, help="number (default: 20)")
        parser.add_argument(
            "--env_steps",
            **number,
            help="environment steps of each trial (default: those of the configuration as written)",
        )

    def example(self) -> dict[str, Any]:
        """One value of each range."""
        return example(self.space)

    def contents(self) -> dict[str, Any]:
        """The search space and the given environment steps too."""
        space = {flag: str(each) for flag, each in self.space.items()}
        return {**super().contents(), "space": space, "env_steps": self.options.env_steps}

    def prepare(self, subject: Subject, folder: Path) -> None:
        """Set the environment steps of each trial."""
        super().prepare(subject, folder)
        given = self.options.env_steps
        self.env_steps = given or subject.env_steps if subject.counts_env_steps else None
        if given is not None and self.env_steps is None:
            raise ConfigurationError(
                f"--env_steps is {given}, and this datamodule has no environment steps: leave it "
                "out, and the trials have equal epochs"
            )
        if subject.counts_env_steps and self.env_steps is None:
            raise ConfigurationError(
                "sweep gives each trial the same number of environment steps, and the "
                "configuration does not fix one: give --env_steps"
            )

    def propose(self, trials: Sequence[Trial]) -> dict[str, Any] | None:
        """Draw the next trial."""
        if len(trials) >= self.options.trials:
            return None
        return draw(self.space, trials, self.folder.name, self.sign)

    def is_hopeless(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        """Whether the best score so far is below the median of the other trials."""
        others = [each.curve for each in trials if each.number != trial.number and each.curve]
        return is_below_median(trial.curve, others, self.sign)

    def write(self, trials: Sequence[Trial]) -> Ending:
        """Write a row for each trial, and name the best ones and the next command."""
        from rl_lightning.studies import report

        ended = [trial for trial in trials if trial.state == "complete"]
        ended.sort(key=lambda trial: trial.result["value"], reverse=self.sign > 0)
        files = [self.folder / name for name in ("trials.csv", "curves.csv", "sweep.png")]
        report.write_rows(files[0], trials)
        report.write_curves(files[1], trials)
        if not ended:
            return Ending([], files[:2], {}, {})
        best, monitor = ended[0], str(self.subject.monitor)
        report.draw_sweep(files[2], trials, best, self.space, self.subject.experiment, monitor)
        pruned = sum(trial.state == "pruned" for trial in trials)
        again = shlex.join([*self.arguments, *as_flags(best.parameters)])
        budget = f" after {self.env_steps:,} environment steps" if self.env_steps else ""
        lines = [
            f"{monitor}{budget}",
            *_table(ended[:5]),
            f"{len(trials)} trials: {len(ended)} to the end, {pruned} pruned, "
            f"{len(trials) - len(ended) - pruned} failed",
            f"Next, other seeds: python -m rl_lightning seeds --first_seed 101 {again}",
        ]
        if len(trials) < self.options.trials:
            lines.insert(-1, "There are no more combinations of these values")
        tags = {f"best.{flag}": str(value) for flag, value in best.parameters.items()}
        metrics = {monitor: best.result["value"], "num_trials": len(trials)}
        return Ending(lines, files, metrics, tags)


def is_below_median(curve: Curve, others: Sequence[Curve], sign: int, startup: int = 5) -> bool:
    """Whether a run's best score is below the median of the others' after as many env steps.

    No run is stopped in the first tenth of the steps, or before `startup` other runs have come as
    far.

    Args:
        curve: [step, score, seconds] of each validation of the run.
        others: The curves of the other runs.
        sign: 1 if a higher score is better, else −1.
        startup: Number of other runs.

    Source: Golovin et al. 2017, "Google Vizier", section 3.2.2 (median stopping rule).
    """
    if not curve or not others:
        return False
    step = curve[-1][0]
    reached = [each for each in others if each[-1][0] >= step and each[0][0] <= step]
    longest = max(each[-1][0] for each in others)
    if len(reached) < startup or step < longest / 10:
        return False

    def best(points: Curve) -> float:
        return max(sign * score for at, score, _ in points if at <= step)

    return best(curve) < median(best(each) for each in reached)


def _table(trials: Sequence[Trial]) -> list[str]:
    rows = [
        [f"{trial.result['value']:.4g}", *map(short_value, trial.parameters.values())]
        for trial in trials
    ]
    rows.insert(0, ["score", *trials[0].parameters])
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    return ["".join(map(str.rjust, row, widths)) for row in rows]

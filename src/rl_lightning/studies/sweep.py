"""The command `sweep`."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.kind import StudyKind
from rl_lightning.studies.parent_run import ParentRun
from rl_lightning.studies.search_space import as_flags, example, read_search_space, suggest

if TYPE_CHECKING:
    from optuna import Study, Trial

    from rl_lightning.studies.training import Subject


class Sweep(StudyKind):
    """One configuration with hyperparameters that Optuna draws from a search space."""

    name = "sweep"
    summary = "Search for hyperparameters of a configuration with Optuna."

    def __init__(self, options: argparse.Namespace, arguments: Sequence[str]) -> None:
        super().__init__(options, arguments)
        self.space = read_search_space(options.space)

    @staticmethod
    def add_options(parser: argparse.ArgumentParser, number: dict[str, Any]) -> None:
        """Add the search space and the number of trials."""
        parser.add_argument("--space", required=True, help="YAML file, or YAML text, with ranges")
        parser.add_argument("--trials", default=20, **number, help="number (default: 20)")

    def example(self) -> dict[str, Any]:
        """One value of each range."""
        return example(self.space)

    def contents(self) -> dict[str, Any]:
        """The search space too."""
        return {**super().contents(), "space": str(self.space)}

    def samplers(self) -> dict[str, Any]:
        """TPE, and a pruner that compares a trial with the median of the others."""
        from optuna.pruners import MedianPruner
        from optuna.samplers import TPESampler

        # Running trials count as bad ones, so that two processes do not try the same values.
        sampler = TPESampler(multivariate=True, constant_liar=True, seed=1)
        return {"sampler": sampler, "pruner": MedianPruner(n_startup_trials=5, n_warmup_steps=2)}

    def draw(self, trial: "Trial") -> None:
        """Draw a value from each range."""
        suggest(trial, self.space)

    def remaining(self, study: "Study") -> int:
        """The number of trials that the study does not have yet."""
        from optuna.trial import TrialState

        # An interrupted trial has failed without an error, and another trial resumes it.
        counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        known = [
            trial
            for trial in study.get_trials(deepcopy=False)
            if trial.state in counted or "error" in trial.user_attrs
        ]
        return max(0, int(self.options.trials) - len(known))

    def finish(
        self, study: "Study", subject: "Subject", folder: Path, parent: ParentRun | None
    ) -> list[str]:
        """Write a row for each trial, and name the best ones and the next command."""
        from optuna.trial import TrialState

        from rl_lightning.studies import report

        trials = [each for each in study.get_trials() if each.state.is_finished() and each.params]
        ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if not ended:
            raise ConfigurationError(f"no trial came to its end: see the .log files in {folder}")
        ended.sort(key=lambda trial: trial.value or 0.0, reverse=subject.mode == "max")
        best = ended[0]
        files = [folder / name for name in ("trials.csv", "curves.csv", "sweep.png")]
        report.write_rows(files[0], trials)
        report.write_curves(files[1], trials)
        report.draw_sweep(files[2], trials, best, subject.experiment, str(subject.monitor))
        if parent is not None:
            parent.log_parameters({f"best.{key}": str(v) for key, v in best.params.items()})
            reached = {str(subject.monitor): best.value or 0.0, "num_trials": len(trials)}
            parent.finish(reached, files)
        again = shlex.join([*self.arguments, *as_flags(best.params)])
        return [
            f"{subject.monitor} at the end",
            *report.trials_table(trials, ended),
            f"Table, curves and picture: {folder}",
            f"Next, other seeds: python -m rl_lightning seeds --first_seed 101 {again}",
        ]

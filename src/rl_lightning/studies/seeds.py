"""The command `seeds`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lightning.command_line.arguments import arguments_of_test
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.kind import StudyKind
from rl_lightning.studies.parent_run import ParentRun
from rl_lightning.studies.trial_record import score_name

if TYPE_CHECKING:
    from optuna import Study, Trial

    from rl_lightning.studies.training import Subject


class Seeds(StudyKind):
    """One configuration with several seeds. The last and the best checkpoints are tested."""

    name = "seeds"
    summary = (
        "Train a configuration with several seeds, test the last and the best checkpoint of each, "
        "and summarise them."
    )
    own_flags = ("--ckpt_path", "--seed_everything")

    @staticmethod
    def add_options(parser: argparse.ArgumentParser, number: dict[str, Any]) -> None:
        """Add the seeds and the episodes of tests."""
        parser.add_argument("--seeds", default=5, **number, help="number of seeds (default: 5)")
        parser.add_argument("--first_seed", type=int, default=1, help="the first one (default: 1)")
        parser.add_argument(
            "--test_episodes", **number, help="episodes of each test (default: data.eval_episodes)"
        )

    def samplers(self) -> dict[str, Any]:
        """No pruner, and a sampler that draws nothing, because all seeds are given."""
        from optuna.pruners import NopPruner
        from optuna.samplers import RandomSampler

        return {"sampler": RandomSampler(), "pruner": NopPruner()}

    def queue(self, study: "Study") -> None:
        """Queue the seeds that the study does not have yet."""
        from optuna.trial import TrialState

        counted = [TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING]
        trials = study.get_trials(deepcopy=False, states=counted)
        known = {trial.user_attrs.get("seed") for trial in trials}
        first = self.options.first_seed
        for seed in range(first, first + self.options.seeds):
            if seed not in known:
                study.enqueue_trial({"seed_everything": seed}, user_attrs={"seed": seed})

    def draw(self, trial: "Trial") -> None:
        """Take the seed of a queued trial."""
        from optuna import TrialPruned

        if "seed" not in trial.user_attrs:
            raise TrialPruned  # another machine has taken the last seed
        trial.suggest_int("seed_everything", 0, 2**31 - 1)

    def remaining(self, study: "Study") -> int:
        """The number of queued trials."""
        from optuna.trial import TrialState

        return len(study.get_trials(deepcopy=False, states=[TrialState.WAITING]))

    def test_arguments(self) -> list[str]:
        """Those of `fit` that `test` has too, and the number of episodes."""
        kept = arguments_of_test(self.arguments)
        episodes = self.options.test_episodes
        return kept if episodes is None else [*kept, f"--data.eval_episodes={episodes}"]

    def finish(
        self, study: "Study", subject: "Subject", folder: Path, parent: ParentRun | None
    ) -> list[str]:
        """Write a row for each seed, and the statistics over all seeds."""
        from optuna.trial import TrialState

        from rl_lightning.studies import report

        trials = study.get_trials(states=[TrialState.COMPLETE])
        if not trials:
            raise ConfigurationError(f"all runs failed: see the .log files in {folder}")
        score = score_name(subject)
        files = [folder / name for name in ("seeds.csv", "curves.csv", "curves.png")]
        report.write_rows(files[0], trials)
        report.write_curves(files[1], trials)
        report.draw_seeds(files[2], trials, subject.experiment, str(subject.monitor))
        statistics = report.seed_statistics(trials, score)
        if parent is not None:
            metrics = {
                f"{kind}/{score}_{name}": value
                for kind, each in statistics.items()
                for name, value in each._asdict().items()
            }
            parent.finish({**metrics, "num_seeds": len(trials)}, files)
        return [
            f"{len(trials)} seeds",
            *report.statistics_table(statistics, score),
            f"Table, curves and picture: {folder}",
        ]

"""A study: trials on several processes, in an Optuna storage from which it can be resumed."""

import logging
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.search_space import as_flags
from rl_lightning.studies.trial_process import (
    StudyStoppedError,
    TrialFailedError,
    TrialProcesses,
)

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from rl_lightning.studies.training import Subject


class Plan(NamedTuple):
    """What the trials of a study have in common.

    Attributes:
        subject: What the study is about.
        arguments: Arguments of `fit`.
        test_arguments: Arguments of `test`; None is no test.
        folder: Folder of the logs, the table and the picture.
        parent_run: Id of the study's MLflow run; None if the runs are not logged to MLflow.
        draw: Draws the parameters of a trial. They are its flags.
    """

    subject: "Subject"
    arguments: Sequence[str]
    test_arguments: Sequence[str] | None
    folder: Path
    parent_run: str | None
    draw: "Callable[[Trial], None]"


def open_study(
    name: str, storage: str, subject: "Subject", contents: Mapping[str, Any], **options: Any
) -> "Study":
    """Make a study, or open the one of this name.

    Args:
        name: Its name.
        storage: Address of Optuna's storage, such as sqlite:///optuna.db.
        subject: What it is about.
        contents: What must be equal in a study that is gone on with.
        options: Sampler and pruner.

    Raises:
        ConfigurationError: If the storage cannot be opened, or has another study of this name.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning, StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    from rl_lightning.studies.storage import open_storage

    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=open_storage(storage),
            direction="maximize" if subject.mode == "max" else "minimize",
            load_if_exists=True,
            **options,
        )
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError) as error:
        raise ConfigurationError(
            f"Optuna cannot open the storage {storage} ({str(error).splitlines()[0]}): give "
            "another --storage, such as sqlite:///optuna.db"
        ) from error
    for key, value in contents.items():
        before = study.user_attrs.get(key, value)
        if before != value:
            raise ConfigurationError(
                f"the study {name} in {storage} has {key} {before}, and now {value} is given: "
                "go on with the same ones, or give another --name"
            )
        study.set_user_attr(key, value)
    return study


class StudyRunner:
    """Does the trials of a study.

    Args:
        study: The study.
        plan: What its trials have in common.
        processes: The processes.
        show: Is called with each line for the terminal.
    """

    def __init__(
        self,
        study: "Study",
        plan: Plan,
        processes: TrialProcesses,
        show: Callable[[str], None] = print,
    ) -> None:
        self._study = study
        self._plan = plan
        self._processes = processes
        self._show = show

    def run(self, num_processes: int, remaining: Callable[[], int]) -> None:
        """Do trials until none remains, here or in another process of the same study.

        Args:
            num_processes: How many trials run at once.
            remaining: How many trials are still to be begun.

        Raises:
            KeyboardInterrupt: If a signal stopped the study. Its runs can be resumed.
        """
        from optuna.storages import fail_stale_trials

        before = {each: signal.signal(each, self._stop) for each in (signal.SIGINT, signal.SIGTERM)}
        waits = False
        try:
            while True:
                fail_stale_trials(self._study)
                if count := remaining():
                    self._study.optimize(
                        self._do, n_trials=count, n_jobs=num_processes, catch=(TrialFailedError,)
                    )
                elif running := len(self._running()):
                    if not waits:
                        self._show(f"waiting for {running} runs that another process began")
                    waits = True
                    time.sleep(1)
                else:
                    return
        except StudyStoppedError:
            raise KeyboardInterrupt from None
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _running(self) -> "list[FrozenTrial]":
        from optuna.trial import TrialState

        return self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING])

    def _stop(self, signum: int, frame: Any) -> None:
        self._processes.stop()
        raise KeyboardInterrupt

    def _do(self, trial: "Trial") -> float:
        """Optuna's objective: one run."""
        from optuna import TrialPruned

        self._plan.draw(trial)
        record = TrialRecord(trial)
        try:
            if self._processes.is_stopping:
                raise StudyStoppedError
            self._train_and_test(trial, record)
            if not record.scores:
                raise TrialFailedError("it ended before its first validation")
        except (StudyStoppedError, KeyboardInterrupt):
            # The storage then has a trial with these parameters and this checkpoint to begin with.
            self._study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
            raise
        except TrialFailedError as error:
            trial.set_user_attr("error", str(error))
            self._show(f"{describe(trial.params)} failed: {error}")
            raise
        self._show(record.line(self._plan.subject))
        if record.is_pruned:
            raise TrialPruned
        return record.value(self._plan.subject)

    def _train_and_test(self, trial: "Trial", record: "TrialRecord") -> None:
        """Train, unless an earlier process of this trial has, and test its checkpoints."""
        tags = {"study": self._study.study_name}
        if self._plan.parent_run is not None:
            tags["mlflow.parentRunId"] = self._plan.parent_run
        log = self._plan.folder / f"trial-{trial.number}.log"

        def run(
            command: str,
            arguments: Sequence[str],
            checkpoint: str | None,
            heard: Callable[[str, Any], bool],
        ) -> None:
            given = [command, *arguments, *as_flags(trial.params)]
            if checkpoint is not None:
                given += ["--ckpt_path", checkpoint]
            self._processes.run(given, tags, str(self._plan.subject.monitor), log, heard)

        if not record.is_fitted:
            run("fit", self._plan.arguments, record.checkpoint(), record.hear)
        if self._plan.test_arguments is None:
            return
        for kind, path in record.checkpoints.items():

            def tested(name: str, metrics: Any, kind: str = kind) -> bool:
                return record.hear(kind, metrics)

            run("test", self._plan.test_arguments, path, tested)


def describe(parameters: Mapping[str, Any]) -> str:
    """The parameters of a trial in one line, with short names."""
    short = {"seed_everything": "seed"}
    return ", ".join(
        f"{short.get(flag, flag)} {value:.4g}"
        if isinstance(value, float)
        else f"{short.get(flag, flag)} {value}"
        for flag, value in parameters.items()
    )


class TrialRecord:
    """What is known of a trial. It is kept in the trial's attributes, so it survives a crash.

    The attributes are `folder` (of the run), `curve` (list of [step, score, seconds]),
    `checkpoints` and `seconds` of a training that has ended, and the test metrics of the
    checkpoints `last` and `best`.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: "Trial") -> None:
        self._trial = trial
        self._curve: list[list[float]] = trial.user_attrs.get("curve", [])
        self._earlier = self._curve[-1][2] if self._curve else 0.0
        self.is_pruned = False

    @property
    def scores(self) -> list[float]:
        """The score of each validation."""
        return [score for _, score, _ in self._curve]

    @property
    def is_fitted(self) -> bool:
        """Whether the training has come to its end."""
        return "seconds" in self._trial.user_attrs

    @property
    def checkpoints(self) -> dict[str, str]:
        """Paths of the checkpoints "last" and "best" of a training that has ended."""
        found: dict[str, str] = self._trial.user_attrs.get("checkpoints", {})
        return found

    def checkpoint(self) -> str | None:
        """The checkpoint from which a run that was cut off goes on."""
        folder = self._trial.user_attrs.get("folder")
        path = Path(folder or "", "checkpoints", "last.ckpt")
        return str(path) if folder is not None and path.is_file() else None

    def hear(self, name: str, content: Any) -> bool:
        """Take a message of the run. Returns whether the run is to stop."""
        if name == "validated":
            epoch, step, score, seconds, can_stop = content
            kept = [point for point in self._curve if point[0] < step]
            self._curve = [*kept, [step, score, self._earlier + seconds]]
            self._trial.set_user_attr("curve", self._curve)
            self._trial.report(score, epoch)
            self.is_pruned = can_stop and self._trial.should_prune()
            return self.is_pruned
        if name == "fitted":
            name, content = "seconds", self._earlier + content
        self._trial.set_user_attr(name, content)
        return False

    def value(self, subject: "Subject") -> float:
        """The test score of the last checkpoint; without a test, the last validation's."""
        tested = self._trial.user_attrs.get("last", {})
        return float(tested.get(score_name(subject), self.scores[-1]))

    def line(self, subject: "Subject") -> str:
        """What the run reached, for the terminal."""
        attributes, name = self._trial.user_attrs, score_name(subject)
        tested = [
            f"test/{name} {attributes[kind][name]:.4g} ({kind})"
            for kind in ("last", "best")
            if name in attributes.get(kind, {})
        ]
        reached = tested or [f"{subject.monitor} {self.scores[-1]:.4g}"]
        pruned = ["pruned"] if self.is_pruned else []
        what = [*reached, f"{int(self._curve[-1][0]):,} steps", f"{attributes['seconds']:.0f} s"]
        return ", ".join([describe(self._trial.params), *what, *pruned])


def score_name(subject: "Subject") -> str:
    """The monitored metric without the prefix "val/"."""
    return str(subject.monitor).removeprefix("val/")

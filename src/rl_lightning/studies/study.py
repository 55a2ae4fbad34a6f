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
from rl_lightning.studies.trial_record import TrialRecord, describe

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
        contents: What must be equal when a study is resumed.
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
                "resume it with the same ones, or give another --name"
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
            remaining: Gives the number of trials that no process has started yet.

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
                        self._show(f"waiting for {running} runs that another process has started")
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

        from rl_lightning.studies.storage import requeue

        self._plan.draw(trial)
        record = TrialRecord(trial)
        try:
            if self._processes.is_stopping:
                raise StudyStoppedError
            self._train_and_test(trial, record)
            if not record.scores:
                raise TrialFailedError("it ended before its first validation")
        except (StudyStoppedError, KeyboardInterrupt):
            requeue(self._study, trial)
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

"""The MLflow run of a study, which is the parent of the runs of its trials."""

import copy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rl_lightning.runtime.errors import one_line
from rl_lightning.studies.study import Ending
from rl_lightning.studies.subject import Subject
from rl_lightning.studies.trial_table import Trial, TrialTable
from rl_lightning.tracking.mlflow_store import open_on_training_runs, open_store

_TRACKER = "rl_lightning.tracking.mlflow_tracker.MLflowTracker"


class ParentRun:
    """The MLflow run of a study. All processes that start the study use the same one.

    Args:
        subject: What the study is about.
        table: The study's trials.
        kind: "seeds" or "sweep".
        command: The command line, which becomes the description.
    """

    def __init__(self, subject: Subject, table: TrialTable, kind: str, command: str) -> None:
        assert subject.tracking_uri is not None
        self._subject, self._study = subject, table.study
        self._client = open_store(subject.tracking_uri, subject.experiment)
        experiment = self._client.get_experiment_by_name(subject.experiment)
        assert experiment is not None
        self._experiment_id = experiment.experiment_id
        tags = {"study": table.study, "study_kind": kind, "command": command}
        self.run_id = table.parent_run(lambda study_id: self._make({**tags, "study_id": study_id}))
        self._client.update_run(self.run_id, status="RUNNING")

    def _make(self, tags: dict[str, str]) -> str:
        from mlflow.entities import Param
        from mlflow.tracking.context.registry import resolve_tags

        mine = f"tags.study_id = '{tags['study_id']}'"
        if found := self._client.search_runs([self._experiment_id], mine):
            return found[0].info.run_id  # of a process that was killed
        open_on_training_runs(self._client, self._experiment_id)
        subject = self._subject
        tags |= {key: subject.tags[key] for key in ("algorithm", "environment")}
        tags["mlflow.note.content"] = f"`{tags['command']}`"
        tags = resolve_tags(tags)  # adds user and source
        run = self._client.create_run(self._experiment_id, tags=tags, run_name=self._study)
        params = [Param(key, value) for key, value in subject.parameters.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run.info.run_id

    def loggers_of(self, trial: Trial) -> Any:
        """The configuration of `trainer.logger` for a trial."""
        own = {"study": self._study, "trial": str(trial.number), "mlflow.parentRunId": self.run_id}
        loggers = copy.deepcopy(self._subject.loggers)
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if logger["class_path"] == _TRACKER:
                given = logger.setdefault("init_args", {})
                given["tags"] = {**(given.get("tags") or {}), **own}
                given["run_name"] = trial.name
                given["experiment_name"] = self._subject.experiment
        return loggers

    def end_runs(self, number: int | None = None) -> None:
        """End the runs that killed processes have left as running.

        Args:
            number: Number of the trial; None is all trials.
        """
        of_trial = "" if number is None else f" and tags.trial = '{number}'"
        mine = f"tags.`mlflow.parentRunId` = '{self.run_id}' and attributes.status = 'RUNNING'"
        with _tolerates_mlflow():
            for run in self._client.search_runs([self._experiment_id], mine + of_trial):
                self._client.set_terminated(run.info.run_id, status="FAILED")

    def finish(self, ending: Ending, status: str) -> None:
        """Log the results, and close the run."""
        from mlflow.entities import Metric, RunTag

        self.end_runs()
        now = int(time.time() * 1000)
        known = {name: value for name, value in ending.metrics.items() if value == value}
        metrics = [Metric(name, value, now, 0) for name, value in known.items()]
        tags = [RunTag(name, value) for name, value in ending.tags.items()]
        with _tolerates_mlflow():
            self._client.log_batch(self.run_id, metrics=metrics, tags=tags)
            for file in ending.files:
                self._client.log_artifact(self.run_id, str(file))
            self._client.set_terminated(self.run_id, status=status)

    def stop(self) -> None:
        """Close the run of a study that was stopped."""
        with _tolerates_mlflow():
            self._client.set_terminated(self.run_id, status="KILLED")


@contextmanager
def _tolerates_mlflow() -> Iterator[None]:
    """Print an error of MLflow in one line. The study's own table has all results."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        reason = one_line(error, 200)
        print(f"MLflow did not record the state of the study ({reason})", file=sys.stderr)

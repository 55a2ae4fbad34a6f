"""The MLflow run of a study, which is the parent of the runs of its trials."""

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rl_lightning.runtime.errors import one_line
from rl_lightning.tracking.mlflow_store import open_on_training_runs, open_store

if TYPE_CHECKING:
    from rl_lightning.studies.training import Subject


class ParentRun:
    """The MLflow run of a study.

    Args:
        subject: What the study is about.
        name: Name of the study.
        kind: "seeds" or "sweep".
        command: The command line, which becomes the description.
        run_id: Id of the run, if the study is resumed.
    """

    def __init__(
        self, subject: "Subject", name: str, kind: str, command: str, run_id: str | None = None
    ) -> None:
        assert subject.tracking_uri is not None
        self._client = open_store(subject.tracking_uri, subject.experiment)
        if run_id is None:
            experiment = self._client.get_experiment_by_name(subject.experiment)
            assert experiment is not None
            open_on_training_runs(self._client, experiment.experiment_id)
            tags = {
                **{key: subject.tags[key] for key in ("algorithm", "environment")},
                "study": name,
                "study_kind": kind,
                "command": command,
                "mlflow.note.content": f"`{command}`",
            }
            run = self._client.create_run(experiment.experiment_id, tags=tags, run_name=name)
            run_id = run.info.run_id
        self._client.update_run(run_id, status="RUNNING")
        self.run_id: str = run_id

    def log_parameters(self, parameters: Mapping[str, str]) -> None:
        """Log parameters, once for each study."""
        from mlflow.entities import Param

        given = [Param(key, value) for key, value in parameters.items()]
        self._client.log_batch(self.run_id, params=given)

    def finish(self, metrics: Mapping[str, float], files: Iterable[Path]) -> None:
        """Log the results, and close the run."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        logged = [Metric(key, value, now, 0) for key, value in metrics.items() if value == value]
        self._client.log_batch(self.run_id, metrics=logged)
        for file in files:
            self._client.log_artifact(self.run_id, str(file))
        self._client.set_terminated(self.run_id)

    def stop(self) -> None:
        """Close the run of a study that was stopped."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.set_terminated(self.run_id, status="KILLED")
        except MlflowException as error:  # such as a database that other processes have locked
            print(
                "MLflow could not record that the study was stopped "
                f"({one_line(str(error))[:200]})",
                file=sys.stderr,
            )

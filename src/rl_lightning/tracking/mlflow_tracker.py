"""Logs runs to MLflow, and defines the folder of each run."""

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import URLError
from urllib.request import urlopen

from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from rl_lightning.lightning_adapter.mlflow import NO_STORE, LateMLFlowLogger
from rl_lightning.runtime.errors import ConfigurationError, one_line
from rl_lightning.tracking.metric_sender import MetricSender, Point
from rl_lightning.tracking.mlflow_store import open_on_training_runs, open_store
from rl_lightning.tracking.run_description import RunDescription

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

DEFAULT_EXPERIMENT = "rl_lightning"


class MLflowTracker(LateMLFlowLogger):
    """Lightning's MLFlowLogger with the local SQLite store that `mlflow ui` opens by default.

    Metrics are sent from a separate thread, so that training does not wait for the database. If a
    server does not answer, they are kept and sent later. Checkpoints are in
    `<save_dir>/<experiment_name>/<run id>/checkpoints`.

    Args:
        experiment_name: Experiment in MLflow. By default the command line names it after the
            algorithm and the environment.
        tracking_uri: Address of the store. The default is $MLFLOW_TRACKING_URI if that is set,
            else sqlite:///mlflow.db in the working folder.
        run_name: Name of the run. By default the command line names it after the algorithm, the
            environment, the seed and the time.
        run_id: Id of an existing run to continue.
        tags: Tags of the run, in addition to those of the command line.
        save_dir: Folder that contains the folders of all runs.
        log_model: Whether checkpoints are copied to MLflow as artifacts: at the end of the run, or
            with "all" each one when it is written.
        prefix: Is put before the names of all metrics, with a hyphen.
        artifact_location: Address of the artifacts of a new experiment.
        synchronous: Whether training waits until MLflow has accepted each metric.
        log_system_metrics: Whether MLflow logs the load of processor, memory and disk every ten
            seconds.

    Raises:
        ConfigurationError: If a tracking server does not answer, or psutil is missing for
            `log_system_metrics`.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        tags: dict[str, Any] | None = None,
        save_dir: str = "runs",
        log_model: Literal[True, False, "all"] = False,
        prefix: str = "",
        artifact_location: str | None = None,
        synchronous: bool = False,
        log_system_metrics: bool = False,
    ) -> None:
        if log_system_metrics and find_spec("psutil") is None:
            raise ConfigurationError(
                "log_system_metrics is true, and MLflow needs psutil for it, which is not "
                "installed: pip install psutil"
            )
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
            # Only rank 0 logs. If two ranks created a new database at the same time, one would
            # fail because its tables exist already.
            uri = NO_STORE
        elif uri.startswith("http"):
            # By default MLflow retries each request for minutes. That is not needed here, because
            # unsent metrics are kept and sent later.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
            _check_answers(uri)
        super().__init__(
            uri,
            open_store,
            experiment_name=experiment_name or DEFAULT_EXPERIMENT,
            run_name=run_name,
            run_id=run_id,
            tags=tags,
            log_model=log_model,
            artifact_location=artifact_location,
        )
        self._prefix_of_metrics = f"{prefix}{self.LOGGER_JOIN_CHAR}" if prefix else ""
        self._synchronous = synchronous
        self._log_system_metrics = log_system_metrics
        self._system_metrics: SystemMetricsMonitor | None = None
        self._parameters: dict[str, str] | None = None
        self._evaluates = False
        self._is_named = experiment_name is not None
        self._save_dir = save_dir
        self._sender: MetricSender | None = None
        self._goes_on = run_id is not None
        self._last_steps: dict[str, int] = {}

    @property
    def save_dir(self) -> str:
        """Folder that contains the folders of all runs."""
        return self._save_dir

    @property
    def name(self) -> str:
        """The experiment's name, which is also a folder's name. Lightning would use its id."""
        return self.experiment_name

    def describe(self, run: RunDescription) -> None:
        """Set the names, parameters and tags that the configuration does not have."""
        if not self._is_named:
            self.experiment_name = run.experiment
        self.run_name = self.run_name or run.name
        self._parameters = run.parameters
        self.tags = {**run.tags, **(self.tags or {})}

    def go_on_with(self, checkpoint: Path, evaluates: bool = False) -> Path | None:
        """Continue the run in whose folder a checkpoint is.

        If the checkpoint is in no run's folder, a new run is started.

        Args:
            checkpoint: The checkpoint.
            evaluates: Whether it is only evaluated. Then the run gets the figures of the
                evaluation, and keeps its state, such as failed. If it is not in the store, a new
                run gets them.

        Returns:
            The folder of the run, or None if a new run is started.

        Raises:
            ConfigurationError: If the run is not in the store.
        """
        folder = checkpoint.absolute().parent.parent
        if (
            self.chosen_run is not None
            or folder.parent != Path(self.save_dir, self.name).absolute()
        ):
            return None
        self.chosen_run, self._goes_on, self._evaluates = folder.name, True, evaluates
        self._check_known(checkpoint)
        return folder

    @rank_zero_only
    def _check_known(self, checkpoint: Path) -> None:
        from mlflow.exceptions import MlflowException

        assert self.chosen_run is not None
        try:
            self.client.get_run(self.chosen_run)
        except MlflowException as error:
            if self._evaluates:
                self.chosen_run, self._goes_on, self._evaluates = None, False, False
                return
            raise ConfigurationError(
                f"{checkpoint} is of run {self.chosen_run}, which is not in {self.tracking_uri}: "
                "copy the checkpoint to another folder to start a new run with it"
            ) from error

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the parameters of a new run. MLflow does not allow changes in a resumed run.

        They are those of `describe`, or, without the command line, the module's hyperparameters.
        """
        if self._evaluates:
            return
        if self._goes_on:
            self.experiment.update_run(self.run_id, status="RUNNING")
        else:
            super().log_hyperparams(params if self._parameters is None else self._parameters)
            open_on_training_runs(self.experiment, str(self.experiment_id))
        if self._log_system_metrics:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._system_metrics = SystemMetricsMonitor(
                self.run_id, resume_logging=self._goes_on, tracking_uri=self.tracking_uri
            )
            self._system_metrics.start()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send metrics, without those that were sent before the run was resumed."""
        now, step = int(time.time() * 1000), step or 0
        if self._sender is None:
            assert self.run_id is not None
            folder = Path(self.save_dir, self.name, self.run_id)
            self._sender = MetricSender(self._deliver, folder / "unsent_metrics.jsonl")
        named = {f"{self._prefix_of_metrics}{key}": value for key, value in metrics.items()}
        self._sender.send(
            Point(key, float(value), now, step)
            for key, value in named.items()
            if step > self._last_step(key)
        )
        if self._synchronous:
            self._sender.flush()

    def _deliver(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(*point) for point in points]
        assert self.chosen_run is not None
        self.client.log_batch(self.chosen_run, metrics=metrics)

    def _last_step(self, key: str) -> int:
        """The last step of a metric before the run was resumed; −1 if there is none."""
        if not self._goes_on or self._evaluates:
            return -1
        if key not in self._last_steps:
            assert self._sender is not None
            history = self.experiment.get_metric_history(self.run_id, key)
            steps = [point.step for point in (*history, *self._sender.waiting) if point.key == key]
            self._last_steps[key] = max(steps, default=-1)
        return self._last_steps[key]

    def flush(self) -> None:
        """Send the waiting metrics, so that none is lost after a crash."""
        if self._sender is not None:
            self._sender.flush()

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Send all metrics, and then close the run."""
        from mlflow.exceptions import MlflowException

        if self._system_metrics is not None:
            self._system_metrics.finish()
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        if self._evaluates:
            return
        try:
            super().finalize(status)
        except MlflowException as error:
            rank_zero_warn(f"MLflow could not record the end of the run ({one_line(error, 200)})")


def _check_answers(uri: str) -> None:
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()
    except (URLError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"the MLflow server {uri} does not answer ({error}): start it, or leave tracking_uri "
            "out to track in a local file"
        ) from error

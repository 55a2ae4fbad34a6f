"""Logs runs to MLflow, and defines the folder of each run."""

import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from rl_lightning.runtime.errors import ConfigurationError, one_line
from rl_lightning.tracking.metric_sender import MetricSender, Point

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_EXPERIMENT = "rl_lightning"
# Stands for "no store". A client for an http address does nothing until it is used, and a client
# for a database would create the database at once.
NO_STORE = "http://localhost:0"
LIBRARIES = ("rl_lightning", "torch", "lightning", "gymnasium", "ale-py", "torchmetrics", "numpy")


class MLflowTracker(MLFlowLogger):
    """Lightning's MLFlowLogger with the local SQLite store that `mlflow ui` opens by default.

    Metrics are sent from a separate thread, so that training does not wait for the database. If a
    server does not answer, they are kept and sent later. Checkpoints are in
    `<save_dir>/<experiment_name>/<run id>/checkpoints`.

    Args:
        experiment_name: Experiment in MLflow. By default the command line names it after the
            algorithm and the environment.
        tracking_uri: Address of the store. The default is $MLFLOW_TRACKING_URI if that is set,
            else sqlite:///mlflow.db in the working folder.
        run_name: Name of the run. By default MLflow chooses one.
        run_id: Id of an existing run to continue.
        tags: Tags of the run.
        save_dir: Folder that contains the folders of all runs.

    Raises:
        ConfigurationError: If a tracking server does not answer.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        tags: dict[str, Any] | None = None,
        save_dir: str = "runs",
    ) -> None:
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
        self._client: MlflowClient | None = None
        super().__init__(
            experiment_name=experiment_name or DEFAULT_EXPERIMENT,
            tracking_uri=NO_STORE,
            run_name=run_name,
            run_id=run_id,
            tags=tags,
        )
        self._tracking_uri = uri
        self._is_named = experiment_name is not None
        self._save_dir = save_dir
        self._sender: MetricSender | None = None
        self._goes_on = run_id is not None
        self._last_steps: dict[str, int] = {}

    @property
    def _mlflow_client(self) -> "MlflowClient":
        """The client. Making it creates the database of a new store.

        It is therefore made at its first use, so that a refused configuration leaves no file.
        """
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        if self._client is None:
            try:
                self._client = MlflowClient(self._tracking_uri)
            except (MlflowException, OSError) as error:
                raise ConfigurationError(
                    f"MLflow cannot open the store {self._tracking_uri} "
                    f"({one_line(str(error))[:200]}): give another tracking_uri"
                ) from error
        return self._client

    @_mlflow_client.setter
    def _mlflow_client(self, client: Any) -> None:
        """Ignore the client that Lightning's constructor makes."""

    @property
    def save_dir(self) -> str:
        """Folder that contains the folders of all runs."""
        return self._save_dir

    @property
    def name(self) -> str:
        """The experiment's name, which is also a folder's name. Lightning would use its id."""
        return self._experiment_name

    def name_experiment(self, name: str) -> None:
        """Set the experiment's name, unless the configuration has one."""
        if not self._is_named:
            self._experiment_name = name

    def last_checkpoint(self) -> Path:
        """The last checkpoint of the latest run of this experiment.

        Raises:
            ConfigurationError: If there is none.
        """
        folder = Path(self.save_dir, self.name)
        found = folder.glob("*/checkpoints/last*.ckpt")
        if not (dated := [(path.stat().st_mtime, path) for path in found]):
            raise ConfigurationError(
                f"there is no last checkpoint of an earlier run in {folder}: leave --ckpt_path "
                "out to start the first run"
            )
        return max(dated)[1]

    def go_on_with(self, checkpoint: Path) -> None:
        """Continue the run in whose folder a checkpoint is.

        If the checkpoint is in no run's folder, a new run is started.

        Raises:
            ConfigurationError: If the run is not in the store.
        """
        folder = checkpoint.absolute().parent.parent
        if self._run_id is not None or folder.parent != Path(self.save_dir, self.name).absolute():
            return
        self._run_id, self._goes_on = folder.name, True
        self._check_known(checkpoint)

    @rank_zero_only
    def _check_known(self, checkpoint: Path) -> None:
        from mlflow.exceptions import MlflowException

        assert self._run_id is not None
        try:
            self._mlflow_client.get_run(self._run_id)
        except MlflowException as error:
            raise ConfigurationError(
                f"{checkpoint} is of run {self._run_id}, which is not in {self._tracking_uri}: "
                "copy the checkpoint to another folder to start a new run with it"
            ) from error

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the hyperparameters of a new run. MLflow does not allow changes in a resumed run."""
        if self._goes_on:
            self.experiment.update_run(self.run_id, status="RUNNING")
        else:
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send metrics, without those that were sent before the run was resumed."""
        now, step = int(time.time() * 1000), step or 0
        if self._sender is None:
            assert self.run_id is not None
            folder = Path(self.save_dir, self.name, self.run_id)
            self._sender = MetricSender(self._deliver, folder / "unsent_metrics.jsonl")
        self._sender.send(
            Point(key, float(value), now, step)
            for key, value in metrics.items()
            if step > self._last_step(key)
        )

    def _deliver(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(*point) for point in points]
        assert self._run_id is not None
        self._mlflow_client.log_batch(self._run_id, metrics=metrics)

    def _last_step(self, key: str) -> int:
        """The last step of a metric before the run was resumed; −1 if there is none."""
        if not self._goes_on:
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

        if self._sender is not None:
            self._sender.close()
            self._sender = None
        try:
            super().finalize(status)
        except MlflowException as error:
            rank_zero_warn(
                f"MLflow could not record the end of the run ({one_line(str(error))[:200]})"
            )


def _check_answers(uri: str) -> None:
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()
    except (URLError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"the MLflow server {uri} does not answer ({error}): start it, or leave tracking_uri "
            "out to track in a local file"
        ) from error


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run, which is that of the used checkpoint in evaluation, else the logger's."""
    if trainer.ckpt_path is not None and trainer.state.fn != TrainerFn.FITTING:
        return Path(trainer.ckpt_path).absolute().parent.parent
    if trainer.logger is None or trainer.logger.save_dir is None:
        return Path(trainer.default_root_dir)
    return Path(trainer.logger.save_dir) / str(trainer.logger.name) / str(trainer.logger.version)


def send_file(trainer: Trainer, path: Path) -> None:
    """Log a file of the run folder as an artifact of the MLflow run, under the same path.

    If MLflow does not answer, the file is in the run folder only, and training continues.
    """
    from mlflow.exceptions import MlflowException

    folder = path.parent.relative_to(run_folder(trainer)).as_posix()
    for logger in trainer.loggers:
        if isinstance(logger, MLFlowLogger):
            try:
                client, run_id = logger.experiment, logger.run_id
                client.log_artifact(run_id, str(path), None if folder == "." else folder)
            except (MlflowException, OSError) as error:
                rank_zero_warn(
                    f"MLflow does not accept {path} ({one_line(str(error))[:200]}): the file is in "
                    "the run folder only"
                )


class TrackConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's folder and logs it as an artifact.

    It also sends all metrics before a checkpoint is written, because a run that is resumed from
    this checkpoint does not log them again.
    """

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Send the waiting metrics."""
        for logger in trainer.loggers:
            if isinstance(logger, MLflowTracker):
                logger.flush()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do not write the file yet, because the checkpoint may still be refused."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the configuration, after module and datamodule have loaded the checkpoint."""
        super().setup(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the YAML, and tag the run with the versions of its libraries."""
        config = self.parser.dump(self.config, skip_none=False)
        folder = run_folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.config_filename).write_text(config)
        for logger in trainer.loggers:
            if isinstance(logger, MLflowTracker):
                assert logger.run_id is not None
                logger.experiment.log_text(logger.run_id, config, self.config_filename)
                for library in LIBRARIES:
                    logger.experiment.set_tag(logger.run_id, f"version.{library}", version(library))

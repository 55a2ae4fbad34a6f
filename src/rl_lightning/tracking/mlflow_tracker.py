"""Runs in MLflow, and the folder of each run."""

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
# A client of a server, unlike one of a database, does nothing until it is used.
NO_STORE = "http://localhost:0"
LIBRARIES = ("rl_lightning", "torch", "lightning", "gymnasium", "ale-py", "torchmetrics", "numpy")


class MLflowTracker(MLFlowLogger):
    """Lightning's MLFlowLogger over the local SQLite store that `mlflow ui` opens by itself.

    Metrics are sent from a thread of their own, so that training does not wait for the
    database, and are kept while a server does not answer. Checkpoints are in
    `<save_dir>/<experiment_name>/<run id>/checkpoints`.

    Args:
        experiment_name: Experiment in MLflow; by default the command line names it after the
            algorithm and the environment.
        tracking_uri: Where the store is; by default $MLFLOW_TRACKING_URI, else
            sqlite:///mlflow.db in the working folder.
        run_name: Name of the run; by default MLflow makes one up.
        run_id: An existing run to go on with.
        tags: Tags of the run.
        save_dir: Folder of the run folders.

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
            # Only rank 0 logs. Two ranks that create a new database at once fail at its tables.
            uri = NO_STORE
        elif uri.startswith("http"):
            # By default MLflow retries each request for minutes; here metrics are sent later.
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
        """The client, which creates the database of a new store when it is made.

        So it is made when it is first used, and a configuration that is refused leaves no file.
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
        """Lightning's constructor would set one."""

    @property
    def save_dir(self) -> str:
        """Folder of the run folders."""
        return self._save_dir

    @property
    def name(self) -> str:
        """The experiment's name (Lightning gives its id), because it names a folder."""
        return self._experiment_name

    def name_experiment(self, name: str) -> None:
        """Name the experiment, if it was given no name."""
        if not self._is_named:
            self._experiment_name = name

    def last_checkpoint(self) -> Path:
        """The last checkpoint of the latest run of this experiment.

        Raises:
            ConfigurationError: If no run has left one.
        """
        folder = Path(self.save_dir, self.name)
        found = folder.glob("*/checkpoints/last*.ckpt")
        if not (dated := [(path.stat().st_mtime, path) for path in found]):
            raise ConfigurationError(
                f"there is no last checkpoint of an earlier run in {folder}: leave --ckpt_path "
                "out to begin the first"
            )
        return max(dated)[1]

    def go_on_with(self, checkpoint: Path) -> None:
        """Go on with the run in whose folder the checkpoint lies; of one elsewhere, begin anew.

        Raises:
            ConfigurationError: If the store does not know the run.
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
                f"{self._tracking_uri} knows no run {self._run_id}, which {checkpoint} is of: "
                "copy the checkpoint elsewhere to begin a new run with it"
            ) from error

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log them once: MLflow lets no parameter change, and a resumed run has them already."""
        if self._goes_on:
            self.experiment.update_run(self.run_id, status="RUNNING")
        else:
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send metrics, except those that a resumed run had sent before it stopped."""
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
        """The last step of a metric that the run had when it went on; −1 if none."""
        if not self._goes_on:
            return -1
        if key not in self._last_steps:
            assert self._sender is not None
            history = self.experiment.get_metric_history(self.run_id, key)
            steps = [point.step for point in (*history, *self._sender.waiting) if point.key == key]
            self._last_steps[key] = max(steps, default=-1)
        return self._last_steps[key]

    def flush(self) -> None:
        """Send what waits, so that the process may end now."""
        if self._sender is not None:
            self._sender.flush()

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Close the run after all metrics are sent."""
        from mlflow.exceptions import MlflowException

        if self._sender is not None:
            self._sender.close()
            self._sender = None
        try:
            super().finalize(status)
        except MlflowException as error:
            rank_zero_warn(
                f"MLflow did not take that the run has ended ({one_line(str(error))[:200]})"
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
    """Folder of the run: that of the checkpoint in use, else that of the logger."""
    if trainer.ckpt_path is not None and trainer.state.fn != TrainerFn.FITTING:
        return Path(trainer.ckpt_path).absolute().parent.parent
    if trainer.logger is None or trainer.logger.save_dir is None:
        return Path(trainer.default_root_dir)
    return Path(trainer.logger.save_dir) / str(trainer.logger.name) / str(trainer.logger.version)


def send_file(trainer: Trainer, path: Path) -> None:
    """Log a file of the run folder as an artifact of the MLflow run, under the same name.

    If MLflow does not answer, the file stays in the folder only, and training goes on.
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
                    f"MLflow does not take {path} ({one_line(str(error))[:200]}): it stays there"
                )


class TrackConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's folder and logs it as an artifact.

    Metrics logged before a checkpoint are sent before it is written, because a run that goes on
    from it does not log them again.
    """

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Send metrics that wait."""
        for logger in trainer.loggers:
            if isinstance(logger, MLflowTracker):
                logger.flush()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet: the checkpoint may still be refused."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the configuration, after module and datamodule have accepted the checkpoint."""
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

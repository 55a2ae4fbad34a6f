"""Runs in MLflow, and the folder of each."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.trainer.states import TrainerFn

from rl_lightning.errors import ConfigurationError

LIBRARIES = ("rl_lightning", "torch", "lightning", "gymnasium", "ale-py", "torchmetrics", "numpy")


class MLflowTracker(MLFlowLogger):
    """Lightning's MLFlowLogger over the local SQLite store that `mlflow ui` opens by itself.

    Metrics are sent from a thread of their own, so that training does not wait for the
    database. Checkpoints lie in `<save_dir>/<experiment_name>/<run id>/checkpoints`.

    Args:
        experiment_name: Experiment in MLflow, named after the algorithm and environment.
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
        experiment_name: str,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        tags: dict[str, Any] | None = None,
        save_dir: str = "runs",
    ) -> None:
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        if uri.startswith("http"):
            _check_answers(uri)
        # One write of many points: written each by itself they cost a tenth of training's speed.
        os.environ.setdefault("MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS", "2")
        super().__init__(
            experiment_name=experiment_name,
            tracking_uri=uri,
            run_name=run_name,
            run_id=run_id,
            tags=tags,
            synchronous=False,
        )
        self._save_dir = save_dir

    @property
    def save_dir(self) -> str:
        """Folder of the run folders."""
        return self._save_dir

    @property
    def name(self) -> str:
        """The experiment's name, where Lightning has its id: it names a folder."""
        return self._experiment_name

    def finalize(self, status: str = "success") -> None:
        """Close the run once all that was logged has arrived."""
        if self._initialized:
            import mlflow

            mlflow.flush_async_logging()
        super().finalize(status)


def _check_answers(uri: str) -> None:
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()
    except (URLError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"the MLflow server {uri} does not answer ({error}): start it, or leave tracking_uri "
            "out to track in a local file"
        ) from error


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run: that of the checkpoint that plays, else that of the logger."""
    if trainer.ckpt_path is not None and trainer.state.fn != TrainerFn.FITTING:
        return Path(trainer.ckpt_path).absolute().parent.parent
    if trainer.logger is None or trainer.logger.save_dir is None:
        return Path(trainer.default_root_dir)
    return Path(trainer.logger.save_dir) / str(trainer.logger.name) / str(trainer.logger.version)


class TrackConfig(SaveConfigCallback):
    """Keeps the resolved configuration with the run: in its folder and as an artifact in MLflow."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the YAML, and tag the run with the versions of what it ran on."""
        if stage != "fit":
            return
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

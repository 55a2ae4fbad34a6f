"""The folder of a run, and its files in MLflow."""

from importlib.metadata import version
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from rl_lightning.runtime.errors import one_line
from rl_lightning.tracking.mlflow_tracker import MLflowTracker

LIBRARIES = ("rl_lightning", "torch", "lightning", "gymnasium", "ale-py", "torchmetrics", "numpy")


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run.

    In evaluation it is the folder of the run that wrote the checkpoint. Otherwise, and for a
    checkpoint that was copied elsewhere, it is the logger's.
    """
    if trainer.ckpt_path is not None and trainer.state.fn != TrainerFn.FITTING:
        checkpoints = Path(trainer.ckpt_path).absolute().parent
        if checkpoints.name == "checkpoints":
            return checkpoints.parent
    if trainer.logger is None or trainer.logger.save_dir is None:
        return Path(trainer.default_root_dir)
    version = trainer.logger.version
    # Lightning's CSVLogger and TensorBoardLogger count versions, and name their folders so. Its
    # ModelCheckpoint follows the same rule.
    name = version if isinstance(version, str) else f"version_{version}"
    return Path(trainer.logger.save_dir) / str(trainer.logger.name) / name


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
                    f"MLflow does not accept {path} ({one_line(error, 200)}): the file is in "
                    "the run folder only"
                )


class TrackConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's folder and logs it as an artifact."""

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

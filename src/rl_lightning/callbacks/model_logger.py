"""Logs the trained model to MLflow, and registers it."""

import os
from pathlib import Path
from typing import Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_warn

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.runtime.errors import ConfigurationError, import_extra, one_line
from rl_lightning.tracking.logged_model import log_model
from rl_lightning.tracking.written_checkpoints import checkpoint_to_test


class ModelLogger(NeedsCallback):
    """Logs the module's `forward` to MLflow as a model, if it is asked for.

    It does so at the end of `fit`, with the weights of the checkpoint that the module reports: the
    best one, or the last one if there is no best or if the module says so. At the end of `test` it
    does so with the weights that were tested. The model belongs to the run. A run that a signal or
    an error has stopped logs no model.

    Args:
        log: Whether to log a model.
        registered_model_name: Name in MLflow's model registry under which the model becomes a new
            version. With it, `log` is not needed.
        format: "torch" is the graph of `torch.export`, and "onnx" that of `torch.onnx.export`.
            Both can be loaded without this package.

    Raises:
        ConfigurationError: If the packages for ONNX are not installed.
    """

    def __init__(
        self,
        log: bool = False,
        registered_model_name: str | None = None,
        format: Literal["torch", "onnx"] = "torch",
    ) -> None:
        self.registered_model_name = registered_model_name or None
        # The name is not `log`, because Lightning sets this attribute of every callback.
        self.logs_model = log or self.registered_model_name is not None
        self.format = format
        if self.logs_model and format == "onnx":
            for package in ("onnx", "onnxscript", "onnxruntime"):
                import_extra(package, f"the model's format is onnx, which needs {package}", "onnx")

    def check_trainer(self, trainer: Trainer, module: LightningModule) -> None:
        """Check that there are a store for the model, its weights and an example of its input.

        Raises:
            ConfigurationError: If one of them is missing.
        """
        if not self.logs_model:
            return
        if _mlflow_logger(trainer) is None:
            raise ConfigurationError(
                "a model is to be logged, and trainer.logger has no MLflow logger: add an "
                "MLflowTracker, or leave out --model_logger"
            )
        if not isinstance(module.example_input_array, torch.Tensor):
            raise ConfigurationError(
                f"a model is to be logged, and {type(module).__name__} has no example of its "
                "input: set self.example_input_array to a tensor in its __init__"
            )
        if not trainer.checkpoint_callbacks:
            raise ConfigurationError(
                "a model is to be logged, and its weights are those of a checkpoint, which "
                "trainer.enable_checkpointing false does not write: leave that flag out"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the model of the checkpoint that the module reports."""
        if self.logs_model and trainer.is_global_zero:
            self._log(trainer, pl_module, checkpoint_to_test(trainer))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the model of the checkpoint that was tested."""
        if self.logs_model and trainer.is_global_zero:
            self._log(trainer, pl_module, trainer.ckpt_path)

    def _log(
        self, trainer: Trainer, module: LightningModule, checkpoint: str | Path | None
    ) -> None:
        if checkpoint is None:
            rank_zero_warn("no model is logged, because there is no checkpoint")
            return
        logger = _mlflow_logger(trainer)
        assert logger is not None
        try:
            log_model(
                # A new module, because the trained one may be compiled, cast or on a GPU.
                type(module).load_from_checkpoint(
                    checkpoint, map_location="cpu", weights_only=True
                ),
                tracking_uri=logger.experiment.tracking_uri,
                run_id=str(logger.run_id),
                checkpoint=Path(checkpoint).name,
                registered_model_name=self.registered_model_name,
                format=self.format,
            )
        # torch.export, MLflow and the network raise errors of many types. The run is complete, so a
        # warning is enough.
        except Exception as error:
            rank_zero_warn(
                f"the model was not logged ({type(error).__name__}: "
                f"{one_line(error, 200)}): log it later with test --ckpt_path "
                f"{os.path.relpath(checkpoint)} --model_logger.log true"
            )


def _mlflow_logger(trainer: Trainer) -> MLFlowLogger | None:
    return next((each for each in trainer.loggers if isinstance(each, MLFlowLogger)), None)

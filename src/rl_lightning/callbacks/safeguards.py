"""Stops runs on signals and on NaN, with one line that says why and names the last checkpoint."""

import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from rl_lightning.runtime.errors import ConfigurationError, DivergedError, RunError
from rl_lightning.runtime.stopping import StoppedError
from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from rl_lightning.tracking.written_checkpoints import last_checkpoint

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Safeguards(Callback):
    """Stops the run on signals and on NaN or infinite losses, and prints the update of the stop.

    The run can be resumed from its last checkpoint. A resumed run equals one that never stopped,
    so only the time since that checkpoint is lost.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._has_validated = self._monitors_checked = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let EarlyStopping ignore a missing metric.

        It would raise an error in a run that `max_steps` ends before the first validation. A metric
        whose name is misspelt is found in `on_train_epoch_end`.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.strict = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers, because they wait for all ranks before they stop."""

        def stop(signum: int, frame: FrameType | None) -> None:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)  # a second signal ends the process at once
            if (launcher := trainer.strategy.launcher) is not None:
                launcher.kill(signum)
            name = signal.Signals(signum).name
            stopped = f"{name} stopped the run{_position(trainer)}: {_checkpoint_advice(trainer)}"
            raise StoppedError(signum, stopped)

        self._before = {each: signal.signal(each, stop) for each in SIGNALS}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the metrics of a validation have been logged."""
        self._has_validated |= not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check once that all monitored metrics exist, after each metric has been logged once.

        Raises:
            RunError: If EarlyStopping or ModelCheckpoint monitors a metric that is not logged.
        """
        if self._monitors_checked or (trainer.enable_validation and not self._has_validated):
            return
        self._monitors_checked = True
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            watches = isinstance(callback, EarlyStopping | ModelCheckpoint)
            if watches and callback.monitor not in (None, *trainer.callback_metrics):
                raise RunError(
                    f'{type(callback).__name__} watches "{callback.monitor}", which has not been '
                    f"logged: {_checkpoint_advice(trainer)}; watch one of "
                    f"{', '.join(trainer.callback_metrics) or 'none, because none is logged'}"
                )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Print the update at which an unexpected error stopped the run."""
        begun = bool(self._before)
        self.on_fit_end(trainer, pl_module)
        explained = (StoppedError, RunError, ConfigurationError, MisconfigurationException)
        if begun and not isinstance(exception, explained):
            failed = f"rl_lightning: the run failed{_position(trainer)}"
            print(f"{failed}: {_checkpoint_advice(trainer)}", file=sys.stderr, flush=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signal handlers."""
        while self._before:
            signal.signal(*self._before.popitem())

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, so that an error can name the tensor that is not finite."""
        self._batch = batch

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Stop before a NaN or infinite loss changes the weights."""
        if not loss.isfinite():
            raise DivergedError(
                f"the loss is {loss.item()}{_position(trainer)}, {self._reason(pl_module)}: "
                f"{_checkpoint_advice(trainer)}; lower the learning rate or clip gradients "
                "(trainer.gradient_clip_val)"
            )

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Do not write a checkpoint with NaN or infinite weights or statistics.

        All waiting metrics are sent before, because a run that is resumed from this checkpoint
        does not log them again.

        Raises:
            DivergedError: If there are any.
        """
        if (name := _not_finite(pl_module)) is not None:
            raise DivergedError(
                f"{name} is not finite{_position(trainer)}: {_checkpoint_advice(trainer)}"
            )
        for logger in trainer.loggers:
            if isinstance(logger, MLflowTracker):
                logger.flush()

    def _reason(self, pl_module: LightningModule) -> str:
        """The name of the first tensor that is not finite, as a part of an error message."""
        fields = getattr(self._batch, "_fields", range(len(self._batch)))
        for name, values in zip(fields, self._batch, strict=False):
            if isinstance(values, Tensor) and not values.isfinite().all():
                return f"because the batch's {name} are not finite"
        name = _not_finite(pl_module)
        return "from finite weights and a finite batch" if name is None else f"because {name} is"


def _not_finite(pl_module: LightningModule) -> str | None:
    """Name of the first weight or statistic of the checkpoint with a NaN or infinite value.

    Constants such as the bounds of actions are not in the checkpoint, and may be infinite.
    """
    for name, values in pl_module.state_dict().items():
        if isinstance(values, Tensor) and not values.isfinite().all():
            return name
    return None


def _position(trainer: Trainer) -> str:
    collector = getattr(trainer.datamodule, "collector", None)  # type: ignore[attr-defined]
    update = f" at update {trainer.global_step:,}"
    if collector is None:
        return update
    return f"{update} and environment step {collector.env_steps * trainer.world_size:,}"


def _checkpoint_advice(trainer: Trainer) -> str:
    last = last_checkpoint(trainer)
    if last is None and trainer.ckpt_path is not None and Path(trainer.ckpt_path).is_file():
        last = Path(trainer.ckpt_path)
    if last is None:
        return "there is no checkpoint yet, so start again"
    return f"resume from the last checkpoint with --ckpt_path {shlex.quote(os.path.relpath(last))}"

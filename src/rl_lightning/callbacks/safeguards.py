"""A run that ends early leaves a checkpoint to go on from, and one line that says why."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from rl_lightning.runtime.errors import ConfigurationError, RunError
from rl_lightning.tracking.mlflow_tracker import MLflowTracker

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedError(BaseException):
    """A signal stopped the run. Not an Exception, so that only the command line catches it."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class Safeguards(Callback):
    """Stops on signals and on NaN or infinite losses, and says where the run stopped.

    The run goes on from its last checkpoint. Because a resumed run equals one that never
    stopped, only the time since that checkpoint is lost.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._has_validated = self._monitors_checked = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let a run that `max_steps` ends before its first validation end well.

        EarlyStopping raises where its metric is missing, whether it was misspelt or no
        validation has run yet; what was misspelt is found by `_check_monitors` here.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.strict = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle signals in place of Lightning, whose handler waits for every rank first."""

        def stop(signum: int, frame: FrameType | None) -> None:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)  # the second one is final
            if (launcher := trainer.strategy.launcher) is not None:
                launcher.kill(signum)
            name = signal.Signals(signum).name
            raise StoppedError(signum, f"{name} stopped the run{_at(trainer)}: {_kept(trainer)}")

        self._before = {each: signal.signal(each, stop) for each in SIGNALS}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signal handlers."""
        self._restore_handlers()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on metrics of validation can be watched."""
        self._has_validated |= not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once everything has been logged for the first time, find monitors that nothing logs."""
        if self._monitors_checked or (trainer.enable_validation and not self._has_validated):
            return
        self._monitors_checked = True
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            watches = isinstance(callback, EarlyStopping | ModelCheckpoint)
            if watches and callback.monitor not in (None, *trainer.callback_metrics):
                raise RunError(
                    f'{type(callback).__name__} watches "{callback.monitor}", which has not been '
                    f"logged: {_kept(trainer)}; watch one of {', '.join(trainer.callback_metrics)}"
                )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say where another error stopped the run; the error itself follows."""
        begun = bool(self._before)
        self._restore_handlers()
        explained = (StoppedError, RunError, ConfigurationError, MisconfigurationException)
        if begun and not isinstance(exception, explained):
            line = f"rl_lightning: the run broke{_at(trainer)}: {_kept(trainer)}"
            print(line, file=sys.stderr, flush=True)

    def _restore_handlers(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, to name what is not finite in it."""
        self._batch = batch

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Stop before a NaN or infinite loss changes the weights."""
        if not loss.isfinite():
            raise RunError(
                f"the loss is {loss.item()}{_at(trainer)}, {self._culprit(pl_module)}: "
                f"{_kept(trainer)}; lower the learning rate or clip gradients "
                "(trainer.gradient_clip_val)"
            )

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Never replace a checkpoint by one with NaN or infinite weights or statistics."""
        if (name := _not_finite(pl_module)) is not None:
            raise RunError(f"{name} is not finite{_at(trainer)}: {_kept(trainer)}")

    def _culprit(self, pl_module: LightningModule) -> str:
        """The first input of the loss that is not finite."""
        fields = getattr(self._batch, "_fields", range(len(self._batch)))
        for name, values in zip(fields, self._batch, strict=False):
            if isinstance(values, Tensor) and not values.isfinite().all():
                return f"because the batch's {name} are not finite"
        name = _not_finite(pl_module)
        return "from finite weights and a finite batch" if name is None else f"because {name} is"


def _not_finite(pl_module: LightningModule) -> str | None:
    """Name of the first parameter or buffer that holds a NaN or infinite number."""
    for name, values in (*pl_module.named_parameters(), *pl_module.named_buffers()):
        if not torch.isfinite(values).all():
            return name
    return None


def _at(trainer: Trainer) -> str:
    collector = getattr(trainer.datamodule, "collector", None)  # type: ignore[attr-defined]
    update = f" at update {trainer.global_step:,}"
    if collector is None:
        return update
    return f"{update} and environment step {collector.env_steps * trainer.world_size:,}"


def _kept(trainer: Trainer) -> str:
    # Without a logger the folder is that of earlier runs too: name only what this run has.
    written = [getattr(each, "best_model_path", "") for each in trainer.checkpoint_callbacks]
    if trainer.ckpt_path is not None:
        written.append(str(trainer.ckpt_path))
    found = [path for path in written if Path(path).name == "last.ckpt" and Path(path).is_file()]
    if not found:
        return "there is no checkpoint yet, so start again"
    tracked = any(isinstance(each, MLflowTracker) for each in trainer.loggers)
    how = "last" if tracked else found[0]
    return f"{found[0]} is the last checkpoint, go on from it with --ckpt_path {how}"

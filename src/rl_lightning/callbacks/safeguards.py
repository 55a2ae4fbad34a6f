"""A run that ends early leaves a checkpoint to go on from, and one line that says why."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from rl_lightning.runtime.errors import ConfigurationError, RunError

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

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say where another error stopped the run; the error itself follows."""
        self._restore_handlers()
        if not isinstance(exception, (StoppedError, RunError, ConfigurationError)):
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
    folder = getattr(trainer.checkpoint_callback, "dirpath", None)
    last = Path(folder or "", "last.ckpt")
    if folder is None or not last.is_file():
        return "there is no checkpoint yet, so start again"
    return f"{last} is the last checkpoint, go on from it with --ckpt_path last"

"""Whatever ends a run before its time leaves a checkpoint to go on from, and one line."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from rl_lightning.errors import ConfigurationError, RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedError(BaseException):
    """A signal stopped the run. Not an Exception: nothing but the end of it may catch it."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class Safeguards(Callback):
    """Stops on signals and on numbers that are none, and says where the run stood.

    What there is to go on from is the checkpoint of the last epoch: since a resumed run
    equals one that never stopped, no more than an epoch's time is lost.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, whose processes would agree on them first."""

        def stop(signum: int, frame: FrameType | None) -> None:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)  # the second one is final
            if (launcher := trainer.strategy.launcher) is not None:
                launcher.kill(signum)
            name = signal.Signals(signum).name
            raise StoppedError(signum, f"{name} stopped the run{_at(trainer)}: {_kept(trainer)}")

        self._before = {each: signal.signal(each, stop) for each in SIGNALS}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._give_signals_back()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say where a run stood that something else broke; the error itself follows."""
        self._give_signals_back()
        if not isinstance(exception, (StoppedError, RunError, ConfigurationError)):
            line = f"rl_lightning: the run broke{_at(trainer)}: {_kept(trainer)}"
            print(line, file=sys.stderr, flush=True)

    def _give_signals_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember what is learned from."""
        self._batch = batch

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Stop before a loss that is no number reaches the weights."""
        if not loss.isfinite():
            raise RunError(
                f"the loss is {loss.item()}{_at(trainer)}, {self._culprit(pl_module)}: "
                f"{_kept(trainer)}; lower the learning rate or clip gradients "
                "(trainer.gradient_clip_val)"
            )

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Never replace a checkpoint by one with weights that are no numbers."""
        if (name := _not_finite(pl_module)) is not None:
            raise RunError(f"{name} is not finite{_at(trainer)}: {_kept(trainer)}")

    def _culprit(self, pl_module: LightningModule) -> str:
        """The first thing that the loss was made of and that is not finite."""
        fields = getattr(self._batch, "_fields", range(len(self._batch)))
        for name, values in zip(fields, self._batch, strict=False):
            if isinstance(values, Tensor) and not values.isfinite().all():
                return f"because the batch's {name} are not finite"
        name = _not_finite(pl_module)
        return "from finite weights and a finite batch" if name is None else f"because {name} is"


def _not_finite(pl_module: LightningModule) -> str | None:
    for name, parameter in pl_module.named_parameters():
        if not torch.isfinite(parameter).all():
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
        return "no epoch had ended, so begin anew"
    return f"{last} is of the last epoch, go on from it with --ckpt_path last"

"""The check of what goes together in a run: module, datamodule, callbacks and Trainer flags."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.compatibility.pairs import check_pair
from rl_lightning.compatibility.trainer_flags import check_flags
from rl_lightning.runtime.errors import ConfigurationError


def check(
    trainer: Trainer, module: LightningModule, data: Any, fitting: bool | None = None
) -> None:
    """Check that module, datamodule, callbacks and Trainer flags fit together.

    `Learner.configure_callbacks` calls this once for each fit, validate, test or predict. It is the
    first hook that Lightning calls, before any logger or callback writes files.

    Args:
        trainer: The Trainer, before its run.
        module: The module that it trains or tests.
        data: Its datamodule, or None with dataloaders alone.
        fitting: Whether it trains. The default is the Trainer's state.

    Raises:
        ConfigurationError: For the first of them that does not fit.
    """
    check_pair(module, data)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, NeedsCallback):
            if (misfit := callback.misfit(module, data)) is not None:
                raise ConfigurationError(misfit)
            callback.check_trainer(trainer, module)
    if fitting is None:
        fitting = trainer.state.fn == TrainerFn.FITTING
    check_flags(trainer, module, fitting, data)

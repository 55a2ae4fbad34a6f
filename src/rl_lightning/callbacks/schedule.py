"""When a callback makes pictures and films during training."""

from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn


def is_due(trainer: Trainer, every_n_epochs: int | None) -> bool:
    """Whether this validation is one that rank 0 shows.

    Args:
        trainer: In its validation.
        every_n_epochs: Epochs between two shown validations of training; the last epoch is
            always shown. None shows none.
    """
    training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
    if every_n_epochs is None or not training or not trainer.is_global_zero:
        return False
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # it writes no files
        return False
    epoch = trainer.current_epoch + 1
    return epoch % every_n_epochs == 0 or epoch == trainer.max_epochs

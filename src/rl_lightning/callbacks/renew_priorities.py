"""What prioritised replay hears of the learner."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from rl_lightning.experience import Transitions


class RenewPriorities(Callback):
    """Gives the rows of each minibatch the priority of their TD error.

    Goes with the datamodule's `priority_exponent`.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Transitions,
        batch_idx: int,
    ) -> None:
        """Hand the TD errors back."""
        priorities = trainer.datamodule.priorities  # type: ignore[attr-defined]
        if priorities is not None:
            priorities.renew(outputs["td_error"].cpu().numpy())

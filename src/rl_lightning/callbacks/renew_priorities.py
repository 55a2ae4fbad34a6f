"""Sets the priorities of prioritised replay."""

from typing import Any

from lightning import LightningModule, Trainer

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import GivesTDErrors, HasPriorities, Transitions


class RenewPriorities(NeedsCallback):
    """Sets the priority of each row of a minibatch to its TD error.

    It needs a datamodule with `priority_exponent`, because others have no priorities.
    """

    needs_of_module = GivesTDErrors
    needs_of_data = HasPriorities

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Transitions,
        batch_idx: int,
    ) -> None:
        """Pass the TD errors of the minibatch to the datamodule."""
        data: HasPriorities = trainer.datamodule  # type: ignore[attr-defined]
        data.renew_priorities(outputs["td_error"])

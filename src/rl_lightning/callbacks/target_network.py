"""Updates target networks."""

from typing import Annotated, Any, cast

from annotated_types import Ge, Gt, Le
from lightning import LightningModule, Trainer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import HasTargetNetworks


class TargetNetwork(NeedsCallback):
    """Updates target networks: θ⁻ ← (1 − τ) θ⁻ + τ θ after every `every_n_updates` updates.

    τ = 1 is the hard copy of Mnih et al. 2015; a small τ at every update is the Polyak
    average of Lillicrap et al. 2016. The module's `target_networks()` returns the networks, and
    the values of arguments that are None. Target networks are submodules of the module, so the
    checkpoint contains them.

    Args:
        every_n_updates: Updates (optimizer steps) between two updates of the target networks. With
            None the module decides: 1,000 in DQN and 1 in SAC.
        tau: τ, in (0, 1]. With None the module decides: 1 in DQN and 0.005 in SAC.
    """

    needs_of_module = HasTargetNetworks

    def __init__(
        self,
        every_n_updates: Annotated[int, Ge(1)] | None = None,
        tau: Annotated[float, Gt(0), Le(1)] | None = None,
    ) -> None:
        self.every_n_updates = every_n_updates
        self.tau = tau
        self._seen_updates = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count updates from the start of the run, or from the update where it is resumed."""
        self._seen_updates = trainer.global_step
        networks = cast(HasTargetNetworks, pl_module).target_networks()
        self._every = self.every_n_updates or networks.every_n_updates
        self._average = get_ema_multi_avg_fn(1 - (self.tau or networks.tau))
        self._parameters = [
            ([*target.parameters()], [*online.parameters()]) for online, target in networks.pairs
        ]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update after every `every_n_updates`-th optimizer step."""
        update = trainer.global_step
        if update == self._seen_updates:  # gradients are still accumulated
            return
        self._seen_updates = update
        if update % self._every:
            return
        for target, online in self._parameters:
            self._average(target, online, 0)

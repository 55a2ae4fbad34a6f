"""Updates target networks."""

from typing import Any, cast

from lightning import LightningModule, Trainer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import HasTargetNetworks
from rl_lightning.runtime.errors import ConfigurationError

DEFAULT_UPDATE = (1_000, 1.0)  # every_n_updates and τ of Mnih et al. 2015, with fewer updates


class TargetNetwork(NeedsCallback):
    """Updates target networks: θ⁻ ← (1 − τ) θ⁻ + τ θ after every `every_n_updates` updates.

    τ = 1 is the hard copy of Mnih et al. 2015; a small τ at every update is the Polyak
    average of Lillicrap et al. 2016. The module's `target_networks()` returns the pairs of
    networks. Target networks are submodules of the module, so the checkpoint contains them.

    A module may have the attribute `target_update`, which is used for arguments that are None:
    (1, 0.005) in SAC, (1_000, 1.0) in DQN and in modules without the attribute.

    Args:
        every_n_updates: Updates (optimizer steps) between two updates of the target networks.
        tau: τ, in (0, 1].

    Raises:
        ConfigurationError: If an argument is out of range.
    """

    needs_of_module = HasTargetNetworks

    def __init__(self, every_n_updates: int | None = None, tau: float | None = None) -> None:
        if every_n_updates is not None and every_n_updates < 1:
            raise ConfigurationError(f"every_n_updates is {every_n_updates}: make it at least 1")
        if tau is not None and not 0 < tau <= 1:
            raise ConfigurationError(f"tau is {tau}: choose it in (0, 1], where 1 is a hard copy")
        self.every_n_updates = every_n_updates
        self.tau = tau
        self._seen_updates = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count updates from the start of the run, or from the update where it is resumed."""
        self._seen_updates = trainer.global_step
        every_n_updates, tau = getattr(pl_module, "target_update", DEFAULT_UPDATE)
        self._every = self.every_n_updates or every_n_updates
        self._average = get_ema_multi_avg_fn(1 - (self.tau or tau))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update after every `every_n_updates`-th optimizer step."""
        if trainer.global_step == self._seen_updates:  # gradients are still accumulated
            return
        self._seen_updates = trainer.global_step
        if trainer.global_step % self._every:
            return
        for online, target in cast(HasTargetNetworks, pl_module).target_networks():
            self._average([*target.parameters()], [*online.parameters()], 0)

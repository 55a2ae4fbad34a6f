"""The target network's renewal."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rl_lightning.errors import ConfigurationError


class TargetNetwork(Callback):
    """Keeps `target_network` behind `q_network`: θ⁻ ← (1 − τ) θ⁻ + τ θ every so many updates.

    τ = 1 is the hard copy of Mnih et al. 2015; a small τ at every update is the Polyak
    average of Lillicrap et al. 2016. The target network is a submodule of the agent, so
    it stands in the checkpoint.

    Args:
        every_n_updates: Updates between two renewals.
        tau: τ, in (0, 1].

    Raises:
        ConfigurationError: If either is out of range.
    """

    def __init__(self, every_n_updates: int = 1_000, tau: float = 1.0) -> None:
        if every_n_updates < 1:
            raise ConfigurationError(f"every_n_updates is {every_n_updates}: it is at least 1")
        if not 0 < tau <= 1:
            raise ConfigurationError(f"tau is {tau}: it lies in (0, 1], and 1 is a hard copy")
        self.every_n_updates = every_n_updates
        self.tau = tau
        self._average = get_ema_multi_avg_fn(1 - tau)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Renew after every `every_n_updates`-th update."""
        if trainer.global_step % self.every_n_updates:
            return
        target = pl_module.get_submodule("target_network").parameters()
        online = pl_module.get_submodule("q_network").parameters()
        self._average([*target], [*online], 0)

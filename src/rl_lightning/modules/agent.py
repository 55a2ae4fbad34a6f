"""What every agent shares: it acts, and its whole games are rated."""

from abc import abstractmethod

from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from rl_lightning.experience import Episodes, Exploration, Game
from rl_lightning.metrics import EpisodeStatistics
from rl_lightning.modules.normalisation import ObservationNormaliser


class Agent(LightningModule):
    """A LightningModule that is a `Policy`.

    A subclass says how it acts and what its loss is.

    Args:
        optimizer: Makes the optimizer from the parameters.
        normaliser: Of observations, on their way into the networks.
    """

    normaliser: ObservationNormaliser | None

    def __init__(
        self, optimizer: OptimizerCallable, normaliser: ObservationNormaliser | None = None
    ) -> None:
        super().__init__()
        self._make_optimizer = optimizer
        self.normaliser = normaliser
        self._evaluated = EpisodeStatistics()

    @abstractmethod
    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        """Choose an action for each copy; see `rl_lightning.experience.Policy`."""

    @abstractmethod
    def values(self, observations: Tensor) -> Tensor:
        """The agent's own estimate V(s) [B] of `observations` [B, *observation_shape]."""

    def _normalised(self, observations: Tensor) -> Tensor:
        return observations if self.normaliser is None else self.normaliser(observations)

    def configure_optimizers(self) -> Optimizer:
        """One optimizer for all that learns."""
        return self._make_optimizer(p for p in self.parameters() if p.requires_grad)

    def validation_step(self, batch: Episodes) -> None:
        """Rate greedy games."""
        self._evaluated.update(batch)

    def test_step(self, batch: Episodes) -> None:
        """Rate greedy games."""
        self._evaluated.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the statistics of the games."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log the statistics of the games."""
        self._log_evaluation("test")

    def _log_evaluation(self, stage: str) -> None:
        statistics = self._evaluated.compute()
        self._evaluated.reset()
        metrics = {f"{stage}/{name}": value.float() for name, value in statistics.items()}
        self.log_dict(metrics, sync_dist=True)

    def predict_step(self, batch: Game) -> Tensor:
        """The agent's estimates V(s_t) [T] along a game."""
        return self.values(batch.rollout.observations[:-1, 0])

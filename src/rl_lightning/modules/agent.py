"""Base class of agents: modules that act, and the statistics of their evaluated episodes."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric

from rl_lightning.experience import (
    Decision,
    EnvironmentSpec,
    Episodes,
    Exploration,
    RecordedEpisode,
    example_observations,
)
from rl_lightning.modules.learner import Learner
from rl_lightning.runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from rl_lightning.networks.normalisation import ObservationNormaliser


class Agent(Learner):
    """A LightningModule that is a `Policy`.

    Subclasses define the actions and the loss.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        normalise_observations: Whether to subtract the running mean from observations and divide
            them by their running standard deviation.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.
    """

    monitor: ClassVar[tuple[str, str] | None] = ("val/return", "max")
    architecture: ClassVar[tuple[str, ...]] = ("environment",)
    action_low: Tensor | None  # of Box actions, else None
    action_high: Tensor | None

    def __init__(
        self,
        environment: EnvironmentSpec,
        optimizer: OptimizerCallable,
        normalise_observations: bool = False,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.environment = environment
        self.example_input_array = example_observations(environment)
        self._add_bounds()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.normaliser = self._make_normaliser() if normalise_observations else None
        self._evaluated = EpisodeStatistics()

    def _make_normaliser(self) -> "ObservationNormaliser":
        if self.environment["num_observations"] is not None:
            raise ConfigurationError(
                f"normalise_observations is true and {self.environment['env_id']} has Discrete "
                "observations, which have no mean: set it to false"
            )
        from rl_lightning.networks.normalisation import ObservationNormaliser

        return ObservationNormaliser(tuple(self.environment["observation_shape"]))

    def _add_bounds(self) -> None:
        """Make buffers of the bounds of Box actions, which the checkpoint need not hold."""
        shape = tuple(self.environment["action_shape"])
        for name in ("action_low", "action_high"):
            given = self.environment[name]
            bound = None if given is None else torch.tensor(given, dtype=torch.float32).view(shape)
            self.register_buffer(name, bound, persistent=False)

    @abstractmethod
    def act(
        self, observations: Tensor, exploration: Exploration | None = None
    ) -> Tensor | Decision:
        """Choose an action for each environment copy; see `rl_lightning.experience.Policy`."""

    def forward(self, observations: Tensor) -> Tensor:
        """The greedy actions, as the environment gets them.

        Box actions are clipped to their bounds. Discrete observations and actions are counted
        from 0.

        Args:
            observations: [B, *observation_shape].

        Returns:
            [B, *action_shape].
        """
        decision = self.act(observations)
        actions = decision.actions if isinstance(decision, Decision) else decision
        if self.action_low is None:
            return actions
        return torch.clamp(actions, self.action_low, self.action_high)

    @abstractmethod
    def values(self, observations: Tensor) -> Tensor:
        """The agent's estimate V(s) [B] for `observations` [B, *observation_shape]."""

    def _normalised(self, observations: Tensor) -> Tensor:
        return observations if self.normaliser is None else self.normaliser(observations)

    def configure_optimizers(self) -> Any:
        """One optimizer for all trainable parameters, and its schedule."""
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        return self.with_schedule(optimizer, self.lr_scheduler)

    def validation_step(self, batch: Episodes) -> None:
        """Add greedy episodes to the statistics."""
        self._evaluated.update(batch)

    def test_step(self, batch: Episodes) -> None:
        """Add greedy episodes to the statistics."""
        self._evaluated.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the statistics of all validation episodes."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log the statistics of all test episodes."""
        self._log_evaluation("test")

    def _log_evaluation(self, stage: str) -> None:
        statistics = self._evaluated.compute()
        self._evaluated.reset()
        metrics = {f"{stage}/{name}": value.float() for name, value in statistics.items()}
        self.log_dict(metrics, sync_dist=True)

    def predict_step(self, batch: RecordedEpisode) -> Tensor:
        """The agent's estimates V(s_t) [T] for the steps of an episode."""
        return self.values(batch.rollout.observations[:-1, 0])


class EpisodeStatistics(Metric):
    """Statistics over all episodes of an evaluation, gathered over ranks.

    `compute` returns `return` (the mean), `return_std` (of the population), `return_min`,
    `return_max`, `return_iqm`, `length` (the mean) and `episodes` (their number).
    """

    full_state_update = False
    returns: list[Tensor]
    lengths: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("returns", default=[], dist_reduce_fx="cat")
        self.add_state("lengths", default=[], dist_reduce_fx="cat")

    def update(self, episodes: Episodes) -> None:
        """Add `episodes`."""
        self.returns.append(episodes.returns)
        self.lengths.append(episodes.lengths)

    def compute(self) -> dict[str, Tensor]:
        """Compute the statistics of all episodes since the last reset."""
        # torchmetrics holds a list here, and one tensor after it has gathered the ranks. The
        # returns are sorted, so that the sums do not depend on which rank played which episode.
        returns = torch.cat([*self.returns]) if isinstance(self.returns, list) else self.returns
        returns = returns.sort().values
        lengths = torch.cat([*self.lengths]) if isinstance(self.lengths, list) else self.lengths
        return {
            "return": returns.mean(),
            "return_std": returns.std(correction=0),
            "return_min": returns.min(),
            "return_max": returns.max(),
            "return_iqm": interquartile_mean(returns),
            "length": lengths.double().mean(),
            "episodes": torch.tensor(float(returns.numel()), device=returns.device),
        }


def interquartile_mean(values: Tensor) -> Tensor:
    """Mean of the middle half of `values` [K], without the lowest and the highest quarter.

    Source: Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice".
    """
    cut = values.numel() // 4
    return values.sort().values[cut : values.numel() - cut].mean()

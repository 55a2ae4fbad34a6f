"""Base class of REINFORCE and actor-critic: a stochastic policy and an optional critic."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, TypedDict

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.distributions import Distribution

from rl_lightning.experience import Decision, EnvironmentSpec, Exploration, Rollout
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.agent import Agent
from rl_lightning.networks.bodies import (
    Activation,
    FullPrecisionLinear,
    NetworkName,
    initialise_orthogonally,
    make_body,
)
from rl_lightning.networks.normalisation import ReturnStatistics
from rl_lightning.networks.policy_heads import make_head
from rl_lightning.runtime.constructors import require_range


class PolicyGradientOptions(TypedDict, total=False):
    """The options of `PolicyGradient` that its subclasses pass on."""

    network: NetworkName
    hidden_sizes: Sequence[int]
    activation: Activation
    shared_body: bool
    entropy_coefficient: float
    value_coefficient: float
    normalise_advantages: bool
    normalise_observations: bool
    normalise_returns: bool
    initial_log_std: float
    critic_learning_rate: float | None
    optimizer: OptimizerCallable
    lr_scheduler: LRSchedulerCallable | None


class PolicyGradient(Agent):
    """A policy π_θ that ascends ∇J(θ) ≈ Σ_t ψ_t ∇ log π_θ(a_t | s_t).

    Subclasses have the loss in their `training_step`. The initial weights are orthogonal with gain
    √2. The last layer has gain 1 for the critic and 0.01 for the policy, so that the initial policy
    is nearly uniform.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        network: "mlp", or one of the two Atari networks.
        hidden_sizes: Units of the mlp's hidden layers.
        activation: Activation of the mlp.
        shared_body: Whether policy and critic share one network body.
        entropy_coefficient: Weight of the entropy bonus in the loss. The lecture has none.
        value_coefficient: Weight of the critic's loss in the loss.
        normalise_advantages: Whether to scale advantages to zero mean and unit variance in each
            batch.
        normalise_observations: Whether to subtract the running mean from observations and divide
            them by their running standard deviation.
        normalise_returns: Whether to divide rewards by the running standard deviation of returns.
        initial_log_std: Initial log σ of continuous actions. The unit of σ is half the distance
            between the bounds of an action.
        critic_learning_rate: The lecture's β. With None it is α, the optimizer's `lr`.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning rate's schedule, which is stepped after every epoch.

    Raises:
        ConfigurationError: If an argument is out of range or the network does not fit.
    """

    batch_type: ClassVar[type] = Rollout
    architecture: ClassVar[tuple[str, ...]] = (
        "environment",
        "network",
        "hidden_sizes",
        "activation",
        "shared_body",
        "normalise_observations",
        "normalise_returns",
    )

    def __init__(
        self,
        environment: EnvironmentSpec,
        network: NetworkName = "mlp",
        hidden_sizes: Sequence[int] = (64, 64),
        activation: Activation = "tanh",
        shared_body: bool = False,
        entropy_coefficient: float = 0.0,
        value_coefficient: float = 0.5,
        normalise_advantages: bool = False,
        normalise_observations: bool = False,
        normalise_returns: bool = False,
        initial_log_std: float = 0.0,
        critic_learning_rate: float | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        require_range(
            0,
            entropy_coefficient=entropy_coefficient,
            value_coefficient=value_coefficient,
            critic_learning_rate=critic_learning_rate,
        )
        require_range(-20, 20, initial_log_std=initial_log_std)
        super().__init__(environment, optimizer, normalise_observations, lr_scheduler)
        self.entropy_coefficient = entropy_coefficient
        self.value_coefficient = value_coefficient
        self.normalise_advantages = normalise_advantages
        self.critic_learning_rate = critic_learning_rate
        self.shared_body = shared_body
        self._make_body = partial(make_body, environment, network, hidden_sizes, activation)
        self.body = self._make_body()
        initialise_orthogonally(self.body)
        self.head = make_head(environment, self.body.features, initial_log_std)
        initialise_orthogonally(self.head, gain=0.01)
        self.critic_body: nn.Module | None = None
        self.value_head: nn.Module | None = None
        self.return_statistics = ReturnStatistics() if normalise_returns else None

    def add_critic(self) -> None:
        """Make the critic V_φ. Only subclasses with a critic call this."""
        self.value_head = FullPrecisionLinear(self.body.features, 1)
        initialise_orthogonally(self.value_head, gain=1.0)
        if not self.shared_body:
            self.critic_body = self._make_body()
            initialise_orthogonally(self.critic_body)

    def policy(self, observations: Tensor) -> Distribution:
        """π_θ(· | s) for `observations` [B, *observation_shape]."""
        return self.head(self.body(self._normalised(observations)))

    def act(
        self, observations: Tensor, exploration: Exploration | None = None
    ) -> Tensor | Decision:
        """Draw an action for each environment copy; without exploration, take the mode."""
        features = self.body(self._normalised(observations))
        return self.head.act(features, None if exploration is None else exploration.generator)

    def values(self, observations: Tensor) -> Tensor:
        """The values V_φ(s) [B] in the unit of the environment's rewards; NaN without a critic."""
        if self.value_head is None:
            return torch.full((len(observations),), torch.nan, device=self.device)
        return self.critic(self._normalised(observations)) * self.return_scale

    def critic(self, normalised: Tensor) -> Tensor:
        """Compute V_φ(s) [B] from normalised observations, in units of `return_scale`."""
        assert self.value_head is not None
        body = self.body if self.critic_body is None else self.critic_body
        values: Tensor = self.value_head(body(normalised))
        return values.squeeze(-1)

    def policy_and_values(self, observations: Tensor) -> tuple[Distribution, Tensor]:
        """Compute the policy and the values of a rollout.

        Args:
            observations: s_0 to s_T [T + 1, N, *observation_shape].

        Returns:
            π_θ(· | s_t) for t < T, whose log-probabilities are [T, N], and V_φ(s_0) to V_φ(s_T)
            [T + 1, N] in units of `return_scale`.
        """
        shape = observations.shape[:2]
        normalised = self._normalised(observations.flatten(0, 1))
        features, values = self.features_and_values(normalised)
        return self.head(features.unflatten(0, shape)[:-1]), values.unflatten(0, shape)

    def features_and_values(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the head's features [B, F] and V_φ(s) [B] from normalised observations [B, ...].

        A shared body is computed once.
        """
        features: Tensor = self.body(normalised)
        if self.critic_body is not None:
            return features, self.critic(normalised)
        assert self.value_head is not None
        return features, self.value_head(features).squeeze(-1)

    @property
    def return_scale(self) -> Tensor | float:
        """The number that rewards are divided by."""
        return 1.0 if self.return_statistics is None else self.return_statistics.scale

    def learn_statistics(self, batch: Rollout, returns: Tensor) -> None:
        """Update the running statistics with a rollout.

        The loss must use the statistics from before, and so the same log-probabilities, with which
        the actions were drawn.

        Args:
            batch: The rollout.
            returns: Return from each of its steps on [T, N], in units of `return_scale`.
        """
        if self.normaliser is not None:
            self.normaliser.update(batch.observations[:-1][batch.mask])
        if self.return_statistics is not None:
            self.return_statistics.update(returns[batch.mask] * self.return_scale)

    def log_losses(
        self, loss: Tensor, policy_loss: Tensor, value_loss: Tensor, entropy: Tensor
    ) -> None:
        """Log the loss of an update and its terms, each of shape []."""
        if should_log(self.trainer):
            self.log_dict(
                {
                    "train/loss": loss.detach(),
                    "train/policy_loss": policy_loss.detach(),
                    "train/value_loss": value_loss.detach(),
                    "train/entropy": entropy.detach(),
                },
                sync_dist=True,
            )

    def configure_optimizers(self) -> Any:
        """One optimizer, in which the critic is a group if it has its own rate, and its schedule.

        With a schedule the critic is always a group, as in earlier versions, because the states of
        schedules have a value for each group.
        """
        critic = [
            parameter
            for module in (self.critic_body, self.value_head)
            if module is not None
            for parameter in module.parameters()
        ]
        ids = {id(parameter) for parameter in critic}
        policy = [p for p in self.parameters() if id(p) not in ids]
        rate = self.critic_learning_rate
        groups: list[dict[str, Any]] = [{"params": policy + critic}]
        if critic and (rate is not None or self.lr_scheduler is not None):
            own_rate = {} if rate is None else {"lr": rate}
            groups = [{"params": policy}, {"params": critic, **own_rate}]
        return self.with_schedule(self.optimizer(groups), self.lr_scheduler)

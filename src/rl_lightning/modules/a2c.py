"""The advantage actor-critic."""

from collections.abc import Sequence
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from rl_lightning.errors import ConfigurationError
from rl_lightning.experience import EnvironmentSpec, Rollout
from rl_lightning.modules.networks import Activation, NetworkName
from rl_lightning.modules.policy_gradient import Losses, PolicyGradient
from rl_lightning.ranks import weight_among_ranks
from rl_lightning.returns import (
    generalised_advantages,
    masked_mean,
    n_step_returns,
    standardised,
)


class A2C(PolicyGradient):
    """The lecture's actor-critic, and its modern forms by switch.

    For each of m trajectories and each t,

        A_t = Σ_{t' ≥ t} γ^{t'−t} r_{t'} − V_φ(s_t)
        Δθ ← Δθ + A_t ∇_θ log π_θ(a_t | s_t)
        Δφ ← Δφ + β ∇_φ ‖A_t‖²

    which is `advantage: monte_carlo` on whole episodes, with the critic apart
    (`shared_body: false`) and at its own rate (`critic_learning_rate`). Here the
    gradient is a mean over steps.

    Source: the lecture's actor-critic algorithm; Mnih et al. 2016; Schulman et al. 2016.

    Args:
        environment: Shapes of the environment; the command line takes them from the data.
        network: "mlp", or one of the two Atari networks.
        hidden_sizes: Units of the mlp's hidden layers.
        activation: Of the mlp.
        advantage: "monte_carlo" sums rewards to the episode's end and bootstraps where it was
            cut off; "n_step" bootstraps after `n_step` steps; "gae" weights all n by λ^n.
        n_step: n.
        gae_lambda: λ in [0, 1].
        entropy_coefficient: Weight of the policy's entropy, a bonus.
        value_coefficient: Weight of the critic's loss, which matters to a shared body.
        normalise_advantages: To zero mean and unit variance in each batch.
        shared_body: Whether V_φ has the policy's body, or one of its own.
        normalise_observations: Subtract their running mean and divide by their running σ.
        normalise_returns: Divide rewards by the running σ of returns.
        initial_log_std: log σ of continuous actions at first.
        critic_learning_rate: The lecture's β; None takes the policy's α, the optimizer's `lr`.
        anneal_learning_rates: Let both fall to 0 over the run, linearly in updates.
        optimizer: Makes the optimizer from the parameters.

    Raises:
        ConfigurationError: If a value is out of range or no network fits.
    """

    def __init__(
        self,
        environment: EnvironmentSpec,
        network: NetworkName = "mlp",
        hidden_sizes: Sequence[int] = (64, 64),
        activation: Activation = "tanh",
        advantage: Literal["monte_carlo", "n_step", "gae"] = "gae",
        n_step: int = 5,
        gae_lambda: float = 0.95,
        entropy_coefficient: float = 0.0,
        value_coefficient: float = 0.5,
        normalise_advantages: bool = False,
        shared_body: bool = False,
        normalise_observations: bool = False,
        normalise_returns: bool = False,
        initial_log_std: float = 0.0,
        critic_learning_rate: float | None = None,
        anneal_learning_rates: bool = False,
        optimizer: OptimizerCallable = torch.optim.Adam,
    ) -> None:
        super().__init__(
            environment=environment,
            network=network,
            hidden_sizes=hidden_sizes,
            activation=activation,
            has_critic=True,
            entropy_coefficient=entropy_coefficient,
            value_coefficient=value_coefficient,
            shared_body=shared_body,
            normalise_observations=normalise_observations,
            normalise_returns=normalise_returns,
            initial_log_std=initial_log_std,
            critic_learning_rate=critic_learning_rate,
            anneal_learning_rates=anneal_learning_rates,
            optimizer=optimizer,
        )
        self.save_hyperparameters(ignore=["optimizer"])
        if not 0 <= gae_lambda <= 1:
            raise ConfigurationError(f"gae_lambda is {gae_lambda}: it lies in [0, 1]")
        if n_step < 1:
            raise ConfigurationError(f"n_step is {n_step}: it is at least 1")
        self.advantage = advantage
        self.n_step = n_step
        self.gae_lambda = gae_lambda
        self.normalise_advantages = normalise_advantages

    def losses(self, batch: Rollout) -> Losses:
        """The parts of a rollout's loss, each a mean over its steps."""
        steps, copies = batch.rewards.shape
        distribution, values = self.policy_and_values(batch.observations.flatten(0, 1))
        values = values.unflatten(0, (steps + 1, copies))
        advantages = self.advantages(batch, values.detach())
        returns = advantages + values[:-1].detach()
        if self.normalise_advantages:
            advantages = standardised(advantages, batch.mask)

        # A row more than there are actions: that of the last observation.
        padded = torch.cat([batch.actions, batch.actions[-1:]]).flatten(0, 1)
        log_probs = distribution.log_prob(padded).unflatten(0, (steps + 1, copies))[:-1]
        entropies = distribution.entropy().unflatten(0, (steps + 1, copies))[:-1]
        weight = weight_among_ranks(batch.mask.sum())
        return Losses(
            policy=-masked_mean(log_probs * advantages, batch.mask) * weight,
            value=masked_mean((returns - values[:-1]).square(), batch.mask) * weight,
            entropy=masked_mean(entropies, batch.mask) * weight,
            returns=returns,
        )

    def advantages(self, batch: Rollout, values: Tensor) -> Tensor:
        """A_t [T, N] in units of `return_scale`, for V(s_0) to V(s_T) `values` [T + 1, N]."""
        rewards = batch.rewards / self.return_scale
        if self.advantage == "n_step":
            returns = n_step_returns(rewards, batch.discounts, batch.ends, values, self.n_step)
            return returns - values[:-1]
        gae_lambda = 1.0 if self.advantage == "monte_carlo" else self.gae_lambda
        return generalised_advantages(rewards, batch.discounts, batch.ends, values, gae_lambda)

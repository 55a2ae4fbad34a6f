"""REINFORCE, with each step of the lecture's variance reduction a switch of its own."""

from collections.abc import Sequence
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from rl_lightning.errors import ConfigurationError
from rl_lightning.experience import EnvironmentSpec, Rollout
from rl_lightning.modules.networks import Activation, NetworkName
from rl_lightning.modules.normalisation import MovingAverage
from rl_lightning.modules.policy_gradient import Losses, PolicyGradient
from rl_lightning.ranks import weight_among_ranks
from rl_lightning.returns import (
    discounted_rewards_to_go,
    rewards_to_go,
    standardised,
    trajectory_returns,
)

Weight = Literal["trajectory", "reward_to_go", "discounted"]
Baseline = Literal["none", "moving_average", "value"]


class Reinforce(PolicyGradient):
    """∇J(θ) ≈ (1/m) Σ_τ Σ_t (ψ_t − b) ∇_θ log π_θ(a_t | s_t) over m whole trajectories τ.

    The ladder: ψ_t is the return r(τ) of the whole trajectory, the reward to go
    Σ_{t' ≥ t} r_{t'}, or the discounted reward to go Σ_{t' ≥ t} γ^{t'−t} r_{t'}; b is 0,
    the moving average of ψ over all trajectories before this batch, or V_φ(s_t).

    Source: the lecture's REINFORCE and its variance reduction; Williams 1992.

    Args:
        environment: Shapes of the environment; the command line takes them from the data.
        network: "mlp", or one of the two Atari networks.
        hidden_sizes: Units of the mlp's hidden layers.
        activation: Of the mlp.
        weight: ψ: "trajectory", "reward_to_go" or "discounted", which takes γ from the data.
        baseline: b: "none", "moving_average" or "value".
        baseline_decay: Share of the moving average that an update keeps.
        entropy_coefficient: Weight of the policy's entropy, a bonus; the lecture has none.
        value_coefficient: Weight of the critic's loss.
        normalise_advantages: ψ − b to zero mean and unit variance; the lecture does not.
        normalise_observations: Subtract their running mean and divide by their running σ.
        normalise_returns: Divide rewards by the running σ of ψ.
        initial_log_std: log σ of continuous actions at first.
        critic_learning_rate: Of V_φ; None takes the optimizer's `lr`.
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
        weight: Weight = "discounted",
        baseline: Baseline = "value",
        baseline_decay: float = 0.9,
        entropy_coefficient: float = 0.0,
        value_coefficient: float = 1.0,
        normalise_advantages: bool = False,
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
            has_critic=baseline == "value",
            entropy_coefficient=entropy_coefficient,
            value_coefficient=value_coefficient,
            shared_body=False,
            normalise_observations=normalise_observations,
            normalise_returns=normalise_returns,
            initial_log_std=initial_log_std,
            critic_learning_rate=critic_learning_rate,
            anneal_learning_rates=anneal_learning_rates,
            optimizer=optimizer,
        )
        self.save_hyperparameters(ignore=["optimizer"])
        if not 0 <= baseline_decay < 1:
            raise ConfigurationError(f"baseline_decay is {baseline_decay}: it lies in [0, 1)")
        self.weight = weight
        self.baseline = baseline
        self.normalise_advantages = normalise_advantages
        self.average = MovingAverage(baseline_decay) if baseline == "moving_average" else None

    def losses(self, batch: Rollout) -> Losses:
        """The parts of the loss of whole trajectories; the policy's a mean over trajectories."""
        mask = batch.mask
        observations = batch.observations[:-1][mask]
        weights = self.weights(batch)
        baselines, value_loss = self.baselines(observations, weights[mask])
        advantages = weights[mask] - baselines
        if self.normalise_advantages:
            advantages = standardised(advantages, torch.ones_like(advantages, dtype=torch.bool))
        distribution = self.policy(observations)
        log_probs = distribution.log_prob(batch.actions[mask])
        weight = weight_among_ranks(mask.sum())
        assert log_probs.shape == advantages.shape, f"{log_probs.shape}, {advantages.shape}"
        return Losses(
            policy=-(log_probs * advantages).sum() / (batch.ends & mask).sum(),
            value=value_loss * weight,
            entropy=distribution.entropy().mean() * weight,
            returns=weights,
        )

    def weights(self, batch: Rollout) -> Tensor:
        """ψ_t [T, N] in units of `return_scale`."""
        rewards = batch.rewards / self.return_scale
        if self.weight == "trajectory":
            return trajectory_returns(rewards, batch.ends)
        if self.weight == "reward_to_go":
            return rewards_to_go(rewards, batch.ends)
        return discounted_rewards_to_go(rewards, batch.discounts, batch.ends)

    def baselines(self, observations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """b for each step, and the loss that V_φ learns from.

        Args:
            observations: [B, *observation_shape].
            weights: ψ [B].

        Returns:
            b [B] or [], without gradient, and a loss [].
        """
        none = weights.new_zeros(())
        if self.average is not None:
            return self.average.value / self.return_scale, none
        if self.baseline == "none":
            return none, none
        values = self.critic(self._normalised(observations))
        assert values.shape == weights.shape, f"V {values.shape}, ψ {weights.shape}"
        return values.detach(), (weights - values).square().mean()

    def learn_statistics(self, batch: Rollout, returns: Tensor) -> None:
        """The moving average too learns after: a baseline that knows its own batch is biased."""
        if self.average is not None:
            self.average.update(returns[batch.mask] * self.return_scale)
        super().learn_statistics(batch, returns)

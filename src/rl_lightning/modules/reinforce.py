"""REINFORCE, with an option for each step of the lecture's variance reduction."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rl_lightning.experience import EnvironmentSpec, Rollout
from rl_lightning.functional.returns import (
    discounted_rewards_to_go,
    rewards_to_go,
    standardised,
    trajectory_returns,
)
from rl_lightning.modules.policy_gradient import Losses, PolicyGradient
from rl_lightning.networks.normalisation import MovingAverage
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import ddp_scale

Returns = Literal["trajectory", "reward_to_go", "discounted"]
Baseline = Literal["none", "moving_average", "value"]


class Reinforce(PolicyGradient):
    """Ascends ∇J(θ) ≈ (1/m) Σ_τ Σ_t (ψ_t − b) ∇_θ log π_θ(a_t | s_t) over m trajectories τ.

    Trajectories are whole episodes. ψ_t is the return r(τ) of the whole trajectory, the reward to
    go Σ_{t' ≥ t} r_{t'}, or the discounted reward to go Σ_{t' ≥ t} γ^{t'−t} r_{t'}. b is 0, or
    V_φ(s_t), or the moving average of ψ over the trajectories of all earlier batches.

    Source: the lecture's REINFORCE and its variance reduction; Williams 1992.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        returns: ψ, one of "trajectory", "reward_to_go" and "discounted". γ is the datamodule's.
        baseline: b, one of "none", "moving_average" and "value".
        baseline_decay: Weight of the old moving average in an update of it.
        policy_options: See `PolicyGradient`.

    Raises:
        ConfigurationError: If an argument is out of range or the network does not fit.
    """

    algorithm = "reinforce"

    needs_whole_episodes = True
    architecture: ClassVar[tuple[str, ...]] = (*PolicyGradient.architecture, "baseline")

    def __init__(
        self,
        environment: EnvironmentSpec,
        returns: Returns = "discounted",
        baseline: Baseline = "value",
        baseline_decay: float = 0.9,
        **policy_options: Any,
    ) -> None:
        super().__init__(environment, **policy_options)
        if baseline == "value":
            self.add_critic()
        if not 0 <= baseline_decay < 1:
            raise ConfigurationError(f"baseline_decay is {baseline_decay}: choose it in [0, 1)")
        self.kind_of_returns = returns
        self.baseline = baseline
        self.average = MovingAverage(baseline_decay) if baseline == "moving_average" else None

    def losses(self, batch: Rollout) -> Losses:
        """Compute the terms of the loss. The policy's term is a mean over trajectories."""
        mask = batch.mask
        observations = batch.observations[:-1][mask]
        returns = self.returns(batch)
        baselines, value_loss = self.baselines(observations, returns[mask])
        advantages = returns[mask] - baselines
        if self.normalise_advantages:
            advantages = standardised(advantages, torch.ones_like(advantages, dtype=torch.bool))
        distribution = self.policy(observations)
        log_probs = distribution.log_prob(batch.actions[mask])
        scale = ddp_scale(mask.sum())
        assert log_probs.shape == advantages.shape, f"{log_probs.shape}, {advantages.shape}"
        return Losses(
            policy=-(log_probs * advantages).sum() / (batch.ends & mask).sum(),
            value=value_loss * scale,
            entropy=distribution.entropy().mean() * scale,
            returns=returns,
        )

    def returns(self, batch: Rollout) -> Tensor:
        """Compute ψ_t [T, N] in units of `return_scale`."""
        rewards = batch.rewards / self.return_scale
        if self.kind_of_returns == "trajectory":
            return trajectory_returns(rewards, batch.ends)
        if self.kind_of_returns == "reward_to_go":
            return rewards_to_go(rewards, batch.ends)
        return discounted_rewards_to_go(rewards, batch.discounts, batch.ends)

    def baselines(self, observations: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Compute b for each step, and the loss of V_φ.

        Args:
            observations: [B, *observation_shape].
            returns: ψ [B].

        Returns:
            b [B] or [], without gradient, and the loss [], which is 0 without V_φ.
        """
        none = returns.new_zeros(())
        if self.average is not None:
            return self.average.value / self.return_scale, none
        if self.baseline == "none":
            return none, none
        values = self.critic(self._normalised(observations))
        assert values.shape == returns.shape, f"V {values.shape}, ψ {returns.shape}"
        return values.detach(), (returns - values).square().mean()

    def learn_statistics(self, batch: Rollout, returns: Tensor) -> None:
        """Update the moving average as well.

        This is done after the loss, because a baseline that includes the returns of its own batch
        biases the gradient.
        """
        if self.average is not None:
            self.average.update(returns[batch.mask] * self.return_scale)
        super().learn_statistics(batch, returns)

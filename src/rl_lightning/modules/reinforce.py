"""REINFORCE, with an option for each step of the lecture's variance reduction."""

from typing import ClassVar, Literal

from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.experience import EnvironmentSpec, Rollout
from rl_lightning.functional.returns import (
    discounted_rewards_to_go,
    rewards_to_go,
    trajectory_returns,
)
from rl_lightning.modules.policy_gradient import PolicyGradient, PolicyGradientOptions
from rl_lightning.networks.normalisation import MovingAverage, standardised_over_ranks
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import count_per_rank

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
        options: See `PolicyGradient`.

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
        **options: Unpack[PolicyGradientOptions],
    ) -> None:
        super().__init__(environment, **options)
        if baseline == "value":
            self.add_critic()
        if not 0 <= baseline_decay < 1:
            raise ConfigurationError(f"baseline_decay is {baseline_decay}: choose it in [0, 1)")
        self.kind_of_returns = returns
        self.baseline = baseline
        self.average = MovingAverage(baseline_decay) if baseline == "moving_average" else None

    def training_step(self, batch: Rollout) -> Tensor:
        """Compute −(1/m) Σ_τ Σ_t (ψ − b) log π(a | s) + c_V (ψ − V(s))² − c_H H.

        The last two terms are means over the steps. H is the entropy of π(· | s), and c_V and c_H
        are `value_coefficient` and `entropy_coefficient`.
        """
        mask, returns = batch.mask, self.returns(batch)
        psi = returns[mask]  # of the B steps of all trajectories
        normalised = self._normalised(batch.observations[:-1][mask])
        count = count_per_rank(mask)
        baseline = value_loss = psi.new_zeros(())
        if self.baseline == "value":
            values = self.critic(normalised)
            assert values.shape == psi.shape, f"V {values.shape}, ψ {psi.shape}"
            baseline, value_loss = values.detach(), (psi - values).square().sum() / count
        elif self.average is not None:
            baseline = self.average.value / self.return_scale
        advantages = psi - baseline
        if self.normalise_advantages:
            advantages = standardised_over_ranks(advantages)

        distribution = self.head(self.body(normalised))
        log_probs = distribution.log_prob(batch.actions[mask])
        assert log_probs.shape == advantages.shape, f"{log_probs.shape}, {advantages.shape}"
        # Every rank has equally many trajectories.
        policy_loss = -(log_probs * advantages).sum() / (batch.ends & mask).sum()
        entropy = distribution.entropy().sum() / count
        loss = (
            policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        )

        self.learn_statistics(batch, returns)
        self.log_losses(loss, policy_loss, value_loss, entropy)
        return loss

    def returns(self, batch: Rollout) -> Tensor:
        """Compute ψ_t [T, N] in units of `return_scale`."""
        rewards = batch.rewards / self.return_scale
        if self.kind_of_returns == "trajectory":
            return trajectory_returns(rewards, batch.ends)
        if self.kind_of_returns == "reward_to_go":
            return rewards_to_go(rewards, batch.ends)
        return discounted_rewards_to_go(rewards, batch.discounts, batch.ends)

    def learn_statistics(self, batch: Rollout, returns: Tensor) -> None:
        """Update the moving average as well.

        This is done after the loss, because a baseline that includes the returns of its own batch
        biases the gradient.
        """
        if self.average is not None:
            self.average.update(returns[batch.mask] * self.return_scale)
        super().learn_statistics(batch, returns)

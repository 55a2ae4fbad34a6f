"""The advantage actor-critic."""

from typing import Any, Literal

import torch
from torch import Tensor

from rl_lightning.experience import EnvironmentSpec, Rollout
from rl_lightning.functional.returns import (
    generalised_advantages,
    masked_mean,
    n_step_returns,
    standardised,
)
from rl_lightning.modules.policy_gradient import Losses, PolicyGradient
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.runtime.ranks import ddp_scale


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
        environment: What is known of the environment; the command line takes it from the data.
        advantage: "monte_carlo" sums rewards to the episode's end and bootstraps where it was
            cut off; "n_step" bootstraps after `n_step` steps; "gae" weights all n by λ^n.
        n_step: n.
        gae_lambda: λ in [0, 1].
        policy_options: See `PolicyGradient`.

    Raises:
        ConfigurationError: If a value is out of range or no network fits.
    """

    algorithm = "a2c"

    def __init__(
        self,
        environment: EnvironmentSpec,
        advantage: Literal["monte_carlo", "n_step", "gae"] = "gae",
        n_step: int = 5,
        gae_lambda: float = 0.95,
        **policy_options: Any,
    ) -> None:
        super().__init__(environment, **policy_options)
        self.add_critic()
        if not 0 <= gae_lambda <= 1:
            raise ConfigurationError(f"gae_lambda is {gae_lambda}: it lies in [0, 1]")
        if n_step < 1:
            raise ConfigurationError(f"n_step is {n_step}: it is at least 1")
        self.advantage = advantage
        self.n_step = n_step
        self.gae_lambda = gae_lambda

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
        scale = ddp_scale(batch.mask.sum())
        return Losses(
            policy=-masked_mean(log_probs * advantages, batch.mask) * scale,
            value=masked_mean((returns - values[:-1]).square(), batch.mask) * scale,
            entropy=masked_mean(entropies, batch.mask) * scale,
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

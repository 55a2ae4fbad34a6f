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
    """The lecture's actor-critic, with options for its later variants.

    The lecture's updates are, for each of m trajectories and each t,

        A_t = Σ_{t' ≥ t} γ^{t'−t} r_{t'} − V_φ(s_t)
        Δθ ← Δθ + A_t ∇_θ log π_θ(a_t | s_t)
        Δφ ← Δφ + β ∇_φ ‖A_t‖²

    These are the options `advantage: monte_carlo`, `shared_body: false` and a
    `critic_learning_rate`, with whole episodes as data. Here the gradient is the mean over steps
    and not the sum.

    Source: the lecture's actor-critic algorithm; Mnih et al. 2016; Schulman et al. 2016.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        advantage: "monte_carlo" sums the rewards up to the end of the episode, and bootstraps if
            the episode was cut off; "n_step" bootstraps after `n_step` steps; "gae" is the average
            of the n-step advantages for all n, weighted by λ^n.
        n_step: n.
        gae_lambda: λ in [0, 1].
        policy_options: See `PolicyGradient`.

    Raises:
        ConfigurationError: If an argument is out of range or the network does not fit.
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
            raise ConfigurationError(f"gae_lambda is {gae_lambda}: choose it in [0, 1]")
        if n_step < 1:
            raise ConfigurationError(f"n_step is {n_step}: make it at least 1")
        self.advantage = advantage
        self.n_step = n_step
        self.gae_lambda = gae_lambda

    def losses(self, batch: Rollout) -> Losses:
        """Compute the terms of a rollout's loss, each as a mean over its steps."""
        steps, copies = batch.rewards.shape
        distribution, values = self.policy_and_values(batch.observations.flatten(0, 1))
        values = values.unflatten(0, (steps + 1, copies))
        advantages = self.advantages(batch, values.detach())
        returns = advantages + values[:-1].detach()
        if self.normalise_advantages:
            advantages = standardised(advantages, batch.mask)

        # The distribution has one row more than the actions, that of the last observation. So the
        # last actions are repeated, and this row is cut off below.
        padded = torch.cat([batch.actions, batch.actions[-1:]]).flatten(0, 1)
        log_probs = distribution.log_prob(padded).unflatten(0, (steps + 1, copies))[:-1]
        entropies = distribution.entropy().unflatten(0, (steps + 1, copies))[:-1]
        scale = ddp_scale(batch.mask.sum())
        objective = self.objective(log_probs, advantages, batch)
        return Losses(
            policy=-masked_mean(objective, batch.mask) * scale,
            value=masked_mean((returns - values[:-1]).square(), batch.mask) * scale,
            entropy=masked_mean(entropies, batch.mask) * scale,
            returns=returns,
        )

    def objective(self, log_probs: Tensor, advantages: Tensor, batch: Rollout) -> Tensor:
        """A_t log π(a_t | s_t) [T, N], which the policy ascends; another algorithm has another.

        Args:
            log_probs: log π(a_t | s_t) [T, N] of the current policy.
            advantages: A_t [T, N], without gradient.
            batch: The rollout, with the extras that `act` returned.
        """
        return log_probs * advantages

    def advantages(self, batch: Rollout, values: Tensor) -> Tensor:
        """Compute A_t [T, N] in units of `return_scale`.

        Args:
            batch: A rollout of T steps.
            values: V(s_0) to V(s_T) [T + 1, N], in units of `return_scale`.
        """
        rewards = batch.rewards / self.return_scale
        if self.advantage == "n_step":
            returns = n_step_returns(rewards, batch.discounts, batch.ends, values, self.n_step)
            return returns - values[:-1]
        gae_lambda = 1.0 if self.advantage == "monte_carlo" else self.gae_lambda
        return generalised_advantages(rewards, batch.discounts, batch.ends, values, gae_lambda)

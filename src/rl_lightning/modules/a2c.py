"""The advantage actor-critic."""

from typing import Literal

from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.experience import EnvironmentSpec, Rollout
from rl_lightning.functional.returns import generalised_advantages, masked_mean, n_step_returns
from rl_lightning.modules.policy_gradient import PolicyGradient, PolicyGradientOptions
from rl_lightning.networks.normalisation import standardised_over_ranks
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.ranks import count_per_rank

Advantage = Literal["monte_carlo", "n_step", "gae"]


class A2COptions(PolicyGradientOptions, total=False):
    """The options of `A2C` that its subclasses pass on."""

    advantage: Advantage
    n_step: int
    gae_lambda: float


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
        options: See `PolicyGradient`.

    Raises:
        ConfigurationError: If an argument is out of range or the network does not fit.
    """

    algorithm = "a2c"

    def __init__(
        self,
        environment: EnvironmentSpec,
        advantage: Advantage = "gae",
        n_step: int = 5,
        gae_lambda: float = 0.95,
        **options: Unpack[PolicyGradientOptions],
    ) -> None:
        super().__init__(environment, **options)
        self.add_critic()
        require_range(1, n_step=n_step)
        require_range(0, 1, gae_lambda=gae_lambda)
        self.advantage = advantage
        self.n_step = n_step
        self.gae_lambda = gae_lambda

    def training_step(self, batch: Rollout) -> Tensor:
        """Compute the mean over the steps of −A log π(a | s) + c_V (A + V_old(s) − V(s))² − c_H H.

        V_old is V without a gradient, so A + V_old is the target of V. H is the entropy of
        π(· | s), and c_V and c_H are `value_coefficient` and `entropy_coefficient`.
        """
        distribution, values = self.policy_and_values(batch.observations)
        advantages = self.advantages(batch, values.detach())  # A_t [T, N]
        returns = advantages + values[:-1].detach()
        if self.normalise_advantages:
            advantages = standardised_over_ranks(advantages, batch.mask)

        log_probs = distribution.log_prob(batch.actions)  # log π(a_t | s_t) [T, N]
        count = count_per_rank(batch.mask)
        policy_loss = -masked_mean(log_probs * advantages, batch.mask, count)
        value_loss = masked_mean((returns - values[:-1]).square(), batch.mask, count)
        entropy = masked_mean(distribution.entropy(), batch.mask, count)
        loss = (
            policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        )

        self.learn_statistics(batch, returns)
        self.log_losses(loss, policy_loss, value_loss, entropy)
        return loss

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

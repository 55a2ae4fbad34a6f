"""Proximal policy optimisation."""

import torch
from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.experience import Decision, EnvironmentSpec, Exploration, Minibatch, Rollout
from rl_lightning.functional.returns import generalised_advantages
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.policy_gradient import PolicyGradient, PolicyGradientOptions
from rl_lightning.networks.normalisation import standardised_over_ranks
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.ranks import ddp_scale


class PPO(PolicyGradient):
    """The actor-critic that learns from each rollout in several passes.

    With the ratio ρ = π_θ(a | s) / π_old(a | s) to the policy that collected the rollout, the
    objective is

        L(θ) = E[min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)] − c_V E[(R − V(s))²] + c_H E[H(π_θ(· | s))]

    So no update gains from a ratio outside of [1 − ε, 1 + ε]. The advantages A (GAE) and the
    returns R = A + V are computed once for each rollout, with the critic that collected it. A batch
    is a random minibatch of its steps.

    Source: Schulman et al. 2017, equations 7, 9 and 11, Algorithm 1.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        clip_range: ε.
        gae_lambda: λ in [0, 1].
        options: See `PolicyGradient`. Advantages are standardised in each minibatch unless
            `normalise_advantages` is false.

    Raises:
        ConfigurationError: If an argument is out of range or the network does not fit.
    """

    algorithm = "ppo"

    batch_type = Minibatch

    def __init__(
        self,
        environment: EnvironmentSpec,
        clip_range: float = 0.2,
        gae_lambda: float = 0.95,
        **options: Unpack[PolicyGradientOptions],
    ) -> None:
        require_range(0, clip_range=clip_range)
        require_range(0, 1, gae_lambda=gae_lambda)
        options.setdefault("normalise_advantages", True)
        super().__init__(environment, **options)
        self.add_critic()
        self.clip_range = clip_range
        self.gae_lambda = gae_lambda

    def act(
        self, observations: Tensor, exploration: Exploration | None = None
    ) -> Tensor | Decision:
        """Choose actions; with exploration, also log π_old(a | s) and V(s) of each step."""
        if exploration is None:
            return super().act(observations)
        features, values = self.features_and_values(self._normalised(observations))
        actions = self.head.act(features, exploration.generator)
        log_probs = self.head(features).log_prob(actions)
        return Decision(actions, {"log_probs": log_probs, "values": values})

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> Rollout:
        """Compute the advantages A and returns R [T, N] of a rollout, once for all its updates.

        The observations are replaced by the normalised ones that the policy acted on. So the
        running statistics can learn from the rollout before its first update.
        """
        normalised = self._normalised(rollout.observations)
        values = torch.cat([rollout.extras["values"], self.critic(normalised[-1])[None]])
        rewards = rollout.rewards / self.return_scale
        advantages = generalised_advantages(
            rewards, rollout.discounts, rollout.ends, values, self.gae_lambda
        )
        returns = advantages + values[:-1]
        self.learn_statistics(rollout, returns)
        log_probs = rollout.extras["log_probs"]
        extras = {"log_probs": log_probs, "advantages": advantages, "returns": returns}
        return rollout._replace(observations=normalised, extras=extras)

    def training_step(self, batch: Minibatch) -> Tensor:
        """Compute the mean over a minibatch of −min(ρ A, clip(ρ) A) + c_V (R − V(s))² − c_H H."""
        features, values = self.features_and_values(batch.observations)
        distribution = self.head(features)
        advantages, returns = batch.extras["advantages"], batch.extras["returns"]
        if self.normalise_advantages:
            advantages = standardised_over_ranks(advantages)

        log_ratios = distribution.log_prob(batch.actions) - batch.extras["log_probs"]
        ratios = log_ratios.exp()
        clipped = ratios.clamp(1 - self.clip_range, 1 + self.clip_range)
        assert ratios.shape == advantages.shape == returns.shape == values.shape
        policy_loss = -torch.minimum(ratios * advantages, clipped * advantages).mean()
        value_loss = (returns - values).square().mean()
        entropy = distribution.entropy().mean()
        loss = (
            policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        )

        self.log_losses(loss, policy_loss, value_loss, entropy)
        if should_log(self.trainer):
            divergence = (ratios - 1 - log_ratios).detach().mean()  # KL(π_old ‖ π_θ)
            clip_fraction = (ratios != clipped).float().mean()
            self.log_dict(
                {"train/approx_kl": divergence, "train/clip_fraction": clip_fraction},
                sync_dist=True,
            )
        return loss * ddp_scale(loss.new_tensor(len(returns)))

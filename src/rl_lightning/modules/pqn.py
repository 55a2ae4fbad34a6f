"""Parallelised Q-network: deep Q-learning without replay and without target network."""

import torch
from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.experience import Decision, EnvironmentSpec, Exploration, Minibatch, Rollout
from rl_lightning.functional.returns import lambda_returns
from rl_lightning.functional.targets import td_error
from rl_lightning.modules.q_agent import QAgent, QAgentOptions
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.ranks import ddp_scale


class PQN(QAgent):
    """Q-learning on rollouts of many environment copies.

    The loss is the mean of (G^λ − Q(s, a; θ))² over minibatches of steps. The targets G^λ are
    Q(λ) returns, computed once for each rollout with the network that collected it:

        G_t = r_t + γ ((1 − λ) max_a' Q(s_{t+1}, a') + λ G_{t+1})

    Layer normalisation keeps Q-learning stable, so no target network is needed. New experience of
    many environment copies is used in place of a replay.

    Source: Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", Algorithm 1; Peng
    and Williams 1994 for Q(λ).

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        q_lambda: λ in [0, 1].
        reward_scale: Factor of the rewards in the targets.
        options: See `QAgent`. Layers are normalised unless `layer_norm` is false.

    Raises:
        ConfigurationError: If the actions are not discrete, an argument is out of range or the
            network does not fit.
    """

    algorithm = "pqn"

    batch_type = Minibatch

    def __init__(
        self,
        environment: EnvironmentSpec,
        q_lambda: float = 0.65,
        reward_scale: float = 1.0,
        **options: Unpack[QAgentOptions],
    ) -> None:
        require_range(0, 1, q_lambda=q_lambda)
        options.setdefault("layer_norm", True)
        super().__init__(environment, **options)
        self.q_lambda = q_lambda
        self.reward_scale = reward_scale

    def act(
        self, observations: Tensor, exploration: Exploration | None = None
    ) -> Tensor | Decision:
        """Act ε-greedily and give max_a Q(s, a) of each step; without exploration, greedily."""
        q_values = self.q_network(self._normalised(observations))
        actions = self.choose(q_values, exploration)
        return Decision(actions, {"values": q_values.amax(dim=1)}) if exploration else actions

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> Rollout:
        """Compute the targets G^λ [T, N] of a rollout, once for all its updates.

        The observations are replaced by the normalised ones that the policy acted on. So the
        running statistics can learn from the rollout before its first update.
        """
        normalised = self._normalised(rollout.observations)
        last = self.q_network(normalised[-1]).amax(dim=1)
        values = torch.cat([rollout.extras["values"], last[None]])
        targets = lambda_returns(
            rollout.rewards * self.reward_scale,
            rollout.discounts,
            rollout.ends,
            values,
            self.q_lambda,
        )
        if self.normaliser is not None:
            self.normaliser.update(rollout.observations[:-1][rollout.mask])
        return rollout._replace(observations=normalised, extras={"targets": targets})

    def training_step(self, batch: Minibatch) -> Tensor:
        """Compute the mean of (G^λ − Q(s, a; θ))² over a minibatch."""
        q_values = self.q_network(batch.observations)
        loss = td_error(q_values, batch.actions, batch.extras["targets"]).square().mean()
        self.log_loss(loss, q_values)
        return loss * ddp_scale(loss.new_tensor(len(q_values)))

"""Deep Q-learning with experience replay."""

import copy
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from rl_lightning.callbacks.renew_priorities import RenewPriorities
from rl_lightning.callbacks.target_network import TargetNetwork
from rl_lightning.experience import EnvironmentSpec, TargetNetworks, Transitions
from rl_lightning.functional.targets import double_q_target, q_learning_target, td_error, td_loss
from rl_lightning.modules.q_agent import QAgent, QAgentOptions


class DQN(QAgent):
    """The lecture's Algorithm 1: Q-learning with a network and experience replay.

    The loss at iteration i is L_i(θ_i) = E[(y_i − Q(s, a; θ_i))²] with
    y_i = r + γ max_a' Q(s', a'; θ⁻). In the lecture θ⁻ is θ_{i−1}. Here θ⁻ are the parameters of
    `target_network`, which the callback `TargetNetwork` copies from θ less often. DQN adds this
    callback if the Trainer has none.

    Source: Mnih et al. 2013 and 2015; double: van Hasselt et al. 2016; dueling: Wang
    et al. 2016.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        double: Whether the action a' of the target is argmax_a' Q(s', a'; θ), as in double DQN,
            and not argmax_a' Q(s', a'; θ⁻).
        loss: "squared", the lecture's, or "huber", whose gradient is the error clipped to ±1.
        options: See `QAgent`.

    Raises:
        ConfigurationError: If the actions are not discrete, an argument is out of range or the
            network does not fit.
    """

    algorithm = "dqn"

    batch_type = Transitions
    gives_td_errors = True
    necessary_callbacks = (TargetNetwork, RenewPriorities)

    def __init__(
        self,
        environment: EnvironmentSpec,
        double: bool = False,
        loss: Literal["squared", "huber"] = "squared",
        **options: Unpack[QAgentOptions],
    ) -> None:
        super().__init__(environment, **options)
        self.double_q = double
        self.loss = loss
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)

    def target_networks(self) -> TargetNetworks:
        """θ⁻ is copied from θ after every 1,000 updates (10,000 in Mnih et al. 2015)."""
        pairs = [(self.q_network, self.target_network)]
        return TargetNetworks(pairs, every_n_updates=1_000, tau=1.0)

    def training_step(self, batch: Transitions) -> dict[str, Tensor]:
        """Compute the mean of (y − Q(s, a; θ))² over a minibatch, and its TD errors [B].

        With prioritised replay each transition is weighted by its importance weight.
        """
        q_values = self.q_network(self._normalised(batch.observations))
        error = td_error(q_values, batch.actions, self._targets(batch))
        losses = td_loss(error, self.loss)
        if batch.importance_weights is not None:
            losses = losses * batch.importance_weights
        loss = losses.mean()

        if self.normaliser is not None:
            self.normaliser.update(batch.observations)
        self.log_loss(loss, q_values)
        return {"loss": loss, "td_error": error.detach()}

    @torch.no_grad()
    def _targets(self, batch: Transitions) -> Tensor:
        """The targets y [B]."""
        next_observations = self._normalised(batch.next_observations)
        next_q_values = self.target_network(next_observations)
        if not self.double_q:
            return q_learning_target(batch.rewards, batch.discounts, next_q_values)
        next_online = self.q_network(next_observations)
        return double_q_target(batch.rewards, batch.discounts, next_q_values, next_online)

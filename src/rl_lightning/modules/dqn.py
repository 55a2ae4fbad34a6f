"""Deep Q-learning with experience replay."""

import copy
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from rl_lightning.callbacks.renew_priorities import RenewPriorities
from rl_lightning.callbacks.target_network import TargetNetwork
from rl_lightning.experience import EnvironmentSpec, Exploration, TargetNetworks, Transitions
from rl_lightning.functional.exploration import epsilon_greedy, linear_schedule
from rl_lightning.functional.targets import (
    double_q_target,
    q_learning_target,
    td_error,
    td_loss,
)
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.agent import Agent
from rl_lightning.networks.bodies import NetworkName, make_body
from rl_lightning.networks.q_network import QNetwork
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError


class DQN(Agent):
    """The lecture's Algorithm 1: Q-learning with a network and experience replay.

    The loss at iteration i is L_i(θ_i) = E[(y_i − Q(s, a; θ_i))²] with
    y_i = r + γ max_a' Q(s', a'; θ⁻). In the lecture θ⁻ is θ_{i−1}. Here θ⁻ are the parameters of
    `target_network`, which the callback `TargetNetwork` copies from θ less often. DQN adds this
    callback if the Trainer has none.

    Source: Mnih et al. 2013 and 2015; double: van Hasselt et al. 2016; dueling: Wang
    et al. 2016.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        network: "mlp", or one of the two Atari networks, of 2013 and of 2015 ("nature").
        hidden_sizes: Units of the mlp's hidden layers.
        dueling: Whether Q is the sum of V and the advantages of the actions.
        double: Whether the action a' of the target is argmax_a' Q(s', a'; θ), as in double DQN,
            and not argmax_a' Q(s', a'; θ⁻).
        normalise_observations: Whether to subtract the running mean from observations and divide
            them by their running standard deviation.
        loss: "squared", the lecture's, or "huber", whose gradient is the error clipped to ±1.
        epsilon_start: Probability ε of a random action at the start.
        epsilon_end: ε after `epsilon_env_steps`.
        epsilon_env_steps: Environment steps over which ε changes linearly.
        optimizer: Makes the optimizer from the parameters.

    Raises:
        ConfigurationError: If the actions are not discrete, an argument is out of range or the
            network does not fit.
    """

    algorithm = "dqn"

    batch_type = Transitions
    gives_td_errors = True
    necessary_callbacks = (TargetNetwork, RenewPriorities)
    architecture: ClassVar[tuple[str, ...]] = (
        "environment",
        "network",
        "hidden_sizes",
        "dueling",
        "normalise_observations",
    )
    carried: ClassVar[tuple[str, ...]] = ("epsilon",)

    def __init__(
        self,
        environment: EnvironmentSpec,
        network: NetworkName = "mlp",
        hidden_sizes: Sequence[int] = (128, 128),
        dueling: bool = False,
        double: bool = False,
        normalise_observations: bool = False,
        loss: Literal["squared", "huber"] = "squared",
        epsilon_start: float = 1.0,
        epsilon_end: float = 0.05,
        epsilon_env_steps: int = 10_000,
        optimizer: OptimizerCallable = torch.optim.Adam,
    ) -> None:
        require_range(0, 1, epsilon_start=epsilon_start, epsilon_end=epsilon_end)
        require_range(0, epsilon_env_steps=epsilon_env_steps)
        super().__init__(environment, optimizer, normalise_observations)
        num_actions = environment["num_actions"]
        if num_actions is None:
            raise ConfigurationError(
                f"DQN needs discrete actions for its maximum, and {environment['env_id']} has "
                "continuous ones: use SAC or A2C there"
            )
        self.num_actions = num_actions
        self.double_q = double
        self.loss = loss
        self.epsilon_start = epsilon_start
        self.epsilon_end = epsilon_end
        self.epsilon_env_steps = epsilon_env_steps
        self.epsilon = epsilon_start
        body = make_body(environment, network, hidden_sizes)
        self.q_network = QNetwork(body, num_actions, dueling)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)

    def target_networks(self) -> TargetNetworks:
        """θ⁻ is copied from θ after every 1,000 updates (10,000 in Mnih et al. 2015)."""
        pairs = [(self.q_network, self.target_network)]
        return TargetNetworks(pairs, every_n_updates=1_000, tau=1.0)

    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        """Act ε-greedily, with a random number for each environment copy; else greedily."""
        greedy: Tensor = self.q_network(self._normalised(observations)).argmax(dim=1)
        if exploration is None:
            return greedy
        self.epsilon = linear_schedule(
            exploration.env_steps, self.epsilon_start, self.epsilon_end, self.epsilon_env_steps
        )
        return epsilon_greedy(greedy, self.num_actions, self.epsilon, exploration.generator)

    def values(self, observations: Tensor) -> Tensor:
        """The values V(s) = max_a Q(s, a) [B]."""
        best: Tensor = self.q_network(self._normalised(observations)).amax(dim=1)
        return best

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
        if should_log(self.trainer):
            self.log_dict(
                {
                    "train/loss": loss.detach(),
                    "train/q_mean": q_values.detach().mean(),
                    "train/epsilon": self.epsilon,
                },
                sync_dist=True,
            )
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

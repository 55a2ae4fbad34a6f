"""Tabular Q-learning from experience."""

from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from rl_lightning.experience import EnvironmentSpec, Exploration, Transitions
from rl_lightning.functional.exploration import epsilon_greedy, linear_schedule
from rl_lightning.functional.targets import q_learning_target, td_error
from rl_lightning.lightning_adapter.modules import should_log
from rl_lightning.modules.agent import Agent
from rl_lightning.modules.tables.value_iteration import action_table


class QLearning(Agent):
    """Updates Q(s, a) ← Q(s, a) + α (r + γ max_a' Q(s', a') − Q(s, a)) for sampled transitions.

    `ValueIteration` computes expectations from the dynamics and updates all entries of the table.
    Q-learning updates only the entries that a minibatch contains, by SGD with learning rate α. If
    a minibatch contains an entry several times, the entry changes by the mean of these updates, so
    α ≤ 1 is stable for every batch size. DQN uses a network in place of the table.

    Source: Watkins 1989; Sutton and Barto 2018, section 6.5.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.
        initial_value: Initial Q of all entries. If it is above all true values, actions that were
            not yet tried have the highest value, so the greedy policy explores.
        epsilon_start: Probability ε of a random action at the start.
        epsilon_end: ε after `epsilon_env_steps`.
        epsilon_env_steps: Environment steps over which ε changes linearly.
        optimizer: Makes the optimizer from the table; its learning rate is α.

    Raises:
        ConfigurationError: If observations or actions are not discrete.
    """

    algorithm = "q_learning"

    batch_type = Transitions
    carried: ClassVar[tuple[str, ...]] = ("epsilon",)
    action_values: Tensor

    def __init__(
        self,
        environment: EnvironmentSpec,
        initial_value: float = 0.0,
        epsilon_start: float = 1.0,
        epsilon_end: float = 0.05,
        epsilon_env_steps: int = 10_000,
        optimizer: OptimizerCallable = lambda table: torch.optim.SGD(table, lr=0.5),
    ) -> None:
        super().__init__(environment, optimizer)
        self.action_values = nn.Parameter(action_table(environment, initial_value))
        self.epsilon_start = epsilon_start
        self.epsilon_end = epsilon_end
        self.epsilon_env_steps = epsilon_env_steps
        self.epsilon = epsilon_start

    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        """Act ε-greedily, with a random number for each environment copy; else greedily."""
        q_values = self.action_values[observations]
        greedy = q_values.argmax(dim=1)
        if exploration is None:
            return greedy
        self.epsilon = linear_schedule(
            exploration.env_steps, self.epsilon_start, self.epsilon_end, self.epsilon_env_steps
        )
        return epsilon_greedy(greedy, q_values.shape[1], self.epsilon, exploration.generator)

    def values(self, observations: Tensor) -> Tensor:
        """The values V(s) = max_a Q(s, a) [B]."""
        return self.action_values[observations].amax(dim=1)

    def training_step(self, batch: Transitions) -> Tensor:
        """Compute the loss of one minibatch."""
        loss = self.loss(batch)
        if should_log(self.trainer):
            self.log_dict(
                {
                    "train/loss": loss.detach(),
                    "train/q_mean": self.action_values.detach().mean(),
                    "train/epsilon": self.epsilon,
                },
                sync_dist=True,
            )
        return loss

    def loss(self, batch: Transitions) -> Tensor:
        """Compute Σ δ² / 2, where the transitions of each table entry have a total weight of 1."""
        with torch.no_grad():
            next_q_values = self.action_values[batch.next_observations]
            targets = q_learning_target(batch.rewards, batch.discounts, next_q_values)
        error = td_error(self.action_values[batch.observations], batch.actions, targets)
        return 0.5 * (error.square() / self._visits(batch)).sum()

    def _visits(self, batch: Transitions) -> Tensor:
        """The number of transitions in the minibatch with the same table entry [B]."""
        entries = batch.observations * self.action_values.shape[1] + batch.actions
        _, place, counts = entries.unique(return_inverse=True, return_counts=True)
        return counts[place]

"""Q-learning over a table: value iteration's values, from experience alone."""

from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from rl_lightning.experience import EnvironmentSpec, Exploration, Transitions
from rl_lightning.functional.exploration import epsilon_greedy, linear_schedule
from rl_lightning.functional.targets import q_learning_target, td_error
from rl_lightning.metrics.logging import is_logging
from rl_lightning.modules.agent import Agent
from rl_lightning.modules.value_iteration import action_table


class QLearning(Agent):
    """Q(s, a) ← Q(s, a) + α (r + γ max_a' Q(s', a') − Q(s, a)), of sampled transitions.

    Where `ValueIteration` takes the expectation over the dynamics for every state, this
    moves the few entries that a minibatch visits, by SGD with learning rate α. Where a
    minibatch visits an entry several times, it moves it by the mean, so that α ≤ 1 is
    stable whatever the batch size. DQN puts a network in the place of the table.

    Source: Watkins 1989; Sutton and Barto 2018, section 6.5.

    Args:
        environment: What is known of the environment; the command line takes it from the data.
        initial_value: Q at first. More than any true value is optimism: whatever was not
            tried looks best, and the agent explores.
        epsilon_start: Share of random actions at first.
        epsilon_end: Share of random actions at last.
        epsilon_env_steps: Environment steps from the one to the other.
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
        """ε-greedy with a draw for each copy; greedy without exploration."""
        q_values = self.action_values[observations]
        greedy = q_values.argmax(dim=1)
        if exploration is None:
            return greedy
        self.epsilon = linear_schedule(
            exploration.env_steps, self.epsilon_start, self.epsilon_end, self.epsilon_env_steps
        )
        return epsilon_greedy(greedy, q_values.shape[1], self.epsilon, exploration.generator)

    def values(self, observations: Tensor) -> Tensor:
        """max_a Q(s, a)."""
        return self.action_values[observations].amax(dim=1)

    def training_step(self, batch: Transitions) -> Tensor:
        """The loss of one minibatch."""
        loss = self.loss(batch)
        if is_logging(self.trainer):
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
        """Half the squared TD errors, summed, each entry of the table weighing as one."""
        with torch.no_grad():
            next_q_values = self.action_values[batch.next_observations]
            targets = q_learning_target(batch.rewards, batch.discounts, next_q_values)
        error = td_error(self.action_values[batch.observations], batch.actions, targets)
        return 0.5 * (error.square() / self._visits(batch)).sum()

    def _visits(self, batch: Transitions) -> Tensor:
        """How often [B] the minibatch visits each transition's entry of the table."""
        entries = batch.observations * self.action_values.shape[1] + batch.actions
        _, place, counts = entries.unique(return_inverse=True, return_counts=True)
        return counts[place]

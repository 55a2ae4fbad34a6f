"""Value iteration and policy evaluation, over a table of all states and actions."""

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from rl_lightning.experience import Dynamics, EnvironmentSpec, Exploration
from rl_lightning.functional.bellman import (
    EXACT_STATES,
    exact_values,
    expectation_sweep,
    greedy_policy,
    optimality_sweep,
    uniform_policy,
)
from rl_lightning.modules.agent import Agent
from rl_lightning.runtime.errors import ConfigurationError


class ValueIteration(Agent):
    """The lecture's value iteration: Q_{i+1}(s, a) = E[r + γ max_a' Q_i(s', a')].

    One update is one sweep over all states and actions. It uses the dynamics and no experience.

    `train/residual` is max |Q_{i+1} − Q_i|, which EarlyStopping can use as its criterion.
    `train/greedy_value` is the exact expected return of the greedy policy from the initial states.
    It is logged at the end of each epoch if there are at most `bellman.EXACT_STATES` states.

    Source: Bellman 1957; Sutton and Barto 2018, section 4.4.

    Args:
        environment: Spaces of the environment; the command line takes them from the datamodule.

    Raises:
        ConfigurationError: If observations or actions are not discrete.
    """

    algorithm = "value_iteration"

    batch_type = Dynamics
    monitor = None
    action_values: Tensor

    def __init__(self, environment: EnvironmentSpec) -> None:
        super().__init__(environment, torch.optim.SGD)
        self.automatic_optimization = False
        self.action_values = nn.Parameter(action_table(environment))

    def sweep(self, dynamics: Dynamics) -> Tensor:
        """Compute Q_{i+1} [S, A] from Q_i."""
        return optimality_sweep(dynamics, self.action_values)

    @torch.no_grad()
    def training_step(self, batch: Dynamics) -> None:
        """Do one sweep: Q_i becomes Q_{i+1}."""
        swept = self.sweep(batch)
        change = self.action_values.sub_(swept)  # in place, because the table may be large
        self.log("train/residual", torch.linalg.vector_norm(change, torch.inf), batch_size=1)
        self.action_values.copy_(swept)
        self._count_update()
        self.log("train/sweeps", float(self.trainer.global_step), batch_size=1)
        if self.trainer.is_last_batch and len(self.action_values) <= EXACT_STATES:
            values = exact_values(batch, greedy_policy(self.action_values))
            begun = batch.initial > 0  # without the other states, because 0 · −∞ is NaN
            self.log("train/greedy_value", values[begun] @ batch.initial[begun], batch_size=1)

    def _count_update(self) -> None:
        """Let Lightning count an update: it counts the steps of the optimizer.

        The table has no gradient, so the step changes nothing.
        """
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.step()

    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        """Act greedily, with or without exploration."""
        return self.action_values[observations].argmax(dim=1)

    def values(self, observations: Tensor) -> Tensor:
        """The values V(s) = max_a Q(s, a) [B]."""
        return self.action_values[observations].amax(dim=1)

    def evaluated_policy(self, dynamics: Dynamics) -> Tensor | None:
        """None, because the table holds no values of a fixed policy; see `HasActionValues`."""
        return None


class PolicyEvaluation(ValueIteration):
    """Evaluates the uniform random policy: Q_{i+1}(s, a) = E[r + γ Σ_a' Q_i(s', a') / A].

    `act` is greedy with respect to these values. This is one step of policy improvement, which
    is often enough in a grid world. `values` are those of the random policy.

    Source: Sutton and Barto 2018, section 4.1 and figure 4.1.
    """

    algorithm = "policy_evaluation"

    def sweep(self, dynamics: Dynamics) -> Tensor:
        """Compute Q_{i+1} [S, A] from Q_i."""
        return expectation_sweep(dynamics, self.action_values, self.evaluated_policy(dynamics))

    def values(self, observations: Tensor) -> Tensor:
        """The values V(s) = Σ_a Q(s, a) / A [B] of the random policy."""
        return self.action_values[observations].mean(dim=1)

    def evaluated_policy(self, dynamics: Dynamics) -> Tensor:
        """The uniform random policy π(a | s) [S, A]."""
        return uniform_policy(dynamics)


def action_table(environment: EnvironmentSpec, value: float = 0.0) -> Tensor:
    """Make a table Q(s, a) [S, A] float64, filled with `value`.

    Raises:
        ConfigurationError: If observations or actions are not discrete.
    """
    states, actions = environment["num_observations"], environment["num_actions"]
    if states is None or actions is None:
        raise ConfigurationError(
            f"{environment['env_id']} has no table: tables need Discrete observations and actions "
            "as in FrozenLake-v1; use DQN for other environments"
        )
    return torch.full((states, actions), value, dtype=torch.float64)

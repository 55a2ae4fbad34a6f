"""Provides the dynamics of a finite Markov decision process, read from its environment."""

from typing import Any

import torch
from typing_extensions import Unpack

from rl_lightning.datamodules.environment import EnvironmentDataModule, EnvironmentOptions
from rl_lightning.datamodules.source import require_positive
from rl_lightning.environments.dynamics import (
    check_endings,
    check_loops,
    check_outcomes,
    check_repeats,
    read_grid_shape,
    read_initial,
    read_outcomes,
    to_tensors,
)
from rl_lightning.experience import Dynamics
from rl_lightning.runtime.errors import ConfigurationError


class TabularDataModule(EnvironmentDataModule):
    """Provides the whole dynamics of an environment as every training batch.

    It reads `env.unwrapped.P`, Gymnasium's toy-text convention: `P[state][action]` is a list
    of (probability, next state, reward, terminated). An environment with many states can
    have `transitions()` instead, which returns the same as arrays; see `gridworld.Outcomes`.
    `gamma` may be 1 if every episode can end and no loop has a positive reward.

    Attributes:
        dynamics: The dynamics, on the CPU.
        grid_shape: Rows and columns if the environment is a grid; else None.

    Args:
        env_id: A Gymnasium environment id, such as FrozenLake-v1.
        updates_per_epoch: Sweeps between two validations.
        options: See `EnvironmentDataModule`.

    Raises:
        ConfigurationError: If the environment or its dynamics cannot be used.
    """

    batch_type = Dynamics

    def __init__(
        self, env_id: str, updates_per_epoch: int = 10, **options: Unpack[EnvironmentOptions]
    ) -> None:
        require_positive(updates_per_epoch=updates_per_epoch)
        super().__init__(env_id, **options)
        self.updates_per_epoch = updates_per_epoch
        self.grid_shape: tuple[int, int] | None = None
        # Read here, so that an error in the dynamics is raised before any file is written.
        self.dynamics = self._read_dynamics()
        self._moved: Dynamics | None = None

    def _read_dynamics(self) -> Dynamics:
        states, actions = self.environment["num_observations"], self.environment["num_actions"]
        if states is None or actions is None:
            raise ConfigurationError(
                f"{self.env_id} has no finite table of dynamics, which needs Discrete observations "
                "and actions as in FrozenLake-v1: use a module that learns from experience, such "
                "as DQN"
            )
        if self.maker.wrappers:
            raise ConfigurationError(
                f"wrappers are {[*self.maker.wrappers]}, and the dynamics are those of "
                f"{self.env_id} without them: leave data.wrappers out, or use a module that "
                "learns from experience, such as QLearning"
            )
        env, another = self.maker.make_single(), self.maker.make_single()
        outcomes = read_outcomes(self.env_id, env.unwrapped, states, actions)
        check_outcomes(self.env_id, outcomes, states, actions)
        check_repeats(
            self.env_id, outcomes, read_outcomes(self.env_id, another.unwrapped, states, actions)
        )
        if self.gamma == 1:
            check_endings(self.env_id, outcomes, states)
            check_loops(self.env_id, outcomes, states, actions)
        initial = read_initial(self.env_id, env.unwrapped, states)
        self.grid_shape = read_grid_shape(env.unwrapped)
        env.close()
        another.close()
        return to_tensors(outcomes, initial, actions, self.gamma)

    def next_batch(self) -> Dynamics:
        """Return the same dynamics for every sweep."""
        return self.dynamics

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move the dynamics to the device at the first sweep only."""
        if not isinstance(batch, Dynamics):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self._moved is None or self._moved.rewards.device != device:
            self._moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return self._moved

"""The dynamics of a finite Markov decision process, read from its environment."""

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import torch
from torch.utils.data import DataLoader, IterableDataset

from rl_lightning.bellman import Dynamics
from rl_lightning.datamodules.dynamics import (
    check_endings,
    check_outcomes,
    read_grid_shape,
    read_initial,
    read_outcomes,
    to_tensors,
)
from rl_lightning.datamodules.environment import (
    EnvironmentDataModule,
    require_positive,
    whole_batches,
)
from rl_lightning.errors import ConfigurationError


class TabularDataModule(EnvironmentDataModule):
    """Hands the whole dynamics of an environment to a module, batch after batch.

    Reads `env.unwrapped.P`, Gymnasium's toy-text convention: `P[state][action]` is a list
    of (probability, next state, reward, terminated). An environment with many states can
    offer `transitions()` instead, the same as arrays; see `gridworld.Outcomes`.

    Attributes:
        dynamics: On the CPU.
        grid_shape: Rows and columns, where the environment is a grid and says so.

    Args:
        env_id: A Gymnasium environment id, such as FrozenLake-v1.
        env_kwargs: Keyword arguments for making it.
        gamma: Discount factor γ; 1 is allowed where every game can be brought to an end.
        updates_per_epoch: Sweeps between two validations.
        eval_episodes: Whole games of a validation or test.
        num_eval_envs: Copies that play them, a divisor of `eval_episodes`.
        predict_episodes: Games that `predict` plays and records.
        seed: Of the evaluation games; the command line passes --seed_everything.

    Raises:
        ConfigurationError: If the environment or its dynamics cannot be used.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: Mapping[str, Any] | None = None,
        gamma: float = 0.99,
        updates_per_epoch: int = 10,
        eval_episodes: int = 20,
        num_eval_envs: int = 20,
        predict_episodes: int = 1,
        seed: int = 0,
    ) -> None:
        require_positive(updates_per_epoch=updates_per_epoch)
        super().__init__(
            env_id=env_id,
            env_kwargs=env_kwargs,
            gamma=gamma,
            eval_episodes=eval_episodes,
            num_eval_envs=num_eval_envs,
            predict_episodes=predict_episodes,
            seed=seed,
        )
        self.updates_per_epoch = updates_per_epoch
        self.grid_shape: tuple[int, int] | None = None
        # At once, so that what is wrong with them is said before anything is written.
        self.dynamics = self._read_dynamics()
        self._moved: Dynamics | None = None

    def _read_dynamics(self) -> Dynamics:
        states, actions = self.environment["num_observations"], self.environment["num_actions"]
        if states is None or actions is None:
            raise ConfigurationError(
                f"{self.env_id} has no finite table: that needs Discrete observations and actions, "
                "such as FrozenLake-v1's; take a module that learns from experience, such as DQN"
            )
        env = gym.make(self.env_id, **self.env_kwargs)
        outcomes = read_outcomes(self.env_id, env.unwrapped, states, actions)
        check_outcomes(self.env_id, outcomes, states, actions)
        if self.gamma == 1:
            check_endings(self.env_id, outcomes, states)
        initial = read_initial(self.env_id, env.unwrapped, states)
        self.grid_shape = read_grid_shape(env.unwrapped)
        env.close()
        return to_tensors(outcomes, initial, actions, self.gamma)

    def setup(self, stage: str) -> None:
        """Nothing: no experience is collected."""

    def train_dataloader(self) -> DataLoader[Dynamics]:
        """The same dynamics for every sweep."""
        return whole_batches(SweepDataset(self))

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move the dynamics once, not for every sweep."""
        if not isinstance(batch, Dynamics):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self._moved is None or self._moved.rewards.device != device:
            self._moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return self._moved

    def statistics(self) -> dict[str, float]:
        """None: nothing is experienced here."""
        return {}


class SweepDataset(IterableDataset[Dynamics]):
    """One epoch: the dynamics, `updates_per_epoch` times."""

    def __init__(self, data: TabularDataModule) -> None:
        self.data = data

    def __len__(self) -> int:
        """Sweeps of an epoch."""
        return self.data.updates_per_epoch

    def __iter__(self) -> Iterator[Dynamics]:
        """Yield the dynamics."""
        for _ in range(len(self)):
            yield self.data.dynamics

"""Whole greedy games, to be rated or to be looked at."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch.utils.data import IterableDataset

from rl_lightning.datamodules.collector import Collector, act, tensor_dtype, within_bounds
from rl_lightning.experience import Episodes, Game, Policy, Rollout, join_rollouts


class EvaluationDataset(IterableDataset[Episodes]):
    """Plays one whole game in every copy for each of this rank's share of the seeds.

    Its environments are its own, so that training's never notice. Every rank yields as many
    batches, some of them empty where the seeds cannot be shared out evenly.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        policy: Policy,
        seeds: Sequence[int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.envs = envs
        self.policy = policy
        self.seeds = seeds[rank::world_size]
        self.num_batches = -(-len(seeds) // world_size)

    def __len__(self) -> int:
        """Batches of games."""
        return self.num_batches

    def __iter__(self) -> Iterator[Episodes]:
        """Play the games, the same ones at every call."""
        for seed in self.seeds:
            yield play_episodes(self.envs, self.policy, seed)
        for _ in range(self.num_batches - len(self.seeds)):
            yield Episodes(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64))


def play_episodes(envs: VectorEnv[Any, Any, Any], policy: Policy, seed: int) -> Episodes:
    """Play one whole greedy game in every copy.

    One game a copy, rather than the first games to finish: those would be the short ones.
    """
    dtype = tensor_dtype(envs.single_observation_space)
    observations, _ = envs.reset(seed=seed)
    returns = np.zeros(envs.num_envs)
    lengths = np.zeros(envs.num_envs, dtype=np.int64)
    playing = np.ones(envs.num_envs, dtype=np.bool_)
    while playing.any():
        actions = act(policy, observations.astype(dtype, copy=False), None)
        observations, rewards, terminated, truncated, _ = envs.step(
            within_bounds(envs.single_action_space, actions)
        )
        returns += rewards * playing
        lengths += playing
        playing &= ~(terminated | truncated)
    return Episodes(torch.from_numpy(returns), torch.from_numpy(lengths))


class GameDataset(IterableDataset[Game]):
    """Plays one greedy game for each seed in a single copy and keeps its frames."""

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        policy: Policy,
        gamma: float,
        seeds: Sequence[int],
    ) -> None:
        self.envs = envs
        self.policy = policy
        self.gamma = gamma
        self.seeds = seeds

    def __len__(self) -> int:
        """Games."""
        return len(self.seeds)

    def __iter__(self) -> Iterator[Game]:
        """Play the games, the same ones at every call."""
        for seed in self.seeds:
            yield self._play(seed)

    def _play(self, seed: int) -> Game:
        collector = Collector(self.envs, self.gamma)
        collector.reset(seed)
        frames = [self._frame()]
        steps: list[Rollout] = []
        while not collector.finished:
            steps.append(collector.collect(self.policy, 1, explore=False))
            frames.append(self._frame())
        frames_per_second = int(self.envs.metadata.get("render_fps", 30))
        return Game(join_rollouts(steps), torch.from_numpy(np.stack(frames)), frames_per_second)

    def _frame(self) -> Any:
        rendered = self.envs.render()
        assert rendered is not None, "the environment was made without a render mode"
        return rendered[0]

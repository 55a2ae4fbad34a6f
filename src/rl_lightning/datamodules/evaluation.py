"""Whole greedy episodes, to be measured or to be looked at."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import IterableDataset

from rl_lightning.datamodules.collector import Collector, choose
from rl_lightning.environments.making import longest_episode
from rl_lightning.environments.playing import render, reset, step
from rl_lightning.experience import Episodes, Policy, RecordedEpisode, Rollout, join_rollouts


class EvaluationDataset(IterableDataset[Episodes]):
    """Plays one whole episode in every environment copy for each of this rank's seeds.

    Its environments are its own, so that training is not disturbed. Every rank yields as many
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
        """Batches of episodes."""
        return self.num_batches

    def __iter__(self) -> Iterator[Episodes]:
        """Play the episodes, the same ones at every call."""
        for seed in self.seeds:
            yield play_episodes(self.envs, self.policy, seed)
        for _ in range(self.num_batches - len(self.seeds)):
            yield Episodes(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64))


def play_episodes(envs: VectorEnv[Any, Any, Any], policy: Policy, seed: int) -> Episodes:
    """Play one whole greedy episode in every environment copy.

    One episode a copy, rather than the first to finish, because those would be the short ones.
    An episode longer than `longest_episode` is cut off there, with a warning.
    """
    observations = reset(envs, seed)
    returns = np.zeros(envs.num_envs)
    lengths = np.zeros(envs.num_envs, dtype=np.int64)
    playing = np.ones(envs.num_envs, dtype=np.bool_)
    limit = longest_episode(envs)
    while playing.any():
        actions = choose(policy, observations, None).actions
        observations, rewards, terminated, truncated, _ = step(envs, actions)
        returns += rewards * playing
        lengths += playing
        playing &= ~(terminated | truncated)
        if playing.any() and lengths.max() >= limit:
            rank_zero_warn(
                f"{np.count_nonzero(playing)} of {envs.num_envs} evaluation episodes were cut off "
                f"after {limit:,} environment steps, because the environment has no time limit: "
                "choose one with --data.env_kwargs.max_episode_steps"
            )
            break
    return Episodes(torch.from_numpy(returns), torch.from_numpy(lengths))


class EpisodeRecordings(IterableDataset[RecordedEpisode]):
    """Plays one greedy episode for each seed in a single copy and keeps its frames."""

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
        """Episodes."""
        return len(self.seeds)

    def __iter__(self) -> Iterator[RecordedEpisode]:
        """Play the episodes, the same ones at every call."""
        for seed in self.seeds:
            yield self._play(seed)

    def _play(self, seed: int) -> RecordedEpisode:
        collector = Collector(self.envs, self.gamma)
        collector.reset(seed)
        frames = [render(self.envs)]
        steps: list[Rollout] = []
        limit = longest_episode(self.envs)
        while not collector.finished and len(steps) < limit:
            steps.append(collector.collect(self.policy, 1, explore=False))
            frames.append(render(self.envs))
        frames_per_second = int(self.envs.metadata.get("render_fps") or 30)
        return RecordedEpisode(
            join_rollouts(steps), torch.from_numpy(np.stack(frames)), frames_per_second
        )

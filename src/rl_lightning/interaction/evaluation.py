"""Plays whole greedy episodes, for evaluation and for recordings."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import IterableDataset

from rl_lightning.environments.making import longest_episode
from rl_lightning.environments.stepping import render, reset, step
from rl_lightning.experience import Episodes, Policy, RecordedEpisode, Rollout, join_rollouts
from rl_lightning.interaction.collector import Collector, choose


class EvaluationDataset(IterableDataset[Episodes]):
    """Plays one whole episode in every environment copy for each of this rank's seeds.

    Its environments are separate from the training environments, so that an evaluation does not
    change the training. Every rank yields the same number of batches. If the seeds cannot be
    divided evenly over the ranks, some of the batches are empty.
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
        """Number of batches."""
        return self.num_batches

    def __iter__(self) -> Iterator[Episodes]:
        """Play the episodes, with the same seeds at every call."""
        for seed in self.seeds:
            yield play_episodes(self.envs, self.policy, seed)
        for _ in range(self.num_batches - len(self.seeds)):
            yield Episodes(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64))


def play_episodes(envs: VectorEnv[Any, Any, Any], policy: Policy, seed: int) -> Episodes:
    """Play one whole greedy episode in every environment copy.

    Each environment copy plays exactly one episode, because the first episodes to finish over all
    of them would mostly be short ones. An episode longer than `longest_episode` is cut off at that
    length, with a warning.
    """
    observations = reset(envs, seed)
    returns = np.zeros(envs.num_envs)
    lengths = np.zeros(envs.num_envs, dtype=np.int64)
    playing = np.ones(envs.num_envs, dtype=np.bool_)
    limit = longest_episode(envs)
    inference = torch.inference_mode()
    while playing.any():
        with inference:
            actions, _ = choose(policy, observations, None)
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
    """Plays one greedy episode for each seed in one environment copy and keeps its frames."""

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
        """Number of episodes."""
        return len(self.seeds)

    def __iter__(self) -> Iterator[RecordedEpisode]:
        """Play the episodes, with the same seeds at every call."""
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

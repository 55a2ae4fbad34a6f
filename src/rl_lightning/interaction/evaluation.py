"""Plays whole greedy episodes, for evaluation and for recordings."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn

from rl_lightning.environments.making import longest_episode
from rl_lightning.environments.stepping import Envs, render, reset, step
from rl_lightning.experience import Episodes, Policy, RecordedEpisode, Rollout, join_rollouts
from rl_lightning.interaction.collector import Collector, choose


def evaluate(
    envs: Envs, policy: Policy, seeds: Sequence[int], rank: int = 0, world_size: int = 1
) -> Iterator[Episodes]:
    """Play one whole episode in every environment copy for each of this rank's seeds.

    Its environments are separate from the training environments, so that an evaluation does not
    change the training. Every rank yields the same number of batches. If the seeds cannot be
    divided evenly over the ranks, the last batch of some ranks is empty.
    """
    for first in range(0, len(seeds), world_size):
        if first + rank < len(seeds):
            yield play_episodes(envs, policy, seeds[first + rank])
        else:
            yield Episodes(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64))


def play_episodes(envs: Envs, policy: Policy, seed: int) -> Episodes:
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
            actions = choose(policy, observations, None).actions
        observations, rewards, terminated, truncated, _ = step(envs, actions.cpu().numpy())
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


def record_episode(envs: Envs, policy: Policy, gamma: float, seed: int) -> RecordedEpisode:
    """Play one greedy episode in one environment copy and keep its frames."""
    collector = Collector(envs, gamma)
    collector.reset(seed)
    frames = [render(envs)]
    steps: list[Rollout] = []
    limit = longest_episode(envs)
    while not collector.finished and len(steps) < limit:
        steps.append(collector.collect(policy, 1, explore=False))
        frames.append(render(envs))
    return RecordedEpisode(
        rollout=join_rollouts(steps),
        frames=torch.from_numpy(np.stack(frames)),
        frames_per_second=int(envs.metadata.get("render_fps") or 30),
    )

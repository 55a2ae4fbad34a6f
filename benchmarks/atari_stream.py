"""Checks that the replay returns the frames of the emulators, bit for bit.

    python benchmarks/atari_stream.py --steps 100000
    python benchmarks/atari_stream.py --steps 200 --games all

Plays each game at random in four copies, with lost lives and truncated episodes, into a small ring
that wraps around often. Compares every stack in the ring, and both stacks of sampled transitions,
with the environment's own.
"""

import argparse
import time
from collections import deque

import ale_py
import gymnasium as gym
import numpy as np
import torch

from rl_lightning.environments.atari import PREFIX, make_atari
from rl_lightning.interaction.collector import Collector
from rl_lightning.replay.frame_ring import FrameRing
from rl_lightning.replay.ring import IndexArray

NUM_ENVS, NUM_ROWS, CHUNK = 4, 300, 50


class AtRandom:
    """A policy that draws every action uniformly."""

    device = torch.device("cpu")

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def act(self, observations: torch.Tensor, exploration: object = None) -> torch.Tensor:
        return torch.randint(self.num_actions, (len(observations),))


def every_slot(start: int, stop: int) -> tuple[IndexArray, IndexArray]:
    rows, copies = np.meshgrid(np.arange(start, stop), np.arange(NUM_ENVS))
    return rows.ravel(), copies.ravel()


def check(env_id: str, env_steps: int) -> dict[str, int]:
    """Play, compare and count; raises an AssertionError at the first difference."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    # A short limit, so that episodes end by termination and by truncation.
    envs = make_atari(env_id, NUM_ENVS, max_num_frames_per_episode=6_000)
    collector, policy = Collector(envs, 0.99), AtRandom(envs.single_action_space.n)
    collector.reset(1)
    ring = FrameRing(NUM_ROWS * NUM_ENVS, NUM_ENVS, stack=4)
    came: deque[torch.Tensor] = deque(maxlen=NUM_ROWS + CHUNK)
    counts = {"env_steps": 0, "compared": 0, "lives lost": 0, "ended": 0, "truncated": 0}
    while collector.env_steps < env_steps:
        rollout = collector.collect(policy, CHUNK)
        ring.extend(rollout)
        came.extend(rollout.observations[:-1].unbind())
        first = ring.inserted - len(came)
        stacks = torch.stack([*came, rollout.observations[-1]])
        # The newest rows always, and all rows of the ring sometimes.
        whole = ring.inserted % NUM_ROWS < CHUNK
        rows, copies = every_slot(
            ring.oldest if whole else ring.inserted - CHUNK + 1, ring.inserted + 1
        )
        assert torch.equal(ring.observations(rows, copies), stacks[rows - first, copies])
        drawn, of = ring.draw(64, rng)
        batch = ring.gather(drawn, of)
        assert torch.equal(batch.observations, stacks[drawn - first, of])
        assert torch.equal(batch.next_observations, stacks[drawn + 1 - first, of])
        counts["compared"] += len(rows) + 2 * len(drawn)
        terminal = rollout.discounts == 0
        counts["ended"] += int((terminal & rollout.ends).sum())
        counts["truncated"] += int((~terminal & rollout.ends).sum())
        counts["lives lost"] += int((terminal & ~rollout.ends & rollout.mask).sum())
    counts["env_steps"] = collector.env_steps
    envs.close()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of each game")
    parser.add_argument("--games", nargs="+", default=["Breakout", "BeamRider", "Seaquest"])
    arguments = parser.parse_args()
    gym.register_envs(ale_py)
    games = [f"{PREFIX}{game}-v5" for game in arguments.games]
    if arguments.games == ["all"]:
        games = [name for name in gym.registry if name.startswith(PREFIX)]
    torch.set_num_threads(1)
    for env_id in games:
        start = time.perf_counter()
        print(env_id, check(env_id, arguments.steps), f"{time.perf_counter() - start:.0f} s")
    print(f"{len(games)} games: every stack is equal")


if __name__ == "__main__":
    main()

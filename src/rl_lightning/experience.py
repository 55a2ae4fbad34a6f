"""The seam between what learns and where experience comes from.

A policy's `act` goes one way, typed batches go the other, and nothing else crosses.
Time-major shapes: T environment steps, N environment copies, B sampled transitions.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypedDict

import torch
from torch import Tensor


class EnvironmentSpec(TypedDict):
    """What a module must know of its environment, in primitives that a checkpoint can hold."""

    env_id: str
    observation_shape: tuple[int, ...]
    num_observations: int | None  # of a Discrete observation space, else None
    action_shape: tuple[int, ...]
    num_actions: int | None  # of a Discrete action space, else None


class Exploration(NamedTuple):
    """What a policy needs to explore."""

    env_steps: int  # environment steps so far, all copies and ranks: schedules count these
    generator: torch.Generator  # the exploration stream, on the policy's device


class Policy(Protocol):
    """The narrow face of an agent that a collector sees."""

    @property
    def device(self) -> torch.device:
        """Where observations must be put."""
        ...

    def act(self, observations: Tensor, exploration: Exploration | None = None) -> Tensor:
        """Choose one action for each copy.

        Args:
            observations: [N, *observation_shape].
            exploration: Explore with this; None acts greedily.

        Returns:
            Actions [N, *action_shape].
        """
        ...


class Rollout(NamedTuple):
    """T steps of N environment copies under one policy version.

    `observations[t + 1]` is always what followed `actions[t]`: vector environments
    reset on the step after an episode's end, so the true final observation stands
    in the row of the reset, whose own action did nothing and whose `mask` is False.
    """

    observations: Tensor  # [T + 1, N, *observation_shape]
    actions: Tensor  # [T, N, *action_shape]
    rewards: Tensor  # [T, N] float32, raw or clipped to ±1
    discounts: Tensor  # [T, N] float32: γ, or 0 where the value of what follows is 0
    ends: Tensor  # [T, N] bool: the episode ended here, by termination or truncation
    mask: Tensor  # [T, N] bool: False where the row teaches nothing


def join_rollouts(rollouts: Sequence[Rollout]) -> Rollout:
    """One rollout of several, each of which goes on where the one before stopped."""
    observations = [rollout.observations[:-1] for rollout in rollouts]
    columns = zip(*(rollout[1:] for rollout in rollouts), strict=True)
    return Rollout(
        torch.cat([*observations, rollouts[-1].observations[-1:]]),
        *(torch.cat(column) for column in columns),
    )


class Transitions(NamedTuple):
    """Sampled n-step transitions: bootstrapped targets are rewards + discounts · V(next)."""

    observations: Tensor  # [B, *observation_shape]
    actions: Tensor  # [B, *action_shape]
    rewards: Tensor  # [B] float32: Σ_{k<n} γ^k r_{t+k}
    discounts: Tensor  # [B] float32: γⁿ, or 0 at a true terminal
    next_observations: Tensor  # [B, *observation_shape]
    weights: Tensor | None = None  # [B] float32, of importance, where the draw was not uniform


class Episodes(NamedTuple):
    """Whole games, one of each copy."""

    returns: Tensor  # [N] float64: undiscounted, unclipped sum of rewards
    lengths: Tensor  # [N] int64: environment steps


class Game(NamedTuple):
    """One whole game of one copy, with what was on the screen."""

    rollout: Rollout  # N = 1
    frames: Tensor  # [T + 1, H, W, 3] uint8, RGB
    frames_per_second: int

"""The batches that datamodules give: experience, images and whole episodes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Rollout(NamedTuple):
    """T steps of N environment copies under one policy version.

    `observations[t + 1]` is always the observation that followed `actions[t]`. Vector
    environments reset on the step after the end of an episode. So the row of the reset holds
    the true final observation, its action had no effect, and its `mask` is False.
    """

    observations: Tensor  # [T + 1, N, *observation_shape]
    actions: Tensor  # [T, N, *action_shape]
    rewards: Tensor  # [T, N] float32, raw or clipped to ±1
    discounts: Tensor  # [T, N] float32: γ, or 0 where the next observation has the value 0
    ends: Tensor  # [T, N] bool: the episode ended here, by termination or truncation
    mask: Tensor  # [T, N] bool: False in rows that are not an environment step of an episode
    extras: Mapping[str, Tensor] = {}  # by name, [T, N, ...]: the extras that `act` returned


def join_rollouts(rollouts: Sequence[Rollout]) -> Rollout:
    """Join rollouts of which each continues the one before."""
    observations = [rollout.observations[:-1] for rollout in rollouts]
    columns = zip(*(rollout[1:6] for rollout in rollouts), strict=True)
    extras = {
        name: torch.cat([rollout.extras[name] for rollout in rollouts])
        for name in rollouts[0].extras
    }
    return Rollout._make(
        [
            torch.cat([*observations, rollouts[-1].observations[-1:]]),
            *(torch.cat(column) for column in columns),
            extras,
        ]
    )


class Minibatch(NamedTuple):
    """B steps of a rollout, drawn at random from its environment steps."""

    observations: Tensor  # [B, *observation_shape], as `prepare` returned them
    actions: Tensor  # [B, *action_shape]
    extras: Mapping[str, Tensor]  # by name, [B, ...]: what `prepare` computed, such as targets


class Transitions(NamedTuple):
    """Sampled n-step transitions. A bootstrapped target is rewards + discounts · V(next)."""

    observations: Tensor  # [B, *observation_shape]
    actions: Tensor  # [B, *action_shape]
    rewards: Tensor  # [B] float32: Σ_{k<n} γ^k r_{t+k}
    discounts: Tensor  # [B] float32: γⁿ, or 0 at a true terminal
    next_observations: Tensor  # [B, *observation_shape]
    importance_weights: Tensor | None = None  # [B] float32, where sampling was not uniform
    extras: Mapping[str, Tensor] = {}  # by name, [B, ...]: the extras that `act` returned


class Dynamics(NamedTuple):
    """A finite Markov decision process (S, A, R, P, γ) as tensors.

    The transition matrix includes γ and the terminal flag, as a transition's discount does: an
    entry is 0 where the episode terminates, because the value after a true terminal is 0.
    """

    rewards: Tensor  # [S, A] float64: E[r | s, a]
    transitions: Tensor  # [S·A, S] float64 CSR; row s·A + a is γ P(s', not terminated | s, a)
    initial: Tensor  # [S] float64: probability that an episode starts in each state


class LabelledImages(NamedTuple):
    """A batch of images to classify."""

    images: Tensor  # [B, C, H, W] float32 in [0, 1]
    labels: Tensor  # [B] int64


class Episodes(NamedTuple):
    """Whole episodes, one from each environment copy."""

    returns: Tensor  # [N] float64: undiscounted, unclipped sum of rewards
    lengths: Tensor  # [N] int64: environment steps


class RecordedEpisode(NamedTuple):
    """One whole episode of one environment copy, with its rendered frames."""

    rollout: Rollout  # N = 1
    frames: Tensor  # [T + 1, H, W, 3] uint8, RGB
    frames_per_second: int

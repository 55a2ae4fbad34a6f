"""Exploration rules and schedules, as pure functions."""

import torch
from torch import Tensor


def epsilon_greedy(
    greedy: Tensor, num_actions: int, epsilon: float, rng: torch.Generator
) -> Tensor:
    """Replace each greedy action by a uniformly drawn action with probability ε.

    Source: Sutton and Barto 2018, section 2.2; Mnih et al. 2013, Algorithm 1.

    Args:
        greedy: [N] int64, one action for each environment copy. Each is replaced independently.
        num_actions: A.
        epsilon: ε in [0, 1].
        rng: The exploration stream, on the device of `greedy`.

    Returns:
        Actions [N] int64.
    """
    draws = torch.rand((2, len(greedy)), generator=rng, device=greedy.device)
    random = (draws[1] * num_actions).long()
    return torch.where(draws[0] < epsilon, random, greedy)


def linear_schedule(step: int, start: float, end: float, steps: int) -> float:
    """Interpolate linearly from `start` at step 0 to `end` at step `steps`, then stay at `end`."""
    if step >= steps:
        return end
    return start + (end - start) * step / steps

"""Rules by which a policy explores, as pure functions over tensors."""

import torch
from torch import Tensor


def epsilon_greedy(
    greedy: Tensor, num_actions: int, epsilon: float, rng: torch.Generator
) -> Tensor:
    """Replace each greedy action, with probability ε, by one drawn uniformly.

    Source: Sutton and Barto 2018, section 2.2; Mnih et al. 2013, Algorithm 1.

    Args:
        greedy: [N] int64, one action for each copy; each has a draw of its own.
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
    """From `start` at step 0 to `end` at step `steps`, and `end` from there on."""
    if step >= steps:
        return end
    return start + (end - start) * step / steps

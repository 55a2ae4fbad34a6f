"""Targets and losses of Q-learning, as pure functions over tensors."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def q_learning_target(rewards: Tensor, discounts: Tensor, next_q_values: Tensor) -> Tensor:
    """Compute y = r + γ max_a' Q(s', a'; θ⁻), the target of the lecture's Algorithm 1.

    Source: Mnih et al. 2013, equation 2, where θ⁻ is called θ_{i−1}.

    Args:
        rewards: [B], n-step discounted sums.
        discounts: [B], γⁿ or 0 at a true terminal.
        next_q_values: [B, A], of the target network.

    Returns:
        Targets [B].
    """
    return _bootstrap(rewards, discounts, next_q_values.amax(dim=1))


def double_q_target(
    rewards: Tensor, discounts: Tensor, next_q_values: Tensor, next_online_q_values: Tensor
) -> Tensor:
    """Compute y = r + γ Q(s', argmax_a' Q(s', a'; θ); θ⁻), the target of double DQN.

    The online network selects the action, and the target network gives its value.

    Source: van Hasselt et al. 2016, equation 4.

    Args:
        rewards: [B], n-step discounted sums.
        discounts: [B], γⁿ or 0 at a true terminal.
        next_q_values: [B, A], of the target network.
        next_online_q_values: [B, A], of the online network.

    Returns:
        Targets [B].
    """
    choice = next_online_q_values.argmax(dim=1, keepdim=True)
    return _bootstrap(rewards, discounts, next_q_values.gather(1, choice).squeeze(1))


def _bootstrap(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    # Shapes (B, 1) and (B,) would broadcast to (B, B) without an error.
    assert rewards.shape == discounts.shape == next_values.shape, (
        f"rewards {rewards.shape}, discounts {discounts.shape}, values {next_values.shape}"
    )
    return rewards + discounts * next_values


def td_error(q_values: Tensor, actions: Tensor, targets: Tensor) -> Tensor:
    """Compute the TD errors δ = y − Q(s, a; θ).

    Args:
        q_values: [B, A].
        actions: [B] int64.
        targets: [B], without gradient.

    Returns:
        TD errors [B].
    """
    chosen = q_values.gather(1, actions.unsqueeze(1)).squeeze(1)
    assert chosen.shape == targets.shape, f"Q {chosen.shape}, targets {targets.shape}"
    return targets - chosen


def td_loss(error: Tensor, kind: Literal["squared", "huber"]) -> Tensor:
    """Compute the loss of each TD error.

    Args:
        error: [B].
        kind: "squared" is δ², the lecture's loss. "huber" is the Huber loss with threshold 1,
            whose gradient is the clipped error of Mnih et al. 2015.

    Returns:
        Losses [B], without a mean, so that the caller can weight them.
    """
    if kind == "squared":
        return error.square()
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none")

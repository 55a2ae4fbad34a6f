"""Returns and advantages of on-policy learning, as pure functions over time-major tensors.

T steps of N copies, with `discounts` (γ, or 0 after a true terminal) and `ends` as in
`rl_lightning.experience.Rollout`. No sum passes an end, so nothing flows back out of
the reset row behind it; what a reset row holds itself is for the caller to mask.
"""

import torch
from torch import Tensor

from rl_lightning.runtime.ranks import moments_over_ranks


def discounted_sums(terms: Tensor, decays: Tensor) -> Tensor:
    """y_t = x_t + d_t y_{t+1}, with y_T = 0.

    Args:
        terms: x [T, N].
        decays: d [T, N].

    Returns:
        y [T, N].
    """
    _check_shapes(terms, decays)
    carry = torch.zeros_like(terms[0])
    sums = []
    for term, decay in zip(reversed(terms.unbind()), reversed(decays.unbind()), strict=True):
        carry = torch.addcmul(term, decay, carry)
        sums.append(carry)
    return torch.stack(sums[::-1])


def trajectory_returns(rewards: Tensor, ends: Tensor) -> Tensor:
    """r(τ) = Σ_t r_t at every step of the trajectory τ: undiscounted.

    Source: the lecture's REINFORCE, ∇J(θ) ≈ Σ_t r(τ) ∇ log π_θ(a_t | s_t).

    Args:
        rewards: [T, N].
        ends: [T, N] bool.

    Returns:
        Weights [T, N].
    """
    _check_shapes(rewards, ends)
    trajectory = ends.long().cumsum(0) - ends.long()
    totals = torch.zeros_like(rewards).scatter_add(0, trajectory, rewards)
    return totals.gather(0, trajectory)


def rewards_to_go(rewards: Tensor, ends: Tensor) -> Tensor:
    """Σ_{t' ≥ t} r_{t'}: undiscounted.

    Args:
        rewards: [T, N].
        ends: [T, N] bool.

    Returns:
        Weights [T, N].
    """
    return discounted_sums(rewards, (~ends).to(rewards.dtype))


def discounted_rewards_to_go(rewards: Tensor, discounts: Tensor, ends: Tensor) -> Tensor:
    """Σ_{t' ≥ t} γ^{t'−t} r_{t'}, without a bootstrap: what the trajectory itself has shown.

    Args:
        rewards: [T, N].
        discounts: [T, N].
        ends: [T, N] bool.

    Returns:
        Weights [T, N].
    """
    _check_shapes(rewards, discounts, ends)
    return discounted_sums(rewards, discounts * ~ends)


def n_step_returns(
    rewards: Tensor, discounts: Tensor, ends: Tensor, values: Tensor, n: int
) -> Tensor:
    """Σ_{k<n} γ^k r_{t+k} + γ^n V(s_{t+n}), with fewer steps before an end or the last row.

    Source: Sutton and Barto 2018, equation 7.1; Mnih et al. 2016, Algorithm S3.

    Args:
        rewards: [T, N].
        discounts: [T, N].
        ends: [T, N] bool.
        values: V(s_0) to V(s_T) [T + 1, N].
        n: Steps of reward before the bootstrap.

    Returns:
        Returns [T, N].
    """
    _check_shapes(rewards, discounts, ends, values[1:])
    assert n >= 1, f"n is {n}"
    after = values
    for _ in range(n):
        following = torch.where(ends, values[1:], after[1:])
        returns = torch.addcmul(rewards, discounts, following)
        after = torch.cat([returns, values[-1:]])
    return returns


def generalised_advantages(
    rewards: Tensor, discounts: Tensor, ends: Tensor, values: Tensor, gae_lambda: float
) -> Tensor:
    """A_t = Σ_k (γλ)^k δ_{t+k}, with δ_t = r_t + γ V(s_{t+1}) − V(s_t).

    δ bootstraps through a truncation, from the true final observation, and not at a
    terminal (`discounts`); the sum stops at both (`ends`). With λ = 1 this is the
    Monte-Carlo return minus V, bootstrapped where the trajectory was cut off.

    Source: Schulman et al. 2016, equations 11 and 16.

    Args:
        rewards: [T, N].
        discounts: [T, N].
        ends: [T, N] bool.
        values: V(s_0) to V(s_T) [T + 1, N].
        gae_lambda: λ in [0, 1].

    Returns:
        Advantages [T, N].
    """
    _check_shapes(rewards, discounts, ends, values[1:])
    td_errors = rewards + discounts * values[1:] - values[:-1]
    return discounted_sums(td_errors, gae_lambda * discounts * ~ends)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` [T, N] over the rows where `mask` [T, N] holds; 0 where none does."""
    _check_shapes(values, mask)
    return (values * mask).sum() / mask.sum().clamp(min=1)


def standardised(values: Tensor, mask: Tensor) -> Tensor:
    """`values` [T, N] to zero mean and unit variance over the rows where `mask` holds.

    Over those of all ranks; every rank must call it equally often.
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean).square(), mask)
    mean, variance = moments_over_ranks(mask.sum(), mean, variance)
    return (values - mean) / (variance.sqrt() + 1e-8)


def _check_shapes(*tensors: Tensor) -> None:
    # (T, N, 1) with (T, N) would broadcast in silence.
    shapes = {tuple(tensor.shape) for tensor in tensors}
    assert len(shapes) == 1, f"shapes differ: {[tuple(tensor.shape) for tensor in tensors]}"

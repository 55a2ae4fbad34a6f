"""Returns and advantages of on-policy learning, as pure functions over time-major tensors.

There are T steps of N environment copies. `discounts` (γ, or 0 at a true terminal) and `ends` are
those of `rl_lightning.experience.Rollout`. Sums stop at the end of an episode, so a reset row does
not change the rows before it. The results in reset rows have no meaning, so callers must mask them.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def discounted_sums(terms: Tensor, decays: Tensor) -> Tensor:
    """Compute y_t = x_t + d_t y_{t+1}, with y_T = 0.

    Args:
        terms: x [T, N].
        decays: d [T, N].

    Returns:
        y [T, N].
    """
    _check_shapes(terms, decays)
    carry = torch.zeros_like(terms[0])
    steps = zip(reversed(terms.unbind()), reversed(decays.unbind()), strict=True)
    sums = [carry := torch.addcmul(term, decay, carry) for term, decay in steps]
    return torch.stack(sums[::-1])


def trajectory_returns(rewards: Tensor, ends: Tensor) -> Tensor:
    """Compute the undiscounted return r(τ) = Σ_t r_t of the trajectory τ at each of its steps.

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
    """Compute the undiscounted rewards to go Σ_{t' ≥ t} r_{t'}.

    Args:
        rewards: [T, N].
        ends: [T, N] bool.

    Returns:
        Weights [T, N].
    """
    return discounted_sums(rewards, (~ends).to(rewards.dtype))


def discounted_rewards_to_go(rewards: Tensor, discounts: Tensor, ends: Tensor) -> Tensor:
    """Compute the discounted rewards to go Σ_{t' ≥ t} γ^{t'−t} r_{t'}, without a bootstrap.

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
    """Compute n-step returns Σ_{k<n} γ^k r_{t+k} + γ^n V(s_{t+n}).

    Near the end of an episode and near the last row there are fewer than n steps.

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
    """Compute A_t = Σ_k (γλ)^k δ_{t+k}, with δ_t = r_t + γ V(s_{t+1}) − V(s_t).

    At a truncation δ bootstraps from the true final observation. At a terminal it does not
    bootstrap, because `discounts` is 0 there. The sum stops at both, which are marked in `ends`.
    With λ = 1 this is the Monte-Carlo return minus V, with a bootstrap where the trajectory was
    cut off.

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


def lambda_returns(
    rewards: Tensor, discounts: Tensor, ends: Tensor, values: Tensor, lambda_: float
) -> Tensor:
    """Compute G_t = r_t + γ ((1 − λ) V(s_{t+1}) + λ G_{t+1}).

    At a truncation, and in the last row, G_t = r_t + γ V(s_{t+1}). At a terminal it is r_t, because
    `discounts` is 0 there. With V = max_a Q(s, a) these are Peng's Q(λ) returns.

    Source: Sutton and Barto 2018, equation 12.18; Gallici et al. 2024, Algorithm 1.

    Args:
        rewards: [T, N].
        discounts: [T, N].
        ends: [T, N] bool.
        values: V(s_0) to V(s_T) [T + 1, N].
        lambda_: λ in [0, 1].

    Returns:
        Returns [T, N].
    """
    return generalised_advantages(rewards, discounts, ends, values, lambda_) + values[:-1]


def game_advantages(values: Tensor, lengths: Tensor, outcomes: Tensor, gae_lambda: float) -> Tensor:
    """Compute `generalised_advantages` of games that are rewarded at their end, without discount.

    Args:
        values: V(s) of the moves, game after game [B].
        lengths: Number of moves of each game [N] int64; their sum is B.
        outcomes: Reward after the last move of each game [N].
        gae_lambda: λ in [0, 1]; 1 gives outcome − V.

    Returns:
        Advantages [B].
    """
    _check_shapes(lengths, outcomes)
    padded = pad_sequence([*values.split(lengths.tolist())])
    steps = torch.arange(len(padded), device=values.device)[:, None]
    ends = steps == lengths - 1
    advantages = generalised_advantages(
        outcomes * ends,
        torch.ones_like(padded),
        ends,
        torch.cat([padded, torch.zeros_like(padded[:1])]),  # the values after the ends are 0
        gae_lambda,
    )
    return advantages.T[(steps < lengths).T]


def masked_mean(values: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of `values` [T, N] where `mask` [T, N] is True; 0 if it is True nowhere.

    Args:
        values: [T, N].
        mask: [T, N] bool.
        count: What the sum is divided by []; by default the number of rows where `mask` is True.
    """
    _check_shapes(values, mask)
    return (values * mask).sum() / (mask.sum().clamp(min=1) if count is None else count)


def masked_moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [] and variance [] of `values` [T, N] where `mask` [T, N] is True."""
    mean = masked_mean(values, mask)
    return mean, masked_mean((values - mean).square(), mask)


def standardised(values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Scale `values` of the given `mean` [] and `variance` [] to zero mean and unit variance."""
    return (values - mean) / (variance.sqrt() + 1e-8)


def _check_shapes(*tensors: Tensor) -> None:
    # Shapes such as (T, N, 1) and (T, N) would broadcast without an error.
    shapes = {tuple(tensor.shape) for tensor in tensors}
    assert len(shapes) == 1, f"shapes differ: {[tuple(tensor.shape) for tensor in tensors]}"

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from rl_lightning.functional.returns import (
    discounted_rewards_to_go,
    generalised_advantages,
    lambda_returns,
    masked_mean,
    masked_moments,
    n_step_returns,
    rewards_to_go,
    standardised,
    trajectory_returns,
)

T, N = 8, 2
GAMMA, LAMBDA = 0.9, 0.8
settings.register_profile("quick", max_examples=40, deadline=None)
settings.load_profile("quick")


class Case:
    """Random rewards, values, terminations and truncations, with reset rows after each end."""

    def __init__(self, seed: int, outcomes: list[int]) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.rewards = torch.randn(T, N, generator=generator, dtype=torch.float64)
        self.values = torch.randn(T + 1, N, generator=generator, dtype=torch.float64)
        # 0 continues, 1 is terminated, 2 is truncated.
        outcome = torch.tensor(outcomes).reshape(T, N)
        self.mask = torch.ones(T, N, dtype=torch.bool)
        for t in range(1, T):
            self.mask[t] = ~(self.mask[t - 1] & (outcome[t - 1] > 0))
        self.rewards[~self.mask] = 0.0
        self.ends = (outcome > 0) & self.mask
        terminated = (outcome == 1) & self.mask
        self.discounts = torch.full((T, N), GAMMA, dtype=torch.float64)
        self.discounts[terminated] = 0.0

    def steps(self, t: int, n: int) -> list[int]:
        """Times from t to the end of the episode, or to the last row."""
        times = [t]
        while not self.ends[times[-1], n] and times[-1] + 1 < T:
            times.append(times[-1] + 1)
        return times

    def check(self, actual: Tensor, naive) -> None:
        for t in range(T):
            for n in range(N):
                if self.mask[t, n]:
                    expected = float(naive(t, n))
                    assert actual[t, n].item() == pytest.approx(expected, abs=1e-9), (t, n)


cases = st.builds(
    Case,
    st.integers(0, 1_000),
    st.lists(st.sampled_from([0, 0, 0, 0, 1, 2]), min_size=T * N, max_size=T * N),
)


@given(cases)
def test_a_trajectory_return_is_the_sum_of_its_episode(case: Case) -> None:
    def naive(t: int, n: int) -> float:
        start = t
        while start > 0 and case.mask[start - 1, n] and not case.ends[start - 1, n]:
            start -= 1
        return sum(case.rewards[k, n] for k in case.steps(start, n))

    case.check(trajectory_returns(case.rewards, case.ends), naive)


@given(cases)
def test_rewards_to_go(case: Case) -> None:
    def naive(t: int, n: int) -> float:
        return sum(case.rewards[k, n] for k in case.steps(t, n))

    case.check(rewards_to_go(case.rewards, case.ends), naive)


@given(cases)
def test_discounted_rewards_to_go(case: Case) -> None:
    def naive(t: int, n: int) -> float:
        return sum(GAMMA ** (k - t) * case.rewards[k, n] for k in case.steps(t, n))

    case.check(discounted_rewards_to_go(case.rewards, case.discounts, case.ends), naive)


@given(cases, st.integers(1, T + 2))
def test_n_step_returns(case: Case, steps: int) -> None:
    def naive(t: int, n: int) -> float:
        times = case.steps(t, n)[:steps]
        rewards = sum(GAMMA ** (k - t) * case.rewards[k, n] for k in times)
        last = times[-1]
        bootstrap = GAMMA ** (last - t) * case.discounts[last, n] * case.values[last + 1, n]
        return rewards + bootstrap

    returns = n_step_returns(case.rewards, case.discounts, case.ends, case.values, steps)
    case.check(returns, naive)


@given(cases)
def test_generalised_advantages(case: Case) -> None:
    def naive(t: int, n: int) -> float:
        total = 0.0
        for k in case.steps(t, n):
            target = case.rewards[k, n] + case.discounts[k, n] * case.values[k + 1, n]
            total += (GAMMA * LAMBDA) ** (k - t) * (target - case.values[k, n])
        return total

    advantages = generalised_advantages(
        case.rewards, case.discounts, case.ends, case.values, LAMBDA
    )
    case.check(advantages, naive)


@given(cases)
def test_lambda_returns(case: Case) -> None:
    def naive(t: int, n: int) -> float:
        here = case.rewards[t, n]
        bootstrap = case.discounts[t, n] * case.values[t + 1, n]
        if case.ends[t, n] or t + 1 == T:
            return here + bootstrap
        return here + (1 - LAMBDA) * bootstrap + LAMBDA * GAMMA * naive(t + 1, n)

    returns = lambda_returns(case.rewards, case.discounts, case.ends, case.values, LAMBDA)
    case.check(returns, naive)


@given(cases)
def test_lambda_spans_from_the_td_error_to_monte_carlo(case: Case) -> None:
    everything = (case.rewards, case.discounts, case.ends, case.values)
    one_step = n_step_returns(*everything, 1) - case.values[:-1]
    all_steps = n_step_returns(*everything, T) - case.values[:-1]
    mask = case.mask
    torch.testing.assert_close(generalised_advantages(*everything, 0.0)[mask], one_step[mask])
    torch.testing.assert_close(generalised_advantages(*everything, 1.0)[mask], all_steps[mask])


@given(cases, arrays("float64", (T, N), elements=st.floats(-1e6, 1e6)))
def test_reset_rows_do_not_change_other_rows(case: Case, noise) -> None:
    """The values in a reset row do not change the results of other rows."""
    values = case.values
    before = generalised_advantages(case.rewards, case.discounts, case.ends, values, LAMBDA)
    rewards = torch.where(case.mask, case.rewards, torch.from_numpy(noise))
    after = generalised_advantages(rewards, case.discounts, case.ends, values, LAMBDA)
    torch.testing.assert_close(before[case.mask], after[case.mask])


def test_a_truncation_bootstraps_and_a_terminal_does_not() -> None:
    rewards = torch.ones(1, 2)
    ends = torch.ones(1, 2, dtype=torch.bool)
    discounts = torch.tensor([[GAMMA, 0.0]])  # truncated, terminated
    values = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    advantages = generalised_advantages(rewards, discounts, ends, values, LAMBDA)
    assert advantages.tolist() == [[1 + GAMMA * 10, 1.0]]


def test_standardised_leaves_masked_rows_out() -> None:
    values = torch.tensor([[1.0, 1e6], [3.0, 5.0]])
    mask = torch.tensor([[True, False], [True, True]])
    kept = standardised(values, *masked_moments(values, mask))[mask]
    assert kept.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert kept.std(correction=0).item() == pytest.approx(1.0, rel=1e-5)


def test_masked_mean_by_hand() -> None:
    values, mask = (
        torch.tensor([[1.0, 1e6], [3.0, 5.0]]),
        torch.tensor([[True, False], [True, True]]),
    )
    assert masked_mean(values, mask) == 3
    assert masked_mean(values, mask, torch.tensor(6.0)) == 1.5
    assert masked_mean(values, torch.zeros_like(mask)) == 0


@pytest.mark.parametrize("shape", [(T, N, 1), (T,), (N, T)])
def test_shapes_that_would_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    rewards, ends = torch.zeros(T, N), torch.zeros(T, N, dtype=torch.bool)
    with pytest.raises(AssertionError):
        discounted_rewards_to_go(rewards, torch.zeros(shape), ends)
    with pytest.raises(AssertionError):
        generalised_advantages(rewards, torch.zeros(T, N), ends, torch.zeros(T + 1, N, 1), 1.0)

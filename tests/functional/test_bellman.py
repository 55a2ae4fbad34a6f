import numpy as np
import pytest
import torch

from rl_lightning.functional.bellman import (
    Dynamics,
    backup,
    best_actions,
    exact_values,
    expectation_sweep,
    greedy_policy,
    optimality_sweep,
    uniform_policy,
)


def make_dynamics(rewards: list[list[float]], matrix: list[list[float]]) -> Dynamics:
    states = len(rewards)
    return Dynamics(
        rewards=torch.tensor(rewards, dtype=torch.float64),
        transitions=torch.tensor(matrix, dtype=torch.float64).to_sparse_csr(),
        initial=torch.full((states,), 1 / states, dtype=torch.float64),
    )


@pytest.fixture
def two_states() -> Dynamics:
    """State 0: stay (reward 1) or go to state 1 (0). State 1: stay (2) or end (10). γ = 0.5."""
    return make_dynamics(
        rewards=[[1.0, 0.0], [2.0, 10.0]],
        matrix=[[0.5, 0.0], [0.0, 0.5], [0.0, 0.5], [0.0, 0.0]],
    )


def test_backup_by_hand(two_states: Dynamics) -> None:
    values = torch.tensor([4.0, 8.0], dtype=torch.float64)
    assert backup(two_states, values).tolist() == [[3.0, 4.0], [6.0, 10.0]]


def test_optimality_sweeps_by_hand(two_states: Dynamics) -> None:
    action_values = torch.zeros(2, 2, dtype=torch.float64)
    action_values = optimality_sweep(two_states, action_values)
    assert action_values.tolist() == [[1.0, 0.0], [2.0, 10.0]]
    action_values = optimality_sweep(two_states, action_values)
    assert action_values.tolist() == [[1.5, 5.0], [7.0, 10.0]]


def test_expectation_sweep_by_hand(two_states: Dynamics) -> None:
    action_values = torch.tensor([[1.0, 3.0], [2.0, 10.0]], dtype=torch.float64)
    swept = expectation_sweep(two_states, action_values, uniform_policy(two_states))
    assert swept.tolist() == [[2.0, 3.0], [5.0, 10.0]]


def test_greedy_policy_takes_the_first_of_the_best() -> None:
    action_values = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    assert greedy_policy(action_values).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert best_actions(action_values).tolist() == [[False, True, True], [True, True, False]]


def test_exact_values_solve_the_linear_system() -> None:
    rng = np.random.default_rng(0)
    states, actions = 7, 3
    matrix = rng.dirichlet(np.ones(states), states * actions) * 0.95
    dynamics = make_dynamics(rng.normal(size=(states, actions)).tolist(), matrix.tolist())
    policy = rng.dirichlet(np.ones(actions), states)
    rewards = (policy * dynamics.rewards.numpy()).sum(1)
    chain = np.einsum("sa,sat->st", policy, matrix.reshape(states, actions, states))
    expected = np.linalg.solve(np.eye(states) - chain, rewards)
    np.testing.assert_allclose(exact_values(dynamics, torch.from_numpy(policy)), expected)


def test_exact_values_of_policies_that_never_end() -> None:
    # With γ = 1, a loop has the value 0 without reward, and −∞ with the reward −1.
    circle = [[0.0, 1.0], [1.0, 0.0]]
    only = torch.ones(2, 1, dtype=torch.float64)
    assert exact_values(make_dynamics([[0.0], [0.0]], circle), only).tolist() == [0.0, 0.0]
    endless = exact_values(make_dynamics([[-1.0], [-1.0]], circle), only)
    assert endless.tolist() == [-torch.inf, -torch.inf]


def test_exact_values_of_a_chain_with_a_small_probability_to_end() -> None:
    leak = 1e-6
    chain = make_dynamics([[-1.0]], [[1 - leak]])
    value = exact_values(chain, torch.ones(1, 1, dtype=torch.float64)).item()
    assert value == pytest.approx(-1 / leak, rel=1e-6)


def test_shapes_that_would_broadcast_are_refused(two_states: Dynamics) -> None:
    action_values = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(AssertionError, match="Q"):
        expectation_sweep(two_states, action_values, torch.ones(1, 2, dtype=torch.float64))

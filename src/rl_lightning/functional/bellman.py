"""Bellman's equations over whole tables, as pure functions over tensors.

S states, A actions. Everything is float64, on whichever device the dynamics are.
"""

import torch
from torch import Tensor

from rl_lightning.experience import Dynamics

EXACT_STATES = 1024  # `exact_values` takes S³ time and S² memory


def backup(dynamics: Dynamics, values: Tensor) -> Tensor:
    """Q(s, a) = E[r + γ V(s')] for all states and actions at once.

    Args:
        dynamics: Of S states and A actions.
        values: V, [S].

    Returns:
        Action values [S, A].
    """
    expected = torch.addmv(dynamics.rewards.flatten(), dynamics.transitions, values)
    return expected.view_as(dynamics.rewards)


def optimality_sweep(dynamics: Dynamics, action_values: Tensor) -> Tensor:
    """Q_{i+1}(s, a) = E[r + γ max_a' Q_i(s', a')], the lecture's value iteration.

    Source: Bellman 1957; Mnih et al. 2013, section 2.

    Args:
        dynamics: Of S states and A actions.
        action_values: Q_i, [S, A].

    Returns:
        Q_{i+1}, [S, A].
    """
    return backup(dynamics, action_values.amax(dim=1))


def expectation_sweep(dynamics: Dynamics, action_values: Tensor, policy: Tensor) -> Tensor:
    """Q_{i+1}(s, a) = E[r + γ Σ_a' π(a' | s') Q_i(s', a')], one sweep of policy evaluation.

    Source: Sutton and Barto 2018, equation 4.4, for Q.

    Args:
        dynamics: Of S states and A actions.
        action_values: Q_i, [S, A].
        policy: π(a | s), [S, A].

    Returns:
        Q_{i+1}, [S, A].
    """
    assert policy.shape == action_values.shape, f"π {policy.shape}, Q {action_values.shape}"
    return backup(dynamics, (policy * action_values).sum(dim=1))


def uniform_policy(dynamics: Dynamics) -> Tensor:
    """π(a | s) = 1 / A: the random policy [S, A]."""
    return torch.full_like(dynamics.rewards, 1 / dynamics.rewards.shape[1])


def greedy_policy(action_values: Tensor) -> Tensor:
    """Probability 1 for the first of the best actions of each state.

    Args:
        action_values: Q, [S, A].

    Returns:
        π(a | s), [S, A] float64.
    """
    best = action_values.argmax(dim=1, keepdim=True)
    return torch.zeros_like(action_values).scatter(1, best, 1.0)


def best_actions(action_values: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Which actions are as good as the best one, to `tolerance` of the largest value.

    Args:
        action_values: Q, [S, A].
        tolerance: Relative to max |Q|.

    Returns:
        [S, A] bool.
    """
    margin = tolerance * max(1.0, action_values.abs().max().item())
    return action_values >= action_values.amax(dim=1, keepdim=True) - margin


def exact_values(dynamics: Dynamics, policy: Tensor) -> Tensor:
    """V_π = Σ_k (γ P_π)^k R_π, the solution of V = R_π + γ P_π V where there is one.

    The series is summed by doubling: n rounds give 2ⁿ steps. Unlike a linear solver this
    also says what a policy that never ends is worth under γ = 1: 0 where nothing is to
    be had, else ±∞.

    Args:
        dynamics: Of at most `EXACT_STATES` states.
        policy: π(a | s), [S, A].

    Returns:
        V_π, [S].
    """
    states, actions = policy.shape
    assert states <= EXACT_STATES, f"{states} states are too many to hold a matrix of all pairs"
    matrix = dynamics.transitions.to_dense().view(states, actions, states)
    matrix = torch.einsum("sa,sat->st", policy, matrix)
    values = (policy * dynamics.rewards).sum(dim=1)
    for _ in range(50):
        if matrix.max() < torch.finfo(matrix.dtype).tiny ** 0.5:
            break
        values = values + matrix @ values
        matrix = matrix @ matrix
    return torch.where(values.abs() < 1e12, values, values.sign() * torch.inf)

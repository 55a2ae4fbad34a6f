"""Bellman's equations over whole tables, as pure functions over tensors.

There are S states and A actions. All tensors are float64, on the device of the dynamics.
"""

import torch
from torch import Tensor

from rl_lightning.experience import Dynamics

EXACT_STATES = 1024  # `exact_values` takes S³ time and S² memory


def backup(dynamics: Dynamics, values: Tensor) -> Tensor:
    """Compute Q(s, a) = E[r + γ V(s')] for all states and actions.

    Args:
        dynamics: Of S states and A actions.
        values: V, [S].

    Returns:
        Action values [S, A].
    """
    expected = torch.addmv(dynamics.rewards.flatten(), dynamics.transitions, values)
    return expected.view_as(dynamics.rewards)


def optimality_sweep(dynamics: Dynamics, action_values: Tensor) -> Tensor:
    """Compute Q_{i+1}(s, a) = E[r + γ max_a' Q_i(s', a')], the lecture's value iteration.

    Source: Bellman 1957; Mnih et al. 2013, section 2.

    Args:
        dynamics: Of S states and A actions.
        action_values: Q_i, [S, A].

    Returns:
        Q_{i+1}, [S, A].
    """
    return backup(dynamics, action_values.amax(dim=1))


def expectation_sweep(dynamics: Dynamics, action_values: Tensor, policy: Tensor) -> Tensor:
    """One sweep of policy evaluation: Q_{i+1}(s, a) = E[r + γ Σ_a' π(a' | s') Q_i(s', a')].

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
    """The random policy π(a | s) = 1 / A, [S, A]."""
    return torch.full_like(dynamics.rewards, 1 / dynamics.rewards.shape[1])


def greedy_policy(action_values: Tensor) -> Tensor:
    """A policy with probability 1 for the first of the best actions in each state.

    Args:
        action_values: Q, [S, A].

    Returns:
        π(a | s), [S, A] float64.
    """
    best = action_values.argmax(dim=1, keepdim=True)
    return torch.zeros_like(action_values).scatter(1, best, 1.0)


def best_actions(action_values: Tensor, tolerance: float = 1e-6) -> Tensor:
    """The actions whose value equals that of the best action, up to a tolerance.

    Args:
        action_values: Q, [S, A].
        tolerance: Relative to max |Q|.

    Returns:
        [S, A] bool.
    """
    margin = tolerance * max(1.0, action_values.abs().max().item())
    return action_values >= action_values.amax(dim=1, keepdim=True) - margin


def exact_values(dynamics: Dynamics, policy: Tensor) -> Tensor:
    """Compute V_π = Σ_k (γ P_π)^k R_π, the solution of V = R_π + γ P_π V if one exists.

    The series is summed by doubling, so n iterations sum 2ⁿ terms. Unlike a linear solver, this
    also has a result for policies that never end with γ = 1. The value of a state is then 0 if
    no reward follows, else ±∞.

    Args:
        dynamics: Dynamics of at most `EXACT_STATES` states.
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

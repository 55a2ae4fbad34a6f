"""Reading, checking and folding the dynamics of an environment."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rl_lightning.bellman import Dynamics
from rl_lightning.errors import ConfigurationError
from rl_lightning.gridworld import Outcomes

Array = npt.NDArray[Any]


def read_outcomes(env_id: str, env: Any, num_states: int, num_actions: int) -> Outcomes:
    """Read an environment's dynamics: `transitions()` where it has that, else `P`.

    Raises:
        ConfigurationError: If it has neither, or `P` is not in the toy-text convention.
    """
    if hasattr(env, "transitions"):
        outcomes: Outcomes = env.transitions()
        return outcomes
    table = getattr(env, "P", None)
    if table is None:
        raise ConfigurationError(
            f"{env_id} does not expose its dynamics (env.unwrapped.P is missing): take an "
            "environment that does, such as FrozenLake-v1, or learn from experience (QLearning)"
        )
    rows: list[tuple[Any, ...]] = []
    for state in range(num_states):
        for action in range(num_actions):
            try:
                rows.extend((state, action, p, s, r, t) for p, s, r, t in table[state][action])
            except (KeyError, IndexError, TypeError, ValueError):
                raise ConfigurationError(
                    f"{env_id}: P[{state}][{action}] is no list of (probability, next state, "
                    "reward, terminated)"
                ) from None
    kinds = (np.int64, np.int64, np.float64, np.int64, np.float64, np.bool_)
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return Outcomes(*(np.array(c, kind) for c, kind in zip(columns, kinds, strict=True)))


def check_outcomes(env_id: str, outcomes: Outcomes, num_states: int, num_actions: int) -> None:
    """Check that the outcomes are a Markov decision process.

    Raises:
        ConfigurationError: Naming the first state and action at fault.
    """
    successors, probabilities = outcomes.next_states, outcomes.probabilities
    out_of_range = (successors < 0) | (successors >= num_states)
    for what, values, wrong, want in (
        ("leads to state", successors, out_of_range, f"states are 0 to {num_states - 1}"),
        ("has the probability", probabilities, ~(probabilities >= 0), "it must be at least 0"),
        ("has the reward", outcomes.rewards, ~np.isfinite(outcomes.rewards), "it must be finite"),
    ):
        if wrong.any():
            first = wrong.argmax()
            raise ConfigurationError(
                f"{env_id}: state {outcomes.states[first]}, action {outcomes.actions[first]} "
                f"{what} {values[first]}: {want}"
            )
    rows = _rows(outcomes, num_actions)
    sums = np.bincount(rows, probabilities, minlength=num_states * num_actions)
    wrong = ~np.isclose(sums, 1.0, rtol=0.0, atol=1e-8)
    if wrong.any():
        row = int(wrong.argmax())
        raise ConfigurationError(
            f"{env_id}: the probabilities of state {row // num_actions}, action "
            f"{row % num_actions} sum to {sums[row]:.10g}, not to 1"
        )


def check_endings(env_id: str, outcomes: Outcomes, num_states: int) -> None:
    """Check that under γ = 1 no reward is collected where no game can end.

    Walks back from the outcomes that terminate, a ring of states at a time.

    Raises:
        ConfigurationError: Naming a state whose value would be no number.
    """
    possible = np.flatnonzero(outcomes.probabilities > 0)
    states, ends = outcomes.states[possible], outcomes.terminated[possible]
    successors = outcomes.next_states[possible]
    order = np.argsort(successors, kind="stable")
    first = np.searchsorted(successors, np.arange(num_states + 1), sorter=order)
    can_end = np.zeros(num_states, np.bool_)
    ring = np.unique(states[ends])
    while ring.size:
        can_end[ring] = True
        counts = first[ring + 1] - first[ring]
        offsets = np.repeat(first[ring] - np.cumsum(counts) + counts, counts)
        before = np.unique(states[order[offsets + np.arange(counts.sum())]])
        ring = before[~can_end[before]]
    endless = ~can_end[outcomes.states] & (outcomes.rewards != 0)
    if endless.any():
        raise ConfigurationError(
            f"{env_id}: from state {outcomes.states[endless.argmax()]} no game can end, so with "
            "gamma 1 its value is no number: take gamma < 1 or give it a terminal state"
        )


def read_initial(env_id: str, env: Any, num_states: int) -> Array:
    """Read the probability [S] of beginning in each state; uniform where none is told.

    Raises:
        ConfigurationError: If `initial_state_distrib` is no distribution over the states.
    """
    initial = getattr(env, "initial_state_distrib", None)
    if initial is None:
        return np.full(num_states, 1 / num_states)
    initial = np.asarray(initial, np.float64)
    if initial.shape != (num_states,) or abs(initial.sum() - 1) > 1e-8 or (initial < 0).any():
        raise ConfigurationError(
            f"{env_id}: initial_state_distrib is no distribution over {num_states} states"
        )
    return initial


def to_tensors(outcomes: Outcomes, initial: Array, num_actions: int, gamma: float) -> Dynamics:
    """Fold outcomes, γ and the terminal flags into sparse tensors.

    Args:
        outcomes: Checked ones.
        initial: Probability [S] of beginning in each state.
        num_actions: A.
        gamma: γ.

    Returns:
        Dynamics on the CPU.
    """
    num_states = initial.size
    size = (num_states * num_actions, num_states)
    rows = _rows(outcomes, num_actions)
    rewards = np.bincount(rows, outcomes.probabilities * outcomes.rewards, minlength=size[0])
    goes_on = ~outcomes.terminated & (outcomes.probabilities > 0)
    weights = gamma * outcomes.probabilities[goes_on]
    indices = np.stack([rows[goes_on], outcomes.next_states[goes_on]])
    ordered = bool((np.diff(indices[0] * num_states + indices[1]) > 0).all())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        matrix = torch.sparse_coo_tensor(  # what is in order already is spared the sort
            torch.from_numpy(indices), torch.from_numpy(weights), size, is_coalesced=ordered
        )
        matrix = matrix.coalesce().to_sparse_csr()
        # 32-bit indices halve what a sweep must read, and are what MKL works with.
        matrix = torch.sparse_csr_tensor(
            matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values(), size
        )
    return Dynamics(
        rewards=torch.from_numpy(rewards).view(num_states, num_actions),
        transitions=matrix,
        initial=torch.from_numpy(initial),
    )


def _rows(outcomes: Outcomes, num_actions: int) -> Array:
    rows: Array = outcomes.states.astype(np.int64) * num_actions + outcomes.actions
    return rows


def read_grid_shape(env: Any) -> tuple[int, int] | None:
    """Rows and columns, of environments that are grids and say so."""
    shape = getattr(env, "shape", (getattr(env, "nrow", 0), getattr(env, "ncol", 0)))
    rows, columns = shape if len(shape) == 2 else (0, 0)
    return (int(rows), int(columns)) if rows * columns == env.observation_space.n else None

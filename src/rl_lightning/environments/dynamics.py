"""Reads the dynamics of an environment, checks them and converts them to tensors."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rl_lightning.environments.gridworld import Outcomes
from rl_lightning.experience import Dynamics
from rl_lightning.runtime.errors import ConfigurationError

Array = npt.NDArray[Any]

MOST_SECONDS = 10  # for the linear program of `check_loops`


def read_outcomes(env_id: str, env: Any, num_states: int, num_actions: int) -> Outcomes:
    """Read an environment's dynamics from `transitions()` if it has that, else from `P`.

    Raises:
        ConfigurationError: If it has neither, or if `P` is not in the toy-text convention.
    """
    if hasattr(env, "transitions"):
        outcomes: Outcomes = env.transitions()
        return outcomes
    table = getattr(env, "P", None)
    if table is None:
        raise ConfigurationError(
            f"{env_id} does not expose its dynamics (env.unwrapped.P is missing): use an "
            "environment that does, such as FrozenLake-v1, or learn from experience (QLearning)"
        )
    rows: list[tuple[Any, ...]] = []
    for state in range(num_states):
        for action in range(num_actions):
            try:
                rows.extend((state, action, p, s, r, t) for p, s, r, t in table[state][action])
            except (KeyError, IndexError, TypeError, ValueError):
                raise ConfigurationError(
                    f"{env_id}: P[{state}][{action}] is not a list of (probability, next state, "
                    "reward, terminated): change P of the environment"
                ) from None
    kinds = (np.int64, np.int64, np.float64, np.int64, np.float64, np.bool_)
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return Outcomes(*(np.array(c, kind) for c, kind in zip(columns, kinds, strict=True)))


def check_outcomes(env_id: str, outcomes: Outcomes, num_states: int, num_actions: int) -> None:
    """Check that the outcomes are a valid Markov decision process.

    Raises:
        ConfigurationError: For the first state and action whose outcomes are invalid.
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


def check_repeats(env_id: str, outcomes: Outcomes, again: Outcomes) -> None:
    """Check that two environment copies have the same outcomes.

    Raises:
        ConfigurationError: If they differ, because a table that was computed for one environment
            copy would then be wrong for the others.
    """
    if not all(map(np.array_equal, outcomes, again)):
        raise ConfigurationError(
            f"{env_id} has different dynamics in each environment copy, and a table holds those of "
            "one: choose fixed dynamics with data.env_kwargs, such as FrozenLake-v1's map_name"
        )


def check_endings(env_id: str, outcomes: Outcomes, num_states: int) -> None:
    """Check that with γ = 1 there are no rewards in states from which no episode can end.

    Raises:
        ConfigurationError: For a state whose value would be infinite.
    """
    # Imported here, because it is not needed with γ < 1.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    outcomes = _possible(outcomes)
    end = num_states  # one more node of the graph, to which the outcomes that terminate lead
    successors = np.where(outcomes.terminated, end, outcomes.next_states)
    backwards = csr_array(
        (np.ones(successors.size), (successors, outcomes.states)), shape=(end + 1, end + 1)
    )
    can_end = np.zeros(end + 1, np.bool_)
    can_end[breadth_first_order(backwards, end, return_predecessors=False)] = True
    endless = ~can_end[outcomes.states] & (outcomes.rewards != 0)
    if endless.any():
        raise ConfigurationError(
            f"{env_id}: from state {outcomes.states[endless.argmax()]} no episode can end, so with "
            "gamma 1 its value is infinite: choose gamma < 1, or add a terminal state"
        )


def check_loops(env_id: str, outcomes: Outcomes, num_states: int, num_actions: int) -> None:
    """Check that with γ = 1 no policy collects positive reward for ever, so all values are finite.

    An action is endless if it never terminates and never leads to a state without endless
    actions. A policy without end takes endless actions only. If some endless actions with a
    positive reward are enough for a policy without end, the check fails. If no endless action has
    a positive reward, the check passes. In other cases the largest mean reward decides.

    Raises:
        ConfigurationError: For a state from which a policy collects positive reward for ever.
    """
    outcomes = _possible(outcomes)
    rows, size = _rows(outcomes, num_actions), num_states * num_actions
    rewards = np.bincount(rows, outcomes.probabilities * outcomes.rewards, minlength=size)
    rewards = rewards.reshape(num_states, num_actions)
    if not (rewards > 0).any():
        return
    endless = _endless(outcomes, np.ones_like(rewards, np.bool_))
    if not (rewards[endless] > 0).any():
        return
    earning = _endless(outcomes, endless & (rewards > 0))
    pair = int(earning.argmax()) if earning.any() else _best_pair(outcomes, endless, rewards)
    if pair is not None:
        raise ConfigurationError(
            f"{env_id}: from state {pair // num_actions} a policy can collect a positive reward "
            "for ever, so with gamma 1 its value is infinite: choose gamma < 1, or give no "
            "positive reward on loops"
        )


def _possible(outcomes: Outcomes) -> Outcomes:
    possible = outcomes.probabilities > 0
    return Outcomes._make(column[possible] for column in outcomes)


def _endless(outcomes: Outcomes, allowed: Array) -> Array:
    """The endless pairs of state and action [S, A] bool, among the `allowed` pairs [S, A] only."""
    kept: Array = allowed.copy()
    kept[outcomes.states[outcomes.terminated], outcomes.actions[outcomes.terminated]] = False
    alive: Any = np.ones(len(kept), np.bool_)
    while (alive & ~kept.any(axis=1)).any():
        alive = kept.any(axis=1)
        lost = ~alive[outcomes.next_states]
        kept[outcomes.states[lost], outcomes.actions[lost]] = False
    return kept


def _best_pair(outcomes: Outcomes, endless: Array, rewards: Array) -> int | None:
    """A pair of state and action that the policy with the largest mean reward keeps returning to.

    The largest mean reward is the solution of a linear program over the shares x(s, a) of time
    that a policy spends in each pair: as often as it enters a state, it leaves it (Puterman 1994,
    section 8.8).

    Args:
        outcomes: All outcomes.
        endless: The endless pairs [S, A].
        rewards: E[r | s, a] [S, A].

    Returns:
        The pair's index, or None if the largest mean reward is 0 or negative, or if it is not
        found in `MOST_SECONDS`.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, vstack

    num_states, num_actions = rewards.shape
    pairs, earned = np.flatnonzero(endless), rewards[endless]
    shape = (num_states, pairs.size)
    leaving = csr_array((np.ones(pairs.size), (pairs // num_actions, np.arange(pairs.size))), shape)
    inside = endless[outcomes.states, outcomes.actions]
    columns = np.searchsorted(pairs, _rows(outcomes, num_actions)[inside])
    entries = (outcomes.next_states[inside], columns)
    entering = csr_array((outcomes.probabilities[inside], entries), shape)
    found = linprog(
        -earned,
        A_eq=vstack([leaving - entering, np.ones((1, pairs.size))]),
        b_eq=np.append(np.zeros(num_states), 1.0),
        options={"time_limit": MOST_SECONDS},
    )
    is_positive = found.x is not None and -found.fun > 1e-7 * earned.max()
    return int(pairs[found.x.argmax()]) if is_positive else None


def read_initial(env_id: str, env: Any, num_states: int) -> Array:
    """Read the distribution of initial states [S]; uniform if the environment has none.

    Raises:
        ConfigurationError: If `initial_state_distrib` is not a distribution over the states.
    """
    initial = getattr(env, "initial_state_distrib", None)
    if initial is None:
        return np.full(num_states, 1 / num_states)
    initial = np.asarray(initial, np.float64)
    if initial.shape != (num_states,) or abs(initial.sum() - 1) > 1e-8 or (initial < 0).any():
        raise ConfigurationError(
            f"{env_id}: initial_state_distrib is not a distribution over {num_states} states: "
            "change that of the environment"
        )
    return initial


def to_tensors(outcomes: Outcomes, initial: Array, num_actions: int, gamma: float) -> Dynamics:
    """Combine outcomes, γ and the terminal flags in sparse tensors.

    Args:
        outcomes: Outcomes that have been checked.
        initial: Distribution of initial states [S].
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
        matrix = torch.sparse_coo_tensor(  # torch need not sort indices that are in order already
            torch.from_numpy(indices), torch.from_numpy(weights), size, is_coalesced=ordered
        )
        matrix = matrix.coalesce().to_sparse_csr()
        # 32-bit indices halve the bytes that a sweep reads, and MKL needs them.
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
    """Rows and columns of an environment with `shape`, or with `nrow` and `ncol`; else None."""
    shape = getattr(env, "shape", (getattr(env, "nrow", 0), getattr(env, "ncol", 0)))
    rows, columns = shape if len(shape) == 2 else (0, 0)
    return (int(rows), int(columns)) if rows * columns == env.observation_space.n else None

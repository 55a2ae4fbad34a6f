"""Reads the dynamics of an environment, checks them and converts them to tensors."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rl_lightning.environments.gridworld import Outcomes
from rl_lightning.experience import Dynamics
from rl_lightning.runtime.errors import ConfigurationError

Array = npt.NDArray[Any]

# Limits of `check_loops`, so that it takes at most about ten seconds: sweeps over all states, and
# lookups of a successor's value.
MOST_SWEEPS, MOST_LOOKUPS = 16_384, 1_000_000_000


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

    The states from which an episode can end are found by a backward search from the outcomes that
    terminate.

    Raises:
        ConfigurationError: For a state whose value would be infinite.
    """
    outcomes = _possible(outcomes)
    before = _predecessor_search(outcomes.next_states, num_states)
    can_end = np.zeros(num_states, np.bool_)
    found = np.unique(outcomes.states[outcomes.terminated])
    while found.size:
        can_end[found] = True
        previous = np.unique(outcomes.states[before(found)])
        found = previous[~can_end[previous]]
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
    a positive reward, the check passes. In other cases value iteration decides: the largest
    growth of the undiscounted values in a sweep never increases, and converges to the largest mean
    reward (Puterman 1994, section 8.5). If `MOST_LOOKUPS` is too small for as many sweeps as there
    are states, the check passes.

    Raises:
        ConfigurationError: For a state from which a policy collects positive reward for ever.
    """
    outcomes = _possible(outcomes)
    rows = _rows(outcomes, num_actions)
    size = num_states * num_actions
    rewards = np.bincount(rows, outcomes.probabilities * outcomes.rewards, minlength=size)
    if not (rewards > 0).any():
        return
    endless = _endless(outcomes, np.ones(size, np.bool_), num_actions)
    if not (rewards[endless] > 0).any():
        return
    earning = _endless(outcomes, endless & (rewards > 0), num_actions)
    state = int(earning.argmax()) // num_actions if earning.any() else None
    if state is None:
        inside = endless[rows]
        state = _sweep_for_growth(
            Outcomes._make(column[inside] for column in outcomes),
            np.where(endless, rewards, -np.inf).reshape(num_states, num_actions),
        )
    if state is not None:
        raise ConfigurationError(
            f"{env_id}: from state {state} a policy can collect a positive reward for ever, so "
            "with gamma 1 its value is infinite: choose gamma < 1, or give no positive reward on "
            "loops"
        )


def _possible(outcomes: Outcomes) -> Outcomes:
    possible = outcomes.probabilities > 0
    return Outcomes._make(column[possible] for column in outcomes)


def _predecessor_search(successors: Array, num_states: int) -> Callable[[Array], Array]:
    """Return a function that finds, for given states, the outcomes that lead to one of them.

    Args:
        successors: Next state of each outcome [M].
        num_states: S.
    """
    order = np.argsort(successors, kind="stable")
    first = np.searchsorted(successors, np.arange(num_states + 1), sorter=order)

    def find(states: Array) -> Array:
        counts = first[states + 1] - first[states]
        offsets = np.repeat(first[states] - np.cumsum(counts) + counts, counts)
        found: Array = order[offsets + np.arange(counts.sum())]
        return found

    return find


def _endless(outcomes: Outcomes, allowed: Array, num_actions: int) -> Array:
    """The endless pairs of state and action [S·A] bool, among `allowed` pairs only."""
    rows, kept = _rows(outcomes, num_actions), allowed.copy()
    kept[rows[outcomes.terminated]] = False
    num_states = kept.size // num_actions
    before = _predecessor_search(outcomes.next_states, num_states)
    alive = np.ones(num_states, np.bool_)
    while True:
        lost = np.flatnonzero(alive & ~kept.reshape(num_states, num_actions).any(axis=1))
        if not lost.size:
            return kept
        alive[lost] = False
        kept[rows[before(lost)]] = False


def _sweep_for_growth(outcomes: Outcomes, rewards: Array) -> int | None:
    """Find a state whose undiscounted value grows without limit under the best actions.

    Args:
        outcomes: Of endless pairs of state and action.
        rewards: E[r | s, a] [S, A], with -inf for every other pair.

    Returns:
        Such a state, or None.
    """
    rows = _rows(outcomes, rewards.shape[1])
    alive = np.isfinite(rewards).any(axis=1)
    num_alive, tolerance = int(alive.sum()), 1e-9 * rewards.max()
    most = min(MOST_SWEEPS, MOST_LOOKUPS // rows.size)
    # A random walk needs about the square of its number of states to go from one end to the other.
    least = min(max(1_024, num_alive**2), most)
    values, largest = np.zeros(len(rewards)), []
    for sweep in range(1, most + 1):
        weighted = outcomes.probabilities * values[outcomes.next_states]
        after = np.bincount(rows, weighted, minlength=rewards.size).reshape(rewards.shape)
        growth = np.where(alive, (rewards + after).max(axis=1) - values, 0.0)
        largest.append(growth.max())
        if largest[-1] <= tolerance:
            return None
        is_due = sweep == most or (sweep >= least and sweep & (sweep - 1) == 0)
        if is_due and sweep >= 2 * num_alive and largest[-1] > 0.99 * largest[sweep // 2]:
            return int(growth.argmax())
        values += growth / 2  # half a step, because full steps can oscillate on a cycle
    return None


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

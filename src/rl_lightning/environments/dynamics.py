"""Reading, checking and folding the dynamics of an environment."""

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

# While loops are judged: together less than some ten seconds.
MOST_SWEEPS, MOST_LOOKUPS = 16_384, 1_000_000_000  # of all states, of successors


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


def check_repeats(env_id: str, outcomes: Outcomes, again: Outcomes) -> None:
    """Check that two environment copies have the same outcomes.

    Raises:
        ConfigurationError: If they differ: what was learned of one would be played in others.
    """
    if not all(map(np.array_equal, outcomes, again)):
        raise ConfigurationError(
            f"{env_id} has other dynamics in each environment copy, and a table holds those of one: "
            "fix what it draws at random with data.env_kwargs (FrozenLake-v1: map_name or desc)"
        )


def check_endings(env_id: str, outcomes: Outcomes, num_states: int) -> None:
    """Check that under γ = 1 no reward is collected where no episode can end.

    Walks back from the outcomes that terminate.

    Raises:
        ConfigurationError: Naming a state whose value would be infinite.
    """
    outcomes = _possible(outcomes)
    before = _leading_to(outcomes.next_states, num_states)
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
            "gamma 1 its value is infinite: take gamma < 1 or give it a terminal state"
        )


def check_loops(env_id: str, outcomes: Outcomes, num_states: int, num_actions: int) -> None:
    """Check that under γ = 1 no policy earns for ever, so that the largest values are finite.

    A policy that stays for ever uses only actions that surely neither terminate nor lead to a
    state without such actions. Its mean reward is positive where all of these actions earn, and
    cannot be where none does. Else sweeps decide: the largest growth of the undiscounted values
    in a sweep never rises, and falls towards the largest mean reward (Puterman 1994, section
    8.5). Where `MOST_LOOKUPS` do not suffice for as many sweeps as states, the loops are accepted.

    Raises:
        ConfigurationError: Naming a state from which a policy earns for ever.
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
            "with gamma 1 its value is infinite: take gamma < 1, or give no positive reward on "
            "loops"
        )


def _possible(outcomes: Outcomes) -> Outcomes:
    possible = outcomes.probabilities > 0
    return Outcomes._make(column[possible] for column in outcomes)


def _leading_to(successors: Array, num_states: int) -> Callable[[Array], Array]:
    """A function of states that finds the outcomes whose `successors` [M] they are."""
    order = np.argsort(successors, kind="stable")
    first = np.searchsorted(successors, np.arange(num_states + 1), sorter=order)

    def find(states: Array) -> Array:
        counts = first[states + 1] - first[states]
        offsets = np.repeat(first[states] - np.cumsum(counts) + counts, counts)
        found: Array = order[offsets + np.arange(counts.sum())]
        return found

    return find


def _endless(outcomes: Outcomes, allowed: Array, num_actions: int) -> Array:
    """Which of the `allowed` pairs of state and action [S·A] a policy can take for ever."""
    rows, kept = _rows(outcomes, num_actions), allowed.copy()
    kept[rows[outcomes.terminated]] = False
    num_states = kept.size // num_actions
    before = _leading_to(outcomes.next_states, num_states)
    alive = np.ones(num_states, np.bool_)
    while True:
        lost = np.flatnonzero(alive & ~kept.reshape(num_states, num_actions).any(axis=1))
        if not lost.size:
            return kept
        alive[lost] = False
        kept[rows[before(lost)]] = False


def _sweep_for_growth(outcomes: Outcomes, rewards: Array) -> int | None:
    """The state whose undiscounted value grows without end under the best actions, if any.

    Args:
        outcomes: Of pairs that can be taken for ever.
        rewards: E[r | s, a] [S, A], -inf for every other pair.
    """
    rows = _rows(outcomes, rewards.shape[1])
    alive = np.isfinite(rewards).any(axis=1)
    num_alive, tolerance = int(alive.sum()), 1e-9 * rewards.max()
    most = min(MOST_SWEEPS, MOST_LOOKUPS // rows.size)
    least = min(max(1_024, num_alive**2), most)  # a walk from end to end takes the square
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
        values += growth / 2  # half a step, since values on a cycle may swing for ever
    return None


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

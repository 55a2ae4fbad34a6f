"""With γ = 1, loops of positive reward are refused, and no others."""

import time

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lightning.datamodules import TabularDataModule
from rl_lightning.environments.dynamics import check_loops, read_outcomes
from rl_lightning.environments.gridworld import GridWorld, Outcomes
from rl_lightning.runtime.errors import ConfigurationError


def outcomes_of(table):
    """Outcomes from rows of (state, action, probability, next state, reward, terminated)."""
    columns = zip(*sorted(table), strict=True)
    kinds = (np.int64, np.int64, np.float64, np.int64, np.float64, np.bool_)
    return Outcomes(*(np.array(c, k) for c, k in zip(columns, kinds, strict=True)))


def is_refused(table, num_states, num_actions):
    try:
        check_loops("test/Loops-v0", outcomes_of(table), num_states, num_actions)
    except ConfigurationError:
        return True
    return False


END = (1.0, 0, 0.0, True)


@pytest.mark.parametrize(
    ("name", "table", "refused"),
    [
        ("a state that pays for staying", [(0, 0, 1.0, 0, 1.0, False)], True),
        ("a state that costs", [(0, 0, 1.0, 0, -1.0, False)], False),
        ("a state for nothing", [(0, 0, 1.0, 0, 0.0, False)], False),
        ("a single reward", [(0, 0, 1.0, 0, 5.0, True)], False),
        ("maybe the end at every step", [(0, 0, 0.9, 0, 1, False), (0, 0, 0.1, 0, 1, True)], False),
        ("an end that never comes", [(0, 0, 1.0, 0, 1, False), (0, 0, 0.0, 0, 1, True)], True),
        ("gain and loss", [(0, 0, 1.0, 1, 1, False), (1, 0, 1.0, 0, -1, False)], False),
        ("more gain than loss", [(0, 0, 1.0, 1, 2, False), (1, 0, 1.0, 0, -1.9, False)], True),
        ("more loss than gain", [(0, 0, 1.0, 1, 1.9, False), (1, 0, 1.0, 0, -2, False)], False),
        (
            "a reward on the way to a state for nothing",
            [(0, 0, 1.0, 1, 9.0, False), (1, 0, 1.0, 1, 0.0, False)],
            False,
        ),
        (
            "even chances",
            [(0, 0, 0.5, 0, 1.0, False), (0, 0, 0.5, 0, -1.0, False)],
            False,
        ),
        (
            "better than even chances",
            [(0, 0, 0.5, 0, 1.1, False), (0, 0, 0.5, 0, -1.0, False)],
            True,
        ),
        (
            "a loop that only the other action closes",
            [
                *[(0, 0, 1.0, 1, 1.0, False), (0, 1, 1.0, 0, 0.0, True)],
                *[(1, 0, 1.0, 0, 0.0, True), (1, 1, 1.0, 0, -0.5, False)],
            ],
            True,
        ),
        (
            "a loop with a hole",
            [
                *[(0, 0, 0.99, 1, 1.0, False), (0, 0, 0.01, 0, 0.0, True)],
                (1, 0, 1.0, 0, -0.5, False),
            ],
            False,
        ),
    ],
)
def test_only_loops_of_positive_reward_are_refused(name, table, refused):
    num_states = 1 + max(max(row[0], row[3]) for row in table)
    num_actions = 1 + max(row[1] for row in table)
    for state in range(num_states):
        for action in range(num_actions):
            if not any(row[:2] == (state, action) for row in table):
                table = [*table, (state, action, *END)]
    assert is_refused(table, num_states, num_actions) == refused, name


def test_a_long_walk_with_mean_reward_zero_is_accepted():
    """A random walk with differences of a height as rewards: mean 0, but slow to converge."""
    last, height = 29, np.random.default_rng(0).normal(size=30).cumsum()
    table = [
        (state, 0, 0.5, next_state, height[next_state] - height[state], False)
        for state in range(last + 1)
        for next_state in (max(0, state - 1), min(last, state + 1))
    ]
    assert not is_refused(table, last + 1, 1)
    table[0] = (*table[0][:4], 0.5, False)  # staying at the lowest state has a positive reward
    assert is_refused(table, last + 1, 1)


@settings(max_examples=150, deadline=None)
@given(
    num_states=st.integers(1, 6),
    data=st.data(),
)
def test_deterministic_loops_are_refused_by_their_mean_reward(num_states, data):
    """The check agrees with the mean reward of every cycle of a small graph (Karp 1978)."""
    number = st.integers(0, num_states)  # the number of states stands for the end of the episode
    successors = data.draw(st.lists(st.tuples(number, number), min_size=num_states,
                                    max_size=num_states))  # fmt: skip
    paid = st.integers(-3, 3)
    rewards = data.draw(st.lists(st.tuples(paid, paid), min_size=num_states,
                                 max_size=num_states))  # fmt: skip
    table = [
        (state, action, 1.0, next_state % num_states, float(reward), next_state == num_states)
        for state in range(num_states)
        for action, (next_state, reward) in enumerate(
            zip(successors[state], rewards[state], strict=True)
        )
    ]
    # The largest sum of rewards in n steps, from each state to each other state.
    best = np.full((num_states, num_states), -np.inf)
    for state, _, _, next_state, reward, ended in table:
        if not ended:
            best[state, next_state] = max(best[state, next_state], reward)
    walks, earns = best, False
    for _ in range(num_states):
        earns |= bool((walks.diagonal() > 0).any())
        walks = (walks[:, :, None] + best[None]).max(axis=1)
    assert is_refused(table, num_states, 2) == earns


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "refused"),
    [
        ("FrozenLake-v1", {}, False),
        ("FrozenLake-v1", {"reward_schedule": (1, 0, 0.1)}, True),
        ("FrozenLake-v1", {"reward_schedule": (1, 0.5, 0)}, False),
        ("FrozenLake8x8-v1", {"is_slippery": False, "reward_schedule": (1, -1, 0.01)}, True),
        ("CliffWalking-v1", {}, False),
        ("Taxi-v4", {}, False),
        ("rl_lightning/GridWorld-v0", {}, False),
        ("rl_lightning/GridWorld-v0", {"step_reward": 0.5}, True),
        ("rl_lightning/GridWorld-v0", {"step_reward": 0.5, "slip": 0.4}, True),
        ("rl_lightning/GridWorld-v0", {"step_reward": 0.5, "size": [1, 3]}, True),
    ],
)
def test_environments_with_rewards_for_walking_need_a_discount(env_id, env_kwargs, refused):
    def make(gamma):
        return TabularDataModule(env_id, env_kwargs=env_kwargs, gamma=gamma)

    assert make(0.99).gamma == 0.99
    if not refused:
        assert make(1.0).gamma == 1
        return
    with pytest.raises(ConfigurationError, match="collect a positive reward for ever") as error:
        make(1.0)
    assert "\n" not in str(error.value)


def test_large_grids_are_checked_in_seconds():
    for step_reward in (-1.0, 1.0):
        outcomes = GridWorld(size=1000, step_reward=step_reward).transitions()
        began = time.perf_counter()
        if step_reward < 0:
            check_loops("grid", outcomes, 1_000_000, 4)
        else:
            with pytest.raises(ConfigurationError, match="for ever"):
                check_loops("grid", outcomes, 1_000_000, 4)
        assert time.perf_counter() - began < 20


def test_the_error_names_a_state_on_the_way_to_the_loop():
    lake = gym.make("FrozenLake-v1", reward_schedule=(1, 0, 0.1)).unwrapped
    outcomes = read_outcomes("FrozenLake-v1", lake, 16, 4)
    with pytest.raises(ConfigurationError, match="from state 0 a policy"):
        check_loops("FrozenLake-v1", outcomes, 16, 4)

"""The private attributes in which Gymnasium keeps the state of an episode."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.common import OrderEnforcing

from rl_lightning.lightning_adapter.environments import PRIVATE_STATE


def cartpole():
    return gym.make("CartPole-v1", disable_env_checker=True, max_episode_steps=3)


def layer(env, kind):
    while type(env) is not kind:
        env = env.env
    return env


@pytest.mark.parametrize("kind", [TimeLimit, OrderEnforcing])
def test_a_step_changes_nothing_else_of_a_wrapper(kind):
    """All that a wrapper changes between its making and its second step is in the table."""
    env = cartpole()
    wrapper = layer(env, kind)
    before = dict(vars(wrapper))
    env.reset(seed=0)
    env.step(0)
    env.step(1)
    changed = {name for name, value in vars(wrapper).items() if value is not before.get(name)}
    assert changed - {"env"} == {*PRIVATE_STATE[kind]}


def test_a_time_limit_ends_an_episode_by_its_count():
    env = cartpole()
    env.reset(seed=0)
    (name,) = PRIVATE_STATE[TimeLimit]
    setattr(layer(env, TimeLimit), name, 2)
    assert env.step(0)[3]


def test_a_vector_environment_resets_the_copies_that_it_has_noted():
    envs = SyncVectorEnv([cartpole] * 2)
    envs.reset(seed=0)
    (name,) = PRIVATE_STATE[SyncVectorEnv]
    setattr(envs, name, np.array([False, True]))
    before = envs.step(np.array([0, 0]))[0]
    assert [layer(env, TimeLimit)._elapsed_steps for env in envs.envs] == [1, 0]
    assert np.abs(before[1]).max() <= 0.05, "CartPole starts within ±0.05"

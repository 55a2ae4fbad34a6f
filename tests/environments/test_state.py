"""Episodes continue from a saved state, and unknown states are not saved."""

import io
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import SyncVectorEnv

import rl_lightning  # noqa: F401  registers GridWorld
from rl_lightning.environments.making import EnvironmentMaker
from rl_lightning.environments.state import read_state, write_state
from rl_lightning.runtime.errors import ConfigurationError

CLASSIC = [
    ("CartPole-v1", {}),
    ("CartPole-v1", {"vectorization_mode": "sync"}),
    ("CartPole-v1", {"sutton_barto_reward": True}),
    ("Acrobot-v1", {}),
    ("MountainCar-v0", {}),
    ("MountainCarContinuous-v0", {}),
    ("Pendulum-v1", {}),
]
TOY_TEXT = [
    ("FrozenLake-v1", {}),
    ("FrozenLake8x8-v1", {"is_slippery": False}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"fickle_passenger": True, "is_rainy": True}),
    ("Blackjack-v1", {}),
    ("rl_lightning/GridWorld-v0", {"slip": 0.3}),
]
ROBOTS = [
    *("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "HumanoidStandup-v5"),
    *("InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Pusher-v5", "Reacher-v5"),
    *("Swimmer-v5", "Walker2d-v5", "Ant-v4", "Reacher-v4"),
]


def plain(state):
    """The value after it was saved to a checkpoint and loaded."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_episodes_go_on(one, other, before=13, after=60):
    """Check that `other`, with the state of `one`, returns the same steps over several episodes."""
    one.action_space.seed(0)
    actions = [one.action_space.sample() for _ in range(before + after)]
    one.reset(seed=1)
    for action in actions[:before]:
        one.step(action)
    other.reset(seed=2)
    write_state(other, plain(read_state(one)))
    ends = 0
    for action in actions[before:]:
        came, expected = other.step(action)[:4], one.step(action)[:4]
        for theirs, ours in zip(came, expected, strict=True):
            np.testing.assert_array_equal(theirs, ours)
        ends += np.count_nonzero(expected[2] | expected[3])
    assert ends > 0


def made_twice(env_id, env_kwargs=None):
    maker = EnvironmentMaker(env_id, {"max_episode_steps": 10, **(env_kwargs or {})})
    return maker.make(3), maker.make(3)


@pytest.mark.parametrize("before", [10, 17], ids=["at an end", "within an episode"])
@pytest.mark.parametrize(("env_id", "env_kwargs"), CLASSIC + TOY_TEXT)
def test_episodes_of_gymnasium_go_on(env_id, env_kwargs, before):
    assert_episodes_go_on(*made_twice(env_id, env_kwargs), before)


@pytest.mark.parametrize("env_id", ROBOTS)
def test_episodes_of_robots_go_on(env_id):
    pytest.importorskip("mujoco")
    one, other = made_twice(env_id)
    assert_episodes_go_on(one, other)
    one.reset(seed=0)
    one.step(one.action_space.sample())
    write_state(other, plain(read_state(one)))
    assert one.envs[0].unwrapped.data.time == other.envs[0].unwrapped.data.time > 0


def test_the_fickle_taxi_keeps_its_planned_change_of_destination():
    maker = EnvironmentMaker("Taxi-v4", {"fickle_passenger": True, "fickle_probability": 1.0})
    one, other = maker.make(1), maker.make(1)
    one.reset(seed=0)
    one.envs[0].unwrapped.s = 16 + 1 * 100  # in the taxi, going to the red square
    other.reset(seed=0)
    other.envs[0].unwrapped.fickle_step = False
    write_state(other, plain(read_state(one)))
    (arrived,), (expected,) = other.step(np.array([0]))[0], one.step(np.array([0]))[0]
    assert arrived == expected
    assert arrived % 4 != 0


class Own(gym.Env):
    """Moves at random, with a state of values of many types."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Discrete(3)

    def __init__(self):
        self.position, self.seen, self.table = np.zeros(2), [], {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.seen, self.table = self.np_random.normal(size=2), [], {}
        return self.position, {}

    def step(self, action):
        self.position = self.position + self.np_random.normal(size=2) + int(action)
        self.seen.append((int(action), np.float32(self.position[0])))
        self.table[(int(action), "visits")] = len(self.seen)
        reward = float(self.seen[0][1]) + sum(self.table.values())
        return self.position, reward, len(self.seen) >= 7, False, {}

    def state_dict(self):
        return {
            "position": self.position,
            "seen": self.seen,
            "table": self.table,
            "array": np.float32(1),  # a key that the encoding uses itself
            "rng": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state):
        assert type(state["seen"][0]) is tuple
        assert type(state["seen"][0][1]) is type(state["array"]) is np.float32
        self.position, self.seen, self.table = state["position"], state["seen"], state["table"]
        self.np_random.bit_generator.state = state["rng"]


class Tired(gym.Wrapper):
    """A wrapper that lowers the reward more at each step, and has a `state_dict()`."""

    def __init__(self, env):
        super().__init__(env)
        self.steps = 0

    def step(self, action):
        self.steps += 1
        observation, reward, *rest = self.env.step(action)
        return observation, reward - self.steps, *rest

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def test_environments_and_wrappers_with_a_state_dict_go_on():
    def make():
        wrapped = lambda: Tired(gym.wrappers.TimeLimit(Own(), 5))  # noqa: E731
        return SyncVectorEnv([wrapped, wrapped])

    assert_episodes_go_on(make(), make())


class Counting(Own):
    """Has a Counter in its state, whose type a checkpoint cannot hold."""

    def state_dict(self):
        return {"table": Counter(self.table)}


class Holding(gym.Env):
    """An environment with state but without `state_dict()`."""

    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def __init__(self):
        self.counter = Counter()


class Heavier(CartPoleEnv):
    """A subclass of CartPole with more state."""

    def __init__(self):
        super().__init__()
        self.load = 0.0


class Forgetful(gym.Wrapper):
    """A wrapper with state but without `state_dict()`."""


@pytest.mark.parametrize(
    "make",
    [
        Holding,
        Heavier,
        lambda: Forgetful(Own()),
        lambda: Tired(Holding()),
        lambda: gym.wrappers.RecordEpisodeStatistics(CartPoleEnv()),
        lambda: gym.wrappers.TransformReward(CartPoleEnv(), abs),
        lambda: gym.make("FrozenLake-v1", map_name=None),  # each environment copy has its own map
    ],
)
def test_the_state_of_an_unknown_type_is_not_saved(make):
    envs = SyncVectorEnv([make])
    assert read_state(envs) is None


@pytest.mark.parametrize(
    ("package", "env_id"),
    [("Box2D", "LunarLander-v3"), ("minigrid", "minigrid:MiniGrid-DoorKey-5x5-v0")],
)
def test_the_state_of_another_package_is_not_saved(package, env_id):
    pytest.importorskip(package)
    envs = gym.make_vec(env_id, num_envs=2, vectorization_mode="sync")
    envs.reset(seed=0)
    assert read_state(envs) is None


@pytest.mark.filterwarnings("ignore:.*Async")
def test_the_state_of_asynchronous_environments_is_not_saved():
    envs = gym.make_vec("CartPole-v1", num_envs=1, vectorization_mode="async")
    envs.reset(seed=0)
    assert read_state(envs) is None
    envs.close()


@pytest.mark.parametrize(
    "value",
    [Counter("a"), {1, 2}, np.array(["a"]), np.array([None]), np.longdouble(1), gym.spaces.Space()],
)
def test_a_state_dict_that_no_checkpoint_can_hold_is_refused(value):
    env = Own()
    env.state_dict = lambda: {"deep": [{"down": value}]}
    with pytest.raises(ConfigurationError, match=r"state_dict\(\) of .*Own cannot") as error:
        read_state(env)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrap", [Tired, gym.wrappers.FlattenObservation, lambda env: Heavier()])
def test_a_state_of_another_kind_of_environment_is_refused(wrap):
    def make(wrap=lambda env: env):
        envs = SyncVectorEnv([lambda: wrap(CartPoleEnv())])
        envs.reset(seed=0)
        return envs

    with pytest.raises(ConfigurationError, match="use the same env_kwargs and wrappers"):
        write_state(make(wrap), plain(read_state(make())))


def test_a_state_does_not_change_with_its_environment():
    env = Own()
    env.reset(seed=0)
    state = read_state(env)
    before = repr(state)
    env.position += 1  # changes the arrays in place
    env.step(1)
    assert repr(state) == before

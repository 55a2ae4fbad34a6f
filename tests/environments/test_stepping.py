"""Conversion between spaces and tensors: dtypes, counting from 0, bounds and refusals."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Text,
    Tuple,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rl_lightning.environments.making import EnvironmentMaker, describe_spaces
from rl_lightning.environments.stepping import from_environment, to_environment
from rl_lightning.networks.bodies import make_body
from rl_lightning.runtime.errors import ConfigurationError, RunError

ANY_ACTION = Discrete(2)
ONE = Box(-1, 1, ())
DTYPES = [
    *(np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64),
    *(np.float16, np.float32, np.float64),
]


class SpacesEnv(gym.Env[Any, Any]):
    """Observes samples of a space and records its actions."""

    def __init__(self, observations: gym.Space[Any], actions: gym.Space[Any] = ANY_ACTION) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return self.observation_space.sample(), 0.0, False, False, {}


def describe(observations: gym.Space[Any] = ONE, actions: gym.Space[Any] = ANY_ACTION):
    return describe_spaces("test/Spaces-v0", observations, actions)


def network_sees(space: gym.Space[Any]):
    """Two samples of a space after `from_environment` and a network body without layers."""
    space.seed(0)
    samples = np.stack([space.sample(), space.sample()])
    environment = describe(space)
    tensors = torch.from_numpy(from_environment(space, samples))
    assert str(tensors.dtype) == f"torch.{environment['observation_dtype']}"
    assert tensors.shape[1:] == environment["observation_shape"]
    return samples, make_body(environment, "mlp", ())(tensors)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_observations_of_every_dtype_and_shape_reach_the_network(dtype, shape):
    space = Box(0, 1 if dtype is np.bool_ else 100, shape, dtype)
    samples, features = network_sees(space)
    # torch has few operations for other unsigned integers, and networks use float32.
    assert describe(space)["observation_dtype"] not in ("uint16", "uint32", "uint64", "float64")
    assert features.dtype == torch.float32
    expected = samples.reshape(2, -1).astype(np.float32) / (255 if dtype is np.uint8 else 1)
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
def test_the_largest_integers_stay_positive(dtype):
    largest = np.iinfo(dtype).max
    kept = from_environment(Box(0, largest, (1,), dtype), np.array([[largest]], dtype))
    assert kept.item() == pytest.approx(float(largest))


@pytest.mark.parametrize("space", [MultiBinary(3), MultiBinary((2, 3)), MultiDiscrete([3, 5, 2])])
def test_several_discrete_numbers_are_observed_as_numbers(space):
    samples, features = network_sees(space)
    assert features.tolist() == samples.reshape(2, -1).tolist()


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("start", [0, 5, -3])
def test_discrete_observations_count_from_zero_and_enter_one_hot(start, dtype):
    if start < 0 and dtype is np.uint8:
        start = 250  # 5 more numbers do not fit into a byte
    space = Discrete(5, start=start, dtype=dtype)
    assert describe(space)["num_observations"] == 5
    kept = from_environment(space, np.arange(start, start + 5).astype(dtype))
    assert kept.tolist() == [0, 1, 2, 3, 4]
    # They are indices into a table, and torch would use bytes as a mask.
    assert torch.arange(5)[torch.from_numpy(kept)].tolist() == [0, 1, 2, 3, 4]
    _, features = network_sees(space)
    assert features.sum(1).tolist() == [1, 1]
    assert features.shape == (2, 5)


def test_infinite_bounds_are_no_infinite_observations():
    space = Box(-np.inf, np.inf, (2,), np.float64)
    assert from_environment(space, np.ones((1, 2))).tolist() == [[1, 1]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_the_error_names_the_environment_copy_with_an_infinite_observation(wrong, dtype):
    space = Box(-np.inf, np.inf, (2, 2), dtype)
    observations = np.zeros((3, 2, 2), dtype)
    observations[1, 0, 1] = wrong
    with pytest.raises(RunError, match=f"copy 1 .* infinite or NaN in {space.dtype}"):
        from_environment(space, observations)


def test_numbers_too_large_for_float32_are_refused():
    with pytest.raises(RunError, match="infinite or NaN in float32"):
        from_environment(Box(-np.inf, np.inf, (1,), np.float64), np.full((1, 1), 1e300))


@pytest.mark.parametrize("start", [0, 1, -7])
def test_discrete_actions_count_from_their_start(start):
    space = Discrete(3, start=start)
    assert describe(actions=space)["num_actions"] == 3
    taken = to_environment(space, np.array([0, 1, 2]))
    assert taken.tolist() == [start, start + 1, start + 2]
    assert all(space.contains(action) for action in taken)


BOUNDS = [
    Box(-1.0, 3.0, (2, 3)),
    Box(-1.0, 3.0, ()),
    Box(-2.0, np.inf, (2,)),
    Box(np.array([-1, -5], np.float32), np.array([3, 7], np.float32)),
    Box(-1.0, 3.0, (2,), np.float64),
    Box(-1.0, 3.0, (2,), np.float16),
]


@pytest.mark.parametrize("space", BOUNDS)
@given(data=st.data())
def test_actions_are_clipped_into_their_space(space, data):
    numbers = npst.arrays(np.float32, (4, *space.shape), elements=st.floats(-1e9, 1e9, width=32))
    drawn = data.draw(numbers)
    taken = to_environment(space, drawn)
    assert all(space.contains(np.asarray(action)) for action in taken)
    inside = (drawn >= space.low) & (drawn <= space.high)
    np.testing.assert_array_equal(taken[inside], drawn[inside].astype(space.dtype))


def test_bounds_of_actions_are_flattened_in_the_spec():
    low, high = np.arange(-6, 0).reshape(2, 3), np.arange(1, 7).reshape(2, 3)
    environment = describe(actions=Box(low.astype(np.float32), high.astype(np.float32)))
    assert environment["action_shape"] == (2, 3)
    assert environment["action_low"] == [-6, -5, -4, -3, -2, -1]
    assert environment["action_high"] == [1, 2, 3, 4, 5, 6]
    assert environment["num_actions"] is None


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 3, (2,), np.int64),
        Box(0, 255, (), np.uint8),
        MultiDiscrete([3, 3]),
        MultiBinary(3),
        Dict(a=Discrete(2)),
        Tuple([Discrete(2), Discrete(2)]),
        Text(3),
        Sequence(Discrete(2)),
    ],
)
def test_other_action_spaces_are_refused_in_one_line(space):
    with pytest.raises(ConfigurationError, match=r"add a gymnasium\.ActionWrapper") as e:
        describe(actions=space)
    assert "\n" not in str(e.value)
    assert "test/Spaces-v0" in str(e.value)


class TwoSwitches(gym.ActionWrapper[Any, Any, Any]):
    """A wrapper as the error about MultiDiscrete actions advises."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.action_space = Discrete(9)

    def action(self, action: Any) -> Any:
        return np.array([action // 3, action % 3])


class CountOfEdges(gym.ObservationWrapper[Any, Any, Any]):
    """A wrapper as the error about Graph observations advises."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = Box(0, np.inf, ())

    def observation(self, observation: Any) -> Any:
        edges = observation.edges
        return np.float32(0 if edges is None else len(edges))


FLATTEN = "gymnasium.wrappers.FlattenObservation"
REFUSED = {
    "Dict": (Dict(a=Box(-1, 1, (2,)), b=Discrete(3)), ANY_ACTION, FLATTEN),
    "Tuple": (Tuple([Discrete(4), Box(0, 255, (2, 2), np.uint8)]), ANY_ACTION, FLATTEN),
    "Text": (Text(4), ANY_ACTION, FLATTEN),
    "Graph": (Graph(Box(0, 1, (1,)), None), ANY_ACTION, f"{__name__}.CountOfEdges"),
    "MultiDiscrete": (ONE, MultiDiscrete([3, 3]), f"{__name__}.TwoSwitches"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_following_the_advice_works(name):
    observations, actions, wrapper = REFUSED[name]
    env_id = f"test/{name}-v0"
    gym.register(env_id, lambda: SpacesEnv(observations, actions), disable_env_checker=True)
    with pytest.raises(ConfigurationError, match=r"data\.wrappers") as error:
        EnvironmentMaker(env_id).describe()
    assert (FLATTEN in str(error.value)) == (wrapper == FLATTEN)
    maker = EnvironmentMaker(env_id, wrappers=(wrapper,))
    environment = maker.describe()
    envs = maker.make(2)
    seen, _ = envs.reset(seed=0)
    kept = from_environment(envs.single_observation_space, seen)
    assert make_body(environment, "mlp", (4,))(torch.from_numpy(kept)).shape == (2, 4)
    last = np.array([environment["num_actions"] - 1] * 2)
    envs.step(to_environment(envs.single_action_space, last))
    del gym.registry[env_id]

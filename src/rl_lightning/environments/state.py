"""The state of environments, so that episodes go on after a resume.

An environment of one's own takes part by a `state_dict()` and a `load_state_dict(state)`, of
numbers, strings, lists, tuples, dicts, arrays and tensors, with its random generator's state.
Gymnasium's classic control, toy text and MuJoCo environments have adapters here. The state of
any other environment is unknown, and nothing is guessed: its episodes start anew at a resume.

A pickle would need less code, but a checkpoint must load with `weights_only=True`, so that a
checkpoint from elsewhere can run no code here.
"""

from collections.abc import Iterator
from typing import Any, Protocol, cast, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from gymnasium import wrappers
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.toy_text import BlackjackEnv, CliffWalkingEnv, FrozenLakeEnv, TaxiEnv
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers.common import OrderEnforcing, PassiveEnvChecker

from rl_lightning.runtime.errors import ConfigurationError

State = dict[str, Any]

# What changes between steps, beside the random generator.
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    CartPoleEnv: ("state", "steps_beyond_terminated"),
    CartPoleVectorEnv: ("state", "steps", "prev_done"),
    AcrobotEnv: ("state",),
    MountainCarEnv: ("state",),
    Continuous_MountainCarEnv: ("state",),
    PendulumEnv: ("state", "last_u"),
    FrozenLakeEnv: ("s", "lastaction"),
    CliffWalkingEnv: ("s", "lastaction"),
    TaxiEnv: ("s", "lastaction", "fickle_step", "taxi_orientation"),
    BlackjackEnv: ("player", "dealer"),
}
_MUJOCO_ATTRIBUTES = ("goal", "goal_pos", "cylinder_pos")  # of Reacher and Pusher
_WRAPPER_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    wrappers.TimeLimit: ("_elapsed_steps",),
    OrderEnforcing: ("_has_reset",),
    PassiveEnvChecker: ("checked_reset", "checked_step", "checked_render"),
    **dict.fromkeys(
        (
            wrappers.ClipAction,
            wrappers.ClipReward,
            wrappers.DiscretizeAction,
            wrappers.DiscretizeObservation,
            wrappers.DtypeObservation,
            wrappers.FilterObservation,
            wrappers.FlattenObservation,
            wrappers.GrayscaleObservation,
            wrappers.RescaleAction,
            wrappers.RescaleObservation,
            wrappers.ReshapeObservation,
            wrappers.ResizeObservation,
        ),
        (),
    ),
}


@runtime_checkable
class Stateful(Protocol):
    """An environment or wrapper that gives and takes its own state."""

    def state_dict(self) -> State:
        """Primitives and tensors, from which the episode goes on."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Go on where `state_dict` was called."""
        ...


class _UnknownTypeError(TypeError):
    """A value that a checkpoint cannot hold as what it is."""


def read_state(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> State | None:
    """The state of an environment, its copies and wrappers; None where a part is unknown.

    Raises:
        ConfigurationError: If a `state_dict()` holds what no checkpoint can.
    """
    parts = _read_parts(env)
    return None if parts is None else {"type": _type_name(env), **parts}


def write_state(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], state: State) -> None:
    """Bring a newly made and reset environment of the same kind into a state of `read_state`.

    Raises:
        ConfigurationError: If the environment or a wrapper is of another kind.
    """
    if state["type"] != _type_name(env):
        raise ConfigurationError(
            f"the checkpoint's episodes were played in {state['type']}, and here it is "
            f"{_type_name(env)}: make the environment as it was then (env_kwargs and wrappers)"
        )
    for name, value in state.items():
        if name == "own":
            cast(Stateful, env).load_state_dict(_decode(value))
        elif name == "copies":
            for copy, inner in zip(cast(SyncVectorEnv, env).envs, value, strict=True):
                write_state(copy, inner)
        elif name == "env":
            write_state(cast(gym.Wrapper[Any, Any, Any, Any], env).env, value)
        elif name == "mujoco":
            _write_mujoco(env, value)
        elif name == "np_random":
            env.np_random.bit_generator.state = _decode(value)
        elif name != "type":
            setattr(env, name, _decode(value))


def _read_parts(env: Any) -> State | None:
    if isinstance(env, gym.Wrapper):
        inner = read_state(env.env)
        own = _read_own(env) if isinstance(env, Stateful) else _read_wrapper(env)
        return None if own is None or inner is None else {**own, "env": inner}
    if isinstance(env, Stateful):
        return _read_own(env)
    if type(env) is SyncVectorEnv:
        copies = [read_state(copy) for copy in env.envs]
        return None if None in copies else {**_read(env, ("_autoreset_envs",)), "copies": copies}
    if type(env).__module__.startswith("gymnasium.envs.mujoco."):
        return {**_read_with_generator(env, _MUJOCO_ATTRIBUTES), "mujoco": _read_mujoco(env)}
    names = None if _has_random_map(env) else _ATTRIBUTES.get(type(env))
    return None if names is None else _read_with_generator(env, names)


def _has_random_map(env: Any) -> bool:
    """Whether this is a FrozenLake of a map that no other environment copy has."""
    if type(env) is not FrozenLakeEnv or env.spec is None:
        return False
    return env.spec.kwargs.get("desc") is None and env.spec.kwargs.get("map_name") is None


def _read_own(env: Stateful) -> State:
    try:
        own = _encode(env.state_dict())
    except _UnknownTypeError as error:
        raise ConfigurationError(
            f"state_dict() of {_type_name(env)} cannot be kept in a checkpoint ({error}): give "
            "numbers, strings, lists, tuples, dicts, arrays and tensors only"
        ) from error
    return {"own": own}


def _read_wrapper(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> State | None:
    names = _WRAPPER_ATTRIBUTES.get(type(wrapper))
    return None if names is None else _read(wrapper, names)


def _read(env: Any, names: tuple[str, ...]) -> State:
    return {name: _encode(getattr(env, name)) for name in names if hasattr(env, name)}


def _read_with_generator(env: Any, names: tuple[str, ...]) -> State:
    return {**_read(env, names), "np_random": _encode(env.np_random.bit_generator.state)}


def _type_name(env: Any) -> str:
    return f"{type(env).__module__}.{type(env).__qualname__}"


def _encode(value: Any) -> Any:
    """Primitives and tensors, from which `_decode` makes the same value, of the same types.

    Raises:
        _UnknownTypeError: If there are none: a subclass would come back as its base class.
    """
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(_encode(item) for item in value)
    if type(value) is dict:
        return {"items": [(_encode(key), _encode(item)) for key, item in value.items()]}
    if isinstance(value, np.ndarray | np.generic):
        # With its dtype, since a step computes in it.
        if value.dtype.isnative and value.dtype.kind in "biufc" and value.dtype != np.longdouble:
            array = torch.from_numpy(np.array(value))
            return {"array": array, "scalar": isinstance(value, np.generic)}
        raise _UnknownTypeError(f"it holds an array of {value.dtype}")
    raise _UnknownTypeError(f"it holds a {type(value).__name__}")


def _decode(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "items" in value:
        return {_decode(key): _decode(item) for key, item in value["items"]}
    array = value["array"].numpy().copy()
    return array[()] if value["scalar"] else array


def _read_mujoco(env: Any) -> State:
    """Every array of MuJoCo's data but those of contacts, which each step computes anew.

    More than `mj_getState` gives, because rewards read positions that the last step left.
    """
    data = env.unwrapped.data
    state: State = {"time": data.time}
    for name, empty in _arrays(type(data)(data.model)):
        array = getattr(data, name)
        if empty.size and array.shape == empty.shape:
            state[name] = torch.from_numpy(np.array(array))
    return state


def _arrays(data: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for name in dir(data):
        if not name.startswith("_") and isinstance(array := getattr(data, name), np.ndarray):
            yield name, array


def _write_mujoco(env: Any, state: State) -> None:
    data = env.unwrapped.data
    for name, value in state.items():
        if name == "time":
            data.time = value
        else:
            getattr(data, name)[...] = value.numpy()

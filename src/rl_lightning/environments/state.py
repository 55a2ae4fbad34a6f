"""Reads and writes the state of environments, so that episodes continue after a resume.

A user's environment needs `state_dict()` and `load_state_dict(state)` for this. The state consists
of numbers, strings, lists, tuples, dicts, arrays and tensors, and must include the state of the
random generator. Gymnasium's classic control, toy text and MuJoCo environments have adapters here.
For any other environment no state is saved, and new episodes start after a resume.

Environments are not pickled, because checkpoints are loaded with `weights_only=True`. So a
checkpoint from another source cannot run code.
"""

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
from gymnasium.wrappers.common import PassiveEnvChecker

from rl_lightning.lightning_adapter.environments import PRIVATE_STATE
from rl_lightning.runtime.errors import ConfigurationError

State = dict[str, Any]

# The attributes of environments and wrappers that change between steps. The state of an
# environment's random generator is saved as well.
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
    PassiveEnvChecker: ("checked_reset", "checked_step", "checked_render"),
    wrappers.ClipAction: (),
    wrappers.ClipReward: (),
    wrappers.DiscretizeAction: (),
    wrappers.DiscretizeObservation: (),
    wrappers.DtypeObservation: (),
    wrappers.FilterObservation: (),
    wrappers.FlattenObservation: (),
    wrappers.GrayscaleObservation: (),
    wrappers.RescaleAction: (),
    wrappers.RescaleObservation: (),
    wrappers.ReshapeObservation: (),
    wrappers.ResizeObservation: (),
    **PRIVATE_STATE,
}
_MUJOCO_ATTRIBUTES = ("goal", "goal_pos", "cylinder_pos")  # of Reacher and Pusher


@runtime_checkable
class Stateful(Protocol):
    """An environment or wrapper that can save and restore its own state."""

    def state_dict(self) -> State:
        """The state of the current episode, as primitives, arrays and tensors."""

    def load_state_dict(self, state: State) -> None:
        """Restore a state from `state_dict`."""


class _UnknownTypeError(TypeError):
    """A value whose type a checkpoint cannot hold."""


def read_state(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> State | None:
    """Read the state of an environment with its wrappers, or of all environment copies.

    Returns:
        The state, or None if a part of the environment is of an unknown type.

    Raises:
        ConfigurationError: If a `state_dict()` has a value that a checkpoint cannot hold.
    """
    state: State = {"type": _type_name(env)}
    names = _ATTRIBUTES.get(type(env))
    if type(env).__module__.startswith("gymnasium.envs.mujoco."):
        names, state["mujoco"] = _MUJOCO_ATTRIBUTES, _read_mujoco(env)
    if isinstance(env, Stateful):
        state["own"] = _read_own(env)
    elif names is None or _has_random_map(env):
        return None
    else:
        state |= {name: _encode(getattr(env, name)) for name in names if hasattr(env, name)}
    if isinstance(env, gym.Wrapper):
        state["env"] = read_state(env.env)
    elif isinstance(env, SyncVectorEnv):
        state["copies"] = [read_state(copy) for copy in env.envs]
    elif "own" not in state:
        state["np_random"] = _encode(env.np_random.bit_generator.state)
    inner = [state.get("env", {}), *state.get("copies", ())]
    return None if None in inner else state


def write_state(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], state: State) -> None:
    """Write a state from `read_state` into an environment of the same type that has been reset.

    Raises:
        ConfigurationError: If the environment or a wrapper is of another type.
    """
    if state["type"] != _type_name(env):
        raise ConfigurationError(
            f"the checkpoint's episodes are of {state['type']}, and the environment is now "
            f"{_type_name(env)}: use the same env_kwargs and wrappers as for the checkpoint"
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


def _has_random_map(env: Any) -> bool:
    """Whether this is a FrozenLake with a random map, which its state does not include."""
    if type(env) is not FrozenLakeEnv or env.spec is None:
        return False
    return env.spec.kwargs.get("desc") is None and env.spec.kwargs.get("map_name") is None


def _read_own(env: Stateful) -> Any:
    try:
        return _encode(env.state_dict())
    except _UnknownTypeError as error:
        raise ConfigurationError(
            f"state_dict() of {_type_name(env)} cannot be saved in a checkpoint ({error}): return "
            "numbers, strings, lists, tuples, dicts, arrays and tensors only"
        ) from error


def _type_name(env: Any) -> str:
    return f"{type(env).__module__}.{type(env).__qualname__}"


def _encode(value: Any) -> Any:
    """Convert a value to primitives and tensors, from which `_decode` restores value and type.

    Raises:
        _UnknownTypeError: If the type cannot be restored. Subclasses of the supported types are
            refused too, because they would be restored as their base class.
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
        # The dtype is kept, because the environment computes its next step in it.
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
    """Read all arrays of MuJoCo's data except those of contacts, which every step recomputes.

    This is more than `mj_getState` returns, because some rewards use positions that are left from
    the previous step.
    """
    data = env.unwrapped.data
    state: State = {"time": data.time}
    initial = type(data)(data.model)
    for name in (each for each in dir(data) if not each.startswith("_")):
        array, first = getattr(data, name), getattr(initial, name)
        if isinstance(first, np.ndarray) and first.size and array.shape == first.shape:
            state[name] = torch.from_numpy(np.array(array))
    return state


def _write_mujoco(env: Any, state: State) -> None:
    data = env.unwrapped.data
    for name, value in state.items():
        if name == "time":
            data.time = value
        else:
            getattr(data, name)[...] = value.numpy()

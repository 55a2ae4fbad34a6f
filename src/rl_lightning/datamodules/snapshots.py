"""The state of environments as primitives and tensors, which a checkpoint may hold.

A pickle would do with less code, but a checkpoint must load with `weights_only=True`,
so that nobody else's checkpoint can run code here.
"""

import types
from collections import deque
from collections.abc import Iterator
from enum import Enum
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

Encoded = tuple[str, Any]  # what kind of value, and what it takes to build it again

_PRIMITIVES = (type(None), bool, int, float, str, bytes)
_CONSTANTS = (
    *(gym.Space, EnvSpec, Enum, type, partial, types.ModuleType),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType),
)
_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "deque": deque}


class UnreadableStateError(TypeError):
    """An environment keeps something whose state cannot be read."""


def read_state(env: Any) -> Encoded:
    """All that changes in an environment, wrappers and copies included.

    Raises:
        UnreadableStateError: If a part of it is of a type whose state is out of sight, such
            as a native emulator.
    """
    return _encode(env, type(env).__name__, {})


def write_state(env: Any, state: Encoded) -> None:
    """Bring a newly made and reset environment of the same kind into that state."""
    _decode(env, state, [])


def _encode(value: Any, name: str, seen: dict[int, tuple[int, Any]]) -> Encoded:
    if type(value) in _PRIMITIVES or _is_plain(value):
        return "value", value
    if isinstance(value, _CONSTANTS) or type(value).__name__ == "MjModel":
        return "constant", None
    if id(value) in seen:
        return "again", seen[id(value)][0]
    # With the value, so that it stays alive and its id its own.
    seen[id(value)] = (len(seen), value)
    if isinstance(value, np.ndarray | np.generic):
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return kind, _encode_array(np.asarray(value), name)
    if isinstance(value, np.random.Generator | np.random.RandomState):
        bits = value if isinstance(value, np.random.RandomState) else value.bit_generator
        state = bits.state if hasattr(bits, "state") else bits.get_state(legacy=False)
        return "generator", _encode(state, name, seen)
    if type(value).__name__ == "MjData":
        return "mujoco", _encode_mujoco(value)
    for kind, container in _CONTAINERS.items():
        if type(value) is container:
            return kind, [_encode(item, f"{name}[{i}]", seen) for i, item in enumerate(value)]
    if type(value) is dict:
        return "dict", [
            (_encode(key, name, seen), _encode(item, f"{name}[{key!r}]", seen))
            for key, item in value.items()
        ]
    if hasattr(value, "__dict__") and not _is_native(type(value)):
        attributes = sorted(vars(value).items())
        return "object", {k: _encode(item, f"{name}.{k}", seen) for k, item in attributes}
    raise UnreadableStateError(f"{name} is a {type(value).__module__}.{type(value).__qualname__}")


def _is_plain(value: Any) -> bool:
    """Whether it is a tuple of primitives alone, as tables of dynamics are full of."""
    return type(value) is tuple and all(type(item) in _PRIMITIVES for item in value)


def _encode_mujoco(data: Any) -> dict[str, Any]:
    """Every array of MuJoCo's state but those of contacts, which each step makes anew.

    More than `mj_getState` gives: rewards are computed from positions of the last step.
    """
    state: dict[str, Any] = {"time": data.time}
    for name, empty in _arrays(type(data)(data.model)):
        array = getattr(data, name)
        if empty.size and array.shape == empty.shape:
            state[name] = _encode_array(array, name)
    return state


def _arrays(data: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for name in dir(data):
        if not name.startswith("_") and isinstance(array := getattr(data, name), np.ndarray):
            yield name, array


def _is_native(kind: type) -> bool:
    """Whether a part of its instances lies outside of `__dict__`."""
    return any(
        "__slots__" in vars(base) or not base.__flags__ & 1 << 9  # Py_TPFLAGS_HEAPTYPE
        for base in kind.__mro__
        if base is not object and not base.__module__.startswith(("typing", "abc", "collections"))
    )


def _encode_array(array: np.ndarray[Any, Any], name: str) -> tuple[str, list[int], torch.Tensor]:
    if array.dtype.hasobject:
        raise UnreadableStateError(f"{name} is an array of Python objects")
    data = torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8) if array.size else None
    return array.dtype.str, list(array.shape), torch.empty(0) if data is None else data


def _decode_array(encoded: tuple[str, list[int], torch.Tensor]) -> np.ndarray[Any, Any]:
    dtype, shape, data = encoded
    return np.frombuffer(data.numpy().tobytes(), dtype).reshape(shape).copy()


def _decode(existing: Any, encoded: Encoded, seen: list[Any]) -> Any:
    """The value that `encoded` says, made of `existing` where it is to stay the same object."""
    kind, payload = encoded
    if kind == "value":
        return payload
    if kind == "constant":
        return existing
    if kind == "again":
        return seen[payload]
    place = len(seen)
    seen.append(existing)
    seen[place] = value = _build(kind, payload, existing, seen)
    return value


def _build(kind: str, payload: Any, existing: Any, seen: list[Any]) -> Any:
    if kind == "array":
        array = _decode_array(payload)
        # In place, since there may be views of it; but what were one array can be two by now.
        fits = isinstance(existing, np.ndarray) and existing.shape == array.shape
        if not fits or existing.dtype != array.dtype or any(existing is each for each in seen[:-1]):
            return array
        existing[...] = array
        return existing
    if kind == "scalar":
        return _decode_array(payload)[()]
    if kind == "generator":
        state = _decode(None, payload, seen)
        if existing is None:
            existing = np.random.Generator(getattr(np.random, state["bit_generator"])())
        if isinstance(existing, np.random.RandomState):
            existing.set_state(state)
        else:
            existing.bit_generator.state = state
        return existing
    if kind == "mujoco":
        for name, array in payload.items():
            if name == "time":
                existing.time = array
            else:
                getattr(existing, name)[...] = _decode_array(array)
        return existing
    if kind == "object":
        attributes = vars(existing)
        for name in attributes.keys() - payload.keys():
            del attributes[name]
        for name, item in payload.items():
            attributes[name] = _decode(attributes.get(name), item, seen)
        return existing
    if kind == "dict":
        table = existing if isinstance(existing, dict) else {}
        pairs = ((_decode(None, key, seen), item) for key, item in payload)
        return {key: _decode(table.get(key), item, seen) for key, item in pairs}
    old = [*existing] if isinstance(existing, list | tuple | deque) else []
    old += [None] * (len(payload) - len(old))
    items = [_decode(was, item, seen) for was, item in zip(old, payload, strict=False)]
    if kind == "deque":
        return deque(items, existing.maxlen if isinstance(existing, deque) else None)
    return _CONTAINERS[kind](items)

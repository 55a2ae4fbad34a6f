"""Converts observations and actions between Gymnasium's spaces and the arrays of networks."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.runtime.errors import ConfigurationError, RunError

Array = npt.NDArray[Any]

# Dtypes that are converted when an observation arrives. Networks compute in float32, so float64
# would waste memory. torch has few operations for unsigned integers other than uint8, and int64
# cannot hold all values of uint64. All other dtypes, above all uint8, are kept.
_CONVERTED: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float64): np.dtype(np.float32),
    np.dtype(np.longdouble): np.dtype(np.float32),
    np.dtype(np.uint16): np.dtype(np.int32),
    np.dtype(np.uint32): np.dtype(np.int64),
    np.dtype(np.uint64): np.dtype(np.float32),
}


def tensor_dtype(space: gym.Space[Any]) -> np.dtype[Any]:
    """The dtype that observations of a space have in rollouts and tensors."""
    if isinstance(space, Discrete):
        return np.dtype(np.int64)  # as an index into a table must be
    dtype: np.dtype[Any] = np.dtype(space.dtype)
    return _CONVERTED.get(dtype, dtype)


def from_environment(space: gym.Space[Any], observations: Array) -> Array:
    """Convert observations [N, ...] to `tensor_dtype`; Discrete ones are then counted from 0.

    Raises:
        RunError: If an observation is infinite, NaN, or not an element of a Discrete space.
    """
    if isinstance(space, Discrete):
        # Cast first, because the difference may overflow in the dtype of the space.
        counted = observations.astype(np.int64, copy=False) - space.start
        outside = (counted < 0) | (counted >= space.n)
        if outside.any():
            copy = int(outside.argmax())
            raise RunError(
                f"environment copy {copy} returned the observation {observations[copy]}, which is "
                f"not in its space {space}: make observation_space include all observations"
            )
        return counted
    kept = cast(observations, tensor_dtype(space))
    if kept.dtype.kind == "f" and not is_finite(kept):
        copy = int(np.argwhere(~np.isfinite(kept))[0][0])
        raise RunError(
            f"environment copy {copy} returned an observation that is infinite or NaN in "
            f"{kept.dtype}: clip or replace such values in a wrapper (data.wrappers)"
        )
    return kept


def is_finite(values: Array) -> bool:
    """Whether no value is infinite or NaN.

    The sum of squares is finite only if all values are, and takes a fourth of the time of
    `np.isfinite`, which is needed only where the sum overflows.
    """
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def cast(values: Array, dtype: npt.DTypeLike) -> Array:
    """Convert values to another dtype; those that are too large for it become infinite."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def to_environment(space: gym.Space[Any], actions: Array) -> Array:
    """Convert a policy's actions [N, ...] to elements of the environment's action space.

    Box actions are clipped to the bounds. Discrete actions, which policies count from 0, are
    counted from the start of the space. Rollouts keep the unclipped action, because the loss needs
    its log-probability.
    """
    if isinstance(space, Box):
        return np.clip(actions, space.low, space.high).astype(space.dtype, copy=False)
    if isinstance(space, Discrete):
        counted = actions + space.start if space.start else actions
        return counted.astype(space.dtype, copy=False)
    return actions


def describe_spaces(
    env_id: str, observations: gym.Space[Any], actions: gym.Space[Any]
) -> EnvironmentSpec:
    """Describe an environment's spaces for modules.

    Raises:
        ConfigurationError: If no module here can use them. The message says what to change.
    """
    if not isinstance(observations, Box | Discrete | MultiBinary | MultiDiscrete):
        raise ConfigurationError(
            f"{env_id} has the observation space {type(observations).__name__}, and networks here "
            f"need arrays of numbers: {_advice_on(observations)}"
        )
    if not _is_usable_action(actions):
        raise ConfigurationError(
            f"{env_id} has the action space {actions}, and policies here need Discrete actions or "
            "a Box of real numbers: add a gymnasium.ActionWrapper to data.wrappers that converts "
            "to one of these"
        )
    box = actions if isinstance(actions, Box) else None
    return EnvironmentSpec(
        env_id=env_id,
        observation_shape=tuple(observations.shape or ()),
        observation_dtype=str(tensor_dtype(observations)),
        num_observations=_count(observations),
        action_shape=tuple(actions.shape or ()),
        num_actions=_count(actions),
        action_low=None if box is None else box.low.ravel().astype(float).tolist(),
        action_high=None if box is None else box.high.ravel().astype(float).tolist(),
    )


def _advice_on(observations: gym.Space[Any]) -> str:
    try:
        flattened = isinstance(gym.spaces.flatten_space(observations), Box)
    except NotImplementedError:
        flattened = False
    if flattened:
        return "flatten it with --data.wrappers '[gymnasium.wrappers.FlattenObservation]'"
    return (
        "add a gymnasium.ObservationWrapper to data.wrappers that converts it to an array "
        "(FlattenObservation cannot)"
    )


def _is_usable_action(space: gym.Space[Any]) -> bool:
    if isinstance(space, Box):
        return np.dtype(space.dtype).kind == "f"
    return isinstance(space, Discrete)


def _count(space: gym.Space[Any]) -> int | None:
    return int(space.n) if isinstance(space, Discrete) else None

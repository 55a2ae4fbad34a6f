"""Resets, steps and renders environment copies, with one-line errors.

Observations and actions are converted between Gymnasium's spaces and the arrays of networks.

An error in an environment's own code ends the run. So do infinite and NaN observations or rewards,
and arrays of a wrong shape.
"""

import math
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, VectorEnv

from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line

Array = npt.NDArray[Any]
Envs = VectorEnv[Any, Any, Any]
Answer = TypeVar("Answer")

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


class Step(NamedTuple):
    """The result of one step of N environment copies."""

    observations: Array  # [N, *observation_shape], converted by `from_environment`
    rewards: Array  # [N], raw
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    infos: Mapping[str, Any]


def reset(envs: Envs, seed: int) -> Array:
    """Start a new episode in every environment copy.

    Returns:
        Observations [N, *observation_shape], converted by `from_environment`.

    Raises:
        RunError: If the environment's code fails, or an observation cannot be used.
    """
    observations, _ = _call(envs, "reset", envs.reset, seed=seed)
    return _observed(envs, observations)


def step(envs: Envs, actions: Array) -> Step:
    """Take the policy's actions [N, *action_shape], one in each environment copy.

    Raises:
        RunError: If the environment's code fails, or an observation or reward cannot be used.
    """
    taken = to_environment(envs.single_action_space, actions)
    arrived, rewards, terminated, truncated, infos = _call(envs, "step", envs.step, taken)
    each = {"rewards": rewards, "terminated": terminated, "truncated": truncated}
    for name, values in each.items():
        _check_shape(envs, name, values, (envs.num_envs,))
    kept = cast(rewards, np.float32)
    if not is_finite(kept):
        copy = int(np.isfinite(kept).argmin())
        raise RunError(
            f"environment copy {copy} returned the reward {rewards[copy]}, which is not finite in "
            "float32: clip or replace such rewards in a wrapper (data.wrappers)"
        )
    return Step(
        observations=_observed(envs, arrived),
        rewards=rewards,
        terminated=terminated.astype(np.bool_, copy=False),
        truncated=truncated.astype(np.bool_, copy=False),
        infos=infos,
    )


def render(envs: Envs) -> Array:
    """The rendered frame [H, W, 3] uint8 of the first environment copy.

    Raises:
        RunError: If the environment's code fails, or returns no frame.
    """
    drawn = _call(envs, "render", envs.render)
    if not drawn or drawn[0] is None:
        raise RunError(f"render() of {_name(envs)} returned no frame: make it return an RGB array")
    return np.asarray(drawn[0])


def _call(
    envs: Envs, what: str, method: Callable[..., Answer], *args: Any, **kwargs: Any
) -> Answer:
    try:
        return method(*args, **kwargs)
    except (ConfigurationError, RunError):
        raise
    except Exception as error:  # the environment's code may raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}"
        if isinstance(envs, AsyncVectorEnv):
            where = "use --data.env_kwargs.vectorization_mode sync to see the line"
        raise RunError(
            f"{_name(envs)} raised {type(error).__name__} in {what}: "
            f"{one_line(str(error)) or 'no message'} ({where}): correct the code of the "
            "environment or of a wrapper"
        ) from error


def _observed(envs: Envs, observations: Any) -> Array:
    space = envs.single_observation_space
    _check_shape(envs, "observations", observations, (envs.num_envs, *(space.shape or ())))
    return from_environment(space, observations)


def _check_shape(envs: Envs, name: str, values: Any, expected: tuple[int, ...]) -> None:
    given = getattr(values, "shape", None)
    if given != expected:
        raise RunError(
            f"{_name(envs)} returned {name} of shape {given} for {envs.num_envs} environment "
            f"copies, not {expected}: its step() and reset() must fit its spaces"
        )


def _name(envs: Envs) -> str:
    return "the environment" if envs.spec is None else envs.spec.id


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

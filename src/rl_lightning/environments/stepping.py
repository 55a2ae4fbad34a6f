"""Resets, steps and renders environment copies, with one-line errors.

An error in an environment's own code ends the run. So do infinite and NaN observations or rewards,
and arrays of a wrong shape.
"""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, VectorEnv

from rl_lightning.environments.spaces import (
    cast,
    from_environment,
    is_finite,
    to_environment,
)
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line

Array = npt.NDArray[Any]
Envs = VectorEnv[Any, Any, Any]
Answer = TypeVar("Answer")


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
    copies = (envs.num_envs,)
    _check_shape(envs, "rewards", rewards, copies)
    _check_shape(envs, "terminated", terminated, copies)
    _check_shape(envs, "truncated", truncated, copies)
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

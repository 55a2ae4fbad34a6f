"""Resetting and stepping environment copies, and saying in one line what goes wrong in them.

What an environment's own code raises, and values that nothing can be learned from, end the run.
"""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, VectorEnv

from rl_lightning.environments.spaces import from_environment, to_environment
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line

Array = npt.NDArray[Any]
Envs = VectorEnv[Any, Any, Any]
Answer = TypeVar("Answer")


class Step(NamedTuple):
    """What one step of N environment copies gave."""

    observations: Array  # [N, *observation_shape], as networks take them
    rewards: Array  # [N], raw
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    infos: Mapping[str, Any]


def reset(envs: Envs, seed: int) -> Array:
    """Start a new episode in every copy.

    Returns:
        Observations [N, *observation_shape], as networks take them.

    Raises:
        RunError: If the environment's code fails, or an observation cannot be used.
    """
    observations, _ = _call(envs, "reset", envs.reset, seed=seed)
    return _observed(envs, observations)


def step(envs: Envs, actions: Array) -> Step:
    """Take one action [N, *action_shape] in every copy, as a policy gives it.

    Raises:
        RunError: If the environment's code fails, or an observation or reward cannot be used.
    """
    taken = to_environment(envs.single_action_space, actions)
    arrived, rewards, terminated, truncated, infos = _call(envs, "step", envs.step, taken)
    for name, values in (
        ("rewards", rewards),
        ("terminated", terminated),
        ("truncated", truncated),
    ):
        _check_shape(envs, name, values, (envs.num_envs,))
    with np.errstate(over="ignore"):  # the error below says it
        finite = np.isfinite(rewards.astype(np.float32, copy=False))
    if not finite.all():
        copy = int(finite.argmin())
        raise RunError(
            f"environment copy {copy} gave the reward {rewards[copy]}: no return can be learned "
            "from it in float32; let a wrapper clip or replace such rewards"
        )
    return Step(
        observations=_observed(envs, arrived),
        rewards=rewards,
        terminated=terminated.astype(np.bool_, copy=False),
        truncated=truncated.astype(np.bool_, copy=False),
        infos=infos,
    )


def render(envs: Envs) -> Array:
    """The picture [H, W, 3] uint8 of the first copy.

    Raises:
        RunError: If the environment's code fails, or gives no picture.
    """
    drawn = _call(envs, "render", envs.render)
    if not drawn or drawn[0] is None:
        raise RunError(f"render() of {_name(envs)} gave no picture: let it give an RGB array")
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
            where = "--data.env_kwargs.vectorization_mode sync shows the line"
        raise RunError(
            f"{_name(envs)} raised {type(error).__name__} in {what}: "
            f"{one_line(str(error)) or 'no message'} ({where}): the fault is in the environment's "
            "code, or in a wrapper's"
        ) from error


def _observed(envs: Envs, observations: Any) -> Array:
    space = envs.single_observation_space
    _check_shape(envs, "observations", observations, (envs.num_envs, *(space.shape or ())))
    return from_environment(space, observations)


def _check_shape(envs: Envs, name: str, values: Any, expected: tuple[int, ...]) -> None:
    given = getattr(values, "shape", None)
    if given != expected:
        raise RunError(
            f"{_name(envs)} gave {name} of shape {given} for {envs.num_envs} copies, not "
            f"{expected}: its step() and reset() must give what its spaces promise"
        )


def _name(envs: Envs) -> str:
    return "the environment" if envs.spec is None else envs.spec.id

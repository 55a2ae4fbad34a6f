"""Making Gymnasium environments, and saying what is wrong when they cannot be made."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, VectorEnv

from rl_lightning.errors import ConfigurationError, one_line
from rl_lightning.experience import EnvironmentSpec

EnvKwargs = Mapping[str, Any]


def make_vector_env(env_id: str, num_envs: int, env_kwargs: EnvKwargs) -> VectorEnv[Any, Any, Any]:
    """Make `num_envs` copies, natively vectorised where Gymnasium knows such a version.

    Every vector environment here resets on the step after an episode's end.

    Raises:
        ConfigurationError: If the environment cannot be made, saying why.
    """
    envs = _make(env_id, num_envs=num_envs, **env_kwargs)
    mode = envs.metadata.get("autoreset_mode")
    if mode != AutoresetMode.NEXT_STEP:
        raise ConfigurationError(
            f"{env_id} resets in mode {mode}, and only {AutoresetMode.NEXT_STEP} is understood: "
            "choose another vector version through env_kwargs"
        )
    return envs


def make_rendered_env(env_id: str, env_kwargs: EnvKwargs) -> VectorEnv[Any, Any, Any]:
    """Make one copy whose `render()` gives the screen as an RGB array.

    Raises:
        ConfigurationError: If the environment cannot be made or drawn, saying why.
    """
    if not is_atari(env_id):
        env_kwargs = {"vectorization_mode": "sync", **env_kwargs}
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        # Left to itself MuJoCo tries a window first, and fails without a screen.
        os.environ.setdefault("MUJOCO_GL", "egl")
    envs = _make(env_id, num_envs=1, render_mode="rgb_array", **env_kwargs)
    try:
        envs.reset(seed=0)
        envs.render()
    except Exception as error:  # drawing libraries fail in many ways
        raise ConfigurationError(
            f"cannot draw {env_id}: {one_line(str(error))} (without a screen MuJoCo draws with "
            "EGL: install libegl1, or choose another with MUJOCO_GL)"
        ) from error
    return envs


def is_atari(env_id: str) -> bool:
    """Whether observations are stacks of frames, the newest last, as `FrameRing` needs them."""
    return env_id.startswith("ALE/")


def _make(env_id: str, **kwargs: Any) -> VectorEnv[Any, Any, Any]:
    try:
        if is_atari(env_id):
            from rl_lightning.datamodules.atari import make_atari

            return make_atari(env_id, **kwargs)
        return gym.make_vec(env_id, **kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise ConfigurationError(
            f"{env_id} needs a package that is not installed: {one_line(str(error))} "
            "(MuJoCo: pip install 'rl_lightning[mujoco]')"
        ) from error
    except ConfigurationError:
        raise
    except (gym.error.Error, TypeError, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"cannot make environment {env_id}: {one_line(str(error))}"
        ) from error


def describe(env_id: str, env_kwargs: EnvKwargs) -> EnvironmentSpec:
    """Read an environment's shapes from its spaces.

    Raises:
        ConfigurationError: If its spaces are of kinds that no module here can use.
    """
    envs = make_vector_env(env_id, 1, env_kwargs)
    observations, actions = envs.single_observation_space, envs.single_action_space
    envs.close()
    for what, space in (("observation", observations), ("action", actions)):
        if not isinstance(space, (gym.spaces.Box, gym.spaces.Discrete)):
            raise ConfigurationError(
                f"{env_id} has the {what} space {type(space).__name__}, and there are networks for "
                "Box and Discrete only: wrap it (gymnasium.wrappers.FlattenObservation, say) and "
                "register the wrapped environment under an id of its own"
            )
        if isinstance(space, gym.spaces.Discrete) and space.start != 0:
            raise ConfigurationError(
                f"{env_id} counts its {what}s from {space.start}: shift them to begin at 0"
            )
    return EnvironmentSpec(
        env_id=env_id,
        observation_shape=tuple(observations.shape or ()),
        num_observations=_count(observations),
        action_shape=tuple(actions.shape or ()),
        num_actions=_count(actions),
    )


def _count(space: gym.Space[Any]) -> int | None:
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else None

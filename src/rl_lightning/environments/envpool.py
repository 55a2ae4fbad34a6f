"""Environments in EnvPool, an engine that steps the environment copies in threads of C++.

It has no Python between the environment copies, so robots step about twice as fast as in
Gymnasium. It is used for training. Evaluation is always in Gymnasium's own environments.

Source: Weng et al. 2022, "EnvPool: A Highly Parallel Reinforcement Learning Environment Execution
Engine".
"""

import copy
import difflib
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import TransformObservation

from rl_lightning.environments.making import EnvironmentMaker, is_atari
from rl_lightning.environments.spaces import describe_spaces
from rl_lightning.environments.stepping import reset
from rl_lightning.experience import EnvironmentSpec
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line

Array = npt.NDArray[Any]
Envs = VectorEnv[Any, Any, Any]
Step = tuple[Array, Array, Array, Array, dict[str, Any]]

# Arguments of Gymnasium's robots that change their pictures only. Training draws none.
_PICTURES = ("camera_id", "camera_name", "default_camera_config", "height", "render_mode", "width")
# EnvPool's names of arguments of ALE's vector environment.
_ATARI_NAMES = {"frameskip": "frame_skip", "grayscale": "gray_scale"}


class PooledEnvs(VectorEnv[Any, Any, Any]):
    """N environment copies of EnvPool, which reset on the step after the end (NEXT_STEP).

    EnvPool takes its seed when it is made, and not at a reset. So `reset(seed=…)` makes it again,
    which takes 60 ms for 16 robots.

    As in `AtariGames`, `infos["life_lost"]` [N] bool marks lives of an Atari game that are lost
    while the episode continues, if `reports_lives`.

    Args:
        make: `envpool.make` with all arguments but the seed.
        reports_lives: Whether to set `infos["life_lost"]`.
        spec: Gymnasium's spec of the environment, which has its time limit.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        reports_lives: bool = False,
        spec: gym.envs.registration.EnvSpec | None = None,
    ) -> None:
        self._make = make
        self._reports_lives = reports_lives
        with _without_rounding_warnings():
            self._pool = make(seed=0)
            self.single_observation_space = self._pool.single_observation_space
            self.single_action_space = self._pool.single_action_space
            self.num_envs = len(self._pool)
            # EnvPool gives one copy's spaces under these names. Gymnasium's wrappers expect all.
            self.observation_space = batch_space(self.single_observation_space, self.num_envs)
            self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.spec = spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start a new episode in every environment copy."""
        with _without_rounding_warnings():
            if seed is not None:
                self._pool = self._make(seed=seed)
            observations, infos = self._pool.reset()
        if self._reports_lives:
            self._lives = infos["lives"]
        return observations, infos

    def step(self, actions: Array) -> Step:
        """Take one environment step in every environment copy."""
        observations, rewards, terminated, truncated, infos = self._pool.step(actions)
        if self._reports_lives:
            infos["life_lost"] = (infos["lives"] < self._lives) & ~terminated
            self._lives = infos["lives"]
        return observations, rewards, terminated, truncated, infos


@contextmanager
def _without_rounding_warnings() -> Iterator[None]:
    """Hide Gymnasium's warnings about EnvPool's spaces, which round float64 bounds to float32."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*precision lowered by casting")
        yield


def make_pooled(
    maker: EnvironmentMaker,
    environment: EnvironmentSpec,
    num_envs: int,
    num_threads: int | None = None,
) -> Envs:
    """Make `num_envs` environment copies in EnvPool.

    Args:
        maker: Makes the same environment in Gymnasium.
        environment: The spaces of the environment in Gymnasium, with which those of EnvPool are
            compared, because agents are evaluated there.
        num_envs: N.
        num_threads: Threads that step the copies. The default is torch's number of threads,
            because environments and networks do not run at the same time.

    Raises:
        ConfigurationError: If EnvPool is not installed, does not have the environment or has
            another one under this id, or if an argument or a wrapper cannot be used with it.
    """
    try:
        import envpool
    except ImportError as error:
        raise ConfigurationError(
            "engine is envpool, and EnvPool is not installed: pip install 'rl_lightning[envpool]', "
            "or use engine gymnasium"
        ) from error
    env_id = maker.env_id.rpartition(":")[2].removeprefix("ALE/")
    if env_id not in (known := envpool.list_all_envs()):
        closest = difflib.get_close_matches(env_id, known, n=3, cutoff=0.0)
        raise ConfigurationError(
            f"EnvPool has no environment {env_id}: use engine gymnasium, or one of its ids, such "
            f"as {', '.join(closest)}"
        )
    kwargs = _pool_kwargs(maker)
    make = partial(
        envpool.make,
        env_id,
        env_type="gymnasium",
        num_envs=num_envs,
        num_threads=min(num_envs, num_threads or torch.get_num_threads()),
        **kwargs,
    )
    try:
        envs: Envs = PooledEnvs(make, *_lives_and_spec(maker, kwargs))
    except Exception as error:  # EnvPool raises many types of errors for its arguments
        raise ConfigurationError(
            f"EnvPool cannot make {env_id}: {one_line(str(error)) or type(error).__name__} "
            f"(data.env_kwargs is {dict(maker.env_kwargs)})"
        ) from error
    for path in maker.wrappers:
        envs = _vector_wrapper(path)(envs)
    _check_spaces(maker.env_id, envs, environment)
    try:
        reset(envs, seed=0)
    except RunError as error:  # such as an error in a wrapper
        raise ConfigurationError(str(error)) from error
    return envs


def _lives_and_spec(
    maker: EnvironmentMaker, kwargs: Mapping[str, Any]
) -> tuple[bool, gym.envs.registration.EnvSpec | None]:
    if is_atari(maker.env_id):
        return maker.env_kwargs.get("protocol", "nature") == "nature", None
    spec = copy.deepcopy(gym.spec(maker.env_id.rpartition(":")[2]))  # not the registered one
    if "max_episode_steps" in kwargs:
        spec.max_episode_steps = kwargs["max_episode_steps"]
    return False, spec


def _pool_kwargs(maker: EnvironmentMaker) -> dict[str, Any]:
    kwargs = {k: v for k, v in maker.env_kwargs.items() if k not in _PICTURES}
    if not is_atari(maker.env_id):
        kwargs.pop("vectorization_mode", None)
        return kwargs
    from rl_lightning.environments.atari import settings_of

    settings = settings_of(kwargs.pop("protocol", "nature"), kwargs)
    for name, pooled in _ATARI_NAMES.items():
        if name in settings:
            settings[pooled] = settings.pop(name)
    if (frames := settings.pop("max_num_frames_per_episode", None)) is not None:
        settings["max_episode_steps"] = frames // settings.get("frame_skip", 4)
    # EnvPool 1.2.5 crashes at noop_max 0. With 1 every episode starts with one no-op.
    return {**settings, "noop_max": max(1, settings["noop_max"])}


def _image_of(envs: Envs) -> Envs:
    space = cast(gym.spaces.Dict, envs.single_observation_space)["image"]
    return TransformObservation(
        envs,
        lambda observations: observations["image"],
        single_observation_space=space,
        observation_space=batch_space(space, envs.num_envs),
    )


# Wrappers of single environments, with a wrapper for vector environments that does the same.
_VECTOR_WRAPPERS: dict[str, Callable[[Envs], Envs]] = {"minigrid.wrappers.ImgObsWrapper": _image_of}


def _vector_wrapper(path: str) -> Callable[[Envs], Envs]:
    """The wrapper for vector environments that does the same as `path` does to single ones."""
    if path in _VECTOR_WRAPPERS:
        return _VECTOR_WRAPPERS[path]
    module, _, name = path.rpartition(".")
    vector = importlib.import_module("gymnasium.wrappers.vector")
    if module != "gymnasium.wrappers" or not hasattr(vector, name):
        raise ConfigurationError(
            f"wrappers names {path}, which is for single environments, and EnvPool has vector "
            "environments only: use engine gymnasium, or a wrapper of gymnasium.wrappers that is "
            "in gymnasium.wrappers.vector too"
        )
    found: Callable[[Envs], Envs] = getattr(vector, name)
    return found


def _check_spaces(env_id: str, envs: Envs, environment: EnvironmentSpec) -> None:
    """Compare the spaces of EnvPool with those of Gymnasium.

    Raises:
        ConfigurationError: If they differ.
    """
    found = describe_spaces(env_id, envs.single_observation_space, envs.single_action_space)
    for key, value in found.items():
        expected = environment[key]  # type: ignore[literal-required]
        if not (value == expected or _close(value, expected)):
            raise ConfigurationError(
                f"EnvPool's {env_id} has {key} {value}, and Gymnasium's, in which agents are "
                f"evaluated, has {expected}: use engine gymnasium, or make them equal with "
                "data.env_kwargs"
            )


def _close(one: Any, other: Any) -> bool:
    """Whether these are equal numbers up to rounding. EnvPool has float64 bounds."""
    if not (isinstance(one, list) and isinstance(other, list) and len(one) == len(other)):
        return False
    return bool(np.allclose(one, other))

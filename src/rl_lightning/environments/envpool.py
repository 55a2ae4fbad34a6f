"""Environments in EnvPool, an engine that steps the environment copies in threads of C++.

It has no Python between the environment copies, so robots step about twice as fast as in
Gymnasium. It is used for training. Evaluation is always in Gymnasium's own environments.

Source: Weng et al. 2022, "EnvPool: A Highly Parallel Reinforcement Learning Environment Execution
Engine".
"""

import difflib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import vector

from rl_lightning.environments.making import (
    LONGEST_EPISODE,
    EnvironmentMaker,
    describe_spaces,
    is_atari,
)
from rl_lightning.environments.stepping import Envs, reset
from rl_lightning.experience import EnvironmentSpec
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line

Array = npt.NDArray[Any]
Step = tuple[Array, Array, Array, Array, dict[str, Any]]

# Arguments of Gymnasium's robots that change their pictures only. Training draws none.
_PICTURES = ("camera_id", "camera_name", "default_camera_config", "height", "render_mode", "width")
# EnvPool's names of arguments of ALE's vector environment.
_ATARI_NAMES = {"frameskip": "frame_skip", "grayscale": "gray_scale"}


class PooledEnvs(VectorEnv[Any, Any, Any]):
    """N environment copies of EnvPool, which look like Gymnasium's, where agents are evaluated.

    They reset on the step after the end (NEXT_STEP). EnvPool differs in four ways, which are
    converted here:

    - It takes its seed when it is made. So `reset(seed=…)` makes it again, which takes 60 ms for
      16 robots.
    - After a reset it fills a stack of frames with the first one. Here they are 0, as in ale-py.
    - An episode that terminates at its time limit is only truncated there, and targets would
      bootstrap through its end. So the limit is applied here, and EnvPool has a longer one.
    - Its bounds of Box2D's observations are wrong. So Gymnasium's space is used.

    As in `AtariGames`, `infos["life_lost"]` [N] bool marks lives of an Atari game that are lost
    while the episode continues, if `reports_lives`.

    Args:
        make: `envpool.make` with all arguments but the seed.
        space: Gymnasium's space of one observation.
        time_limit: Steps after which an episode is truncated; None if EnvPool does it.
        has_frames: Whether an observation is a stack of frames, the newest last.
        reports_lives: Whether to set `infos["life_lost"]`.
        spec: Gymnasium's spec of the environment, which has its time limit.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        space: gym.Space[Any],
        time_limit: int | None = None,
        has_frames: bool = False,
        reports_lives: bool = False,
        spec: gym.envs.registration.EnvSpec | None = None,
    ) -> None:
        self._make = make
        self._time_limit = np.inf if time_limit is None else time_limit
        self._reports_lives = reports_lives
        with _without_rounding_warnings():
            self._pool = make(seed=0)
            own = self._pool.single_observation_space
            holds_the_same = is_space_dtype_shape_equiv(own, space)
            self.single_observation_space = space if holds_the_same else own
            self.single_action_space = self._pool.single_action_space
            self.num_envs = len(self._pool)
            # EnvPool gives one copy's spaces under these names. Gymnasium's wrappers expect all.
            self.observation_space = batch_space(self.single_observation_space, self.num_envs)
            self.action_space = batch_space(self.single_action_space, self.num_envs)
        # For each frame of a stack but the newest, by how many steps it is older than that.
        self._older = np.arange(own.shape[0] - 1, 0, -1) if has_frames else None
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
        self._is_due = np.zeros(self.num_envs, np.bool_)
        self._clear_old_frames(observations, infos["elapsed_step"])
        if self._reports_lives:
            self._lives = infos["lives"]
        return observations, infos

    def step(self, actions: Array) -> Step:
        """Take one environment step in every environment copy."""
        observations, rewards, terminated, truncated, infos = self._pool.step(actions)
        elapsed = infos["elapsed_step"]
        if self._is_due.any():
            # EnvPool's limit is longer, so these copies have taken one more step. It is dropped.
            copies = np.flatnonzero(self._is_due)
            first, begun = self._pool.reset(copies)
            _write(observations, copies, first)
            rewards[copies], terminated[copies], truncated[copies] = 0.0, False, False
            elapsed[copies] = 0
            if self._reports_lives:
                infos["lives"][copies] = begun["lives"]
        at_limit = elapsed >= self._time_limit
        truncated = truncated | at_limit
        self._is_due = at_limit & ~terminated  # EnvPool resets terminated copies itself
        self._clear_old_frames(observations, elapsed)
        if self._reports_lives:
            infos["life_lost"] = (infos["lives"] < self._lives) & ~terminated
            self._lives = infos["lives"]
        return observations, rewards, terminated, truncated, infos

    def _clear_old_frames(self, observations: Any, elapsed: Array) -> None:
        """Set frames of `observations` [N, stack, …] from before the last reset to 0."""
        if self._older is not None and (old := self._older > elapsed[:, None]).any():
            observations[:, :-1][old] = 0


def _write(observations: Any, copies: Array, values: Any) -> None:
    """Replace the observations of some environment copies."""
    if isinstance(observations, dict):
        for name, inner in observations.items():
            _write(inner, copies, values[name])
    else:
        observations[copies] = values


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
    kwargs, time_limit = _pool_kwargs(maker)
    make = partial(
        envpool.make,
        env_id,
        env_type="gymnasium",
        num_envs=num_envs,
        num_threads=min(num_envs, num_threads or torch.get_num_threads()),
        **kwargs,
    )
    unwrapped = replace(maker, wrappers=()).make(1)
    unwrapped.close()
    space, has_frames = unwrapped.single_observation_space, is_atari(maker.env_id)
    reports_lives = has_frames and maker.env_kwargs.get("protocol", "nature") == "nature"
    try:
        envs: Envs = PooledEnvs(make, space, time_limit, has_frames, reports_lives, unwrapped.spec)
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


def _pool_kwargs(maker: EnvironmentMaker) -> tuple[dict[str, Any], int | None]:
    """Arguments of `envpool.make`, and the time limit that `PooledEnvs` applies."""
    kwargs = {k: v for k, v in maker.env_kwargs.items() if k not in _PICTURES}
    if is_atari(maker.env_id):
        return _atari_kwargs(**kwargs)
    kwargs.pop("vectorization_mode", None)
    registered = gym.spec(maker.env_id.rpartition(":")[2]).max_episode_steps
    limit = kwargs.pop("max_episode_steps", registered)
    if registered is not None:
        kwargs["max_episode_steps"] = limit + 1
    elif "max_steps" in kwargs:  # MiniGrid's own limit, on which its rewards depend
        kwargs["max_episode_steps"] = kwargs.pop("max_steps")
    return kwargs, limit


def _atari_kwargs(
    protocol: Any = "nature", num_threads: int | None = None, **settings: Any
) -> tuple[dict[str, Any], int]:
    from rl_lightning.environments.atari import settings_of

    if num_threads is not None:
        raise ConfigurationError(
            f"env_kwargs.num_threads is {num_threads}, which is of engine gymnasium: use "
            "data.num_threads for engine envpool"
        )
    settings = settings_of(protocol, settings)
    for name, pooled in _ATARI_NAMES.items():
        if name in settings:
            settings[pooled] = settings.pop(name)
    frames = settings.pop("max_num_frames_per_episode", LONGEST_EPISODE * 4)
    limit = -(-frames // settings.get("frame_skip", 4))
    # ale-py draws 0 to noop_max - 1 no-ops. EnvPool draws 1 to noop_max, or one fewer if it presses
    # FIRE then, and it crashes at noop_max 0.
    noop_max = settings["noop_max"] - (not settings["use_fire_reset"])
    return {**settings, "noop_max": max(1, noop_max), "max_episode_steps": limit + 1}, limit


def _image_of(envs: Envs) -> Envs:
    space = cast(gym.spaces.Dict, envs.single_observation_space)["image"]
    return vector.TransformObservation(
        envs,
        lambda observations: observations["image"],
        single_observation_space=space,
        observation_space=batch_space(space, envs.num_envs),
    )


# Wrappers of single environments, with a wrapper for vector environments that does the same.
_VECTOR_WRAPPERS: dict[str, Callable[[Envs], Envs]] = {"minigrid.wrappers.ImgObsWrapper": _image_of}


def _vector_wrapper(path: str) -> Callable[[Envs], Envs]:
    """The wrapper for vector environments that does the same as `path` does to single ones."""
    module, _, name = path.rpartition(".")
    found: Callable[[Envs], Envs] | None = _VECTOR_WRAPPERS.get(path)
    if module == "gymnasium.wrappers":
        found = getattr(vector, name, None)
    if found is None:
        raise ConfigurationError(
            f"wrappers names {path}, which is for single environments, and EnvPool has vector "
            "environments only: use engine gymnasium, or a wrapper of gymnasium.wrappers that is "
            "in gymnasium.wrappers.vector too"
        )
    return found


def _check_spaces(env_id: str, envs: Envs, environment: EnvironmentSpec) -> None:
    """Compare the spaces of EnvPool with those of Gymnasium.

    Raises:
        ConfigurationError: If they differ.
    """
    found = describe_spaces(env_id, envs.single_observation_space, envs.single_action_space)
    for key, value in found.items():
        expected = environment[key]  # type: ignore[literal-required]
        if _rounded(value) != _rounded(expected):
            raise ConfigurationError(
                f"EnvPool's {env_id} has {key} {value}, and Gymnasium's, in which agents are "
                f"evaluated, has {expected}: use engine gymnasium, or make them equal with "
                "data.env_kwargs"
            )


def _rounded(value: Any) -> Any:
    """Bounds in float32, because EnvPool has float64 bounds; other values as they are."""
    return np.array(value, np.float32).tolist() if isinstance(value, list) else value

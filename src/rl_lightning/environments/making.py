"""Makes and describes Gymnasium environments, with one-line errors if one cannot be used."""

import os
import pkgutil
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_lightning.environments.stepping import Envs, reset, tensor_dtype
from rl_lightning.experience import EnvironmentSpec
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line

# The limit of ALE's benchmarks, 108,000 frames, in environment steps (Machado et al. 2018).
LONGEST_EPISODE = 27_000


@dataclass(frozen=True)
class EnvironmentMaker:
    """Makes all environments of one experiment, for training, evaluation and rendering."""

    env_id: str
    env_kwargs: Mapping[str, Any] = field(
        default_factory=dict
    )  # of `gymnasium.make_vec`, or of `AtariGames`
    wrappers: Sequence[str] = ()  # import paths of wrapper classes, the innermost first

    def __post_init__(self) -> None:
        """Refuse a render mode, which would be ignored in training.

        Raises:
            ConfigurationError: If the render mode is not the one of videos.
        """
        mode = self.env_kwargs.get("render_mode")
        if mode not in (None, "rgb_array"):
            raise ConfigurationError(
                f"env_kwargs has render_mode {mode}, and no environment is shown while it trains "
                "or is evaluated: leave it out, and see predict for videos"
            )

    def make(self, num_envs: int) -> Envs:
        """Make `num_envs` environment copies, as a native vector environment if there is one.

        The vector environment resets on the step after the end of an episode (NEXT_STEP).

        Raises:
            ConfigurationError: If the environment cannot be made. The message has the reason.
        """
        envs = self._make(num_envs=num_envs)
        mode = envs.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            envs.close()
            raise ConfigurationError(
                f"{self.env_id} resets in mode {mode}, and only {AutoresetMode.NEXT_STEP} is "
                "supported: choose it with data.env_kwargs"
            )
        return envs

    def make_single(self) -> gym.Env[Any, Any]:
        """Make one environment without a vector environment around it.

        Raises:
            ConfigurationError: If the environment cannot be made. The message has the reason.
        """
        envs = self._make(num_envs=1, vectorization_mode="sync")
        assert isinstance(envs, SyncVectorEnv)
        single: gym.Env[Any, Any] = envs.envs[0]
        return single

    def make_rendered(self) -> Envs:
        """Make one environment copy whose `render()` returns an RGB array.

        Raises:
            ConfigurationError: If the environment cannot be made or rendered. The message has the
                reason.
        """
        mode = {} if is_atari(self.env_id) else {"vectorization_mode": "sync"}
        if sys.platform == "linux" and "DISPLAY" not in os.environ:
            # By default MuJoCo opens a window, which fails without a screen, so choose EGL.
            os.environ.setdefault("MUJOCO_GL", "egl")
            if "WAYLAND_DISPLAY" not in os.environ:
                # pygame looks for a screen, and SDL prints an error line if there is none.
                os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        envs = self._make(num_envs=1, render_mode="rgb_array", **mode)
        try:
            envs.reset(seed=0)
            drawn = envs.render()
            if not drawn or drawn[0] is None:
                raise RunError("its render() returns no frame: make it return an RGB array")
        except Exception as error:  # rendering libraries raise many types of errors
            envs.close()
            reason = one_line(str(error) or type(error).__name__)
            if _family(self.env_id) == "mujoco":
                reason += (
                    " (without a screen MuJoCo renders with EGL: install libegl1, or choose "
                    "another backend with MUJOCO_GL)"
                )
            raise ConfigurationError(f"cannot render {self.env_id}: {reason}") from error
        return envs

    def describe(self) -> EnvironmentSpec:
        """Read an environment's shapes, dtypes and bounds from its spaces, and reset it once.

        Raises:
            ConfigurationError: If no module here can use its spaces, if its reset fails, or if no
                checkpoint can hold its state.
        """
        envs = self.make(1)
        try:
            spec = describe_spaces(
                self.env_id, envs.single_observation_space, envs.single_action_space
            )
            if not is_atari(self.env_id):  # an Atari reset is slow and is known to work
                from rl_lightning.environments.state import read_state

                reset(envs, seed=0)
                read_state(envs)
            return spec
        except RunError as error:
            raise ConfigurationError(str(error)) from error
        finally:
            envs.close()

    def _make(self, **kwargs: Any) -> Envs:
        kwargs = {**self.env_kwargs, **kwargs}
        wrappers = [_load_wrapper(path) for path in self.wrappers]
        if kwargs.get("vectorization_mode") == "async":
            wrappers.append(partial(_with_default_signals, os.getpid()))
        if wrappers:
            # Wrappers are for single environments, so a native vector environment cannot be used.
            kwargs = {"vectorization_mode": "sync", **kwargs, "wrappers": wrappers}
        try:
            if is_atari(self.env_id):
                return self._make_atari(**kwargs)
            with _without_model_deprecations(self.env_id):
                return gym.make_vec(self.env_id, **kwargs)
        except gym.error.DependencyNotInstalled as error:
            extra, advice = _family(self.env_id), one_line(str(error))
            if extra in ("mujoco", "box2d"):
                advice = f"pip install 'rl_lightning[{extra}]'"
            raise ConfigurationError(
                f"{self.env_id} needs a package that is not installed: {advice}"
            ) from error
        except ConfigurationError:
            raise
        except Exception as error:  # a constructor may raise anything
            raise ConfigurationError(
                f"cannot make environment {self.env_id}: "
                f"{one_line(str(error) or type(error).__name__)}"
            ) from error

    def _make_atari(self, **kwargs: Any) -> Envs:
        from rl_lightning.environments.atari import make_atari

        if self.wrappers:
            raise ConfigurationError(
                f"{self.env_id} runs in ALE's native vector environment, which cannot be wrapped: "
                "leave data.wrappers out"
            )
        return make_atari(self.env_id, **kwargs)


def describe_spaces(
    env_id: str, observations: gym.Space[Any], actions: gym.Space[Any]
) -> EnvironmentSpec:
    """Describe an environment's spaces for modules.

    Raises:
        ConfigurationError: If no module here can use them. The message says what to change.
    """
    if not isinstance(observations, Box | Discrete | MultiBinary | MultiDiscrete):
        advice = "flatten it with --data.wrappers '[gymnasium.wrappers.FlattenObservation]'"
        if not observations.is_np_flattenable:
            advice = (
                "add a gymnasium.ObservationWrapper to data.wrappers that converts it to an array "
                "(FlattenObservation cannot)"
            )
        raise ConfigurationError(
            f"{env_id} has the observation space {type(observations).__name__}, and networks here "
            f"need arrays of numbers: {advice}"
        )
    box = actions if isinstance(actions, Box) else None
    if not isinstance(actions, Discrete) and (box is None or np.dtype(box.dtype).kind != "f"):
        raise ConfigurationError(
            f"{env_id} has the action space {actions}, and policies here need Discrete actions or "
            "a Box of real numbers: add a gymnasium.ActionWrapper to data.wrappers that converts "
            "to one of these"
        )
    return EnvironmentSpec(
        env_id=env_id,
        observation_shape=tuple(observations.shape or ()),
        observation_dtype=str(tensor_dtype(observations)),
        num_observations=_number(observations),
        action_shape=tuple(actions.shape or ()),
        num_actions=_number(actions),
        action_low=None if box is None else box.low.ravel().astype(float).tolist(),
        action_high=None if box is None else box.high.ravel().astype(float).tolist(),
    )


def _number(space: gym.Space[Any]) -> int | None:
    return int(space.n) if isinstance(space, Discrete) else None


def longest_episode(envs: Envs) -> int:
    """Environment steps after which an evaluation cuts an episode off.

    This is the environment's own time limit, or `LONGEST_EPISODE` if it has none.
    """
    limit = None if envs.spec is None else envs.spec.max_episode_steps
    if envs.spec is not None:
        limit = envs.spec.kwargs.get("max_episode_steps", limit)
    return LONGEST_EPISODE if limit is None else int(limit)


def is_atari(env_id: str) -> bool:
    """Whether observations are stacks of frames with the newest last, as `FrameRing` needs."""
    return env_id.rpartition(":")[2].startswith("ALE/")


def _family(env_id: str) -> str | None:
    """The subpackage of `gymnasium.envs` that an environment is in, such as mujoco."""
    spec = gym.registry.get(env_id.rpartition(":")[2])
    found = re.match(r"gymnasium\.envs\.(\w+)", str(spec.entry_point)) if spec else None
    return found[1] if found else None


@contextmanager
def _without_model_deprecations(env_id: str) -> Iterator[None]:
    """Hide MuJoCo 4's deprecation warnings about Gymnasium's models.

    There would be one for each environment copy, and no user can do anything about them.
    """
    if _family(env_id) != "mujoco":
        yield
        return
    try:
        from mujoco import get_mju_user_warning, set_mju_user_warning
    except ImportError:  # it is not installed, or it is older than MuJoCo 4, which has the warning
        yield
        return
    before = get_mju_user_warning()

    def show(message: str) -> None:
        if "deprecated" not in message:
            warnings.warn(f"MuJoCo: {message}", stacklevel=2)

    set_mju_user_warning(show)
    try:
        yield
    finally:
        set_mju_user_warning(before)


def _with_default_signals(main_process: int, env: Any) -> Any:
    """Set the signal handlers of a worker of an asynchronous vector environment.

    A worker inherits the main process's handlers. The Trainer's handler ignores SIGTERM, so the
    worker would not stop at SIGTERM and the main process would wait for it for ever. SIGINT is
    sent to all processes, so workers ignore it, and the main process handles it alone.
    """
    if os.getpid() != main_process:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return env


def _load_wrapper(path: str) -> Callable[[Any], Any]:
    try:
        wrapper: Callable[[Any], Any] = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"wrappers names {path}, which cannot be imported ({one_line(str(error))}): give the "
            "import path of a wrapper class, such as gymnasium.wrappers.FlattenObservation"
        ) from error
    if not callable(wrapper):
        raise ConfigurationError(
            f"wrappers names {path}, which is not a class: give the import path of a wrapper class"
        )
    return wrapper

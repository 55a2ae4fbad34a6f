"""Between Gymnasium's spaces and tensors: dtypes, counting from 0, and bounds."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rl_lightning.experience import EnvironmentSpec
from rl_lightning.runtime.errors import ConfigurationError, RunError

Array = npt.NDArray[Any]

# Networks compute in float32, so float64 is halved on arrival. torch has few operations on
# unsigned integers other than bytes, and int64 cannot hold all of uint64. Every other dtype
# stays as it is, bytes above all.
_KEPT_AS: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float64): np.dtype(np.float32),
    np.dtype(np.longdouble): np.dtype(np.float32),
    np.dtype(np.uint16): np.dtype(np.int32),
    np.dtype(np.uint32): np.dtype(np.int64),
    np.dtype(np.uint64): np.dtype(np.float32),
}


def tensor_dtype(space: gym.Space[Any]) -> np.dtype[Any]:
    """The dtype in which observations of a space are kept."""
    if isinstance(space, Discrete):
        return np.dtype(np.int64)  # the index of a row in a table
    dtype: np.dtype[Any] = np.dtype(space.dtype)
    return _KEPT_AS.get(dtype, dtype)


def from_environment(space: gym.Space[Any], observations: Array) -> Array:
    """Observations [N, ...] as networks take them: in `tensor_dtype`, and counted from 0.

    Raises:
        RunError: If one is infinite, NaN, or no element of a Discrete space.
    """
    if isinstance(space, Discrete):
        # The dtype of the space may not hold the numbers counted from 0.
        counted = observations.astype(np.int64, copy=False) - space.start
        outside = (counted < 0) | (counted >= space.n)
        if outside.any():
            copy = int(outside.argmax())
            raise RunError(
                f"environment copy {copy} gave the observation {observations[copy]}, which is not "
                f"in its space {space}: its observation_space must hold all that it gives"
            )
        return counted
    with np.errstate(over="ignore"):  # the error below says it
        kept: Array = observations.astype(tensor_dtype(space), copy=False)
    if kept.dtype.kind == "f" and not np.isfinite(kept).all():
        copy = int(np.argwhere(~np.isfinite(kept))[0][0])
        raise RunError(
            f"environment copy {copy} gave an observation that is infinite or NaN in {kept.dtype}: "
            "no network can learn from it; let a wrapper clip or replace such numbers"
        )
    return kept


def to_environment(space: gym.Space[Any], actions: Array) -> Array:
    """Actions [N, ...] as the environment takes them: clipped to a Box, counted from its start.

    Rollouts keep the unclipped sample, because the loss needs the sample's log-probability.
    """
    if isinstance(space, Box):
        return np.clip(actions, space.low, space.high).astype(space.dtype, copy=False)
    if isinstance(space, Discrete):
        return (actions + space.start).astype(space.dtype, copy=False)
    return actions


def describe_spaces(
    env_id: str, observations: gym.Space[Any], actions: gym.Space[Any]
) -> EnvironmentSpec:
    """What modules must know of an environment's spaces.

    Raises:
        ConfigurationError: If no module here can use them, saying what to do.
    """
    if not isinstance(observations, Box | Discrete | MultiBinary | MultiDiscrete):
        raise ConfigurationError(
            f"{env_id} has the observation space {type(observations).__name__}, and networks here "
            f"take arrays of numbers: {_advice_on(observations)}"
        )
    if not _is_usable_action(actions):
        raise ConfigurationError(
            f"{env_id} has the action space {actions}, and policies here choose from Discrete "
            "actions or a Box of real numbers: give data.wrappers a gymnasium.ActionWrapper that "
            "makes it one of these"
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
        "give data.wrappers a gymnasium.ObservationWrapper that makes an array of it "
        "(FlattenObservation cannot)"
    )


def _is_usable_action(space: gym.Space[Any]) -> bool:
    if isinstance(space, Box):
        return np.dtype(space.dtype).kind == "f"
    return isinstance(space, Discrete)


def _count(space: gym.Space[Any]) -> int | None:
    return int(space.n) if isinstance(space, Discrete) else None

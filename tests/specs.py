"""Short definitions of environment specs."""

from rl_lightning.experience import EnvironmentSpec


def spec(
    env_id="test/Unnamed-v0",
    observation_shape=(4,),
    *,
    observation_dtype="float32",
    num_observations=None,
    action_shape=(),
    num_actions=None,
    bounds=1.0,
) -> EnvironmentSpec:
    """Without `num_actions` the actions are a Box with bounds ±`bounds`."""
    size = 1
    for length in action_shape:
        size *= length
    box = num_actions is None
    return EnvironmentSpec(
        env_id=env_id,
        observation_shape=tuple(observation_shape),
        observation_dtype=observation_dtype,
        num_observations=num_observations,
        action_shape=tuple(action_shape),
        num_actions=num_actions,
        action_low=[-bounds] * size if box else None,
        action_high=[bounds] * size if box else None,
    )

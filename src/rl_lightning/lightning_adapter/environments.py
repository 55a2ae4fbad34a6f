"""Private attributes of Gymnasium that change between the steps of an episode."""

from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.common import OrderEnforcing

PRIVATE_STATE: dict[type, tuple[str, ...]] = {
    TimeLimit: ("_elapsed_steps",),
    OrderEnforcing: ("_has_reset",),
    SyncVectorEnv: ("_autoreset_envs",),  # the environment copies that the next step resets
}

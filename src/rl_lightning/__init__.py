"""The algorithms of a lecture on deep reinforcement learning, as LightningModules."""

import gymnasium

__version__ = "0.1.0"

# The entry point is a string, so that the environment is imported only when it is first made.
gymnasium.register(
    id="rl_lightning/GridWorld-v0",
    entry_point="rl_lightning.environments.gridworld:GridWorld",
    max_episode_steps=1_000,
)

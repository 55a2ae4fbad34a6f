"""Environments: making, stepping and describing them, and saving their state."""

import gymnasium

# The entry point is a string, so that the environment is imported only when it is first made.
gymnasium.register(
    id="rl_lightning/GridWorld-v0",
    entry_point="rl_lightning.environments.gridworld:GridWorld",
    max_episode_steps=1_000,
)

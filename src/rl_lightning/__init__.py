"""The algorithms of a lecture on deep reinforcement learning, as LightningModules."""

__version__ = "0.1.0"

"""What learns: one file an algorithm."""

from rl_lightning.modules.dqn import DQN

__all__ = ["DQN"]

"""Optimizers that torch does not have."""

from rl_lightning.optimizers.rmsprop_tf import RMSpropTF

__all__ = ["RMSpropTF"]

"""Optimizers that are not in torch."""

from rl_lightning.optimizers.rmsprop_tf import RMSpropTF

__all__ = ["RMSpropTF"]

"""Where experience comes from."""

from rl_lightning.datamodules.replay import ReplayDataModule

__all__ = ["ReplayDataModule"]

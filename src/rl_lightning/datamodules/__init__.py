"""Datamodules: they collect or load the experience that modules learn from."""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.datamodules.alphago.expert_games import ExpertGamesDataModule
    from rl_lightning.datamodules.alphago.self_play import SelfPlayDataModule
    from rl_lightning.datamodules.alphago.self_play_positions import SelfPlayPositionsDataModule
    from rl_lightning.datamodules.mnist import MNISTDataModule
    from rl_lightning.datamodules.replay import ReplayDataModule
    from rl_lightning.datamodules.rollout import RolloutDataModule
    from rl_lightning.datamodules.tabular import TabularDataModule

__all__ = [
    "ExpertGamesDataModule",
    "MNISTDataModule",
    "ReplayDataModule",
    "RolloutDataModule",
    "SelfPlayDataModule",
    "SelfPlayPositionsDataModule",
    "TabularDataModule",
]

__getattr__ = on_first_use(__name__, __file__)

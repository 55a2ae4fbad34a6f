"""Datamodules: they collect or load the experience that modules learn from."""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.datamodules.alphago.expert_games import (
        ExpertGamesDataModule as ExpertGamesDataModule,
    )
    from rl_lightning.datamodules.alphago.self_play import SelfPlayDataModule as SelfPlayDataModule
    from rl_lightning.datamodules.alphago.self_play_positions import (
        SelfPlayPositionsDataModule as SelfPlayPositionsDataModule,
    )
    from rl_lightning.datamodules.mnist import MNISTDataModule as MNISTDataModule
    from rl_lightning.datamodules.replay import ReplayDataModule as ReplayDataModule
    from rl_lightning.datamodules.rollout import RolloutDataModule as RolloutDataModule
    from rl_lightning.datamodules.rollout_minibatches import (
        RolloutMinibatchDataModule as RolloutMinibatchDataModule,
    )
    from rl_lightning.datamodules.tabular import TabularDataModule as TabularDataModule

__getattr__, __all__ = on_first_use(__name__, __file__)

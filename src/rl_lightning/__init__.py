"""The algorithms of a lecture on deep reinforcement learning, as LightningModules.

Modules, datamodules and `make_trainer` are imported when they are first used.
"""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.datamodules import ExpertGamesDataModule as ExpertGamesDataModule
    from rl_lightning.datamodules import MNISTDataModule as MNISTDataModule
    from rl_lightning.datamodules import ReplayDataModule as ReplayDataModule
    from rl_lightning.datamodules import RolloutDataModule as RolloutDataModule
    from rl_lightning.datamodules import RolloutMinibatchDataModule as RolloutMinibatchDataModule
    from rl_lightning.datamodules import SelfPlayDataModule as SelfPlayDataModule
    from rl_lightning.datamodules import SelfPlayPositionsDataModule as SelfPlayPositionsDataModule
    from rl_lightning.datamodules import TabularDataModule as TabularDataModule
    from rl_lightning.modules import A2C as A2C
    from rl_lightning.modules import DQN as DQN
    from rl_lightning.modules import PPO as PPO
    from rl_lightning.modules import PQN as PQN
    from rl_lightning.modules import SAC as SAC
    from rl_lightning.modules import ConvolutionalClassifier as ConvolutionalClassifier
    from rl_lightning.modules import FullyConnectedClassifier as FullyConnectedClassifier
    from rl_lightning.modules import GameValue as GameValue
    from rl_lightning.modules import PolicyEvaluation as PolicyEvaluation
    from rl_lightning.modules import QLearning as QLearning
    from rl_lightning.modules import RecurrentAttentionModel as RecurrentAttentionModel
    from rl_lightning.modules import Reinforce as Reinforce
    from rl_lightning.modules import SelfPlayPolicy as SelfPlayPolicy
    from rl_lightning.modules import SupervisedPolicy as SupervisedPolicy
    from rl_lightning.modules import ValueIteration as ValueIteration
    from rl_lightning.trainer import make_trainer as make_trainer

__version__ = "0.1.0"
__getattr__, __all__ = on_first_use(__name__, __file__)

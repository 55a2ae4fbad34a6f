"""Modules: the learning algorithms, one file for each."""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.modules.a2c import A2C as A2C
    from rl_lightning.modules.alphago.game_value import GameValue as GameValue
    from rl_lightning.modules.alphago.self_play_policy import SelfPlayPolicy as SelfPlayPolicy
    from rl_lightning.modules.alphago.supervised_policy import SupervisedPolicy as SupervisedPolicy
    from rl_lightning.modules.dqn import DQN as DQN
    from rl_lightning.modules.ppo import PPO as PPO
    from rl_lightning.modules.pqn import PQN as PQN
    from rl_lightning.modules.recurrent_attention.image_classifiers import (
        ConvolutionalClassifier as ConvolutionalClassifier,
    )
    from rl_lightning.modules.recurrent_attention.image_classifiers import (
        FullyConnectedClassifier as FullyConnectedClassifier,
    )
    from rl_lightning.modules.recurrent_attention.ram import (
        RecurrentAttentionModel as RecurrentAttentionModel,
    )
    from rl_lightning.modules.reinforce import Reinforce as Reinforce
    from rl_lightning.modules.sac import SAC as SAC
    from rl_lightning.modules.tables.q_learning import QLearning as QLearning
    from rl_lightning.modules.tables.value_iteration import PolicyEvaluation as PolicyEvaluation
    from rl_lightning.modules.tables.value_iteration import ValueIteration as ValueIteration

__getattr__, __all__ = on_first_use(__name__, __file__)

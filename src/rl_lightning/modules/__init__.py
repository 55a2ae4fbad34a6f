"""Modules: the learning algorithms, one file for each."""

from typing import TYPE_CHECKING

from rl_lightning.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from rl_lightning.modules.a2c import A2C
    from rl_lightning.modules.alphago.game_value import GameValue
    from rl_lightning.modules.alphago.self_play_policy import SelfPlayPolicy
    from rl_lightning.modules.alphago.supervised_policy import SupervisedPolicy
    from rl_lightning.modules.dqn import DQN
    from rl_lightning.modules.recurrent_attention.image_classifiers import (
        ConvolutionalClassifier,
        FullyConnectedClassifier,
    )
    from rl_lightning.modules.recurrent_attention.ram import RecurrentAttentionModel
    from rl_lightning.modules.reinforce import Reinforce
    from rl_lightning.modules.sac import SAC
    from rl_lightning.modules.tables.q_learning import QLearning
    from rl_lightning.modules.tables.value_iteration import PolicyEvaluation, ValueIteration

__all__ = [
    "A2C",
    "DQN",
    "SAC",
    "ConvolutionalClassifier",
    "FullyConnectedClassifier",
    "GameValue",
    "PolicyEvaluation",
    "QLearning",
    "RecurrentAttentionModel",
    "Reinforce",
    "SelfPlayPolicy",
    "SupervisedPolicy",
    "ValueIteration",
]

__getattr__ = on_first_use(__name__, __file__)

"""Modules: the learning algorithms, one file for each."""

from rl_lightning.modules.a2c import A2C
from rl_lightning.modules.dqn import DQN
from rl_lightning.modules.game_value import GameValue
from rl_lightning.modules.image_classifiers import ConvolutionalClassifier, FullyConnectedClassifier
from rl_lightning.modules.q_learning import QLearning
from rl_lightning.modules.ram import RecurrentAttentionModel
from rl_lightning.modules.reinforce import Reinforce
from rl_lightning.modules.sac import SAC
from rl_lightning.modules.self_play_policy import SelfPlayPolicy
from rl_lightning.modules.supervised_policy import SupervisedPolicy
from rl_lightning.modules.value_iteration import PolicyEvaluation, ValueIteration

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

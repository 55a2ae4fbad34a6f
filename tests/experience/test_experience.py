"""What a protocol declares is compared with values and their types, and not only with names."""

import typing
from typing import Protocol

import pytest
from torch import nn

from rl_lightning import experience
from rl_lightning.callbacks import (
    ConfusionPicture,
    EpisodeWriter,
    ExperienceMonitor,
    GlimpsePictures,
    RenewPriorities,
    TargetNetwork,
    ValuePictures,
)
from rl_lightning.compatibility.pairs import check_pair
from rl_lightning.datamodules import (
    MNISTDataModule,
    ReplayDataModule,
    RolloutDataModule,
    RolloutMinibatchDataModule,
    SelfPlayDataModule,
    TabularDataModule,
)
from rl_lightning.experience import Transitions, unmet
from rl_lightning.modules import DQN, PPO, RecurrentAttentionModel, SelfPlayPolicy, ValueIteration
from rl_lightning.runtime.errors import ConfigurationError


class Having:
    """An object with some attributes."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


@pytest.fixture(scope="module")
def pairs():
    """Modules with datamodules that fit."""
    replay = ReplayDataModule("CartPole-v1", priority_exponent=0.5)
    table = TabularDataModule("FrozenLake-v1")
    minibatches = RolloutMinibatchDataModule("CartPole-v1", rollout_length=8)
    board = SelfPlayDataModule("tic_tac_toe", games_per_update=2)
    return {
        "replay": (DQN(replay.environment), replay),
        "table": (ValueIteration(table.environment), table),
        "minibatches": (PPO(minibatches.environment), minibatches),
        "images": (RecurrentAttentionModel((1, 28, 28), 10), MNISTDataModule()),
        "board": (SelfPlayPolicy(board.environment, 1, 2), board),
    }


WRONG_MODULES = [
    (TargetNetwork, "replay", "target_networks", nn.ModuleList()),
    (TargetNetwork, "replay", "target_networks", []),
    (RenewPriorities, "replay", "gives_td_errors", False),
    (RenewPriorities, "replay", "gives_td_errors", "no"),
    (ValuePictures, "table", "action_values", nn.Linear(2, 2)),
    (ValuePictures, "table", "action_values", None),
    (ConfusionPicture, "images", "protocols", "error"),
    (GlimpsePictures, "images", "sensor", nn.Linear(2, 2)),
]
WRONG_DATA = [
    (RenewPriorities, "replay", "is_prioritised", False),
    (ExperienceMonitor, "replay", "statistics", {"env_steps": 3.0}),
    (EpisodeWriter, "replay", "record_episode", True),
    (ValuePictures, "table", "dynamics", nn.Linear(2, 2)),
    (ValuePictures, "table", "grid_shape", 5),
]


def having(protocol, given, **wrong):
    """An object with what a protocol declares, some of it wrong."""
    names = {*typing.get_type_hints(protocol), *vars(protocol)}
    names = {name for name in names if not name.startswith("_")}
    return Having(**{name: getattr(given, name) for name in names} | wrong)


@pytest.mark.parametrize(("callback", "pair", "name", "value"), WRONG_MODULES)
def test_a_module_with_the_right_name_and_a_wrong_value_is_refused(
    callback, pair, name, value, pairs
):
    module, data = pairs[pair]
    needed = callback.needs_of_module
    assert callback.misfit(having(needed, module), data) is None
    misfit = callback.misfit(having(needed, module, **{name: value}), data)
    assert "Having is not one" in (misfit or "")


@pytest.mark.parametrize(("callback", "pair", "name", "value"), WRONG_DATA)
def test_a_datamodule_with_the_right_name_and_a_wrong_value_is_refused(
    callback, pair, name, value, pairs
):
    module, data = pairs[pair]
    needed = callback.needs_of_data
    assert callback.misfit(module, having(needed, data)) is None
    misfit = callback.misfit(module, having(needed, data, **{name: value}))
    assert "Having is not one" in (misfit or "")


class SaysNo(Having):
    """A module that says that it has no TD errors."""

    batch_type = Transitions
    gives_td_errors = False

    def act(self, observations, exploration=None):
        """Never called."""


def test_a_module_that_says_it_gives_no_td_errors_has_no_prioritised_replay(pairs):
    _, data = pairs["replay"]
    with pytest.raises(ConfigurationError, match="SaysNo gives no TD errors"):
        check_pair(SaysNo(), data)
    SaysNo.gives_td_errors = True
    check_pair(SaysNo(), data)


@pytest.mark.parametrize("act", [nn.ReLU(), None, "act"])
def test_a_module_whose_act_is_no_method_is_refused(act):
    data = RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=4)
    with pytest.raises(ConfigurationError, match="Having has no act as RolloutDataModule uses it"):
        check_pair(Having(act=act), data)


def test_a_module_whose_networks_are_methods_plays_no_board_games(pairs):
    module, data = pairs["board"]
    check_pair(Having(policy=module.policy, value=module.value), data)
    with pytest.raises(ConfigurationError, match="has no policy and no value as SelfPlayData"):
        check_pair(Having(policy=print, value=print), data)


PROTOCOLS = [
    each
    for each in vars(experience).values()
    if isinstance(each, type) and getattr(each, "_is_protocol", False) and each is not Protocol
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_has_an_implementer_and_tells_it_from_others(protocol, pairs):
    sides = zip(*pairs.values(), strict=True)  # all modules, then all datamodules
    met = next(met for side in sides if any(met := [not unmet(each, protocol) for each in side]))
    assert protocol is experience.ExperienceSource or not all(met)

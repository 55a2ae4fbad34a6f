"""A callback that does not fit the module or datamodule is refused before training."""

from pathlib import Path

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer

from rl_lightning.callbacks import (
    ConfusionPicture,
    EpisodeWriter,
    ExperienceMonitor,
    GlimpsePictures,
    RenewPriorities,
    TargetNetwork,
    ValuePictures,
)
from rl_lightning.callbacks.alphago.game_writer import BoardGameWriter
from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.datamodules import (
    MNISTDataModule,
    ReplayDataModule,
    RolloutDataModule,
    TabularDataModule,
)
from rl_lightning.modules import (
    A2C,
    DQN,
    FullyConnectedClassifier,
    QLearning,
    RecurrentAttentionModel,
    Reinforce,
    ValueIteration,
)
from rl_lightning.networks.recurrent_attention import RAMNetworkOptions
from rl_lightning.runtime.errors import ConfigurationError
from specs import spec

CARTPOLE = spec("CartPole-v1", num_actions=2)
TABLE = spec("FrozenLake-v1", (), num_observations=16, num_actions=4)


def fully_connected():
    return FullyConnectedClassifier((1, 28, 28), 10)


def attention():
    return RecurrentAttentionModel(
        (1, 28, 28), 10, RAMNetworkOptions(num_glimpses=2, hidden_size=8)
    )


def replay():
    return ReplayDataModule("CartPole-v1", priority_exponent=0.5)


def rollouts():
    return RolloutDataModule("CartPole-v1", rollout_length=4)


def table():
    return TabularDataModule("FrozenLake-v1")


PAIRS = {
    "dqn": (lambda: DQN(CARTPOLE), replay),
    "a2c": (lambda: A2C(CARTPOLE), rollouts),
    "reinforce": (lambda: Reinforce(CARTPOLE), rollouts),
    "q_learning": (lambda: QLearning(TABLE), lambda: ReplayDataModule("FrozenLake-v1")),
    "value_iteration": (lambda: ValueIteration(TABLE), table),
    "ram": (attention, MNISTDataModule),
    "fully_connected": (fully_connected, MNISTDataModule),
}
PLAYING = {"dqn", "a2c", "reinforce", "q_learning"}
FITTING = {
    TargetNetwork: {"dqn"},
    RenewPriorities: {"dqn"},
    ExperienceMonitor: PLAYING,
    EpisodeWriter: PLAYING | {"value_iteration"},
    ValuePictures: {"value_iteration"},
    ConfusionPicture: {"ram", "fully_connected"},
    GlimpsePictures: {"ram"},
    BoardGameWriter: set(),
}


@pytest.fixture(scope="module")
def pairs():
    return {name: (module(), data()) for name, (module, data) in PAIRS.items()}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("callback", FITTING)
def test_which_callback_goes_with_which_pair(callback, name, pairs):
    misfit = callback.misfit(*pairs[name])
    if name in FITTING[callback]:
        assert misfit is None
        return
    assert misfit is not None
    assert misfit.startswith(f"{callback.__name__} needs a ")
    assert misfit.endswith(f" is not one: take {callback.__name__} out of trainer.callbacks")
    assert any(f"and {type(each).__name__} is not" in misfit for each in pairs[name])
    assert "\n" not in misfit


def test_every_callback_with_needs_is_in_the_table():
    given = {
        each
        for each in NeedsCallback.__subclasses__()
        if each.__module__.startswith("rl_")
        and (each.needs_of_module, each.needs_of_data) != (object, object)
    }
    assert given == set(FITTING)


def test_the_error_names_the_module_or_datamodule_that_does_not_fit():
    module, data = DQN(CARTPOLE), rollouts()
    assert "HasPriorities" not in (said := RenewPriorities.misfit(module, data) or "")
    assert said == (
        "RenewPriorities needs a datamodule with prioritised replay, and RolloutDataModule is "
        "not one: take RenewPriorities out of trainer.callbacks"
    )
    assert "and A2C is not one" in (RenewPriorities.misfit(A2C(CARTPOLE), replay()) or "")
    assert "and NoneType is not one" in (ExperienceMonitor.misfit(module, None) or "")


class Anything(LightningModule):
    """A module with a loss that ignores the batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps = 0

    def training_step(self, batch):
        self.steps += 1
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1)


class Nothing(LightningDataModule):
    """A datamodule with four batches and no declarations."""

    def train_dataloader(self):
        return torch.utils.data.DataLoader(range(4))


@pytest.mark.parametrize("callback", FITTING)
def test_a_wrong_callback_is_refused_before_training_from_python(callback, tmp_path: Path):
    module = Anything()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback()],
    )
    with pytest.raises(ConfigurationError, match=f"^{callback.__name__} needs") as error:
        trainer.fit(module, datamodule=Nothing())
    assert "\n" not in str(error.value)
    assert module.steps == 0
    assert not [*tmp_path.iterdir()]


def test_a_callback_without_needs_goes_with_everything():
    assert NeedsCallback.misfit(Anything(), None) is None

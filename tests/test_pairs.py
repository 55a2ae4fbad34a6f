"""Every module with every datamodule and every callback: it trains, or one line refuses it."""

from pathlib import Path

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

import rl_lightning.callbacks
import rl_lightning.datamodules
import rl_lightning.modules
from flag_runs import COMMON, DATA, MODULES, error_of, run
from rl_lightning import callbacks, datamodules, modules
from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.experience import Decision, Exploration, Rollout, Transitions
from rl_lightning.runtime.errors import ConfigurationError
from sampling import sample
from small_runs import write_mnist

DOCS = Path(__file__).parent.parent / "docs" / "trainer_flags.md"
SOURCES = {
    "ReplayDataModule": DATA["QLearning"],
    "RolloutDataModule": DATA["A2C"],
    "whole episodes": DATA["Reinforce"],
    "RolloutMinibatchDataModule": DATA["PPO"],
    "TabularDataModule": DATA["ValueIteration"],
    "MNISTDataModule": DATA["RecurrentAttentionModel"],
    "ExpertGamesDataModule": DATA["SupervisedPolicy"],
    "SelfPlayDataModule": DATA["SelfPlayPolicy"],
    "SelfPlayPositionsDataModule": DATA["GameValue"],
}
FITS = {
    "ReplayDataModule": {"DQN", "SAC", "QLearning"},
    "RolloutDataModule": {"A2C"},
    "whole episodes": {"A2C", "Reinforce"},
    "RolloutMinibatchDataModule": {"PPO", "PQN"},
    "TabularDataModule": {"ValueIteration", "PolicyEvaluation"},
    "MNISTDataModule": {
        "RecurrentAttentionModel",
        "FullyConnectedClassifier",
        "ConvolutionalClassifier",
    },
    "ExpertGamesDataModule": {"SupervisedPolicy"},
    "SelfPlayDataModule": {"SelfPlayPolicy"},
    "SelfPlayPositionsDataModule": {"GameValue"},
}
BOARD_PLAYERS = {"SelfPlayPolicy", "GameValue"}
# Which modules each callback goes with, each module on a datamodule that fits it.
NEEDS = {
    "TargetNetwork": {"DQN", "SAC"},
    "RenewPriorities": {"DQN", "SAC"},
    "ExperienceMonitor": {"DQN", "SAC", "QLearning", "A2C", "Reinforce", "PPO", "PQN"}
    | BOARD_PLAYERS,
    "ValuePictures": FITS["TabularDataModule"],
    "EpisodeWriter": set(MODULES) - FITS["MNISTDataModule"] - BOARD_PLAYERS - {"SupervisedPolicy"},
    "BoardGameWriter": BOARD_PLAYERS,
    "ConfusionPicture": FITS["MNISTDataModule"],
    "GlimpsePictures": {"RecurrentAttentionModel"},
}
USED_BY_THE_COMMAND_LINE = {"MLflowTracker", "ModelLogger", "TrackConfig", "Safeguards"}
SOURCE_OF = {
    **{name: source for source, names in FITS.items() for name in names},
    "A2C": "RolloutDataModule",
}


def table(head: str, columns: dict[str, set[str]]) -> str:
    """Modules by what they go with, as Markdown."""
    lines = [f"| {head} | {' | '.join(columns)} |", f"|{' --- |' * (len(columns) + 1)}"]
    for module in MODULES:
        cells = ["works" if module in fitting else "refused" for fitting in columns.values()]
        lines.append(f"| {module} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_documentation_holds_these_tables():
    assert table("module", FITS) in DOCS.read_text()
    assert table("module", NEEDS) in DOCS.read_text()


@pytest.fixture(scope="session")
def mnist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mnist")
    write_mnist(folder)
    return folder


def command(module, source, mnist, rest=""):
    # SAC is the only module that cannot act in FrozenLake.
    data = DATA["SAC"] if (module, source) == ("SAC", "ReplayDataModule") else SOURCES[source]
    given = f"{MODULES[module]} {data} {COMMON} --trainer.logger false {rest}"
    return given.format(mnist=mnist)


def test_the_tables_name_all_that_the_package_has():
    assert {*MODULES} == {*modules.__all__}
    assert {*SOURCES} - {"whole episodes"} == {*datamodules.__all__}
    assert {*NEEDS} | USED_BY_THE_COMMAND_LINE == {*callbacks.__all__}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("module", MODULES)
def test_a_pair_trains_or_is_refused(module, source, mnist, working_folder, monkeypatch):
    done = run(command(module, source, mnist), module, monkeypatch)
    if module in FITS[source]:
        assert done.status == 0, done.printed
        assert done.batches > 0
        return
    error = error_of(done)
    assert done.status == 2
    assert not done.files
    if module == "Reinforce" and source == "RolloutDataModule":
        assert "set episodes_per_update in place of rollout_length" in error
    else:
        fitting = SOURCE_OF[module].replace("whole episodes", "RolloutDataModule")
        assert f"use {fitting} as data" in error


@pytest.mark.parametrize("callback", NEEDS)
@pytest.mark.parametrize(
    "module", sample(MODULES, "DQN", "ValueIteration", "RecurrentAttentionModel")
)
def test_a_callback_runs_or_is_refused(module, callback, mnist, working_folder, monkeypatch):
    listed = f"--trainer.callbacks {callback}"
    if callback == "RenewPriorities" and SOURCE_OF[module] == "ReplayDataModule":
        listed += " --data.priority_exponent 0.5"
    done = run(command(module, SOURCE_OF[module], mnist, listed), module, monkeypatch)
    if module in NEEDS[callback]:
        assert done.status == 0, done.printed
        kinds = [type(each).__name__ for each in done.trainer.callbacks]
        assert kinds.count(callback) == 1, "a default callback of the same kind stands beside it"
        return
    error = error_of(done)
    assert done.status == 2
    if callback == "RenewPriorities" and module == "QLearning":
        assert "QLearning gives no TD errors" in error
        return
    assert error.startswith(f"{callback} needs ")
    assert error.endswith(f"take {callback} out of trainer.callbacks")
    assert not done.files


def test_from_python_a_pair_that_does_not_fit_is_the_same_line():
    data = datamodules.RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=4)
    agent = modules.DQN(data.environment)
    with pytest.raises(ConfigurationError, match="DQN learns from Transitions"):
        quiet_trainer().fit(agent, datamodule=data)
    whole = modules.Reinforce(data.environment)
    with pytest.raises(ConfigurationError, match="set episodes_per_update"):
        quiet_trainer().fit(whole, datamodule=data)
    with pytest.raises(ConfigurationError, match="ConfusionPicture needs"):
        quiet_trainer(callbacks=[callbacks.ConfusionPicture()]).fit(
            modules.A2C(data.environment), datamodule=data
        )


def test_from_python_a_module_of_another_environment_is_refused():
    data = datamodules.RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=4)
    other = datamodules.RolloutDataModule("Acrobot-v1", num_envs=2, rollout_length=4)
    with pytest.raises(ConfigurationError, match=r"environment=data\.environment"):
        quiet_trainer().fit(modules.A2C(other.environment), datamodule=data)


def test_prioritised_replay_needs_a_module_that_gives_td_errors(mnist, working_folder, monkeypatch):
    given = command("QLearning", "ReplayDataModule", mnist, "--data.priority_exponent 0.5")
    done = run(given, "QLearning", monkeypatch)
    assert "gives no TD errors" in error_of(done)
    assert (done.status, done.files) == (2, set())


def test_from_python_dqn_brings_what_it_needs():
    data = datamodules.ReplayDataModule(
        "CartPole-v1", num_envs=2, env_steps_per_update=2, updates_per_epoch=3, priority_exponent=1
    )
    agent = modules.DQN(data.environment)
    trainer = quiet_trainer()
    trainer.fit(agent, datamodule=data)
    kinds = [type(each).__name__ for each in trainer.callbacks]
    assert (kinds.count("TargetNetwork"), kinds.count("RenewPriorities")) == (1, 1)
    assert trainer.global_step == 3


def quiet_trainer(**settings):
    return Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_val_batches": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **settings,
        }
    )


class Remembering:
    """A policy that gives its log-probabilities and a vector for each step."""

    def act(self, observations, exploration: Exploration | None = None):
        shape = (len(observations),)
        generator = None if exploration is None else exploration.generator
        actions = torch.randint(2, shape, generator=generator)
        extras = {"log_probs": actions * -0.5, "features": observations[:, :3] * 2}
        return Decision(actions, extras)


class Strangers(Remembering, LightningModule):
    """A user's module that declares nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches = []

    def training_step(self, batch):
        self.batches.append(batch)
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_what_a_strangers_policy_remembers_stands_in_the_rollout():
    data = datamodules.RolloutDataModule(
        "CartPole-v1", num_envs=2, rollout_length=5, updates_per_epoch=2
    )
    module = Strangers()
    quiet_trainer().fit(module, datamodule=data)
    for batch in module.batches:
        assert isinstance(batch, Rollout)
        assert batch.extras["log_probs"].shape == (5, 2)
        torch.testing.assert_close(batch.extras["log_probs"], batch.actions * -0.5)
        torch.testing.assert_close(batch.extras["features"], batch.observations[:-1, :, :3] * 2)


def test_what_a_strangers_policy_remembers_is_sampled_with_the_transition():
    data = datamodules.ReplayDataModule(
        "CartPole-v1", num_envs=2, env_steps_per_update=2, batch_size=16, updates_per_epoch=3,
        warmup_env_steps=60, capacity=80, n_step=3,
    )  # fmt: skip
    module = Strangers()
    quiet_trainer().fit(module, datamodule=data)
    for batch in module.batches:
        assert isinstance(batch, Transitions)
        torch.testing.assert_close(batch.extras["log_probs"], batch.actions * -0.5)
        torch.testing.assert_close(batch.extras["features"], batch.observations[:, :3] * 2)


class StrangersData(LightningDataModule):
    """A user's datamodule that declares nothing."""

    def train_dataloader(self):
        return DataLoader(torch.zeros(4, 3), batch_size=2)


def test_a_strangers_module_and_datamodule_that_declare_nothing_are_left_to_lightning():
    module = Strangers()
    quiet_trainer().fit(module, datamodule=StrangersData())
    assert len(module.batches) == 2


def test_a_strangers_callback_that_says_what_it_needs_is_checked():
    class NeedsTable(NeedsCallback):
        needs_of_module = rl_lightning.experience.HasActionValues

    data = datamodules.RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=4)
    with pytest.raises(ConfigurationError, match="NeedsTable needs"):
        quiet_trainer(callbacks=[NeedsTable()]).fit(modules.A2C(data.environment), datamodule=data)


@pytest.mark.parametrize("module", sample(MODULES, "ValueIteration", "FullyConnectedClassifier"))
@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_every_command_runs_with_every_module(
    module, subcommand, mnist, working_folder, monkeypatch
):
    given = command(module, SOURCE_OF[module], mnist, "--untrained true")
    done = run(given, module, monkeypatch, subcommand)
    assert done.status == 0, done.printed


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_untrained_weights_are_rated_only_when_asked_for(
    subcommand, mnist, working_folder, monkeypatch
):
    given = command("A2C", "RolloutDataModule", mnist)
    refused = run(given, "A2C", monkeypatch, subcommand)
    assert refused.status == 2
    assert "--untrained true" in error_of(refused)
    assert not refused.files
    assert run(f"{given} --untrained true", "A2C", monkeypatch, subcommand).status == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--data.env_id CartPole-v0", "env_id"),
        ("--model.activation relu", "activation"),
        ("--model.hidden_sizes [8,8]", "hidden_sizes"),
        ("--model.shared_body true", "shared_body"),
        ("--model.normalise_observations true", "normalise_observations"),
    ],
)
def test_a_checkpoint_of_another_experiment_is_refused(
    change, words, mnist, working_folder, monkeypatch
):
    given = command("A2C", "RolloutDataModule", mnist)
    assert run(given, "A2C", monkeypatch).status == 0
    checkpoint = next(working_folder.rglob("last.ckpt"))
    before = {path: path.stat().st_mtime_ns for path in working_folder.rglob("*")}
    for subcommand in ("fit", "test"):
        done = run(f"{given} {change} --ckpt_path {checkpoint}", "A2C", monkeypatch, subcommand)
        assert done.status == 2
        assert words in error_of(done)
        assert "does not fit this configuration" in error_of(done)
    assert {path: path.stat().st_mtime_ns for path in working_folder.rglob("*")} == before

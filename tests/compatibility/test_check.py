"""One check compares module, datamodule, callbacks and flags, once in a run."""

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from flag_runs import COMMON, DATA, MODULES, error_of, run
from rl_lightning.callbacks import RenewPriorities
from rl_lightning.callbacks.exact_resume import ExactResume
from rl_lightning.callbacks.needs import NeedsCallback
from rl_lightning.compatibility import check as checking
from rl_lightning.datamodules import ReplayDataModule, RolloutDataModule
from rl_lightning.experience import LabelledImages, Transitions
from rl_lightning.modules import A2C, DQN, FullyConnectedClassifier
from rl_lightning.runtime.errors import ConfigurationError

SMALL = {"num_envs": 2, "eval_episodes": 2, "num_eval_envs": 2, "updates_per_epoch": 2}


@pytest.fixture
def checked(monkeypatch):
    """What each check compared: "pair", "flags", or the name of a callback with needs."""
    done = []

    def note(name, function):
        return lambda *args, **kwargs: (done.append(name), function(*args, **kwargs))[1]

    for name in ("check_pair", "check_flags"):
        monkeypatch.setattr(checking, name, note(name, getattr(checking, name)))
    before = NeedsCallback.misfit.__func__
    monkeypatch.setattr(
        NeedsCallback, "misfit", classmethod(lambda kind, *both: note(kind, before)(kind, *both))
    )
    return done


def quiet(**flags):
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    return Trainer(
        **{"accelerator": "cpu", "max_epochs": 1, "enable_model_summary": False, **silent, **flags}
    )


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_run_from_python_is_checked_once(command, checked):
    data = ReplayDataModule(
        "CartPole-v1", env_steps_per_update=2, batch_size=4, warmup_env_steps=8,
        priority_exponent=1, **SMALL,
    )  # fmt: skip
    trainer = quiet(callbacks=[RenewPriorities()])
    getattr(trainer, command)(DQN(data.environment), datamodule=data)
    assert [checked.count(each) for each in ("check_pair", "check_flags")] == [1, 1]
    assert checked.count(RenewPriorities) == 1


def test_a_run_with_dataloaders_alone_is_checked_once(checked):
    module = FullyConnectedClassifier((1, 4, 4), 3)
    images = LabelledImages(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    quiet().fit(module, DataLoader([images], batch_size=None))
    assert checked == ["check_pair", "check_flags", ExactResume]


def test_a_run_of_the_command_line_is_checked_once(checked, working_folder, monkeypatch):
    listed = "--trainer.callbacks ExperienceMonitor --trainer.logger false"
    done = run(f"{MODULES['A2C']} {DATA['A2C']} {COMMON} {listed}", "A2C", monkeypatch)
    assert done.status == 0, done.printed
    assert [checked.count(each) for each in ("check_pair", "check_flags")] == [1, 1]


class Another(LightningModule):
    """A module of another package, which says what it learns from."""

    batch_type = Transitions

    def act(self, observations, exploration=None):
        """Never called."""

    def training_step(self, batch):
        """Never called."""

    def configure_optimizers(self):
        """Never called."""


def test_a_module_of_another_package_is_refused_from_python():
    data = RolloutDataModule("CartPole-v1", rollout_length=2, **SMALL)
    with pytest.raises(ConfigurationError, match="Another learns from Transitions, and Rollout"):
        quiet(limit_val_batches=0).fit(Another(), datamodule=data)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--data.priority_exponent 0.5", "gives no TD errors"),
        ("--trainer.callbacks TargetNetwork", "TargetNetwork needs a module whose target"),
        ("--trainer.overfit_batches 1", "each batch is made when"),
    ],
)
def test_a_module_of_another_package_is_refused_before_the_logger_begins(
    flags, says, working_folder, store, monkeypatch
):
    monkeypatch.setattr("rl_lightning.modules.Another", Another, raising=False)
    monkeypatch.setattr(Another, "__module__", "rl_lightning.modules")
    given = f"--model rl_lightning.modules.Another {DATA['DQN']} {COMMON} {flags} "
    done = run(f"{given} --trainer.logger.tracking_uri sqlite:///new.db", "Another", monkeypatch)
    assert says in error_of(done)
    assert (done.status, done.files) == (2, set())


@pytest.mark.parametrize("strategy", ["ddp_spawn"])
def test_a_strategy_is_refused_before_it_starts_processes(strategy):
    from rl_lightning.trainer import make_trainer

    data = RolloutDataModule("CartPole-v1", rollout_length=2, **SMALL)
    with pytest.raises(ConfigurationError, match="use ddp"):
        make_trainer(A2C(data.environment), data, strategy=strategy, logger=False)

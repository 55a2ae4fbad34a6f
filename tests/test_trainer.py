"""A Trainer made from Python has all that the command line adds."""

from functools import partial

import pytest
import torch
from lightning import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from mlflow import MlflowClient

from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.callbacks.target_network import TargetNetwork
from rl_lightning.cli import main
from rl_lightning.datamodules import ReplayDataModule, RolloutDataModule
from rl_lightning.modules import A2C, DQN
from rl_lightning.runtime.checkpoints import AtomicCheckpoints
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.trainer import make_trainer
from small_runs import CONFIGS

QUIET = {"enable_progress_bar": False, "log_every_n_steps": 2}
SMALL = {"env_id": "CartPole-v1", "num_envs": 2, "eval_episodes": 2, "num_eval_envs": 2, "seed": 3}


def small_a2c(**policy_options):
    data = RolloutDataModule(**SMALL, updates_per_epoch=4, rollout_length=8)
    return A2C(data.environment, hidden_sizes=[8], **policy_options), data


def small_dqn():
    data = ReplayDataModule(
        **SMALL, updates_per_epoch=4, env_steps_per_update=2, batch_size=4, warmup_env_steps=8
    )
    return DQN(data.environment, hidden_sizes=(8,)), data


def weights_and_run(folder):
    (path,) = folder.glob("runs/a2c-CartPole-v1/*/checkpoints/last.ckpt")
    run = MlflowClient(f"sqlite:///{folder}/mlflow.db").get_run(path.parent.parent.name)
    return torch.load(path, weights_only=True)["state_dict"], run


def test_a_script_gives_the_weights_and_parameters_of_the_command_line(tmp_path, monkeypatch):
    script, command = tmp_path / "script", tmp_path / "command"
    for folder in (script, command):
        folder.mkdir()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        monkeypatch.chdir(folder)
        if folder is command:
            flags = (
                "--seed_everything 3 --trainer.max_epochs 2 --trainer.enable_progress_bar false "
                "--trainer.log_every_n_steps 2 --data.num_envs 2 --data.eval_episodes 2 "
                "--data.num_eval_envs 2 --data.updates_per_epoch 4 --data.rollout_length 8 "
                "--model.hidden_sizes [8] --trainer.callbacks null"
            )
            config = str(CONFIGS / "a2c" / "cartpole.yaml")
            assert main(["fit", "--config", config, *flags.split()]) == 0
            continue
        seed_everything(3, verbose=False)
        module, data = small_a2c(
            gae_lambda=0.98,
            normalise_advantages=True,
            optimizer=partial(torch.optim.Adam, lr=1e-2, fused=True),
        )
        make_trainer(module, data, max_epochs=2, gradient_clip_val=0.5, **QUIET).fit(module, data)
    (ours, our_run), (theirs, their_run) = weights_and_run(script), weights_and_run(command)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name, value in their_run.data.params.items():
        # Adam's other options are in the YAML only as defaults, which a script does not give.
        if not name.startswith("model.optimizer."):
            assert our_run.data.params.get(name) == value, name
    assert our_run.data.params["model.optimizer.lr"] == "0.01"
    assert our_run.data.tags["seed"] == "3"


def test_the_trainer_has_the_default_callbacks_and_plugins():
    module, data = small_dqn()
    trainer = make_trainer(module, data, logger=False, max_epochs=1, **QUIET)
    kinds = [type(each) for each in trainer.callbacks]
    assert {Safeguards, TargetNetwork} <= {*kinds}
    monitored = [each.monitor for each in trainer.callbacks if isinstance(each, ModelCheckpoint)]
    assert monitored.count("val/return") == 1
    assert None in monitored  # the last checkpoint
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpoints)


def test_a_callback_replaces_the_default_one_of_its_type():
    module, data = small_dqn()
    mine = TargetNetwork(tau=0.3)
    trainer = make_trainer(module, data, logger=False, callbacks=[mine], **QUIET)
    assert [each for each in trainer.callbacks if isinstance(each, TargetNetwork)] == [mine]


def test_the_number_of_threads_is_set():
    module, data = small_a2c()
    before = torch.get_num_threads()
    try:
        make_trainer(module, data, num_threads=2, logger=False)
        assert torch.get_num_threads() == 2
        make_trainer(module, data, num_threads=None, logger=False)
        assert torch.get_num_threads() == 2
        make_trainer(module, data, logger=False)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_pair_that_does_not_fit_is_refused_before_a_file_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (module, _), (_, data) = small_a2c(), small_dqn()
    with pytest.raises(ConfigurationError, match="A2C"):
        make_trainer(module, data, max_epochs=1).fit(module, data)
    assert [*tmp_path.iterdir()] == []

import os
import pickle
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.cli import main
from rl_lightning.datamodules import RolloutDataModule
from rl_lightning.modules import A2C
from rl_lightning.runtime.checkpoints import load_plain, save_atomically
from rl_lightning.runtime.errors import ConfigurationError, RunError

CONFIG = str(Path(__file__).parents[2] / "configs" / "a2c" / "cartpole.yaml")
TINY = [
    *("fit", "--config", CONFIG, "--trainer.max_epochs", "3", "--model.hidden_sizes", "[8]"),
    *("--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "2"),
    *("--data.num_envs", "2", "--data.rollout_length", "4", "--data.updates_per_epoch", "4"),
    *("--data.eval_episodes", "2", "--data.num_eval_envs", "2"),
]


def at_update(monkeypatch, update, happens):
    """Make a callback that calls a function before the loss of one update."""
    training_step = A2C.training_step

    def then(self, batch):
        if self.trainer.global_step == update:
            happens(self)
        return training_step(self, batch)

    monkeypatch.setattr(A2C, "training_step", then)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_the_run_and_its_message_names_the_checkpoint(
    name, working_folder, store, monkeypatch, capsys
):
    signum = getattr(signal, name)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    at_update(monkeypatch, 6, lambda agent: os.kill(os.getpid(), signum))
    assert main(TINY) == 128 + signum
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"rl_lightning: {name} stopped the run at update 6 and environment step")
    last = Path(said.split("--ckpt_path ")[1].split()[0])
    assert load_plain(last)["global_step"] == 4
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    "options", ["ModelCheckpoint", "{class_path: ModelCheckpoint, init_args: {save_last: true}}"]
)
def test_a_signal_stops_a_run_that_has_a_model_checkpoint_of_the_user(
    options, working_folder, store, monkeypatch, capsys
):
    at_update(monkeypatch, 6, lambda agent: os.kill(os.getpid(), signal.SIGINT))
    assert main([*TINY, "--trainer.callbacks", f"[{options}]"]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    last = Path(said.split("--ckpt_path ")[1].split()[0])
    assert load_plain(last)["global_step"] == 4
    assert "Traceback" not in said


def test_a_nan_loss_stops_before_it_changes_the_weights(working_folder, store, monkeypatch, capsys):
    at_update(monkeypatch, 6, lambda agent: agent.value_head.weight.data.fill_(torch.nan))
    assert main(TINY) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the loss is nan at update 6 and environment step" in said
    assert "because value_head.weight is" in said
    (last,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    weights = load_plain(last)["state_dict"].values()
    assert all(torch.isfinite(values).all() for values in weights)


def test_infinite_weights_never_replace_a_checkpoint(working_folder, store, monkeypatch, capsys):
    class Spoil(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                pl_module.value_head.bias.data.fill_(torch.inf)

    monkeypatch.setattr("rl_lightning.callbacks.ExperienceMonitor.on_train_epoch_end",
                        Spoil.on_train_epoch_end)  # fmt: skip
    assert main(TINY) == 1
    assert "value_head.bias is not finite at update 8" in capsys.readouterr().err
    (last,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    assert load_plain(last)["global_step"] == 4


def test_a_kill_during_a_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    save_atomically({"epoch": 1}, path)

    def half(contents, file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_atomically({"epoch": 2}, path)
    assert load_plain(path) == {"epoch": 1}


def test_a_full_disk_is_one_line_and_leaves_no_truncated_file(tmp_path, monkeypatch):
    def full(contents, file):
        raise OSError(28, "No space left on device")

    path = tmp_path / "last.ckpt"
    save_atomically({"epoch": 1}, path)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"No space left on device.*free some disk space"):
        save_atomically({"epoch": 2}, path)
    assert load_plain(path) == {"epoch": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("taken over",)


@pytest.mark.parametrize("kind", ["pickle", "torch", "cut short"])
def test_files_that_are_no_checkpoints_are_refused(kind, working_folder):
    path = Path("bad.ckpt")
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Malicious()}))
    elif kind == "torch":
        torch.save({"state_dict": Malicious()}, path)
    else:
        torch.save({"state_dict": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ConfigurationError, match="cannot be read as a checkpoint"):
        load_plain(path)
    assert not Path("taken over").exists()


class UnboundedActions(gym.Env):
    """Actions without bounds. The reward is minus the square of the action."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), -float(np.square(action).sum()), False, self.t == 9, {}


gym.register("test/UnboundedActions-v0", UnboundedActions, disable_env_checker=True)


def test_infinite_bounds_of_actions_can_be_in_a_module_whose_checkpoint_is_written(tmp_path):
    data = RolloutDataModule(
        "test/UnboundedActions-v0", num_envs=2, rollout_length=4, updates_per_epoch=5,
        eval_episodes=2, num_eval_envs=2,
    )  # fmt: skip
    agent = A2C(data.environment)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Safeguards(), ModelCheckpoint(tmp_path, "last")],
    )
    trainer.fit(agent, data)
    assert trainer.global_step == 15
    assert not agent.action_low.isfinite().any()
    again = A2C.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    torch.testing.assert_close(again.act(torch.zeros(1, 1)), agent.act(torch.zeros(1, 1)))
    agent.head.log_std.data.fill_(torch.nan)
    with pytest.raises(RunError, match=r"head\.log_std is not finite"):
        trainer.save_checkpoint(tmp_path / "bad.ckpt")

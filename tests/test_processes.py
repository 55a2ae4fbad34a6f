"""Complete runs of several processes, each started as by torchrun."""

import os
import re
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.runtime.checkpoints import AtomicCheckpoints
from sampling import sample
from small_runs import EXPERIMENTS, differences, fit, on_ranks, outcome, write_mnist

LEARNT_BY_GRADIENTS = (
    "dqn/cartpole",
    "sac/pendulum",
    "a2c/cartpole",
    "reinforce/cartpole_moving_average",
    "ram/mnist",
)
SECONDS = 90


def joined(processes):
    """The exit codes of processes; None for a process that hangs, which is then killed."""
    until = time.monotonic() + SECONDS
    for process in processes:
        process.join(max(0, until - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def test_processes_open_a_new_store_together(working_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{working_folder}/new.db")
    name = "value_iteration/frozenlake"
    assert joined(start(2, working_folder, name, "--trainer.max_epochs", "1")) == [0, 0]
    assert outcome(working_folder)["history"]


def start(world_size, folder, name, *arguments):
    folder.mkdir(exist_ok=True)
    if not (folder / "mnist").exists():
        write_mnist(folder / "mnist")
    ddp = f"--trainer.accelerator cpu --trainer.devices {world_size} --trainer.strategy ddp"
    return on_ranks(world_size, folder, fit, name, *ddp.split(), *arguments)


def flat(batch):
    tensors = [column for column in batch if isinstance(column, torch.Tensor)]
    return torch.cat([column.flatten().double() for column in tensors])


@pytest.fixture
def _keeping_what_ranks_learn_from(monkeypatch):
    """Make every rank write its first batch and its last weights into the working folder."""

    def keep_batch(self, trainer, pl_module, batch, batch_idx):
        whole(self, trainer, pl_module, batch, batch_idx)
        if trainer.global_step == 0:
            torch.save(flat(batch), f"batch{trainer.global_rank}.pt")

    def keep_weights(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), f"weights{trainer.global_rank}.pt")
        end(self, trainer, pl_module)

    whole, end = Safeguards.on_train_batch_start, Safeguards.on_fit_end
    monkeypatch.setattr(Safeguards, "on_train_batch_start", keep_batch)
    monkeypatch.setattr(Safeguards, "on_fit_end", keep_weights)


@pytest.mark.parametrize("world_size", [*sample((1, 2, 4), 2)])
@pytest.mark.parametrize("name", sample(LEARNT_BY_GRADIENTS, "a2c/cartpole", "sac/pendulum"))
@pytest.mark.usefixtures("_keeping_what_ranks_learn_from")
def test_ranks_have_different_experience_and_repeat_it_in_a_second_run(
    name, world_size, working_folder, store
):
    folders = [working_folder / "first", working_folder / "again"]
    for folder in folders:
        running = start(world_size, folder, name, "--trainer.max_epochs", "1")
        assert joined(running) == [0] * world_size
    first, again = (
        [torch.load(folder / f"batch{rank}.pt") for rank in range(world_size)] for folder in folders
    )
    for rank in range(world_size):
        assert torch.equal(first[rank], again[rank])
        for other in range(rank):
            assert not torch.equal(first[rank], first[other])
    weights = [
        torch.load(folder / f"weights{rank}.pt") for folder in folders for rank in range(world_size)
    ]
    assert not [d for each in weights[1:] for d in differences(weights[0], each)]


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux schedules so, alone")
@pytest.mark.parametrize("world_size", [1, 2])
def test_several_ranks_use_batch_scheduling(world_size, working_folder, store, monkeypatch):
    def keep_policies(self, trainer, pl_module):
        policies = {"main": os.sched_getscheduler(os.getpid())}
        for thread in Path("/proc/self/task").iterdir():
            if "gloo" in (name := (thread / "comm").read_text()):
                policies[name] = os.sched_getscheduler(int(thread.name))
        torch.save(policies, f"policies{trainer.global_rank}.pt")

    monkeypatch.setattr(Safeguards, "on_fit_end", keep_policies)
    running = start(world_size, working_folder, "a2c/cartpole", "--trainer.max_epochs", "1")
    assert joined(running) == [0] * world_size
    policy = os.SCHED_OTHER if world_size == 1 else os.SCHED_BATCH
    for rank in range(world_size):
        policies = torch.load(working_folder / f"policies{rank}.pt")
        assert len(policies) > 1
        assert set(policies.values()) == {policy}


def dies_at_its_second_last_checkpoint(self, checkpoint, path, storage_options=None):
    if str(path).endswith("last.ckpt") and Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, checkpoint, path)


save = AtomicCheckpoints.save_checkpoint


@pytest.mark.parametrize("name", sample(EXPERIMENTS, "dqn/cartpole", "ram/mnist"))
def test_two_processes_of_which_one_is_killed_resume_with_equal_results(
    name, working_folder, store, monkeypatch
):
    if name == "a2c/halfcheetah":
        pytest.importorskip("mujoco")
    whole, killed = working_folder / "whole", working_folder / "killed"
    assert joined(start(2, whole, name)) == [0, 0]
    with monkeypatch.context() as patched:
        patched.setattr(AtomicCheckpoints, "save_checkpoint", dies_at_its_second_last_checkpoint)
        began = time.monotonic()
        codes = joined(start(2, killed, name))
    assert codes[0] == -signal.SIGKILL
    assert codes[1] not in (0, None), "the other process hung, or ended without an error"
    assert time.monotonic() - began < SECONDS
    assert joined(start(2, killed, name, "--ckpt_path", "last")) == [0, 0]
    assert differences(outcome(whole), outcome(killed)) == []


class FailsOnRankOne(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.t == 30 and os.environ["RANK"] == "1":
            raise OSError("the joystick is unplugged")
        return np.zeros(1, np.float32), 1.0, self.t == 50, False, {}


gym.register("test/FailsOnRankOne-v0", FailsOnRankOne, disable_env_checker=True)


def test_an_error_of_an_environment_ends_every_rank_and_is_printed(working_folder, store, capfd):
    began = time.monotonic()
    endless = ("--data.env_id", "test/FailsOnRankOne-v0", "--trainer.max_epochs", "1000")
    assert joined(start(2, working_folder, "a2c/cartpole", *endless)) == [1, 1]
    assert time.monotonic() - began < SECONDS
    said = capfd.readouterr().err
    assert said.count("raised OSError in step: the joystick is unplugged") == 1
    assert said.count("rl_lightning: error: another process of this run has ended") == 1
    assert "the run failed at update 3 and environment step" in said


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_rank_ends_them_all(signum, working_folder, store, capfd):
    running = start(2, working_folder, "a2c/cartpole", "--trainer.max_epochs", "1000")
    until = time.monotonic() + SECONDS
    while not [*working_folder.rglob("last.ckpt")] and time.monotonic() < until:
        time.sleep(0.1)
    for process in running:
        os.kill(process.pid, signum)
    assert joined(running) == [128 + signum] * 2
    said = capfd.readouterr().err
    assert f"{signum.name} stopped the run" in said
    assert re.search(r"resume from the last checkpoint with --ckpt_path runs/\S+/last\.ckpt", said)

"""A run that stops and is resumed equals one that never stopped, bit for bit."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_lightning.datamodules import RolloutDataModule
from rl_lightning.runtime.checkpoints import AtomicCheckpoints
from rl_lightning.runtime.errors import ConfigurationError
from sampling import sample
from small_runs import EXPERIMENTS, differences, fit, in_a_process, outcome, write_mnist


class StoppedError(BaseException):
    """Not an Exception, so that it is not caught, as a kill is not."""


@pytest.fixture
def stop_after(monkeypatch):
    """Stop the run before it writes more than a number of last checkpoints.

    The run has then trained and logged an epoch that is in no checkpoint.
    """

    def stop(checkpoints):
        saved = []

        def save(self, checkpoint, path, storage_options=None):
            if str(path).endswith("last.ckpt"):
                if len(saved) == checkpoints:
                    raise StoppedError
                saved.append(path)
            whole(self, checkpoint, path)

        monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", save)

    whole = AtomicCheckpoints.save_checkpoint
    return stop


def test_a_resume_needs_the_same_numbers_of_processes_and_environment_copies():
    data = RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=4)
    data.setup("fit")
    saved = data.state_dict()
    (state,) = saved["ranks"]
    with pytest.raises(ConfigurationError, match=r"made by 2 processes and there are 1"):
        data.load_state_dict(saved | {"ranks": [state, state]})
    with pytest.raises(ConfigurationError, match=r"made with num_envs 3, not 2"):
        data.load_state_dict(saved | {"ranks": [state | {"num_envs": 3}]})
    data.load_state_dict(saved)


@pytest.mark.parametrize("name", sample(EXPERIMENTS, "dqn/cartpole", "a2c/halfcheetah"))
def test_a_resumed_run_equals_an_uninterrupted_one(
    name, working_folder, store, stop_after, monkeypatch
):
    if name == "a2c/halfcheetah":
        pytest.importorskip("mujoco")
    write_mnist(working_folder / "mnist")
    outcomes = []
    for folder in ("whole", "stopped"):
        Path(folder).mkdir()
        os.chdir(folder)
        Path("mnist").symlink_to(working_folder / "mnist")
        if folder == "stopped":
            with monkeypatch.context():
                stop_after(1)
                with pytest.raises(StoppedError):
                    fit(name)
            stop_after(None)
            torch.manual_seed(7)  # the result must not depend on the global random state
            assert fit(name, "--ckpt_path", "last") == 0
        else:
            assert fit(name) == 0
        outcomes.append(outcome(Path()))
        os.chdir(working_folder)
    whole, resumed = outcomes
    assert whole["history"]
    assert whole["checkpoint"]["epoch"] == 2
    assert differences(whole, resumed) == []


KILLS = {name: 3 for name in EXPERIMENTS if name != "a2c/halfcheetah"}
KILLS |= dict.fromkeys(("sac/pendulum", "ram/mnist", "q_learning/frozenlake", "a2c/cartpole"), 2)
KILLS |= dict.fromkeys(("alphago/supervised", "alphago/self_play", "alphago/value"), 1)


def killed_after(seconds, folder, name, *arguments):
    """The exit code of `fit` in a folder, killed after some seconds or, with None, not killed."""
    process = in_a_process(folder, fit, name, *arguments)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def test_twenty_kills_or_more_cover_every_algorithm():
    assert sum(KILLS.values()) >= 20
    assert {name.split("/")[0] for name in EXPERIMENTS} == {name.split("/")[0] for name in KILLS}


@pytest.mark.parametrize("name", sample(KILLS, "dqn/cartpole"))
def test_a_run_killed_at_any_moment_resumes_with_equal_results(name, working_folder, store):
    write_mnist(working_folder / "mnist")

    def folder():
        made = working_folder / f"{time.monotonic_ns()}"
        made.mkdir()
        (made / "mnist").symlink_to(working_folder / "mnist")
        return made

    whole = folder()
    start = time.monotonic()
    assert killed_after(None, whole, name) == 0
    seconds = time.monotonic() - start
    expected = outcome(whole)
    moments = np.random.default_rng(len(name)).uniform(0, 1, KILLS[name])
    for moment in moments * seconds:
        killed = folder()
        while killed_after(moment, killed, name) != -signal.SIGKILL:
            killed, moment = folder(), moment * 0.9  # the run ended before the kill
        goes_on = ["--ckpt_path", "last"] if [*killed.rglob("last.ckpt")] else []
        assert killed_after(None, killed, name, *goes_on) == 0
        assert differences(expected, outcome(killed)) == [], f"killed after {moment:.3f} s"

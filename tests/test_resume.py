"""A run that stops and goes on equals one that never stopped, bit for bit."""

import importlib.util
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from rl_lightning.checkpoints import AtomicCheckpoints
from rl_lightning.cli import main
from rl_lightning.datamodules import RolloutDataModule
from rl_lightning.errors import ConfigurationError

CONFIGS = Path(__file__).parent.parent / "configs"
COMMON = "--trainer.max_epochs 3 --trainer.enable_progress_bar false --trainer.log_every_n_steps 3"
GAMES = " --data.num_envs 2 --data.eval_episodes 2 --data.num_eval_envs 2"
EXPERIMENTS = {
    "dqn/cartpole": GAMES + " --data.env_steps_per_update 2 --data.batch_size 16 "
    "--data.updates_per_epoch 15 --data.warmup_env_steps 40 --data.capacity 60 --data.n_step 3 "
    "--data.keep_replay true --model.hidden_sizes [8]",
    "a2c/cartpole": GAMES + " --data.updates_per_epoch 8 --data.rollout_length 8 "
    "--model.hidden_sizes [8] --model.normalise_observations true --model.normalise_returns true "
    "--model.normalise_advantages true --model.anneal_learning_rates true",
    "a2c/hopper": GAMES + " --data.updates_per_epoch 8 --data.rollout_length 8",
    "reinforce/cartpole_moving_average": GAMES + " --data.episodes_per_update 2 "
    "--data.updates_per_epoch 4",
    "q_learning/frozenlake": " --data.keep_replay true --data.updates_per_epoch 10",
    "value_iteration/frozenlake": " --data.updates_per_epoch 2",
    "ram/mnist": " --data.data_dir mnist --data.validation_images 20 --data.batch_size 20 "
    "--model.num_glimpses 2 --model.hidden_size 8 --model.compiled false",
}


class StoppedError(BaseException):
    """Not an Exception, as a kill is none."""


@pytest.fixture
def stop_after(monkeypatch):
    """Let the process fall down where it would write one more than so many last checkpoints.

    A whole epoch has then been played and logged that no checkpoint knows of.
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


def write_mnist(folder):
    """A hundred random digits, and ten for the test, in MNIST's own format."""
    rng = np.random.default_rng(0)
    folder = folder / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 100), ("t10k", 10)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = np.array([0x800 + len(shape), *shape], ">i4").tobytes()
            values = rng.integers(10, size=shape, dtype=np.uint8).tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + values)


def fit(name, *arguments):
    config = str(CONFIGS / f"{name}.yaml")
    given = [*EXPERIMENTS[name].split(), *COMMON.split(), *arguments]
    return main(["fit", "--config", config, *given])


def outcome(folder):
    """The last checkpoint, the metrics and the replay of the one run in a folder."""
    (run,) = {path.parent.parent for path in folder.glob("runs/*/*/checkpoints/last.ckpt")}
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    # Where files lie differs, and Lightning keeps one score that it never reads again.
    for state in saved["callbacks"].values():
        for key in [key for key in state if "path" in key or "best_k" in key or "dir" in key]:
            del state[key]
        state.pop("current_score", None)
    replay = []
    for state in saved.get("ReplayDataModule", {}).get("ranks", []):
        for name, start, stop in state.pop("replay"):
            rows = torch.load(run / "checkpoints" / "replay" / name, weights_only=True)
            replay.append((start, stop, rows))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    metrics = client.get_run(run.name).data.metrics
    history = {
        key: [(point.step, point.value) for point in client.get_metric_history(run.name, key)]
        for key in metrics
        if not key.startswith("speed/")
    }
    return {"checkpoint": saved, "replay": replay, "history": history}


def differences(one, other, at=""):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [at]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for key in one for d in differences(one[key], other[key], f"{at}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{at}/{i}")]
    return [] if one == other or (one != one and other != other) else [f"{at}: {one}, {other}"]


def test_games_go_on_in_as_many_processes_and_copies_as_before():
    data = RolloutDataModule("CartPole-v1", num_envs=2, rollout_length=4)
    data.setup("fit")
    (state,) = data.state_dict()["ranks"]
    with pytest.raises(ConfigurationError, match=r"made by 2 processes and there are 1"):
        data.load_state_dict({"ranks": [state, state]})
    with pytest.raises(ConfigurationError, match=r"made with num_envs 3, not 2"):
        data.load_state_dict({"ranks": [state | {"num_envs": 3}]})
    data.load_state_dict({"ranks": [state]})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_resumed_run_equals_an_uninterrupted_one(
    name, working_folder, store, stop_after, monkeypatch
):
    if name == "a2c/hopper" and importlib.util.find_spec("mujoco") is None:
        pytest.skip("MuJoCo is not installed")
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
            torch.manual_seed(7)  # nothing may hang on the global state
            assert fit(name, "--ckpt_path", "last") == 0
        else:
            assert fit(name) == 0
        outcomes.append(outcome(Path()))
        os.chdir(working_folder)
    whole, resumed = outcomes
    assert whole["history"]
    assert whole["checkpoint"]["epoch"] == 2
    assert differences(whole, resumed) == []


KILLS = {name: 3 for name in EXPERIMENTS if name != "a2c/hopper"}
KILLS |= {"dqn/cartpole": 4, "a2c/cartpole": 4}


def in_a_process(folder, name, *arguments, seconds=None):
    """Run `fit` in a folder, and kill it after so many seconds; returns its exit code."""

    def run():
        os.chdir(folder)
        sys.exit(fit(name, *arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def test_there_are_twenty_kills_over_every_algorithm():
    assert sum(KILLS.values()) == 20
    assert {name.split("/")[0] for name in EXPERIMENTS} == {name.split("/")[0] for name in KILLS}


@pytest.mark.parametrize("name", KILLS)
def test_a_run_killed_at_any_moment_goes_on_as_if_it_had_not_been(name, working_folder, store):
    write_mnist(working_folder / "mnist")

    def folder():
        made = working_folder / f"{time.monotonic_ns()}"
        made.mkdir()
        (made / "mnist").symlink_to(working_folder / "mnist")
        return made

    whole = folder()
    start = time.monotonic()
    assert in_a_process(whole, name) == 0
    seconds = time.monotonic() - start
    expected = outcome(whole)
    moments = np.random.default_rng(len(name)).uniform(0, 1, KILLS[name])
    for moment in moments * seconds:
        killed = folder()
        while in_a_process(killed, name, seconds=moment) != -signal.SIGKILL:
            killed, moment = folder(), moment * 0.9  # it was quicker this time
        goes_on = ["--ckpt_path", "last"] if [*killed.rglob("last.ckpt")] else []
        assert in_a_process(killed, name, *goes_on) == 0
        assert differences(expected, outcome(killed)) == [], f"killed after {moment:.3f} s"

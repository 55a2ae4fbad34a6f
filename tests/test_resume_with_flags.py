"""Stops and resumes under Trainer flags, other sizes and other environments."""

import os
import signal

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from rl_lightning.callbacks.safeguards import Safeguards
from rl_lightning.runtime.checkpoints import AtomicCheckpoints
from small_runs import differences, outcome, run

gym.register("test/CartPole-v1", CartPoleEnv, max_episode_steps=200)
FIVE = "--data.updates_per_epoch 5 "
DQN = FIVE + "--data.batch_size 8 --data.warmup_env_steps 20 --data.capacity 24 "
DQN += "--data.priority_exponent 0.6 --target_network.every_n_updates 3 "
save = AtomicCheckpoints.save_checkpoint


def stopped_and_whole(folder, name, flags, *stops):
    """The outcomes of a run that stops at each of the given flags, and of one that never stops."""
    for number, stop in enumerate([*stops, ""]):
        goes_on = "--ckpt_path last" if number else ""
        assert run(folder / "stopped", 1, name, f"{flags} {stop} {goes_on}") == [0]
    assert run(folder / "whole", 1, name, flags) == [0]
    return outcome(folder / "stopped"), outcome(folder / "whole")


FLAGS = (
    "accumulate_grad_batches 2",
    "val_check_interval 2",
    "val_check_interval 0.5",
    "check_val_every_n_epoch 2",
    "limit_val_batches 1",
    "limit_train_batches 3",
    "reload_dataloaders_every_n_epochs 1",
    "gradient_clip_val 0.1 --trainer.gradient_clip_algorithm value",
)
SAMPLED = {("dqn/cartpole", FLAGS[1]), ("a2c/cartpole", FLAGS[3])}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        pytest.param(name, flags, marks=() if (name, flags) in SAMPLED else pytest.mark.slow)
        for name in ("a2c/cartpole", "dqn/cartpole")
        for flags in FLAGS
    ],
)
def test_stops_by_max_steps_one_after_another(name, flags, working_folder, store):
    flags = f"{DQN if name.startswith('dqn') else FIVE} --trainer.{flags}"
    stops = [f"--trainer.max_steps {steps}" for steps in (2, 4, 5, 7)]
    assert differences(*stopped_and_whole(working_folder, name, flags, *stops)) == []


@pytest.mark.parametrize("world_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_between_the_batches_of_one_update_is_resumed(
    world_size, working_folder, store, monkeypatch
):
    def save_and_die(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path)
        if checkpoint["RolloutDataModule"]["updates"] == 8 and path.endswith("last.ckpt"):
            os.kill(os.getpid(), signal.SIGKILL)

    flags = FIVE + "--trainer.accumulate_grad_batches 2 --trainer.val_check_interval 3 "
    flags += "--last_checkpoint.save_on_train_epoch_end false"
    whole, killed = working_folder / "whole", working_folder / "killed"
    assert run(whole, world_size, "a2c/cartpole", flags) == [0] * world_size
    with monkeypatch.context() as patched:
        patched.setattr(AtomicCheckpoints, "save_checkpoint", save_and_die)
        assert run(killed, world_size, "a2c/cartpole", flags)[0] == -signal.SIGKILL
    goes_on = f"{flags} --ckpt_path last"
    assert run(killed, world_size, "a2c/cartpole", goes_on) == [0] * world_size
    assert differences(outcome(whole), outcome(killed)) == []


@pytest.mark.parametrize("name", ["a2c/cartpole", "dqn/cartpole"])
def test_a_run_that_a_callback_or_max_time_stopped_is_resumed(
    name, working_folder, store, monkeypatch
):
    def stop(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step == 7  # like Lightning's Timer

    flags = DQN if name.startswith("dqn") else FIVE
    with monkeypatch.context() as patched:
        patched.setattr(Safeguards, "on_train_batch_end", stop)
        assert run(working_folder / "stopped", 1, name, flags) == [0]
    stopped, whole = stopped_and_whole(working_folder, name, flags, "--ckpt_path last")
    # When such a run stops, Lightning validates and logs once more.
    for each in (stopped, whole):
        callbacks = each["checkpoint"].pop("callbacks")
        each["early stopping"] = [v for k, v in callbacks.items() if "EarlyStopping" in k]
    for key, points in whole["history"].items():
        seen = dict.fromkeys(stopped["history"][key])
        stopped["history"][key] = [point for point in seen if point in points]
    assert differences(stopped, whole) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--data.env_id test/CartPole-v1", "env_id is CartPole-v1 in the checkpoint and"),
        ("--data.num_envs 4", "made with num_envs 2, not 4"),
        ("--model.activation relu", "activation is tanh in the checkpoint and relu in"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_nothing_is_written(
    flags, said, working_folder, store, capfd
):
    def written():
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    folder = working_folder / "run"
    first = f"{FIVE} --trainer.max_epochs 1"
    assert run(folder, 1, "a2c/cartpole", first) == [0]
    before = written()
    assert run(folder, 1, "a2c/cartpole", f"{first} {flags} --ckpt_path last") == [2]
    assert said in capfd.readouterr().err.splitlines()[-1]
    assert written() == before


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("a2c/cartpole", ""),
        ("dqn/cartpole", DQN),
        pytest.param("reinforce/cartpole_moving_average", "", marks=pytest.mark.slow),
        pytest.param("q_learning/frozenlake", "", marks=pytest.mark.slow),
    ],
)
def test_the_length_of_an_epoch_changes_no_random_number(name, flags, working_folder, store):
    outcomes = []
    for epochs, updates in ((2, 6), (4, 3)):
        folder = working_folder / f"{epochs}"
        length = f"--data.updates_per_epoch {updates} --trainer.max_epochs {epochs}"
        assert run(folder, 1, name, f"{flags} {length}") == [0]
        outcomes.append(outcome(folder))
    for each in outcomes:
        saved = each.pop("checkpoint")
        each["parts"] = [saved["state_dict"], saved["optimizer_states"], saved["learner"]]
        each["data"] = {key: saved[key] for key in saved if key.endswith("DataModule")}
        each["history"] = {k: v for k, v in each["history"].items() if k.startswith("train/")}
    assert differences(*outcomes) == []

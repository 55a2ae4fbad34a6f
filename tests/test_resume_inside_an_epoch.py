"""A run that is stopped after any update and resumed equals one that never stopped.

By default a sample of updates is tested; `pytest -m slow` tests all updates of an epoch.
"""

import os
import signal

import pytest

from rl_lightning.runtime.checkpoints import AtomicCheckpoints
from small_runs import differences, outcome, run

REPLAY = "--data.batch_size 8 --data.warmup_env_steps 20 --data.capacity 24 --data.n_step 3 "
# Every third update is logged, so that some epochs end with an update that is not logged.
RUNS = {
    # Two updates per environment step, so that no step may be due at the first after a resume.
    "dqn/cartpole": REPLAY + "--data.updates_per_epoch 5 --data.env_steps_per_update 1 "
    "--data.priority_exponent 0.6 --target_network.every_n_updates 3",
    "sac/pendulum": "--data.updates_per_epoch 5",
    "a2c/cartpole": "--data.updates_per_epoch 5",
    "reinforce/cartpole_moving_average": "--data.updates_per_epoch 4",
    "q_learning/frozenlake": REPLAY + "--data.updates_per_epoch 5 --data.num_envs 4 "
    "--data.env_steps_per_update 4",
    "value_iteration/frozenlake": "--data.updates_per_epoch 4",
    "ram/mnist": "",
}
save = AtomicCheckpoints.save_checkpoint


def updates_per_epoch(name, world_size):
    if name == "ram/mnist":
        return 4 // world_size  # the ranks share the images
    return 5 if "updates_per_epoch 5" in RUNS[name] else 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _store):
    """The outcome of a run that is not stopped, computed once for all tests."""
    made = {}

    def outcome_of(world_size, name):
        if (world_size, name) not in made:
            folder = tmp_path_factory.mktemp("whole") / "run"
            assert run(folder, world_size, name, RUNS[name]) == [0] * world_size
            made[world_size, name] = outcome(folder)
        return made[world_size, name]

    return outcome_of


def stops(sampled):
    """All updates of the second epoch. Those that are not in the sample are marked slow."""
    return pytest.mark.parametrize(
        ("world_size", "name", "update"),
        [
            pytest.param(
                *(world_size, name, update),
                marks=() if (world_size, name, update) in sampled else pytest.mark.slow,
                id=f"{name}-after-{update}-by-{world_size}",
            )
            for world_size in (1, 2)
            for name in RUNS
            for update in range(1, updates_per_epoch(name, world_size) + 1)
        ],
    )


@stops({(2, "dqn/cartpole", 3), *((1, name, 2) for name in RUNS), (1, "a2c/cartpole", 5)})
def test_a_run_that_max_steps_stopped_is_resumed(
    world_size, name, update, working_folder, store, whole
):
    flags, at = RUNS[name], updates_per_epoch(name, world_size) + update
    folder, well = working_folder / "run", [0] * world_size
    assert run(folder, world_size, name, f"{flags} --trainer.max_steps {at}") == well
    assert run(folder, world_size, name, f"{flags} --ckpt_path last") == well
    assert differences(whole(world_size, name), outcome(folder)) == []


@stops({(1, "dqn/cartpole", 5), (1, "ram/mnist", 2), (1, "value_iteration/frozenlake", 4)})
def test_a_run_killed_after_a_checkpoint_inside_an_epoch_is_resumed(
    world_size, name, update, working_folder, store, whole, monkeypatch
):
    def save_and_die(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path)
        if checkpoint["global_step"] == at and path.endswith("last.ckpt"):
            os.kill(os.getpid(), signal.SIGKILL)

    flags, at = RUNS[name], updates_per_epoch(name, world_size) + update
    folder = working_folder / "run"
    each_update = f"{flags} --last_checkpoint.every_n_train_steps 1"
    with monkeypatch.context() as patched:
        patched.setattr(AtomicCheckpoints, "save_checkpoint", save_and_die)
        assert run(folder, world_size, name, each_update)[0] == -signal.SIGKILL
    assert run(folder, world_size, name, f"{flags} --ckpt_path last") == [0] * world_size
    assert differences(whole(world_size, name), outcome(folder)) == []

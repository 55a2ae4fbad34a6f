"""A run stopped after any update goes on as if it had not been stopped, bit for bit.

By default a sample of the stops runs; `pytest -m slow` takes every update of an epoch.
"""

import os
import signal

import pytest

from rl_lightning.runtime.checkpoints import AtomicCheckpoints
from small_runs import differences, fit, in_a_process, on_ranks, outcome, write_mnist

# Metrics are logged at updates that are no multiple of an epoch.
TINY = "--trainer.max_epochs 3 --trainer.log_every_n_steps 3 "
REPLAY = "--data.batch_size 8 --data.warmup_env_steps 20 --data.capacity 60 --data.n_step 3 "
RUNS = {
    # Two updates between two environment steps: the first after a resume may have none.
    "dqn/cartpole": REPLAY + "--data.updates_per_epoch 5 --data.env_steps_per_update 1 "
    "--data.priority_exponent 0.6 --target_network.every_n_updates 3",
    "a2c/cartpole": "--data.updates_per_epoch 5",
    "reinforce/cartpole_moving_average": "--data.updates_per_epoch 4",
    "q_learning/frozenlake": REPLAY + "--data.updates_per_epoch 5",
    "value_iteration/frozenlake": "--data.updates_per_epoch 4",
    "ram/mnist": "",
}
UPDATES = {name: 5 if "updates_per_epoch 5" in flags else 4 for name, flags in RUNS.items()}
SECONDS = 120

save = AtomicCheckpoints.save_checkpoint


def run(folder, world_size, name, flags=""):
    """The exit codes of the ranks of one small run, or of a part of it."""
    if not folder.exists():
        folder.mkdir()
        write_mnist(folder / "mnist")
    given = (TINY + RUNS[name] + " " + flags).split()
    if world_size == 1:
        ranks = [in_a_process(folder, fit, name, *given)]
    else:
        ddp = f"--trainer.accelerator cpu --trainer.devices {world_size} --trainer.strategy ddp"
        ranks = on_ranks(world_size, folder, fit, name, *ddp.split(), *given)
    for rank in ranks:
        rank.join(SECONDS)
        rank.kill()
        rank.join()
    return [rank.exitcode for rank in ranks]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _store):
    """The outcome of a run that is not stopped, made once for all tests of its flags."""
    made = {}

    def outcome_of(world_size, name, flags=""):
        key = (world_size, name, flags)
        if key not in made:
            folder = tmp_path_factory.mktemp("whole") / "run"
            assert run(folder, world_size, name, flags) == [0] * world_size
            made[key] = outcome(folder)
        return made[key]

    return outcome_of


def stops(sampled, world_sizes=(1, 2)):
    """Every update of the second epoch; all but the sampled ones are behind the marker."""
    return [
        pytest.param(
            *(world_size, name, update),
            marks=() if (world_size, name, update) in sampled else pytest.mark.slow,
            id=f"{name}-after-{update}-by-{world_size}",
        )
        for world_size in world_sizes
        for name, updates in UPDATES.items()
        for update in range(1, updates + 1)
    ]


@pytest.mark.parametrize(
    ("world_size", "name", "update"),
    stops({(2, "dqn/cartpole", 3), *((1, name, 2) for name in RUNS), (1, "a2c/cartpole", 5)}),
)
def test_a_run_that_max_steps_stopped_goes_on(
    world_size, name, update, working_folder, store, whole
):
    folder, succeeded = working_folder / "run", [0] * world_size
    stop = f"--trainer.max_steps {UPDATES[name] + update}"
    assert run(folder, world_size, name, stop) == succeeded
    assert run(folder, world_size, name, "--ckpt_path last") == succeeded
    assert differences(whole(world_size, name), outcome(folder)) == []


@pytest.mark.parametrize(
    ("world_size", "name", "update"), stops({(1, "dqn/cartpole", 5), (1, "ram/mnist", 2)})
)
def test_a_run_killed_after_a_checkpoint_inside_an_epoch_goes_on(
    world_size, name, update, working_folder, store, whole, monkeypatch
):
    def save_and_die(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path)
        if checkpoint["global_step"] == UPDATES[name] + update and path.endswith("last.ckpt"):
            os.kill(os.getpid(), signal.SIGKILL)

    folder = working_folder / "run"
    with monkeypatch.context() as patched:
        patched.setattr(AtomicCheckpoints, "save_checkpoint", save_and_die)
        codes = run(folder, world_size, name, "--last_checkpoint.every_n_train_steps 1")
    assert codes[0] == -signal.SIGKILL
    assert run(folder, world_size, name, "--ckpt_path last") == [0] * world_size
    assert differences(whole(world_size, name), outcome(folder)) == []

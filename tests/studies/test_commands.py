"""`seeds` and `sweep` as whole commands."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rl_lightning.studies import commands
from rl_lightning.studies.runner import GRACE
from rl_lightning.studies.trial_table import TrialTable

CONFIG = str(Path(__file__).parent.parent.parent / "configs/a2c/cartpole.yaml")
SMALL = [
    *("--config", CONFIG, "--data.num_envs", "2", "--data.rollout_length", "4"),
    *("--data.eval_episodes", "2", "--data.num_eval_envs", "2", "--data.updates_per_epoch", "2"),
    *("--trainer.callbacks", "null"),  # without the EarlyStopping of the configuration
]
TWO_EPOCHS = [*SMALL, "--trainer.max_epochs", "2"]


def _runs(study):
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("a2c-CartPole-v1")
    of_study = f"tags.study = '{study}'"
    found = client.search_runs([experiment.experiment_id], of_study, order_by=["start_time"])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in found if run not in children]
    return client, parent, children


def _rows(path):
    with path.open() as file:
        return [*csv.DictReader(file)]


def test_seeds_trains_tests_and_goes_on_with_more_seeds(working_folder, capfd, store):
    first = ["seeds", *TWO_EPOCHS, "--seeds", "2", "--name", "mine", "--processes", "2"]
    assert commands.main(first) == 0
    rows = _rows(working_folder / "runs/studies/mine/seeds.csv")
    assert [row["seed_everything"] for row in rows] == ["1", "2"]
    assert all(float(row["last_return"]) > 0 and float(row["best_return"]) > 0 for row in rows)
    assert (working_folder / "runs/studies/mine/curves.png").stat().st_size > 10_000
    client, parent, children = _runs("mine")
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted(run.data.tags["seed"] for run in children) == ["1", "2"]
    returns = [run.data.metrics["test/return"] for run in children]
    mean = parent.data.metrics["last/return_mean"]
    assert mean == pytest.approx(sum(float(row["last_return"]) for row in rows) / 2)
    assert len(returns) == 2
    assert {each.path for each in client.list_artifacts(parent.info.run_id)} == {
        *("seeds.csv", "curves.csv", "curves.png")
    }
    out = capfd.readouterr().out
    assert "2 of 2 seeds came to the end" in out
    assert "(2 seeds)" in out
    assert sorted(run.info.run_name for run in children) == ["seed 1", "seed 2"]
    assert parent.info.run_name == "mine"
    for run in (parent, *children):
        assert run.data.tags["mlflow.user"]
        assert run.data.tags["mlflow.source.name"]
        assert run.data.tags["mlflow.note.content"].startswith("`python -m rl_lightning ")
    assert commands.main([*first[:-5], "3", *first[-4:]]) == 0
    client, again, children = _runs("mine")
    assert again.info.run_id == parent.info.run_id
    assert again.data.metrics["num_seeds"] == 3
    assert sorted(run.data.tags["seed"] for run in children) == ["1", "2", "3"]
    out = capfd.readouterr().out
    assert "seed 3, test/return" in out
    assert "seed 1, test/return" not in out


def test_a_sweep_finds_the_best_values_and_says_what_comes_next(working_folder, capfd, store):
    space = "{model.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}, data.num_envs: [2, 3]}"
    given = ["sweep", *TWO_EPOCHS, "--space", space, "--name", "sweep", "--trials"]
    assert commands.main([*given, "2"]) == 0
    assert commands.main([*given, "3"]) == 0
    rows = _rows(working_folder / "runs/studies/sweep/trials.csv")
    assert len({row["model.optimizer.lr"] for row in rows}) == len(rows) == 3
    _, parent, children = _runs("sweep")
    best = parent.data.tags["best.model.optimizer.lr"]
    highest = max(float(row["score"]) for row in rows)
    assert highest in {float(row["score"]) for row in rows if row["model.optimizer.lr"] == best}
    assert parent.data.metrics["val/return"] == pytest.approx(highest)
    assert parent.data.metrics["num_trials"] == 3
    rates = {float(run.data.params["model.optimizer.lr"]) for run in children}
    assert rates == {float(row["model.optimizer.lr"]) for row in rows}
    for number, row in enumerate(rows):
        lr, num_envs = float(row["model.optimizer.lr"]), row["data.num_envs"]
        (run,) = [each for each in children if each.data.tags["trial"] == str(number)]
        assert run.info.run_name == f"trial {number} lr {lr:.4g}, num_envs {num_envs}"
    out = capfd.readouterr().out
    assert f"--model.optimizer.lr={best}" in out
    assert "3 trials: 3 to the end, 0 pruned, 0 failed" in out


def test_trials_of_different_rollouts_have_equal_environment_steps(working_folder, store):
    space = ["--space", "{data.rollout_length: [4, 8, 16]}", "--name", "long", "--trials", "3"]
    assert commands.main(["sweep", *SMALL, *space, "--env_steps", "320"]) == 0
    rows = _rows(working_folder / "runs/studies/long/trials.csv")
    assert sorted(row["data.rollout_length"] for row in rows) == ["16", "4", "8"]
    for row in rows:  # the end of an update may be half an update away, which has two copies
        assert abs(int(row["steps"]) - 320) <= int(row["data.rollout_length"])


def test_ctrl_c_ends_all_runs_and_the_same_command_goes_on(working_folder, store):
    given = ["seeds", *SMALL, "--trainer.max_epochs", "60", "--seeds", "2", "--name", "stopped"]
    command = [sys.executable, "-m", "rl_lightning", *given, "--processes", "2"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len([*working_folder.glob("runs/*/*/checkpoints/last.ckpt")]) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130, said
    assert "resume it with: python -m rl_lightning seeds" in said
    contents = {"kind": "seeds", "arguments": given[1:-4]}
    table = TrialTable("sqlite:///studies.db", "stopped", contents)
    before = [len(trial.curve) for trial in table.trials()]
    assert {trial.state for trial in table.trials()} == {"stopped"}
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    assert [len(trial.curve) for trial in table.trials()] == [60, 60]
    assert {trial.state for trial in table.trials()} == {"complete"}
    assert all(0 < count < 60 for count in before)
    client, _, children = _runs("stopped")
    assert len(children) == 2, "the runs were started anew, and not resumed"
    for run in children:
        history = client.get_metric_history(run.info.run_id, "val/return")
        assert len({point.step for point in history}) == len(history) == 60


def _wait_for(found, seconds=120):
    until = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return result


def _pid_of(log):
    """The process of a trial, which says so in its log at its start."""
    return int(re.search(r"^process (\d+)$", log.read_text(), re.M)[1])


def test_a_killed_run_names_the_signal_and_the_study_says_so(working_folder, store):
    given = ["seeds", *SMALL, "--trainer.max_epochs", "100", "--seeds", "2", "--name", "killed"]
    command = [sys.executable, "-m", "rl_lightning", *given, "--processes", "2"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = working_folder / "runs/studies/killed/trial-1/output.log"
    _wait_for(lambda: log.is_file() and "\nepoch 2" in log.read_text())
    os.kill(_pid_of(log), signal.SIGKILL)
    out, err = started.communicate(timeout=200)
    assert started.returncode == 1
    assert "seed 2 failed: killed by SIGKILL, as the system does when memory is used up" in out
    assert "1 of 2 seeds came to the end" in out
    assert "Incomplete: the statistics are of 1 of 2 seeds" in out
    assert "error: 1 of 2 runs failed" in err
    _, parent, children = _runs("killed")
    states = {run.info.run_name: run.info.status for run in children}
    assert states == {"seed 1": "FINISHED", "seed 2": "FAILED"}
    assert parent.data.metrics["num_failed"] == 1


def test_a_study_whose_process_was_killed_is_resumed(working_folder, store):
    given = ["seeds", *SMALL, "--trainer.max_epochs", "100", "--seeds", "2", "--name", "resumed"]
    command = [sys.executable, "-m", "rl_lightning", *given, "--processes", "1"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = working_folder / "runs/studies/resumed/trial-0/output.log"
    _wait_for(lambda: log.is_file() and "\nepoch 2" in log.read_text())
    pid = _pid_of(log)
    os.kill(pid, signal.SIGSTOP)  # it cannot end by itself, as in a crash of the machine
    started.kill()
    started.wait()
    os.kill(pid, signal.SIGKILL)
    _, parent, (child,) = _runs("resumed")
    assert {parent.info.status, child.info.status} == {"RUNNING"}
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    _, again, children = _runs("resumed")
    assert again.info.run_id == parent.info.run_id
    assert child.info.run_id in {run.info.run_id for run in children}, "its run was not resumed"
    assert {run.info.status for run in (again, *children)} == {"FINISHED"}
    assert sorted(run.info.run_name for run in children) == ["seed 1", "seed 2"]


def test_the_runs_of_a_killed_study_end(working_folder, store):
    given = ["seeds", *SMALL, "--trainer.max_epochs", "9999", "--seeds", "1", "--name", "orphan"]
    command = [sys.executable, "-m", "rl_lightning", *given, "--processes", "1"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = working_folder / "runs/studies/orphan/trial-0/output.log"
    _wait_for(lambda: log.is_file() and "\nepoch 2" in log.read_text())
    started.kill()
    started.wait()
    _wait_for(lambda: not Path(f"/proc/{_pid_of(log)}").exists(), GRACE)


def test_a_launchers_variables_do_not_reach_the_runs(working_folder, store, monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"),
                        ("MASTER_ADDR", "localhost"), ("SLURM_PROCID", "1"),
                        ("SLURM_NTASKS", "2")):  # fmt: skip
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "rl_lightning", "seeds", *TWO_EPOCHS, "--seeds", "1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_runs_of_several_ranks_are_trained_and_tested(working_folder, store):
    two_ranks = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.eval_episodes", "4"]
    given = [*TWO_EPOCHS, *two_ranks, "--seeds", "1", "--name", "ranks", "--processes", "1"]
    assert commands.main(["seeds", *given]) == 0
    (row,) = _rows(working_folder / "runs/studies/ranks/seeds.csv")
    assert float(row["last_return"]) > 0
    assert float(row["best_return"]) > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["seeds", *SMALL, "--ckpt_path", "last"], "seeds sets --ckpt_path of each run itself"),
        (["seeds", *SMALL, "--seed_everything=3"], "seeds sets --seed_everything"),
        (["seeds", "--config", "a2c/cartpole", "--dat.num_envs", "3"], "dat.num_envs"),
        (["sweep", *SMALL, "--space", "{model.optimizr.lr: [1]}"], "optimizr"),
        (["sweep", *SMALL, "--space", "none.yaml"], "there is no file none.yaml"),
        (["seeds", "--config", "value_iteration/gridworld"], "has none"),
        (["seeds", *SMALL, "--storage", "nonsense"], "the storage nonsense cannot be opened"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(given, said, working_folder, capfd):
    assert commands.main(given) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert said in errors[0]
    assert not [*working_folder.iterdir()]


def test_the_front_door_knows_the_commands():
    for command in ("seeds", "sweep"):
        done = subprocess.run(
            [sys.executable, "-m", "rl_lightning", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"python -m rl_lightning {command}" in done.stdout

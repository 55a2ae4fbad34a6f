"""`seeds` and `sweep` as whole commands."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from rl_lightning.studies import commands

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
    assert "95 % interval" in capfd.readouterr().out
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
    given = ["sweep", *TWO_EPOCHS, "--trials", "3", "--space", space, "--name", "sweep"]
    assert commands.main(given) == 0
    rows = _rows(working_folder / "runs/studies/sweep/trials.csv")
    assert len(rows) == 3
    _, parent, children = _runs("sweep")
    best = parent.data.params["best.model.optimizer.lr"]
    highest = max(float(row["score"]) for row in rows)
    assert highest in {float(row["score"]) for row in rows if row["model.optimizer.lr"] == best}
    assert parent.data.metrics["val/return"] == pytest.approx(highest)
    rates = {float(run.data.params["model.optimizer.lr"]) for run in children}
    assert rates == {float(row["model.optimizer.lr"]) for row in rows}
    out = capfd.readouterr().out
    assert f"--model.optimizer.lr={best}" in out
    assert "3 trials to the end, 0 pruned or failed" in out


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
    study = optuna.load_study(study_name="stopped", storage="sqlite:///optuna.db")
    before = [len(trial.user_attrs["curve"]) for trial in study.trials[:2]]
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    study = optuna.load_study(study_name="stopped", storage="sqlite:///optuna.db")
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert [len(trial.user_attrs["curve"]) for trial in done] == [60, 60]
    assert all(0 < count < 60 for count in before)
    client, _, children = _runs("stopped")
    assert len(children) == 2, "the runs were started anew, and not resumed"
    for run in children:
        history = client.get_metric_history(run.info.run_id, "val/return")
        assert len({point.step for point in history}) == len(history) == 60


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
        (["seeds", *SMALL, "--storage", "nonsense"], "Optuna cannot open the storage"),
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

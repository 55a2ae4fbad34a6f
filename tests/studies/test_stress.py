"""Four processes on one study: started together, two of them killed, and resumed."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from importlib import util
from pathlib import Path

import pytest
from mlflow import MlflowClient

_spec = util.spec_from_file_location("databases", Path(__file__).with_name("databases.py"))
databases = util.module_from_spec(_spec)
_spec.loader.exec_module(databases)

CONFIG = str(Path(__file__).parent.parent.parent / "configs/a2c/cartpole.yaml")
TRAINING = [
    *("--config", CONFIG, "--data.num_envs", "2", "--data.rollout_length", "4"),
    *("--data.eval_episodes", "2", "--data.num_eval_envs", "2", "--data.updates_per_epoch", "2"),
    *("--trainer.callbacks", "null", "--trainer.max_epochs", "20"),
]
SEEDS = ["seeds", *TRAINING, "--seeds", "8", "--name", "stress", "--processes", "2"]
# Optuna draws the first ten trials from the name and the number alone, so they do not depend on
# the order in which trials end. With five trials none is pruned, which depends on that order too.
SWEEP = [
    *("sweep", *TRAINING, "--trials", "5", "--name", "stress", "--processes", "2"),
    *("--space", "{model.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}"),
]


def _start(command, folder, storage):
    arguments = [sys.executable, "-m", "rl_lightning", *command, "--storage", storage]
    tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return subprocess.Popen(
        arguments, cwd=folder, env={**os.environ, **tracking}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _ended(folder, command):
    """What a study ended on: a row for each trial, and the parent run with its children."""
    name = "seeds" if command[0] == "seeds" else "trials"
    with (folder / "runs/studies/stress" / f"{name}.csv").open() as file:
        rows = [*csv.DictReader(file)]
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name.startswith("a2c")]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED"}, "nothing is left RUNNING"
    return rows, parent


@pytest.mark.slow
@pytest.mark.parametrize("kind", databases.KINDS)
@pytest.mark.parametrize("command", [SEEDS, SWEEP], ids=["seeds", "sweep"])
def test_four_processes_of_which_two_are_killed_equal_one(command, kind, tmp_path):
    if (reason := databases.why_not(kind)) is not None:
        pytest.skip(reason)
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    undisturbed = _start(command, alone, f"sqlite:///{alone}/studies.db")
    out, _ = undisturbed.communicate(timeout=900)
    assert undisturbed.returncode == 0, out
    with databases.database(kind, together) as storage:
        begun = time.monotonic()
        processes = [_start(command, together, storage) for _ in range(4)]
        logs = together / "runs/studies/stress"
        while not [*logs.glob("trial-*/fit.json")]:  # a trial trains
            assert time.monotonic() - begun < 300
            time.sleep(0.05)
        chance = random.Random(os.getpid())
        print("seconds until the first trial:", time.monotonic() - begun)
        for process in processes[:2]:
            time.sleep(chance.uniform(0, 6))
            process.send_signal(signal.SIGKILL)
        processes += [_start(command, together, storage) for _ in range(2)]
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    statuses = [process.returncode for process in processes]
    assert statuses[2:] == [0, 0, 0, 0], outputs
    expected, expected_parent = _ended(alone, command)
    rows, parent = _ended(together, command)
    key = "seed_everything" if command[0] == "seeds" else "model.optimizer.lr"
    assert len({row[key] for row in rows}) == len(rows) == (8 if command is SEEDS else 5)
    left_out = ("fit_seconds", "run_id")
    assert [{k: v for k, v in row.items() if k not in left_out} for row in rows] == [
        {k: v for k, v in row.items() if k not in left_out} for row in expected
    ]
    assert parent.data.metrics == expected_parent.data.metrics
    assert parent.info.status == "FINISHED"

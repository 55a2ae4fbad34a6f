"""The MLflow run of a study."""

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from rl_lightning.studies import commands
from rl_lightning.studies.parent_run import ParentRun
from rl_lightning.studies.study import Ending
from rl_lightning.studies.subject import Subject
from rl_lightning.studies.trial_table import Trial, TrialTable

TRACKER = "rl_lightning.tracking.mlflow_tracker.MLflowTracker"


@pytest.fixture
def parent(store, tmp_path):
    def parent(loggers=None, name="one"):
        tags = {"algorithm": "a2c", "environment": "CartPole-v1"}
        subject = Subject(
            "parents", "val/return", "max", 1, loggers, store, {"a": "1"}, tags, True, 1
        )
        table = TrialTable(f"sqlite:///{tmp_path}/studies.db", name, {})
        return ParentRun(subject, table, "seeds", "python -m rl_lightning seeds")

    return parent


def test_a_second_start_has_the_same_run_also_if_the_first_was_killed(parent, monkeypatch):
    def killed(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "log_batch", killed)  # after the run has been made
    with pytest.raises(KeyboardInterrupt):
        parent(name="two")
    monkeypatch.undo()
    first, second = parent(name="two"), parent(name="two")
    assert first.run_id == second.run_id
    client = first._client
    named = client.search_runs([first._experiment_id], "tags.study = 'two'")
    assert [run.info.run_id for run in named] == [first.run_id]
    assert first.run_id != parent(name="three").run_id


def test_only_running_children_are_ended(parent):
    run = parent(name="children")
    client = run._client

    def child(number, status):
        tags = {"mlflow.parentRunId": run.run_id, "trial": str(number)}
        made = client.create_run(run._experiment_id, tags=tags).info.run_id
        client.update_run(made, status=status)
        return made

    runs = [child(1, "RUNNING"), child(1, "FINISHED"), child(2, "RUNNING")]

    def states():
        return [client.get_run(each).info.status for each in runs]

    run.end_runs(1)
    assert states() == ["FAILED", "FINISHED", "RUNNING"]
    run.end_runs()
    assert states() == ["FAILED", "FINISHED", "FAILED"]
    assert client.get_run(run.run_id).info.status == "RUNNING"


@pytest.mark.parametrize("is_list", [False, True])
def test_each_tracker_of_a_trial_is_told_its_name_and_its_parent(parent, is_list):
    tracker = {"class_path": TRACKER, "init_args": {"tags": {"mine": "1"}, "save_dir": "x"}}
    other = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "y"}}
    run = parent([other, tracker] if is_list else tracker)
    trial = Trial(7, {"model.lr": 0.002}, "running", "", 0, {})
    loggers = run.loggers_of(trial)
    told = loggers[1] if is_list else loggers
    assert told["init_args"]["run_name"] == "trial 7 lr 0.002"
    assert told["init_args"]["save_dir"] == "x"
    assert told["init_args"]["tags"] == {
        "mine": "1", "study": "one", "trial": "7", "mlflow.parentRunId": run.run_id
    }  # fmt: skip
    assert not is_list or loggers[0] == other
    assert "run_name" not in tracker["init_args"]


def test_a_study_goes_on_without_mlflow(parent, monkeypatch, capfd):
    run = parent()

    def fail(self, *args, **kwargs):
        raise MlflowException("no\nanswer")

    for name in ("search_runs", "set_terminated", "log_batch"):
        monkeypatch.setattr(MlflowClient, name, fail)
    run.end_runs(1)
    run.stop()
    run.finish(Ending([], [], {"a": 1.0}, {}), "FINISHED")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("(no answer)") for line in lines)


def test_a_storage_that_fails_is_one_line(monkeypatch, capfd):
    def fail(study, command):
        raise OperationalError("SELECT", {}, Exception("the server\nhas gone"))

    monkeypatch.setattr(commands, "_run", fail)
    assert commands.main(["seeds", "--config", "a2c/cartpole"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "the storage sqlite:///studies.db failed" in line

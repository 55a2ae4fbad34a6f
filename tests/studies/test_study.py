"""A study's trials, with runs that are played by a function."""

import threading
import time

import pytest
from optuna.pruners import MedianPruner, NopPruner
from optuna.trial import TrialState
from rl_lightning.studies.training import Subject
from rl_lightning.studies.trial_process import StudyStoppedError, TrialFailedError

from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies import storage
from rl_lightning.studies.study import Plan, StudyRunner, open_study

SUBJECT = Subject("a2c-CartPole-v1", "val/return", "max", 1, None, {}, {})


class PlayedRuns:
    """Stands for the processes: calls a function for each run."""

    def __init__(self, play):
        self.is_stopping, self._play = False, play
        self.begun = []

    def run(self, arguments, tags, monitor, log, heard):
        self.begun.append(arguments)
        self._play(self, arguments, heard)

    def stop(self):
        self.is_stopping = True


def reach(score):
    """A run with two validations that reaches a score, and its test."""

    def play(runs, arguments, heard):
        if arguments[0] == "test":
            heard("tested", {"return": score})
            return
        heard("validated", (0, 10, score / 2, 1.0, True))
        heard("validated", (1, 20, score, 2.0, True))
        heard("checkpoints", {"last": "last.ckpt"})
        heard("fitted", 3.0)

    return play


@pytest.fixture
def study_of(tmp_path):
    def make(play, name="one", pruner=None, **contents):
        study = open_study(
            name,
            f"sqlite:///{tmp_path}/optuna.db",
            SUBJECT,
            contents,
            pruner=pruner or NopPruner(),
        )
        runs, lines = PlayedRuns(play), []
        plan = Plan(
            SUBJECT, ["--a", "1"], ["--b", "2"], tmp_path, "parent", lambda trial: draw(trial)
        )
        return study, runs, StudyRunner(study, plan, runs, lines.append), lines

    def draw(trial):
        trial.suggest_int("seed_everything", 0, 100)

    return make


def _queue(study, seeds):
    for seed in seeds:
        study.enqueue_trial({"seed_everything": seed})
    return lambda: len(study.get_trials(states=[TrialState.WAITING]))


def test_no_two_processes_take_the_same_trial(study_of):
    def play(runs, arguments, heard):
        time.sleep(0.05)
        reach(1.0)(runs, arguments, heard)

    study, runs, runner, _ = study_of(play)
    runner.run(8, _queue(study, range(24)))
    fits = [begun for begun in runs.begun if begun[0] == "fit"]
    assert sorted(int(begun[-1].split("=")[1]) for begun in fits) == [*range(24)]
    assert len(runs.begun) == 48
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_a_run_that_fails_does_not_stop_the_others(study_of):
    def play(runs, arguments, heard):
        if arguments[-1] == "--seed_everything=1":
            raise TrialFailedError("the loss is nan")
        reach(7.0)(runs, arguments, heard)

    study, _, runner, lines = study_of(play)
    runner.run(1, _queue(study, range(3)))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs["error"] == "the loss is nan"
    assert "seed 1 failed: the loss is nan" in lines
    assert study.trials[0].value == 7.0


def test_a_run_without_validation_has_failed(study_of):
    study, _, runner, lines = study_of(lambda runs, arguments, heard: heard("fitted", 1.0))
    runner.run(1, _queue(study, [1]))
    assert lines == ["seed 1 failed: it ended before its first validation"]


def test_a_stopped_study_goes_on_from_the_checkpoint(study_of, tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_text("")

    def cut_off(runs, arguments, heard):
        heard("folder", str(folder))
        heard("validated", (0, 10, 1.0, 5.0, True))
        heard("validated", (1, 20, 2.0, 6.0, True))
        runs.stop()
        raise StudyStoppedError

    study, runs, runner, _ = study_of(cut_off)
    with pytest.raises(KeyboardInterrupt):
        runner.run(1, _queue(study, [4, 5]))
    assert len(runs.begun) == 1

    def go_on(runs, arguments, heard):
        heard("validated", (1, 20, 2.5, 1.0, True))
        heard("validated", (2, 30, 3.0, 2.0, True))
        heard("fitted", 2.5)

    study, runs, runner, _ = study_of(go_on)
    runner.run(1, lambda: len(study.get_trials(states=[TrialState.WAITING])))
    checkpoint = ["--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]
    assert ["fit", "--a", "1", "--seed_everything=4", *checkpoint] in runs.begun
    assert ["fit", "--a", "1", "--seed_everything=5"] in runs.begun
    (done,) = [t for t in study.trials if t.params == {"seed_everything": 4} and t.value]
    # The seconds up to the last validation that is kept are added.
    assert done.user_attrs["curve"] == [[10, 1.0, 5.0], [20, 2.5, 7.0], [30, 3.0, 8.0]]
    assert done.user_attrs["seconds"] == 8.5


def test_a_stopped_trial_that_the_storage_takes_for_running_is_queued_once(study_of, monkeypatch):
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    study, _, _, _ = study_of(None)
    remaining = _queue(study, [9])
    stopped = study.ask()
    stopped.suggest_int("seed_everything", 0, 100)
    study._storage.record_heartbeat(stopped._trial_id)
    storage.requeue(study, stopped)
    study, runs, runner, _ = study_of(reach(3.0))
    runner.run(1, remaining)
    assert [begun[0] for begun in runs.begun] == ["fit", "test"]
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert "requeued" not in study.trials[1].user_attrs


def test_a_trial_of_a_killed_process_is_begun_again(study_of, monkeypatch):
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    study, _, _, _ = study_of(None)
    remaining = _queue(study, [9])
    killed = study.ask()
    killed.suggest_int("seed_everything", 0, 100)
    study._storage.record_heartbeat(killed._trial_id)
    study, runs, runner, lines = study_of(reach(3.0))
    runner.run(2, remaining)
    common = ["--a", "1", "--seed_everything=9"]
    test = ["test", "--b", "2", "--seed_everything=9", "--ckpt_path", "last.ckpt"]
    assert runs.begun == [["fit", *common], test]
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert lines[0] == "waiting for 1 runs that another process has started"


def test_a_trial_that_was_cut_off_in_its_test_is_not_trained_again(study_of):
    def cut_off(runs, arguments, heard):
        if arguments[0] == "test":
            runs.stop()
            raise StudyStoppedError
        reach(3.0)(runs, arguments, heard)

    study, _, runner, _ = study_of(cut_off)
    with pytest.raises(KeyboardInterrupt):
        runner.run(1, _queue(study, [4]))
    study, runs, runner, _ = study_of(reach(5.0))
    runner.run(1, lambda: len(study.get_trials(states=[TrialState.WAITING])))
    assert [begun[0] for begun in runs.begun] == ["test"]
    assert study.trials[-1].value == 5.0
    assert study.trials[-1].user_attrs["seconds"] == 3.0


def test_a_run_of_several_ranks_is_not_pruned(study_of):
    def play(runs, arguments, heard):
        score = 10.0 if len(runs.begun) <= 2 else 1.0
        assert not heard("validated", (0, 10, score, 1.0, False))
        heard("fitted", 1.0)

    study, _, runner, _ = study_of(play, pruner=MedianPruner(2, 0))
    runner.run(1, _queue(study, range(3)))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_bad_trials_are_pruned(study_of):
    stopped = []

    def play(runs, arguments, heard):
        score = 10.0 if len(runs.begun) <= 2 else 1.0
        stopped.append(heard("validated", (0, 10, score, 1.0, True)))
        heard("fitted", 1.0)

    study, _, runner, lines = study_of(play, pruner=MedianPruner(2, 0))
    runner.run(1, _queue(study, range(3)))
    assert stopped == [False, False, True]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert lines[-1].endswith("pruned")


def test_another_study_of_the_same_name_is_refused(study_of):
    study_of(None, arguments=["--a", "1"])
    study_of(None, arguments=["--a", "1"])
    with pytest.raises(ConfigurationError, match="give another --name"):
        study_of(None, arguments=["--a", "2"])


def test_a_storage_that_cannot_be_opened_is_refused():
    for address in ("nonsense", "sqlite:////no/such/folder/optuna.db"):
        with pytest.raises(ConfigurationError, match="Optuna cannot open the storage"):
            open_study("one", address, SUBJECT, {})


def test_the_signal_handlers_are_restored(study_of):
    import signal

    before = signal.getsignal(signal.SIGINT)
    study, _, runner, _ = study_of(reach(1.0))
    runner.run(1, _queue(study, [1]))
    assert signal.getsignal(signal.SIGINT) is before
    assert threading.active_count() < 10

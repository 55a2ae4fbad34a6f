"""The trials of a study, with commands that are played by a function."""

import json
import signal
import threading
import time
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

import pytest

from rl_lightning.runtime.stopping import StoppedError
from rl_lightning.studies import runner as runner_module
from rl_lightning.studies.runner import Runner
from rl_lightning.studies.seeds import Seeds
from rl_lightning.studies.subject import Subject
from rl_lightning.studies.sweep import Sweep
from rl_lightning.studies.trial_table import TrialTable

SUBJECT = Subject("a2c-CartPole-v1", "val/return", "max", 1, None, None, {}, {}, True, 100)


class PlayedCommand:
    """Stands for a process: ends at once with the exit status that a function returns."""

    begun: list[list[str]]
    play = None
    error = "the loss is nan"

    def __init__(self, arguments, log):
        self.begun.append(arguments)
        flags = dict(each.removeprefix("--").split("=", 1) for each in arguments if "=" in each)
        self.file, self.flags = flags["trainer.callbacks.init_args.path"], flags
        self.status = type(self).play(self, arguments[0])

    def write(self, **result):
        with open(self.file, "w") as file:
            json.dump(result, file)

    def stop(self, signum=signal.SIGINT):
        pass

    def wait(self):
        pass


def reach(score, **more):
    """A run with two validations that reaches a score, and its test."""

    def play(command, name):
        if name == "test":
            command.write(metrics={"return": score})
            return 0
        curve = [[10, score / 2, 1.0], [20, score, 2.0]]
        result = {"curve": curve, "checkpoints": {"last": "last.ckpt"}, "seconds": 3.0}
        command.write(**{**result, **more})
        return 0

    return play


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Starts a study in this process, with its commands played; returns what was done."""
    signals = []
    monkeypatch.setattr(runner_module, "_received_signals", lambda: nullcontext(signals))
    monkeypatch.setattr(runner_module, "GRACE", 0.3)
    monkeypatch.setattr(runner_module, "BEAT", 0.05)

    def start(play, kind="seeds", at_once=1, name="one", **options):
        class Command(PlayedCommand):
            begun: list = []  # noqa: RUF012

        Command.play = play
        monkeypatch.setattr(runner_module, "RunningCommand", Command)
        if kind == "seeds":
            options = {"first_seed": 1, "test_episodes": None, **options}
            study = Seeds(Namespace(**options), ["--a", "1"])
        else:
            options = {"env_steps": None, "space": "{model.lr: {low: 0.1, high: 0.9}}", **options}
            study = Sweep(Namespace(**options), ["--a", "1"])
        study.prepare(SUBJECT, tmp_path / name)
        table = TrialTable(f"sqlite:///{tmp_path}/studies.db", name, study.contents())
        capsys.readouterr()
        signals.clear()
        Runner(table, study, None).run(at_once)
        return table.trials(), Command.begun, capsys.readouterr().out.splitlines()

    start.stop = lambda: signals.append(signal.SIGINT)
    return start


def test_each_seed_is_trained_and_tested_once(start):
    trials, begun, lines = start(reach(7.0), seeds=3, at_once=2)
    assert [trial.parameters for trial in trials] == [{"seed_everything": s} for s in (1, 2, 3)]
    assert {trial.state for trial in trials} == {"complete"}
    assert sorted(each[0] for each in begun) == ["fit"] * 3 + ["test"] * 3
    assert all("--a" in each for each in begun)
    assert [each[-1] for each in begun if each[0] == "test"] == ["--ckpt_path=last.ckpt"] * 3
    assert "seed 2, test/return 7 (last), 20 steps, 3 s" in lines
    _, begun, _ = start(reach(8.0), seeds=5)
    seeds = {flag for each in begun for flag in each if flag.startswith("--seed_everything")}
    assert seeds == {"--seed_everything=4", "--seed_everything=5"}, "only the new ones"


def test_a_resumed_sweep_repeats_no_trial_and_does_as_many_as_were_asked_for(start):
    start(reach(1.0), "sweep", trials=2)
    first, begun, _ = start(reach(1.0), "sweep", trials=4)
    assert len(begun) == 2
    assert len({trial.parameters["model.lr"] for trial in first}) == len(first) == 4
    assert [trial.number for trial in first] == [0, 1, 2, 3]
    trials, begun, _ = start(reach(1.0), "sweep", trials=3)
    assert (trials, begun) == (first, [])


@pytest.mark.parametrize(("kind", "options"), [("seeds", {"seeds": 12}), ("sweep", {"trials": 12})])
def test_several_processes_share_the_trials(start, kind, options, monkeypatch):
    monkeypatch.setattr(runner_module, "GRACE", 20.0)  # the threads wait for each other

    def play(command, name):
        time.sleep(0.01)
        return reach(1.0)(command, name)

    begun, threads = [], []
    for _ in range(4):
        run = lambda: begun.extend(start(play, kind, 2, **options)[1])  # noqa: E731
        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for thread in threads:
        thread.join()
    trials, _, _ = start(play, kind, **options)
    assert len(trials) == 12
    assert len({str(trial.parameters) for trial in trials}) == 12
    assert {trial.state for trial in trials} == {"complete"}


def test_a_discrete_space_ends_when_all_its_values_are_tried(start):
    space = "{model.lr: [1, 2], model.n: {low: 1, high: 3}}"
    trials, begun, _ = start(reach(1.0), "sweep", trials=20, space=space)
    assert len({str(trial.parameters) for trial in trials}) == len(trials) == len(begun) == 6


def test_trials_have_equal_env_steps_and_no_end_of_the_configuration(start):
    _, begun, _ = start(reach(1.0), "sweep", trials=1)
    (fit,) = begun
    assert "--trainer.callbacks.init_args.env_steps=100" in fit
    assert {"--trainer.max_epochs=-1", "--trainer.max_steps=-1"} <= {*fit}
    _, begun, _ = start(reach(1.0), "sweep", trials=1, name="two", env_steps=70)
    assert "--trainer.callbacks.init_args.env_steps=70" in begun[0]
    _, begun, _ = start(reach(1.0), seeds=1, name="three")
    assert not any("env_steps" in flag or "max_epochs" in flag for flag in begun[0])


def test_a_run_that_fails_does_not_stop_the_others(start):
    def play(command, name):
        return 1 if "--seed_everything=2" in command.begun[-1] else reach(7.0)(command, name)

    trials, _, lines = start(play, seeds=3)
    assert [trial.state for trial in trials] == ["complete", "failed", "complete"]
    assert trials[1].result["error"] == "the loss is nan"
    assert "seed 2 failed: the loss is nan" in lines
    again, begun, _ = start(reach(5.0), seeds=3)
    assert len(begun) == 2, "the next start tries it again, and only it"
    assert [trial.result["value"] for trial in again] == [7.0, 5.0, 7.0]
    assert "error" not in again[1].result


def test_a_run_that_diverged_is_not_tried_again(start):
    def play(command, name):
        command.write(curve=[[10, 1.0, 1.0]], error="the loss is nan", diverged=True)
        return 1

    trials, begun, _ = start(play, seeds=1)
    assert (len(begun), trials[0].state) == (1, "failed")
    assert start(play, seeds=1)[:2] == (trials, [])


@pytest.mark.parametrize("kind", ["seeds", "sweep"])
def test_a_score_of_nan_fails_the_trial(start, kind):
    options = {"seeds": 2} if kind == "seeds" else {"trials": 2}
    trials, _, lines = start(reach(float("nan")), kind, **options)
    assert [trial.state for trial in trials] == ["failed", "failed"]
    assert all(trial.result["diverged"] for trial in trials)
    assert lines[0].endswith("failed: its score is nan")


def test_a_run_without_validation_has_failed(start):
    _, _, lines = start(reach(1.0, curve=[]), seeds=1)
    assert lines == ["seed 1 failed: it ended before its first validation"]


def test_a_stopped_study_goes_on_from_the_checkpoint(start, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_text("")

    def stopped(command, name):
        command.write(folder=str(tmp_path / "run"), curve=[[10, 1.0, 5.0]])
        start.stop()

    with pytest.raises(StoppedError):
        start(stopped, seeds=2)
    trials, begun, _ = start(reach(3.0), seeds=2)
    assert [trial.state for trial in trials] == ["complete", "complete"]
    fits = [each for each in begun if each[0] == "fit"]
    assert fits[0][-1] == f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    assert "--seed_everything=1" in fits[0]
    assert not any("ckpt_path" in flag for flag in fits[1])


def test_a_trial_of_a_killed_process_is_taken_over_after_the_grace_time(start, tmp_path):
    start(reach(3.0), seeds=1)
    table = TrialTable(
        f"sqlite:///{tmp_path}/studies.db", "one", {"kind": "seeds", "arguments": ["--a", "1"]}
    )
    killed = table.add(1, {"seed_everything": 2})
    before = time.monotonic()
    trials, begun, _ = start(reach(3.0), seeds=2)
    assert time.monotonic() - before > 0.3
    assert [each[0] for each in begun] == ["fit", "test"]
    assert [trial.state for trial in trials] == ["complete", "complete"]
    assert trials[1].owner != killed.owner


def test_results_of_a_process_that_was_killed_at_its_end_are_kept(start, tmp_path):
    start(reach(3.0), seeds=1)
    contents = {"kind": "seeds", "arguments": ["--a", "1"]}
    table = TrialTable(f"sqlite:///{tmp_path}/studies.db", "one", contents)
    table.add(1, {"seed_everything": 2})
    folder = tmp_path / "one" / "trial-1"
    folder.mkdir()
    for name in ("fit", "last"):
        written = (tmp_path / "one" / "trial-0" / f"{name}.json").read_text()
        (folder / f"{name}.json").write_text(written)
    trials, begun, _ = start(reach(9.0), seeds=2)
    assert begun == []
    assert [trial.result["value"] for trial in trials] == [3.0, 3.0]


def test_a_trial_that_another_process_keeps_alive_is_left_alone(start, tmp_path):
    start(reach(3.0), seeds=1)
    table = TrialTable(
        f"sqlite:///{tmp_path}/studies.db", "one", {"kind": "seeds", "arguments": ["--a", "1"]}
    )
    trial = table.add(1, {"seed_everything": 2})

    def keep(trial):
        for _ in range(20):
            time.sleep(0.05)
            trial = table.save(trial, "running", {})
        table.save(trial, "complete", {"value": 4.0, "curve": [[1, 4.0, 1.0]]})

    keeper = threading.Thread(target=keep, args=(trial,))
    keeper.start()
    trials, begun, _ = start(reach(3.0), seeds=2)
    keeper.join()
    assert begun == []
    assert trials[1].result["value"] == 4.0


def test_a_trial_that_was_stopped_in_its_test_is_not_trained_again(start):
    def stopped(command, name):
        return start.stop() if name == "test" else reach(3.0)(command, name)

    with pytest.raises(StoppedError):
        start(stopped, seeds=1)
    trials, begun, _ = start(reach(5.0), seeds=1)
    assert [each[0] for each in begun] == ["test"]
    assert (trials[0].result["value"], trials[0].result["seconds"]) == (5.0, 3.0)


def test_a_process_that_lost_its_trial_stops_the_run(start, tmp_path):
    stopped = []

    def play(command, name):
        table = TrialTable(
            f"sqlite:///{tmp_path}/studies.db", "one", {"kind": "seeds", "arguments": ["--a", "1"]}
        )
        (trial,) = table.trials()
        taken = table.save(trial, "running", {})
        table.save(taken, "complete", {"value": 9.0})
        command.stop = lambda signum=signal.SIGINT: stopped.append(signum)

    trials, _, lines = start(play, seeds=1)
    assert stopped == [signal.SIGKILL]
    assert (trials[0].result, lines) == ({"value": 9.0}, [])


def test_a_hopeless_trial_is_pruned(start, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Sweep, "is_hopeless", lambda self, trial, trials: asked.append(trial.curve) or True
    )

    def play(command, name):
        curve = [[10, 1.0, 1.0]]
        command.write(curve=curve)

        class Status:
            """None until the study asks the run to stop."""

            def __get__(self, command, kind):
                if not Path(command.file).with_name("prune").exists():
                    return None
                command.write(curve=curve, checkpoints={}, seconds=1.0, pruned=True)
                return 0

            def __set__(self, command, status):
                pass

        type(command).status = Status()

    trials, _, lines = start(play, "sweep", trials=1)
    assert [trial.state for trial in trials] == ["pruned"]
    assert asked[0] == [[10, 1.0, 1.0]]
    assert lines[0].endswith("pruned")

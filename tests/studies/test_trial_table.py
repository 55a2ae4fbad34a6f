"""The table of trials: what several processes at once may do."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path

import pytest

from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.studies.trial_table import Trial, TrialTable

_spec = util.spec_from_file_location("databases", Path(__file__).with_name("databases.py"))
databases = util.module_from_spec(_spec)
_spec.loader.exec_module(databases)


@pytest.fixture(params=databases.KINDS)
def address(request, tmp_path):
    if (reason := databases.why_not(request.param)) is not None:
        pytest.skip(reason)
    with databases.database(request.param, tmp_path) as address:
        yield address


def _at_once(number, function):
    """Call a function in several threads, all of which begin at the same time."""
    barrier = threading.Barrier(number)

    def call(index):
        barrier.wait()
        return function(index)

    with ThreadPoolExecutor(number) as pool:
        return [*pool.map(call, range(number))]


def test_eight_first_starts_make_the_tables_and_one_study(address):
    tables = _at_once(8, lambda _: TrialTable(address, "one", {"kind": "seeds"}))
    made = []

    def make(study_id):
        made.append(study_id)
        time.sleep(0.05)
        return f"run of {study_id}"

    ids = _at_once(8, lambda index: tables[index].parent_run(make))
    assert len(made) == 1
    assert {*ids} == {f"run of {made[0]}"}


def test_the_parent_of_a_process_that_was_killed_can_be_found(address):
    table = TrialTable(address, "one", {})
    asked = []

    def killed(study_id):
        asked.append(study_id)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.parent_run(killed)
    again = TrialTable(address, "one", {})
    assert again.parent_run(lambda study_id: asked.append(study_id) or "found") == "found"
    assert asked[0] == asked[1]
    assert again.parent_run(killed) == "found"


def test_a_number_and_parameters_exist_once(address):
    table = TrialTable(address, "one", {})

    def add(index):
        # Each of the twelve numbers and each of the four parameters is tried three or nine times.
        return TrialTable(address, "one", {}).add(index % 12, {"lr": float(index % 4)})

    added = [trial for trial in _at_once(36, add) if trial is not None]
    trials = table.trials()
    assert len(added) == len(trials) == 4
    assert sorted(trial.parameters["lr"] for trial in trials) == [0.0, 1.0, 2.0, 3.0]
    assert len({trial.number for trial in trials}) == 4
    assert TrialTable(address, "two", {}).add(0, {"lr": 0.0}) is not None


def test_one_of_several_takes_a_trial_over(address):
    first = TrialTable(address, "one", {})
    dead = first.add(0, {"lr": 0.1})
    tables = [TrialTable(address, "one", {}) for _ in range(8)]
    taken = [
        each
        for each in _at_once(8, lambda i: tables[i].save(dead, "running", {}))
        if each is not None
    ]
    assert len(taken) == 1
    assert first.save(dead, "complete", {"value": 1.0}) is None, "it was not its own any more"
    assert first.trials() == taken


def test_a_result_comes_back_as_it_was(address):
    table = TrialTable(address, "one", {})
    result = {"curve": [[10, float("inf"), 0.5]], "value": 1.0, "error": "Größe 1e-3"}
    saved = table.save(table.add(0, {"a": [1, "x"], "b": 1e-7}), "complete", result)
    (trial,) = TrialTable(address, "one", {}).trials()
    assert trial == saved
    assert (trial.parameters, trial.result) == ({"a": [1, "x"], "b": 1e-7}, result)


def test_another_study_of_the_same_name_is_refused(tmp_path):
    address = f"sqlite:///{tmp_path}/studies.db"
    TrialTable(address, "one", {"arguments": ["--a", "1"]})
    TrialTable(address, "one", {"arguments": ["--a", "1"]})
    with pytest.raises(ConfigurationError, match="give another --name"):
        TrialTable(address, "one", {"arguments": ["--a", "2"]})


@pytest.mark.parametrize("address", ["nonsense", "sqlite:////no/such/folder/studies.db"])
def test_a_database_that_cannot_be_opened_is_refused(address):
    with pytest.raises(ConfigurationError, match="cannot be opened") as raised:
        TrialTable(address, "one", {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"seed_everything": 3}, "seed 3"),
        ({"model.optimizer.lr": 0.0020001}, "trial 7 lr 0.002"),
        ({"model.optimizer.lr": 1e-5, "data.num_envs": 8}, "trial 7 lr 1e-05, num_envs 8"),
        ({"model.a.lr": 1.0, "model.b.lr": 2.0}, "trial 7 model.a.lr 1, model.b.lr 2"),
    ],
)
def test_the_name_has_number_and_values(parameters, name):
    assert Trial(7, parameters, "running", "", 0, {}).name == name

"""Every flag of Lightning's Trainer does what it says, or is refused in one line."""

import inspect
import itertools
import re
from pathlib import Path

import lightning
import pytest
import torch

from flag_rows import ALGORITHMS, CLASSIFIERS, ROWS, Row, render
from flag_runs import COMMON, DATA, MODULES, error_of, run
from small_runs import write_mnist

DOCS = Path(__file__).parent.parent / "docs" / "trainer_flags.md"
MONITORS = {
    **{name: ("val/return", "max") for name in ALGORITHMS},
    **dict.fromkeys(CLASSIFIERS, ("val/error", "min")),
}


@pytest.fixture(scope="session")
def mnist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mnist")
    write_mnist(folder)
    return folder


@pytest.fixture(autouse=True)
def _settings_of_torch_as_before():
    """Some flags set them for the whole process."""
    algorithms, benchmark = (
        torch.are_deterministic_algorithms_enabled(),
        (torch.backends.cudnn.benchmark),
    )
    yield
    torch.use_deterministic_algorithms(algorithms)
    torch.backends.cudnn.benchmark = benchmark
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def cases():
    """All rows by all algorithms; the default suite takes every second row, by one in turn."""
    turns = itertools.cycle(ALGORITHMS)
    for number, each in enumerate(ROWS):
        works = [name for name in ALGORITHMS if name not in each.refused]
        quick = _first(turns, works) or _first(turns, each.refused)
        for name in ALGORITHMS:
            marks = () if name == quick and number % 2 == 0 else (pytest.mark.slow,)
            label = f"{each.flag}={each.shown or each.arguments}-{name}"
            yield pytest.param(each, name, id=label, marks=marks)


def _first(turns, names):
    return next((name for name in itertools.islice(turns, len(ALGORITHMS)) if name in names), None)


@pytest.mark.parametrize(("row", "algorithm"), cases())
def test_a_flag_does_what_it_says_or_is_refused(
    row: Row, algorithm, mnist, working_folder, store, monkeypatch
):
    monitor, mode = MONITORS[algorithm]
    names = {"monitor": monitor, "mode": mode, "mnist": mnist, "store": store}
    given = f"--trainer.logger {row.logger} --trainer.{row.flag} {row.arguments}".format(**names)
    if row.flag == "logger":
        given = f"--trainer.logger {row.arguments}".format(**names)
    data = f"{MODULES[algorithm]} {DATA[algorithm]}".format(**names)
    if row.subcommand != "fit":
        given += " --untrained true "
        given += "--data.batch_size 5" if algorithm in CLASSIFIERS else "--data.eval_episodes 4"
        given += " --data.predict_episodes 2" if algorithm not in CLASSIFIERS else ""
    done = run(f"{data} {COMMON} {given}", algorithm, monkeypatch, row.subcommand)
    if algorithm in row.refused:
        assert re.search(row.says, error_of(done))
        assert done.status == row.status
        if done.status == 2:
            assert done.updates == 0
            assert not done.files, "a configuration that is refused leaves nothing"
        return
    assert done.status == 0, done.printed
    if row.effect is not None:
        assert row.effect(done), done._replace(trainer=None)


def test_every_flag_of_the_trainer_is_in_the_table():
    flags = {*inspect.signature(lightning.Trainer.__init__).parameters} - {"self"}
    assert {row.flag for row in ROWS} == flags


def test_the_documentation_holds_this_table():
    assert render() in DOCS.read_text(), "python tests/flag_rows.py prints the table of today"

"""Every algorithm in environments of every family: it trains, goes on and tests, or is refused."""

import pytest

import conformance.odd_environments  # noqa: F401  # registers them
from conformance.commands import run, train_go_on_and_test
from conformance.families import CASES, Case

SAMPLE = [case for case in CASES if case.algorithm in case.environment.sample]


def walk(case: Case, folder) -> None:
    """What a case must do."""
    words, environment = case.environment.says[case.algorithm], case.environment
    if not words:
        shown = train_go_on_and_test(folder, case.algorithm, *case.arguments)
        assert environment.shows in shown
        return
    done = run(folder, "fit", case.algorithm, *case.arguments, "--trainer.max_epochs", "2")
    assert words in done.error
    assert done.status == environment.status
    if environment.status == 2:
        assert not [*folder.iterdir()], "something was written before it was refused"


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_a_sample_of_each_family(case, working_folder):
    walk(case, working_folder)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_environment(case, working_folder):
    walk(case, working_folder)

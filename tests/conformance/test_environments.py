"""Every algorithm trains, resumes and tests in environments of every family, or is refused."""

import pytest

import conformance.odd_environments  # noqa: F401  # registers them
from conformance.commands import run, train_go_on_and_test
from conformance.families import CASES, Case

SAMPLE = [case for case in CASES if case.algorithm in case.environment.sample]


def walk(case: Case, folder) -> None:
    """Run one case and check its result."""
    words, environment = case.environment.says[case.algorithm], case.environment
    if not words:
        shown = train_go_on_and_test(folder, case.algorithm, *case.arguments)
        assert environment.shows in shown
        return
    done = run(folder, "fit", case.algorithm, *case.arguments, "--trainer.max_epochs", "2")
    assert words in done.error
    assert done.status == environment.status
    if environment.status == 2:
        assert not [*folder.iterdir()], "files were written before the error"


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_a_sample_of_each_family(case, working_folder):
    walk(case, working_folder)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_environment(case, working_folder):
    walk(case, working_folder)

"""What `seeds` ends on."""

import pytest

from rl_lightning.studies import report
from rl_lightning.studies.seeds import scores_of, statistics_table
from rl_lightning.studies.statistics import score_statistics
from rl_lightning.studies.trial_table import Trial


def _trial(number, state, **result):
    return Trial(number, {"seed_everything": number}, state, "", 0, result)


def _complete(number, score):
    curve = [[10, score / 2, 1.0]]
    return _trial(number, "complete", curve=curve, last={"return": score}, best={"return": score})


def test_a_diverged_seed_counts_as_the_worst_score_that_is_known():
    ended = [_complete(number, 100.0 + number) for number in range(3)]
    diverged = _trial(3, "failed", curve=[[5, 7.0, 1.0], [10, float("nan"), 2.0]], diverged=True)
    scores, worst = scores_of([*ended, diverged], "return", 1)
    assert worst == 7.0
    assert scores["last"] == scores["best"] == [100.0, 101.0, 102.0, 7.0]
    scores, worst = scores_of([*ended, diverged], "return", -1)
    assert worst == 102.0, "of an error the highest one is the worst"


def test_a_seed_that_failed_otherwise_is_left_out():
    killed = _trial(1, "failed", curve=[[5, 7.0, 1.0]], error="killed by SIGKILL")
    scores, worst = scores_of([_complete(0, 100.0), killed], "return", 1)
    assert (scores["last"], worst) == ([100.0], None)


def test_no_score_is_invented_where_none_is_known():
    scores, worst = scores_of([_trial(0, "failed", diverged=True)], "return", 1)
    assert (scores, worst) == ({}, None)


def test_below_five_seeds_the_values_are_shown_and_no_interval():
    for count in (1, 4, 5):
        scores = {"last": [float(value) for value in range(count)]}
        statistics = {"last": score_statistics(scores["last"])}
        heads, row = statistics_table(statistics, scores, "return")
        assert heads.endswith(f"({count} seeds)")
        assert ("interval" in heads) == (count == 5)
        assert (" to " in row) == (count == 5)
        assert row.endswith(", ".join(str(value) for value in range(count))) == (count < 5)


def test_curves_are_compared_where_all_runs_have_been_validated():
    early = [[0, 1.0, 0.1], [10, 2.0, 0.2], [20, 3.0, 0.3]]
    late = [[10, 10.0, 0.1], [30, 30.0, 0.2]]
    steps, scores = report.at_common_steps([early, late])
    assert steps.tolist() == [10, 20, 30], "no step before the first validation of each run"
    # The first run has stopped at 20, and keeps its score. The second one is interpolated.
    assert scores.tolist() == [[2.0, 3.0, 3.0], [10.0, 20.0, 30.0]]


@pytest.mark.parametrize("count", [4, 5])
def test_the_picture_has_the_common_steps_only_and_no_interval_of_few_seeds(count, tmp_path, drawn):
    curves = [[[step, float(seed), 0.0] for step in (seed, 10, 20)] for seed in range(count)]
    report.draw_seeds(tmp_path / "curves.png", curves, "a title", "val/return")
    axes = drawn[0].axes[0]
    (iqm,) = [line for line in axes.lines if line.get_label() == "IQM"]
    assert list(iqm.get_xdata()) == [count - 1, 10, 20]
    assert len(axes.collections) == (count == 5)
    assert axes.get_title() == f"a title, {count} seeds"


def test_a_table_of_runs_names_the_state_and_the_error(tmp_path):
    failed = _trial(4, "failed", error="killed by SIGKILL")
    report.write_rows(tmp_path / "seeds.csv", [_complete(3, 5.0), failed])
    heads, ended, killed = (tmp_path / "seeds.csv").read_text().splitlines()
    assert heads.startswith("seed_everything,state,score")
    assert ended.startswith("3,complete")
    assert killed.startswith("4,failed")
    assert killed.endswith("killed by SIGKILL")

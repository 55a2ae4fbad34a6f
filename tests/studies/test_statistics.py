"""Statistics over seeds, against values by hand."""

import math

import numpy as np
import pytest

from rl_lightning.studies.statistics import score_statistics


def test_mean_and_interquartile_mean_by_hand():
    found = score_statistics([100, 1, 2, 3, 4, 5, 6, -50])
    assert found.mean == pytest.approx(71 / 8)
    assert found.iqm == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [score_statistics(rng.normal(5, 1, size=20)) for _ in range(40)]
    covered = sum(each.low <= 5 <= each.high for each in intervals)
    assert covered >= 33  # 38 are expected; fewer than 33 have a probability below 1 %
    assert all(each.high - each.low < 2 for each in intervals)


def test_one_seed_has_no_interval():
    found = score_statistics([3.0])
    assert (found.mean, found.iqm) == (3.0, 3.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_seeds_have_an_interval_of_one_point():
    assert score_statistics([500.0] * 10) == (500.0, 500.0, 500.0, 500.0)

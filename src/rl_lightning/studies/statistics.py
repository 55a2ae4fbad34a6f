"""Statistics over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# A bootstrap interval of fewer scores is too narrow: of three it covers the mean in 71 %.
FEWEST_FOR_INTERVAL = 5


class ScoreStatistics(NamedTuple):
    """What the scores of several seeds are summarised by.

    Attributes:
        mean: Mean.
        iqm: Interquartile mean: the mean without the lowest and the highest quarter.
        low: Lower end of the 95 % bootstrap interval of the interquartile mean.
        high: Upper end of it.
    """

    mean: float
    iqm: float
    low: float
    high: float


def score_statistics(scores: Sequence[float]) -> ScoreStatistics:
    """Compute mean, interquartile mean and its 95 % interval.

    The interval is the percentile interval of 10,000 bootstrap samples. It is rliable's stratified
    bootstrap, which draws seeds anew within each task, for one task. Below five seeds it is NaN.

    Args:
        scores: One score for each seed.

    Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
    Precipice".
    """
    from scipy.stats import bootstrap, trim_mean

    def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(trim_mean(values, 0.25, axis=axis))

    values = np.asarray(scores, dtype=float)
    low = high = float("nan")
    if len(values) >= FEWEST_FOR_INTERVAL:
        drawn = bootstrap(
            (values,), iqm, vectorized=True, n_resamples=10_000, method="percentile",
            rng=np.random.default_rng(0),
        )  # fmt: skip
        low, high = drawn.confidence_interval
    return ScoreStatistics(float(values.mean()), float(iqm(values)), float(low), float(high))

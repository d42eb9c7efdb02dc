"""Intervals over independent runs: the runs axis comes first, randomness from an explicit numpy Generator."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from nail.checks import require


class Interval(NamedTuple):
    """An estimate between two ends, each a number or an array over the axes that are not the runs'."""

    estimate: Float[np.ndarray, "..."] | float
    low: Float[np.ndarray, "..."] | float
    high: Float[np.ndarray, "..."] | float


def bootstrap_interval(
    samples: Float[np.ndarray, "runs ..."], rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Bootstrap interval of the mean over runs: the (1±level)/2 quantiles of the mean of resampled runs (SciPy's).

    Whole runs are drawn with replacement, so that what a run has along other axes stays together. Raises `BadInput`
    for fewer than 2 runs, a level outside (0, 1), resamples < 1.
    """
    require(len(samples) >= 2, "number of runs", len(samples), "at least 2")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    require(resamples >= 1, "resamples", resamples, "at least 1")
    found = stats.bootstrap(
        (samples,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile", random_state=rng
    ).confidence_interval
    return Interval(samples.mean(0), found.low, found.high)


def proportion_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Interval of a probability from `successes` in `trials`: Clopper and Pearson's, never below its level.

    Raises `BadInput` for trials < 1, successes outside 0..trials, a level outside (0, 1).
    """
    require(trials >= 1, "trials", trials, "at least 1")
    require(0 <= successes <= trials, "successes", successes, f"in 0..{trials}")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    found = stats.binomtest(successes, trials).proportion_ci(level)
    return Interval(successes / trials, float(found.low), float(found.high))

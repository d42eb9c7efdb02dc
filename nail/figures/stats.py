"""Intervals and tests over independent runs: the runs axis comes first, randomness from an explicit numpy Generator."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy import stats

from nail.checks import require

REFUTED = 1e-3
"""probability below which a coverage as bad as this one, or worse, refutes a claim"""


class Interval(NamedTuple):
    """An estimate between two ends, each a number or an array over the axes that are not the runs'."""

    estimate: Float[np.ndarray, "..."] | float
    low: Float[np.ndarray, "..."] | float
    high: Float[np.ndarray, "..."] | float


class Median(NamedTuple):
    """A median with an interval of order statistics, and the probability with which that covers it at least."""

    value: float
    low: float
    high: float
    level: float


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


def coverage_chance(hits: int, trials: int, level: float = 0.95) -> float:
    """Probability that at most `hits` of `trials` independent intervals of this level contain what they are for
    (binomial); below `REFUTED` they are not for that. Raises `BadInput` as `proportion_interval` does."""
    proportion_interval(hits, trials, level)
    return float(stats.binom.cdf(hits, trials, level))


def proportion_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Interval of a probability from `successes` in `trials`: Clopper and Pearson's, never below its level.

    Raises `BadInput` for trials < 1, successes outside 0..trials, a level outside (0, 1).
    """
    require(trials >= 1, "trials", trials, "at least 1")
    require(0 <= successes <= trials, "successes", successes, f"in 0..{trials}")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    found = stats.binomtest(successes, trials).proportion_ci(level)
    return Interval(successes / trials, float(found.low), float(found.high))


def median_interval(values: Float[np.ndarray, " runs"], level: float = 0.95) -> Median:
    """Median of independent runs (the lower of two middle ones) between their k-th smallest and k-th largest value.

    Whatever the law of the values, that interval covers its median with probability at least 1 − 2·P(Bin(n, ½) < k),
    which is returned as `level`: k is the largest for which it is at least the level asked for, or 1 where there is
    none (5 runs: their range, 93.75 %). Values may be infinite: times beyond a budget that all runs share. Raises
    `BadInput` for no values, a level outside (0, 1).
    """
    n = len(values)
    require(n >= 1, "number of values", n, "at least 1")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    ordered, outside = np.sort(values), 2 * stats.binom.cdf(np.arange((n + 1) // 2), n, 0.5)
    k = max(1, int(np.sum(outside <= 1 - level)))
    return Median(*map(float, (ordered[(n - 1) // 2], ordered[k - 1], ordered[n - k], 1 - outside[k - 1])))


def trend_test(
    values: Float[np.ndarray, "runs settings"], order: Real[np.ndarray, " places"], rng: np.random.Generator,
    resamples: int = 9999,
) -> float:  # fmt: skip
    """P value of the hypothesis that the setting makes no difference, against values that rise with `order`.

    Page's test: Σ_settings rank of its place in the order × sum over runs of its rank in the run, ties sharing their
    ranks, against permutations within each run; with a single run it is Spearman's. Infinite values tie at the top.
    The draws count the values themselves, so that P(p ≤ x) ≤ x at every x, also where what a run has in common shifts
    all its settings. Raises `BadInput` for fewer than 2 settings, values that are not numbers, another length of order.
    """
    require(len(order) == np.shape(values)[-1], "length of order", len(order), "the number of settings")
    places = stats.rankdata(order)
    return _within_runs(values, lambda sums: sums @ places, rng, resamples)


def difference_test(
    values: Float[np.ndarray, "runs settings"], rng: np.random.Generator, resamples: int = 9999
) -> float:
    """P value of the hypothesis that the setting makes no difference, against any: Friedman's test, as `trend_test`."""
    return _within_runs(values, lambda sums: sums.var(-1), rng, resamples)


def _within_runs(
    values: Float[np.ndarray, "runs settings"], statistic: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator, resamples: int,
) -> float:  # fmt: skip
    """Share of draws, settings permuted within each run, whose statistic of the rank sums is at least the rows' own."""
    require(np.ndim(values) == 2 and np.shape(values)[1] >= 2, "shape of values", np.shape(values), "(runs, ≥ 2)")
    require(not np.isnan(values).any(), "values", values, "numbers or infinite")
    ranks = stats.rankdata(values, axis=1)
    drawn = rng.permuted(np.broadcast_to(ranks, (resamples, *ranks.shape)), axis=2).sum(1)
    reached = statistic(drawn) >= statistic(ranks.sum(0)) - 1e-9
    return float((1 + reached.sum()) / (1 + resamples))

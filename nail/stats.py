"""Intervals and tests over independent runs: the runs axis comes first, randomness from an explicit numpy Generator.

An interval states the level that it has: exact (Clopper and Pearson, order statistics), exact for normal values
(Student), or near (jackknife).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded when they are used: training needs none of them
from jaxtyping import Float, Int, Real

from nail.checks import require

REFUTED = 1e-3
"""probability below which a coverage as bad as this one, or worse, refutes a claim"""

NORMAL_95 = 1.959964
"""half width of a two-sided 95 % interval in standard deviations"""


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


def mean_interval(samples: Float[np.ndarray, "runs ..."], level: float = 0.95) -> Interval:
    """Student's interval of the mean over runs, each entry of the other axes by itself.

    Its level is exact where a run's value is normal, whatever the number of runs; of exponential values 95 % are
    91 % at 2 runs, 88 % at 3 and 5, 92 % at 20. Values that are the same in all runs have an interval of length 0.
    Raises `BadInput` for fewer than 2 runs, which have no interval, and for a level outside (0, 1).
    """
    runs = len(samples)
    _check_runs(runs, level)
    mean = samples.mean(0)
    half = scipy.stats.t.ppf(0.5 + level / 2, runs - 1) * samples.std(0, ddof=1) / np.sqrt(runs)
    return Interval(mean, mean - half, mean + half)


def jackknife_interval(
    statistic: Callable[..., Float[np.ndarray, "..."] | np.floating], *samples: Float[np.ndarray, "..."],
    level: float = 0.95,
) -> Interval:  # fmt: skip
    """Interval of a smooth function of means, `statistic(*samples)`: Tukey's jackknife with Student's quantile.

    The samples are independent, each with its runs first, and a run is whole: what belongs together is in one sample,
    along other axes. Each run is left out in turn; a sample's variance is that of its pseudo-values over its number of
    runs, and of several samples the variances add up and degrees of freedom are Satterthwaite's. For one mean that is
    `mean_interval`. Ratios are to be given by their logarithm: 94–95 % of 95 % for pairs of lognormal values of spread
    0.3, 90 % or more of spread 1, from 2 runs on. Raises `BadInput` as `mean_interval` does.
    """
    found = np.asarray(statistic(*samples), float)
    variances, free = [], []
    for i, sample in enumerate(samples):
        runs = len(sample)
        _check_runs(runs, level)
        without = [statistic(*samples[:i], np.delete(sample, j, axis=0), *samples[i + 1 :]) for j in range(runs)]
        variances.append((runs - 1) ** 2 * np.var(without, axis=0, ddof=1) / runs)
        free.append(runs - 1)
    variance, squares = sum(variances), sum(v**2 / f for v, f in zip(variances, free, strict=True))
    freedom = np.where(squares > 0, variance**2 / np.where(squares > 0, squares, 1.0), sum(free))
    half = scipy.stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance)
    return Interval(found, found - half, found + half)


def ratio_interval(
    top: Float[np.ndarray, "runs ..."], bottom: Float[np.ndarray, "runs ..."], level: float = 0.95
) -> Interval:  # fmt: skip
    """mean(top)/mean(bottom), runs being pairs, by `jackknife_interval` of its logarithm; NaN where one of them has
    fewer than 2 runs above 0. Raises `BadInput` as `mean_interval` does."""
    both = np.stack([top, bottom], axis=1)
    both = np.where(((both > 0).sum(0) >= 2).all(0), both, np.nan)
    found = jackknife_interval(lambda each: np.log(each[:, 0].mean(0) / each[:, 1].mean(0)), both, level=level)
    return Interval(*map(np.exp, found))


def _check_runs(runs: int, level: float) -> None:
    require(runs >= 2, "number of runs", runs, "at least 2")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")


def coverage_chance(hits: int, trials: int, level: float = 0.95) -> float:
    """Probability that at most `hits` of `trials` independent intervals of this level contain what they are for
    (binomial); below `REFUTED` they are not for that. Raises `BadInput` as `proportion_interval` does."""
    proportion_interval(hits, trials, level)
    return float(scipy.stats.binom.cdf(hits, trials, level))


def proportion_interval(
    successes: int | Int[np.ndarray, "..."], trials: int, level: float = 0.95
) -> Interval:  # fmt: skip
    """Interval of a probability from `successes` in `trials`: Clopper and Pearson's, never below its level.

    Raises `BadInput` for trials < 1, successes outside 0..trials, a level outside (0, 1).
    """
    require(trials >= 1, "trials", trials, "at least 1")
    k = np.asarray(successes)
    require(((k >= 0) & (k <= trials)).all(), "successes", successes, f"in 0..{trials}")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    tail = (1 - level) / 2
    low = np.where(k > 0, scipy.stats.beta.ppf(tail, np.maximum(k, 1), trials - k + 1), 0.0)
    high = np.where(k < trials, scipy.stats.beta.isf(tail, k + 1, np.maximum(trials - k, 1)), 1.0)
    return Interval(*(end if k.ndim else float(end) for end in (k / trials, low, high)))


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
    ordered, outside = np.sort(values), 2 * scipy.stats.binom.cdf(np.arange((n + 1) // 2), n, 0.5)
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
    places = scipy.stats.rankdata(order)
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
    ranks = scipy.stats.rankdata(values, axis=1)
    drawn = rng.permuted(np.broadcast_to(ranks, (resamples, *ranks.shape)), axis=2).sum(1)
    reached = statistic(drawn) >= statistic(ranks.sum(0)) - 1e-9
    return float((1 + reached.sum()) / (1 + resamples))

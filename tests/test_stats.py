"""Intervals cover what they say, tests reject as often as they say; random checks state their error probability."""

import itertools

import numpy as np
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.stats import (
    bootstrap_interval,
    coverage_chance,
    difference_test,
    median_interval,
    proportion_interval,
    trend_test,
)


def test_bootstrap_intervals_cover_the_mean():
    """400 data sets of 40 exponential draws; nominal 90 %, asymptotically. 0.84..0.95 is 4 binomial standard errors
    below and 3.3 above: a failure by chance has probability below 1e-3, and the seed is fixed."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        found = bootstrap_interval(rng.exponential(size=40), rng, level=0.9, resamples=200)
        hits += bool(found.low <= 1.0 <= found.high)
    assert 0.84 < hits / 400 < 0.95


def test_bootstrap_keeps_runs_whole_and_shapes():
    samples = np.repeat(np.random.default_rng(3).normal(size=(50, 1)), 3, axis=1)
    found = bootstrap_interval(samples, np.random.default_rng(4))
    np.testing.assert_array_equal(found.estimate, samples.mean(0))
    assert found.low.shape == (3,)
    assert found.low[0] == found.low[1] == found.low[2]
    again = bootstrap_interval(samples, np.random.default_rng(4))
    np.testing.assert_array_equal(found.high, again.high)


def test_proportion_intervals():
    none, all_wrong = proportion_interval(0, 10), proportion_interval(10, 10)
    np.testing.assert_allclose([none.low, none.high], [0.0, 1 - 0.025**0.1], atol=1e-9)
    np.testing.assert_allclose([all_wrong.low, all_wrong.high], [0.025**0.1, 1.0], atol=1e-9)
    assert proportion_interval(8, 10).estimate == 0.8


def test_median_intervals_by_hand():
    """P(Bin(9, ½) ≤ 1) = 10/512: of nine values the second and the last but one are the ends, at 1 − 20/512."""
    assert median_interval(np.array([5.0, 1.0, np.inf, 9.0, 3.0])) == (5.0, 1.0, np.inf, 1 - 2 / 32)
    assert median_interval(np.arange(1.0, 10.0)) == (5.0, 2.0, 8.0, 1 - 20 / 512)
    assert median_interval(np.arange(1.0, 9.0)) == (4.0, 1.0, 8.0, 1 - 2 / 256)
    assert median_interval(np.array([4.0, np.inf, np.inf])) == (np.inf, 4.0, np.inf, 0.75)


@pytest.mark.parametrize("n", [3, 5, 9])
def test_median_intervals_cover_at_their_level(n):
    """2,000 samples of exponential times, those beyond a budget of 2 infinite; the number that contain ln 2 is binomial
    at the stated level: a two-sided tail below 1e−6 would refute it, and the seeds are fixed."""
    times = np.random.default_rng(n).exponential(size=(2000, n))
    found = [median_interval(np.where(each > 2, np.inf, each)) for each in times]
    hits = sum(x.low <= np.log(2) <= x.high for x in found)
    assert stats.binomtest(hits, 2000, found[0].level).pvalue > 1e-6


def near(p, exact, resamples):
    """A Monte Carlo p value lies within 5 standard errors of the exact one, missed with probability below 1e−6."""
    return abs(p - exact) < 5 * np.sqrt(exact * (1 - exact) / resamples) + 1 / resamples


def test_rank_tests_are_pages_spearmans_and_friedmans():
    rng = np.random.default_rng(1)
    values, order = rng.normal(size=(4, 4)) + 0.5 * np.arange(4), np.array([2.0, 3.0, 5.0, 7.0])
    assert near(trend_test(values, order, rng), stats.page_trend_test(values, method="exact").pvalue, 9999)

    one, tied = np.array([np.inf, 1.0, 1.0, 2.0, np.inf, 4.0]), np.array([3.0, 0.0, 0.0, 1.0, 2.0, 3.0])
    ranks = stats.rankdata(one)
    every = [stats.spearmanr(each, tied).statistic for each in itertools.permutations(ranks)]
    exact = np.mean(np.array(every) >= stats.spearmanr(ranks, tied).statistic - 1e-9)
    assert near(trend_test(one[None], tied, rng), exact, 9999)

    three = values[:3, :3]
    every = [stats.friedmanchisquare(*np.transpose(each)).statistic
             for each in itertools.product(*map(itertools.permutations, three))]  # fmt: skip
    exact = np.mean(np.array(every) >= stats.friedmanchisquare(*three.T).statistic - 1e-9)
    assert near(difference_test(three, rng), exact, 9999)


def test_rank_tests_reject_no_more_often_than_they_say_where_runs_differ():
    """400 data sets in which the setting makes no difference and runs do. More than 40 of the p values are at most 0.05
    with probability below 1e−4."""
    rng, order = np.random.default_rng(2), np.arange(3)
    rows = rng.normal(size=(400, 5, 3)) + 10 * rng.normal(size=(400, 5, 1))
    assert sum(trend_test(each, order, rng, 199) <= 0.05 for each in rows) <= 40
    assert sum(difference_test(each, rng, 199) <= 0.05 for each in rows) <= 40


def test_what_never_happens_anywhere_is_no_difference():
    never, rng = np.full((5, 3), np.inf), np.random.default_rng(3)
    assert trend_test(never, np.arange(3), rng) == difference_test(never, rng) == 1.0


def test_bad_input():
    rng = np.random.default_rng(0)
    for call in (
        lambda: bootstrap_interval(np.ones(1), rng),
        lambda: bootstrap_interval(np.ones(3), rng, level=1.0),
        lambda: proportion_interval(3, 2),
        lambda: proportion_interval(0, 0),
        lambda: bootstrap_interval(np.zeros((0, 2)), rng),
        lambda: median_interval(np.array([])),
        lambda: median_interval(np.ones(3), level=1.0),
        lambda: trend_test(np.ones((2, 3)), np.arange(2), rng),
        lambda: difference_test(np.ones((2, 1)), rng),
        lambda: difference_test(np.array([[1.0, np.nan]]), rng),
    ):
        with pytest.raises(BadInput):
            call()


def test_chance_of_a_coverage_by_hand():
    """18 of 20 at 95 %: all but 19 and 20 hits."""
    assert coverage_chance(18, 20) == pytest.approx(1 - 0.95**20 - 20 * 0.05 * 0.95**19)
    assert coverage_chance(20, 20) == pytest.approx(1)
    assert coverage_chance(0, 2, 0.5) == pytest.approx(0.25)
    with pytest.raises(BadInput):
        coverage_chance(3, 2)

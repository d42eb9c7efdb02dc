"""Intervals cover what they say, tests reject as often as they say; random checks state their error probability."""

import itertools

import numpy as np
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.stats import (
    coverage_chance,
    difference_test,
    jackknife_interval,
    mean_interval,
    median_interval,
    proportion_interval,
    ratio_interval,
    trend_test,
)

RUNS = (2, 3, 5, 20)


@pytest.mark.parametrize("runs", RUNS)
def test_intervals_of_a_mean_cover_it_at_their_level(runs):
    """Of 4,000 data sets of normal values the hits are binomial at 95 %: a two-sided tail below 1e−6 would refute it.
    Exponential ones, skewed, have 88 % or more: 87 % would give as few hits with probability 1e−6."""
    rng = np.random.default_rng(runs)
    found = mean_interval(rng.normal(1.0, 2.0, (runs, 4000)))
    assert stats.binomtest(int(((found.low <= 1) & (found.high >= 1)).sum()), 4000, 0.95).pvalue > 1e-6
    found = mean_interval(rng.exponential(size=(runs, 4000)))
    assert stats.binom.cdf(((found.low <= 1) & (found.high >= 1)).sum(), 4000, 0.87) > 1e-6


@pytest.mark.parametrize("runs", RUNS)
def test_intervals_of_a_ratio_cover_it(runs):
    """Of 1,000 data sets of pairs of lognormal values: of spread 0.3, 94 % or more, and of spread 1, 90 % or more; a
    percent less would give as few hits with probability 1e−6."""
    rng = np.random.default_rng(runs)
    for spread, level in ((0.3, 0.93), (1.0, 0.89)):
        common, own = rng.normal(size=(runs, 1, 1000)), rng.normal(size=(runs, 2, 1000))
        top, bottom = np.exp(spread * (common + own)).swapaxes(0, 1)
        found = ratio_interval(2 * top, bottom)
        hits = ((found.low <= 2) & (found.high >= 2)).sum()
        assert stats.binom.cdf(hits, 1000, level) > 1e-6


def test_the_jackknife_of_means_is_student_and_of_a_difference_welch():
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(5, 2)), rng.normal(size=(9, 2))
    for found, known in zip(jackknife_interval(lambda x: x.mean(0), one), mean_interval(one), strict=True):
        np.testing.assert_allclose(found, known)
    difference = jackknife_interval(lambda x, y: x.mean(0) - y.mean(0), one, other)
    welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    np.testing.assert_allclose(difference[1:], welch)
    same = jackknife_interval(lambda x: x.mean(), np.ones(4))
    assert same == (1, 1, 1)


def test_a_ratio_of_what_is_hardly_ever_positive_has_no_interval():
    top, bottom = np.ones((4, 2)), np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = ratio_interval(top, bottom)
    np.testing.assert_array_equal(np.isnan(found.low), [True, False])
    assert found.estimate[1] == pytest.approx(2)


def test_proportion_intervals():
    none, all_wrong = proportion_interval(0, 10), proportion_interval(10, 10)
    np.testing.assert_allclose([none.low, none.high], [0.0, 1 - 0.025**0.1], atol=1e-9)
    np.testing.assert_allclose([all_wrong.low, all_wrong.high], [0.025**0.1, 1.0], atol=1e-9)
    assert proportion_interval(8, 10).estimate == 0.8
    many = proportion_interval(np.arange(8), 7, 0.9)
    for k in range(8):
        known = stats.binomtest(k, 7).proportion_ci(0.9)
        np.testing.assert_allclose([many.low[k], many.high[k]], [known.low, known.high], atol=1e-9)


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
        lambda: mean_interval(np.ones(1)),
        lambda: mean_interval(np.ones(3), level=1.0),
        lambda: jackknife_interval(lambda x, y: x.mean() - y.mean(), np.ones(3), np.ones(1)),
        lambda: proportion_interval(np.array([0, 3]), 2),
        lambda: proportion_interval(3, 2),
        lambda: proportion_interval(0, 0),
        lambda: mean_interval(np.zeros((0, 2))),
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

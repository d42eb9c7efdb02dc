"""Intervals cover what they say; every random check states its error probability."""

import numpy as np
import pytest

from nail.checks import BadInput
from nail.figures.stats import bootstrap_interval, mean_sd, proportion_interval


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_intervals_cover_the_mean(method):
    """400 data sets of 40 exponential draws; nominal 90 %, asymptotically. 0.84..0.95 is 4 binomial standard errors
    below and 3.3 above: a failure by chance has probability below 1e-3, and the seed is fixed."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        found = bootstrap_interval(rng.exponential(size=40), rng, level=0.9, resamples=200, method=method)
        hits += bool(found.low <= 1.0 <= found.high)
    assert 0.84 < hits / 400 < 0.95


def test_bca_moves_with_skewness_and_the_median_is_a_statistic():
    rng = np.random.default_rng(1)
    samples = rng.exponential(size=30)
    plain = bootstrap_interval(samples, np.random.default_rng(2))
    moved = bootstrap_interval(samples, np.random.default_rng(2), method="bca")
    assert moved.low > plain.low
    assert moved.high > plain.high
    median = bootstrap_interval(samples, rng, statistic=lambda runs: np.median(runs, axis=0))
    assert median.low < np.median(samples) < median.high


def test_bootstrap_keeps_runs_whole_and_shapes():
    samples = np.repeat(np.random.default_rng(3).normal(size=(50, 1)), 3, axis=1)
    found = bootstrap_interval(samples, np.random.default_rng(4))
    assert found.low.shape == (3,)
    assert found.low[0] == found.low[1] == found.low[2]
    again = bootstrap_interval(samples, np.random.default_rng(4))
    np.testing.assert_array_equal(found.high, again.high)


def test_proportion_intervals():
    wilson = proportion_interval(8, 10)
    np.testing.assert_allclose([wilson.low, wilson.high], [0.4902, 0.9433], atol=1e-4)
    exact = proportion_interval(0, 10, method="clopper-pearson")
    np.testing.assert_allclose([exact.low, exact.high], [0.0, 1 - 0.025**0.1], atol=1e-9)


def test_mean_sd_uses_the_unbiased_divisor_and_knows_no_spread_of_one_run():
    mean, sd = mean_sd(np.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(mean, [2.0, 5.0])
    np.testing.assert_allclose(sd, [np.sqrt(2), 0.0])
    assert np.isnan(mean_sd(np.array([[1.0]]))[1]).all()


def test_bad_input():
    rng = np.random.default_rng(0)
    for call in (
        lambda: bootstrap_interval(np.ones(1), rng),
        lambda: bootstrap_interval(np.ones(3), rng, level=1.0),
        lambda: proportion_interval(3, 2),
        lambda: proportion_interval(0, 0),
        lambda: mean_sd(np.zeros((0, 2))),
    ):
        with pytest.raises(BadInput):
            call()

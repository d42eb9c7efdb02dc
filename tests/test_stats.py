"""Intervals cover what they say; every random check states its error probability."""

import numpy as np
import pytest

from nail.checks import BadInput
from nail.figures.stats import bootstrap_interval, proportion_interval


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


def test_bad_input():
    rng = np.random.default_rng(0)
    for call in (
        lambda: bootstrap_interval(np.ones(1), rng),
        lambda: bootstrap_interval(np.ones(3), rng, level=1.0),
        lambda: proportion_interval(3, 2),
        lambda: proportion_interval(0, 0),
        lambda: bootstrap_interval(np.zeros((0, 2)), rng),
    ):
        with pytest.raises(BadInput):
            call()

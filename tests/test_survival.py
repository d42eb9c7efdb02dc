import math

import numpy as np
import pytest

from nail.checks import BadInput
from nail.figures.survival import Solved, median


def times(seen, censored=()):
    return [Solved(t, False) for t in seen] + [Solved(t, True) for t in censored]


def test_median_by_hand():
    """Ŝ(3) = 3/4; the run lost at 5 leaves two at risk, so Ŝ(7) = 3/4 · 1/2 = 3/8: the median is 7."""
    assert median(times([3.0, 7.0], [5.0, 10.0])).value == 7.0


def test_without_censoring_it_is_the_first_time_half_have_solved():
    assert median(times([5.0, 1.0, 9.0])).value == 5.0
    assert median(times([4.0, 1.0, 9.0, 8.0])).value == 4.0


def test_fewer_than_half_leave_the_median_open():
    found = median(times([4.0], [10.0, 10.0]))
    assert found.value == math.inf
    assert found.high == math.inf
    assert median(times([], [10.0, 10.0])) == (math.inf, 10.0, math.inf)


def test_exponential_times_with_exponential_censoring():
    """True median ln 2. The estimate's standard deviation is below 2/√n here (a quarter of the runs is censored, at
    most); 5 of them are missed with probability below 1e−6. The share of intervals that contain it: 200 samples of 60,
    a binomial tail below 1e−6 at 0.85 if coverage is 0.95."""
    rng = np.random.default_rng(0)

    def sample(n):
        solved, lost = rng.exponential(1.0, n), rng.exponential(3.0, n)
        return [Solved(float(min(s, c)), bool(c < s)) for s, c in zip(solved, lost, strict=True)]

    n = 4000
    assert abs(median(sample(n)).value - math.log(2)) < 5 * 2 / math.sqrt(n)
    found = [median(sample(60)) for _ in range(200)]
    assert np.mean([x.low <= math.log(2) <= x.high for x in found]) > 0.85
    assert np.mean([x.high < 2.0 for x in found]) > 0.9


def test_bad_input():
    with pytest.raises(BadInput):
        median([])

"""Fits of n*(H): known laws are recovered, censored points count, and the intervals cover."""

import math

import numpy as np
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.theory import plane, scaling

H = np.array([4.0, 6, 8, 10, 12, 14, 16, 18])


def test_known_slopes_are_recovered_and_the_law_is_told():
    """Log noise of sd 0.02; the 99.9 % intervals hold the truth except with probability 2e-3, at a fixed seed."""
    rng, horizons = np.random.default_rng(0), np.array([4.0, 6, 8, 12, 16, 24])
    noise = rng.normal(0, 0.02, 6)
    laws = {
        "exponential": (np.exp(1 + 0.3 * horizons), 0.3),
        "polynomial": (7 * horizons**1.2, 1.2),
        "linear": (2.7 * horizons + 6 * np.sqrt(horizons), 2.7),
    }
    for sd in (None, np.full(6, 0.02)):
        for name, (n, slope) in laws.items():
            fit = scaling.fit_scaling(horizons, n * np.exp(noise), sd, level=0.999)
            assert fit.verdict == ("exponential" if name == "exponential" else "polynomial")
            found = getattr(fit, name)
            assert found.interval[0] < slope < found.interval[1]
            assert found.slope == pytest.approx(slope, rel=0.1)
            aic = {each: getattr(fit, each).aic for each in laws}
            assert min(aic, key=aic.get) == name
            others = min(aic["polynomial"], aic["linear"])
            assert fit.delta_aic == pytest.approx(aic["exponential"] - others)
    flat = scaling.fit_scaling(horizons[:3], np.exp(rng.normal(0, 2.0, 3)), np.full(3, 2.0))
    assert flat.verdict == "undecided"


def test_intervals_cover_the_true_slope_with_censored_points():
    """200 data sets of an exponential law, the last points censored in most, half of them with scatter beyond sd: were
    the intervals of level 95 % to cover 95 % of the time, fewer than 180 hits (0.90) had probability 2e-3; fixed
    seed."""
    rng, hits, hidden, sd, budget = np.random.default_rng(1), 0, 0, np.full(8, 0.08), np.full(8, 10_000.0)
    for data in range(200):
        n = 5 * np.exp(0.47 * H + rng.normal(0, math.hypot(0.08, 0.1 * (data % 2)), 8))
        n[n > budget] = np.inf
        hidden += np.isinf(n).sum()
        above = np.isinf(n)
        variance = sd**2 + np.append(0.0, scaling.SCATTERS)[:, None] ** 2
        points = scaling.Points(H, np.log(np.where(above, budget, n)), variance, above)
        low, high = scaling.fit_law(scaling.EXPONENTIAL, points, 0.95).interval
        hits += low <= 0.47 <= high
    assert hidden > 200
    assert hits >= 180


def test_a_plane_over_one_axis_is_the_power_law():
    """Slope, interval and AIC of one column are those of `fit_law`, also with censored points."""
    rng = np.random.default_rng(2)
    for budget in (1e9, 150.0):
        n = 7 * H**1.2 * np.exp(rng.normal(0, 0.08, 8))
        above = n > budget
        for sd in (None, np.full(8, 0.05)):
            line = scaling.fit_scaling(H, np.where(above, np.inf, n), sd, np.full(8, budget)).polynomial
            fit = plane.fit_plane(np.log(H)[:, None], np.log(np.minimum(n, budget)), above, sd)
            assert (fit.slopes[0], fit.aic) == pytest.approx((line.slope, line.aic), abs=1e-4)
            assert (fit.low[0], fit.high[0]) == pytest.approx(line.interval, abs=1e-3)
    assert above.any()


def test_a_plane_finds_slopes_and_covers_them():
    """Slopes 1 and 2 over two axes, 60 times, noise of sd 0.05 and half the times a scatter of 0.1 beyond it, points
    above e^4.5 censored. Hits of 95 % so few have probability 1e-4 for a slope, at a fixed seed."""
    true, rng = np.array([1.0, 2.0]), np.random.default_rng(3)
    x = np.log([(h, 1 / (1 - eta)) for h in (4, 8, 16, 32) for eta in (0.1, 0.3, 0.6)])
    hits, hidden = np.zeros(2), 0
    for data in range(60):
        y = 1 + x @ true + rng.normal(0, math.hypot(0.05, 0.1 * (data % 2)), len(x))
        above = y > 4.5
        hidden += above.sum()
        fit = plane.fit_plane(x, np.minimum(y, 4.5), above, np.full(len(x), 0.05))
        hits += (fit.low <= true) & (true <= fit.high)
    assert hidden > 100
    assert stats.binom.cdf(hits.min(), 60, 0.95) > 1e-4
    assert fit.slopes == pytest.approx(true, abs=0.2)
    assert fit.residuals[~above].std() == pytest.approx(0.11, abs=0.05)


def test_a_censored_point_counts_as_above_its_budget():
    """Left out, the flattened end would bend the law to a power; and a point far above its budget moves nothing."""
    n = np.exp(1 + 0.4 * H)
    cut = np.where(n > 500, np.inf, n)
    sd, budget = np.full(8, 0.05), np.full(8, 500.0)
    fit, full = scaling.fit_scaling(H, cut, sd, budget), scaling.fit_scaling(H, n, sd)
    assert fit.exponential.slope == pytest.approx(0.4, abs=0.01)
    assert full.exponential.slope == pytest.approx(0.4, abs=1e-4)
    assert fit.verdict == full.verdict == "exponential"
    late = scaling.fit_scaling(H, cut, sd, np.full(8, 5_000.0)).exponential.slope
    assert late > fit.exponential.slope + 0.01
    width = np.subtract(*fit.exponential.interval[::-1])
    assert width > np.subtract(*full.exponential.interval[::-1])


def test_a_known_root_leaves_the_constant_free():
    n = 2.7 * H + 4 * np.sqrt(H) - 3
    known = scaling.fit_scaling(H, n, np.full(8, 0.01), root=4.0)
    assert known.linear.slope == pytest.approx(2.7, abs=1e-3)
    assert known.linear.intercept == pytest.approx(-3.0, abs=0.02)
    assert scaling.fit_scaling(H, n, np.full(8, 0.01)).linear.slope > 2.8


def test_weights_matter():
    x, y = np.array([1.0, 2, 3, 4]), np.exp(np.array([1.0, 2, 3, 9]))
    fit = scaling.fit_scaling(x, y, np.array([0.01, 0.01, 0.01, 100.0])).exponential
    assert fit.slope == pytest.approx(1.0, abs=1e-3)


def test_the_profile_is_the_largest_likelihood():
    """Against a grid over the intercept at the τ that was chosen, for each law, with a censored point."""
    above = np.arange(8) == 7
    points = scaling.Points(H, np.log(2.7 * H + 5 * np.sqrt(H)), np.array([[0.01]]) + 0 * H, above)
    rooted = scaling.LINEAR._replace(x=lambda h: h, base=np.zeros_like, known=lambda h: 5 * np.sqrt(h))
    for law, slope in ((scaling.EXPONENTIAL, 0.1), (scaling.POWER, 1.1), (scaling.LINEAR, 2.9), (rooted, 2.9)):
        value, intercept = scaling.profile(law, points, slope)
        grid = intercept + np.linspace(-0.5, 0.5, 2001)
        line = slope * law.x(H) + law.known(H) + grid[:, None]
        z = (points.log_n - law.base(H) - law.link(line)) / 0.1
        each = np.where(above, np.log(0.5 * np.vectorize(math.erfc)(z / math.sqrt(2))),
                        -0.5 * z**2 - math.log(0.1 * math.sqrt(2 * math.pi)))  # fmt: skip
        assert value == pytest.approx(each.sum(1).max(), abs=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: scaling.fit_scaling(np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        lambda: scaling.fit_scaling(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, np.inf])),
        lambda: scaling.fit_scaling(H, np.where(H > 8, np.inf, H)),
        lambda: scaling.fit_scaling(H, np.where(H > 8, np.inf, H), None, np.zeros(8)),
        lambda: scaling.fit_scaling(H, H, np.zeros(8)),
        lambda: scaling.fit_scaling(H, -H),
        lambda: scaling.fit_scaling(H, H, level=1.0),
        lambda: plane.fit_plane(H[:2, None], H[:2], H[:2] < 0),
        lambda: plane.fit_plane(H[:, None], H, H > 6),
        lambda: plane.fit_plane(np.column_stack([H, 2 * H]), H, H < 0),
        lambda: plane.fit_plane(H[:, None], H, H < 0, np.zeros(8)),
    ],
)
def test_bad_input(call):
    with pytest.raises(BadInput):
        call()

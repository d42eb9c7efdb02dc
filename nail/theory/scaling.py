"""Is n* exponential or polynomial in H? Three laws fitted by maximum likelihood, and their AIC (docs/theory.md §5).

log n*_i ~ Normal(log of the law at H_i, sd_i² + τ²), independent: sd_i is what the interval of n*_i says, and τ, a
parameter like the two of the law, is the scatter beyond it (no law holds exactly at small H). A point whose budget did
not suffice contributes P(n*_i > budget_i) and is never left out. τ runs over a grid of ratio 1.22: its likelihood is
flat. All three laws have three parameters and the same data, so differences in AIC are those of −2·log likelihood.

The interval of a slope is the set of slopes whose profile likelihood is within ½·m·log(1 + t²/(m−2)) of the largest,
t the quantile of Student with m−2 degrees of freedom and m the number of points that are not censored: exact for a
straight line when the scatter is all τ, wider than the asymptotic χ² otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize, special, stats

from nail.checks import require

SCATTERS = np.geomspace(1e-4, 10.0, 59)
"""values of τ besides 0"""
PARAMETERS = 3
"""slope, intercept, τ"""


@dataclass(frozen=True)
class LineFit:
    """y = intercept + slope·x with the slope's two-sided interval; `aic` up to a constant that is the same for all fits
    of one data set."""

    intercept: float
    slope: float
    interval: tuple[float, float]
    aic: float


@dataclass(frozen=True)
class Scaling:
    """The fits. `delta_aic` = AIC(exponential) − the smaller AIC of the other two: negative speaks for the
    exponential."""

    exponential: LineFit
    """log n* = a + b·H; b in nats a step (theory: −log q for LogLossBC, OPD-F, OPD-R)"""
    polynomial: LineFit
    """log n* = a + b·log H; b is the exponent"""
    linear: LineFit
    """n* = b·H + a·√H, or b·H + `root`·√H + a; b in episodes a step (theory: μ(A, η) for NAIL)"""
    delta_aic: float
    verdict: Literal["exponential", "polynomial", "undecided"]


def fit_line(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    sd: Float[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> LineFit:
    """Least squares y = a + b·x, weighted by 1/sd² where standard deviations of y are given; nothing censored.

    Without `sd` the residual variance s² = RSS/(n−2) is estimated and AIC = n·log(RSS/n) + 2·2. With `sd` the
    variances are known up to a common factor max(1, χ²/(n−2)) that widens the slope's error when the line
    does not fit, and AIC = χ² + 2·2. The interval is Student's with n−2 degrees of freedom.
    """
    weight = np.ones_like(y) if sd is None else 1.0 / sd**2
    mean = np.average(x, weights=weight)
    spread = np.sum(weight * (x - mean) ** 2)
    slope = float(np.sum(weight * (x - mean) * y) / spread)
    intercept = float(np.average(y, weights=weight) - slope * mean)
    free = len(x) - 2
    chi2 = float(np.sum(weight * (y - intercept - slope * x) ** 2))
    if sd is None:
        scale, aic = chi2 / free, len(x) * np.log(max(chi2, 1e-300) / len(x)) + 4.0
    else:
        scale, aic = max(1.0, chi2 / free), chi2 + 4.0
    se = float(np.sqrt(scale / spread))
    half = float(stats.t.ppf(0.5 + level / 2, free)) * se
    return LineFit(intercept, slope, (slope - half, slope + half), float(aic))


class Points(NamedTuple):
    """What is fitted: log n*, or the logarithm of the budget where `above`."""

    horizons: Float[np.ndarray, " n"]
    log_n: Float[np.ndarray, " n"]
    variance: Float[np.ndarray, "taus n"]
    above: Bool[np.ndarray, " n"]


class Law(NamedTuple):
    """log n* = base(H) + link(slope·x(H) + intercept + known(H)), a straight line behind a link."""

    x: Callable[[np.ndarray], np.ndarray]
    base: Callable[[np.ndarray], np.ndarray]
    link: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    known: Callable[[np.ndarray], np.ndarray] = np.zeros_like


def _same(x):
    return x


EXPONENTIAL = Law(_same, np.zeros_like, _same, _same, np.ones_like)
POWER = EXPONENTIAL._replace(x=np.log)
LINEAR = Law(np.sqrt, lambda h: 0.5 * np.log(h), np.log, np.exp, np.reciprocal)


def log_likelihood(law: Law, points: Points, line: Float[np.ndarray, "taus n"]):
    """log likelihood of each τ, and of each point the score and the information of log n*'s mean."""
    sd = np.sqrt(points.variance)
    z = (points.log_n - law.base(points.horizons) - law.link(line)) / sd
    each, score, information = -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi), z.copy(), np.ones_like(z)
    if points.above.any():
        beyond = z[:, points.above]
        hazard = np.sqrt(2 / np.pi) / special.erfcx(beyond / np.sqrt(2))
        each[:, points.above], score[:, points.above] = special.log_ndtr(-beyond), hazard
        information[:, points.above] = np.where(beyond > 1e4, 1.0, hazard * (hazard - beyond))
    score, information = score / sd, information / sd**2
    return each.sum(1), score, information


def profile(law: Law, points: Points, slope: float) -> tuple[float, float]:
    """The largest log likelihood at this slope, over τ and the intercept, and that intercept: scoring steps for all τ
    at once, each shortened until it is a gain."""
    along = slope * law.x(points.horizons) + law.known(points.horizons)
    least = -along.min() if law.link is np.log else -np.inf
    weight = 1.0 / points.variance
    start = ((law.inverse(points.log_n - law.base(points.horizons)) - along) * weight).sum(1) / weight.sum(1)
    intercept = np.where(start > least, start, least + 1e-3 * np.exp(points.log_n.min()))
    damped = np.ones_like(intercept)
    value, score, information = log_likelihood(law, points, along + intercept[:, None])
    for _ in range(60):
        slopes = law.derivative(along + intercept[:, None])
        up = (score * slopes).sum(1)
        step = up / (information * slopes**2).sum(1)
        if ((up * step)[value > value.max() - 20.0] < 1e-9).all():
            break
        tried = intercept + damped * step
        tried = np.where(tried > least, tried, 0.5 * (intercept + least))
        found = log_likelihood(law, points, along + tried[:, None])
        better = found[0] >= value
        intercept, value = np.where(better, tried, intercept), np.where(better, found[0], value)
        score, information = (
            np.where(better[:, None], new, old) for new, old in zip(found[1:], (score, information), strict=True)
        )
        damped = np.where(better, np.minimum(1.0, 4 * damped), damped / 4)
    best = int(np.argmax(value))
    return float(value[best]), float(intercept[best])


def fit_law(law: Law, points: Points, level: float) -> LineFit:
    """Maximum likelihood, and the slopes that it does not rule out."""
    y = law.inverse(points.log_n - law.base(points.horizons)) - law.known(points.horizons)
    rough = fit_line(law.x(points.horizons), y, level=0.68)
    step = max(rough.interval[1] - rough.slope, 1e-6 * (1.0 + abs(rough.slope)))

    def loss(slope: float) -> float:
        return -profile(law, points, float(slope))[0]

    found = optimize.minimize_scalar(loss, bracket=(rough.slope, rough.slope + step), options={"xtol": 1e-7})
    seen = int((~points.above).sum())
    allowed = 0.5 * seen * np.log1p(stats.t.ppf(0.5 + level / 2, seen - 2) ** 2 / (seen - 2))

    def end(side: float) -> float:
        far = side * step
        while (beyond := loss(found.x + far) - found.fun - allowed) < 0 and abs(far) < 1e9 * step:
            far *= 2
        if beyond < 0:
            return side * np.inf
        return float(optimize.brentq(lambda s: loss(s) - found.fun - allowed, found.x, found.x + far, rtol=1e-6))

    intercept = profile(law, points, float(found.x))[1]
    return LineFit(intercept, float(found.x), (end(-1.0), end(1.0)), 2.0 * (float(found.fun) + PARAMETERS))


def fit_scaling(
    horizons: Float[np.ndarray, " n"], n_star: Float[np.ndarray, " n"],
    log_sd: Float[np.ndarray, " n"] | None = None, budget: Float[np.ndarray, " n"] | None = None,
    level: float = 0.95, decided: float = 4.0, root: float | None = None,
) -> Scaling:  # fmt: skip
    """Fit log n* = a + bH, log n* = a + b log H and n* = bH + a√H, and say whether it is exponential.

    Where the coefficient of √H is known, `root` (episodes), the last law is n* = bH + root·√H + a: the constant that
    docs/theory.md §4.2 leaves open would else bend b by 8 % at H = 4..40.

    `n_star` in episodes is infinite where the `budget` (episodes; read there only) did not suffice. `log_sd` are
    standard deviations of log n* (from its interval); without them all scatter is τ. The verdict is "undecided" while
    |ΔAIC| < `decided`. Raises `BadInput` for fewer than 3 points that are not censored, unequal lengths, equal or
    non-positive horizons, n* not positive, no budget for an infinite n*, a standard deviation that is not positive, a
    level outside (0, 1). Source: docs/theory.md §5.
    """
    horizons, n_star = np.asarray(horizons, float), np.asarray(n_star, float)
    require(horizons.ndim == 1 and len(horizons) >= 3, "number of horizons", len(horizons), "at least 3")
    require(horizons.shape == n_star.shape, "n_star", f"{n_star.shape} values", "one value a horizon")
    require(bool(np.all(n_star > 0)), "n_star", n_star.tolist(), "positive")
    above = ~np.isfinite(n_star)
    require(
        bool(np.all(horizons > 0)) and len(np.unique(horizons[~above])) >= 3, "horizons", horizons.tolist(),
        "positive, with at least 3 different ones within the budget",
    )  # fmt: skip
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    for name, given in (("log_sd", log_sd), ("budget", budget if above.any() else None)):
        fine = given is None or (np.shape(given) == horizons.shape and bool(np.all(np.asarray(given) > 0)))
        require(fine, name, given, "one positive number a horizon")
    require(budget is not None or not above.any(), "budget", budget, "given where n_star is infinite")
    log_n = np.log(np.where(above, 1.0 if budget is None else budget, n_star))
    taus = SCATTERS if log_sd is None else np.append(0.0, SCATTERS)
    known = np.zeros(len(horizons)) if log_sd is None else np.asarray(log_sd, float)
    points = Points(horizons, log_n, known**2 + taus[:, None] ** 2, above)
    linear_law = LINEAR
    if root is not None:
        linear_law = LINEAR._replace(x=_same, base=np.zeros_like, known=lambda h: root * np.sqrt(h))
    exponential, polynomial, linear = (fit_law(law, points, level) for law in (EXPONENTIAL, POWER, linear_law))
    delta_aic = exponential.aic - min(polynomial.aic, linear.aic)
    if abs(delta_aic) < decided:
        verdict = "undecided"
    else:
        verdict = "exponential" if delta_aic < 0 else "polynomial"
    return Scaling(exponential, polynomial, linear, delta_aic, verdict)

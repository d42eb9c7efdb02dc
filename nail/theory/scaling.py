"""Is n* exponential or polynomial in H? Two least-squares fits and their difference in AIC (docs/theory.md §5)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from nail.checks import require


@dataclass(frozen=True)
class LineFit:
    """log n* = intercept + slope·x with the slope's two-sided interval; `aic` up to a
    constant that is the same for both fits of one data set."""

    intercept: float
    slope: float
    interval: tuple[float, float]
    aic: float


@dataclass(frozen=True)
class Scaling:
    """Both fits. `delta_aic` = AIC(exponential) − AIC(polynomial): negative speaks for the exponential."""

    exponential: LineFit
    """log n* = a + b·H; b in nats a step (theory: −log q for LogLossBC, OPD-F, OPD-R)"""
    polynomial: LineFit
    """log n* = a + b·log H; b is the exponent (theory: about 1 for NAIL and DAgger)"""
    delta_aic: float
    verdict: Literal["exponential", "polynomial", "undecided"]


def fit_line(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    sd: Float[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> LineFit:
    """Least squares y = a + b·x, weighted by 1/sd² where standard deviations of y are given.

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


def fit_scaling(
    horizons: Float[np.ndarray, " n"], n_star: Float[np.ndarray, " n"],
    log_sd: Float[np.ndarray, " n"] | None = None, level: float = 0.95, decided: float = 4.0,
) -> Scaling:  # fmt: skip
    """Fit log n* = a + bH and log n* = a + b log H and say which one holds.

    `log_sd` are standard deviations of log n* (from a bootstrap); the verdict is "undecided" while |ΔAIC| < `decided`.
    Leave censored n* out: an infinite one is refused, never fitted. Raises `BadInput` for fewer than 3 points, unequal
    lengths, equal or non-positive horizons, n* not positive and finite, a standard deviation that is not positive, a
    level outside (0, 1). Source: docs/theory.md §5.
    """
    horizons, n_star = np.asarray(horizons, float), np.asarray(n_star, float)
    require(horizons.ndim == 1 and len(horizons) >= 3, "number of horizons", horizons.shape, "at least 3")
    require(horizons.shape == n_star.shape, "n_star", f"{n_star.shape} values", "one value a horizon")
    require(
        bool(np.all(horizons > 0)) and len(np.unique(horizons)) >= 3, "horizons", horizons.tolist(),
        "positive, with at least 3 different ones",
    )  # fmt: skip
    require(
        bool(np.all(np.isfinite(n_star) & (n_star > 0))), "n_star", n_star.tolist(),
        "positive and finite (leave censored points out)",
    )  # fmt: skip
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    if log_sd is not None:
        log_sd = np.asarray(log_sd, float)
        require(
            log_sd.shape == horizons.shape and bool(np.all(log_sd > 0)), "log_sd", log_sd.tolist(),
            "one positive number a horizon",
        )  # fmt: skip
    exponential = fit_line(horizons, np.log(n_star), log_sd, level)
    polynomial = fit_line(np.log(horizons), np.log(n_star), log_sd, level)
    delta_aic = exponential.aic - polynomial.aic
    if abs(delta_aic) < decided:
        verdict = "undecided"
    else:
        verdict = "exponential" if delta_aic < 0 else "polynomial"
    return Scaling(exponential, polynomial, delta_aic, verdict)

"""A plane through log n* over several axes at once, by the likelihood of nail/theory/scaling.py.

log n*_i ~ Normal(intercept + Σ_j slope_j·x_ij, sd_i² + τ²), independent, with known sd_i, a scatter τ beyond them, and
points beyond their budget as such. The interval of a slope is that of its profile likelihood, over the other slopes,
the intercept and τ, as there: half the fall that is allowed is ½·m·log(1 + t²/(m−p−1)), t the quantile of Student with
m−p−1 degrees of freedom, m the number of points that are not censored and p that of slopes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize, stats

from nail.checks import require
from nail.theory.scaling import EXPONENTIAL, SCATTERS, Points, log_likelihood


class Plane(NamedTuple):
    """A fit, with two-sided intervals of the slopes; `aic` up to a constant that is the same for all fits of one data
    set."""

    intercept: float
    slopes: Float[np.ndarray, " p"]
    low: Float[np.ndarray, " p"]
    high: Float[np.ndarray, " p"]
    scatter: float
    """τ, nats"""
    residuals: Float[np.ndarray, " n"]
    """log n* less the plane, nats; of a censored point at its budget: a lower limit"""
    aic: float


def _climb(
    columns: Float[np.ndarray, "n k"], offset: Float[np.ndarray, " n"], points: Points,
    start: Float[np.ndarray, "taus k"],
) -> tuple[Float[np.ndarray, " taus"], Float[np.ndarray, "taus k"], Float[np.ndarray, "taus k k"]]:  # fmt: skip
    """The largest log likelihood for each τ with the mean offset + columns·c, that c, and its information: scoring
    steps for all τ at once, each shortened until it is a gain."""
    at, damped = start, np.ones(len(start))
    value, score, information = log_likelihood(EXPONENTIAL, points, offset + at @ columns.T)
    for _ in range(60):
        up = score @ columns
        curve = np.einsum("tn,nj,nk->tjk", information, columns, columns)
        step = np.linalg.solve(curve, up[:, :, None])[:, :, 0]
        if ((up * step).sum(1)[value > value.max() - 20.0] < 1e-9).all():
            break
        tried = at + damped[:, None] * step
        found = log_likelihood(EXPONENTIAL, points, offset + tried @ columns.T)
        better = found[0] >= value
        at, value = np.where(better[:, None], tried, at), np.where(better, found[0], value)
        score, information = (
            np.where(better[:, None], new, old) for new, old in zip(found[1:], (score, information), strict=True)
        )
        damped = np.where(better, np.minimum(1.0, 4 * damped), damped / 4)
    return value, at, curve


def fit_plane(
    x: Float[np.ndarray, "n p"], log_n: Float[np.ndarray, " n"], above: Bool[np.ndarray, " n"],
    log_sd: Float[np.ndarray, " n"] | None = None, level: float = 0.95,
) -> Plane:  # fmt: skip
    """Maximum likelihood of log n* over the columns x, and the slopes that it does not rule out.

    `log_n` is log n*, or the logarithm of the budget where `above`; `log_sd` as for `fit_scaling`. Raises `BadInput`
    for fewer than p+2 points that are not censored, columns that these points do not tell apart, a standard deviation
    that is not positive, a level outside (0, 1).
    """
    slopes, seen = x.shape[1], int((~above).sum())
    require(seen >= slopes + 2, "points within the budget", seen, f"at least {slopes + 2} for {slopes} slopes")
    columns = np.column_stack([x, np.ones(len(x))])
    spread = columns[~above, :slopes] - columns[~above, :slopes].mean(0)
    told_apart = np.linalg.matrix_rank(spread, tol=1e-9 * max(1.0, float(np.abs(x).max()))) == slopes
    require(told_apart, "axes", f"{slopes} that go together", "ones that the points within the budget tell apart")
    require(log_sd is None or bool((log_sd > 0).all()), "log_sd", log_sd, "positive")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    taus = SCATTERS if log_sd is None else np.append(0.0, SCATTERS)
    known = np.zeros(len(x)) if log_sd is None else log_sd
    points = Points(np.zeros(len(x)), log_n, known**2 + taus[:, None] ** 2, above)
    rough = np.linalg.lstsq(columns, log_n, rcond=None)[0]
    value, at, curve = _climb(columns, np.zeros(len(x)), points, np.tile(rough, (len(taus), 1)))
    best = int(np.argmax(value))
    allowed = 0.5 * seen * np.log1p(stats.t.ppf(0.5 + level / 2, seen - slopes - 1) ** 2 / (seen - slopes - 1))
    steps = np.sqrt(np.diag(np.linalg.inv(curve[best])))

    def end(j: int, side: float) -> float:
        others = np.delete(columns, j, axis=1)

        def fall(slope: float) -> float:
            found = _climb(others, slope * x[:, j], points, np.delete(at, j, axis=1))[0]
            return float(value[best] - found.max() - allowed)

        far = side * 2.0 * steps[j]
        while fall(at[best, j] + far) < 0 and abs(far) < 1e9 * steps[j]:
            far *= 2
        if abs(far) >= 1e9 * steps[j]:
            return side * np.inf
        return float(optimize.brentq(fall, at[best, j], at[best, j] + far, xtol=1e-3 * steps[j]))

    low, high = (np.array([end(j, side) for j in range(slopes)]) for side in (-1.0, 1.0))
    aic = 2.0 * (slopes + 2 - float(value[best]))
    residuals = log_n - columns @ at[best]
    return Plane(float(at[best, -1]), at[best, :-1], low, high, float(taus[best]), residuals, aic)

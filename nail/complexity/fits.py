"""Laws fitted to the rows of an n* grid: over one axis, and over several at once.

An axis is a column that a law is a power of, on the scale of `AXES`. All other columns that vary name a series: their
points are not fitted together. One likelihood for all (nail/theory/scaling.py, plane.py): known standard deviations, a
scatter beyond them, censored points as such.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from nail.checks import BadInput, require
from nail.complexity.intervals import log_budget, log_sd
from nail.counting.columns import UNITS
from nail.theory.plane import Plane, fit_plane
from nail.theory.scaling import EXPONENTIAL, LINEAR, POWER, fit_scaling


class Axis(NamedTuple):
    """A column that a law may be a power of."""

    words: str
    scale: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]
    """log of what the power is of"""


AXES = {
    "H": Axis("log H", np.log),
    "A": Axis("log A", np.log),
    "S": Axis("log S", np.log),
    "eta": Axis("log 1/(1−η)", lambda eta: -np.log1p(-eta)),
    "delta": Axis("log log(1/δ)", lambda delta: np.log(-np.log(delta))),
    "epsilon": Axis("log 1/ε", lambda epsilon: -np.log(epsilon)),
}
NAMED = ("instance", "method")
"""columns that name a series even where they do not vary"""
LAWS = {"exponential": EXPONENTIAL, "power law": POWER, "linear": LINEAR}
COLUMNS = ("fit", "axis", "slope", "low", "high", "intercept", "delta_aic", "scatter", "points", "censored",
           "residuals", "note")  # fmt: skip
"""of fits.csv after those that name the series"""


def series(
    rows: pd.DataFrame, axes: Sequence[str], along: Sequence[str] = tuple(AXES)
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, list[str]]]:
    """(what names it, its rows, the columns of `along` that vary in it) of each group of rows that agree in `NAMED` and
    in the `axes` that are not in `along`. Raises `BadInput` for axes that are no columns."""
    for axis in axes:
        require(axis in rows, "axes", axis, f"columns of the rows ({', '.join(map(str, rows.columns))})")
    names = list(dict.fromkeys([*(name for name in NAMED if name in rows), *(a for a in axes if a not in along)]))
    groups = rows.groupby(names, sort=False, dropna=False) if names else [((), rows)]
    for key, group in groups:
        vary = [axis for axis in axes if axis in along and group[axis].nunique() > 1]
        yield dict(zip(names, key, strict=True)), group, vary


def is_censored(rows: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Whether the budget did not suffice."""
    return rows["censored"].to_numpy(float) != 0


def slopes(
    rows: pd.DataFrame, vary: Sequence[str], per: Float[np.ndarray, " n"] | float = 1.0, unit: str = "episodes"
) -> Plane:
    """log(n*/`per`) over the axes `vary` on their scales, n* in this unit. Raises `BadInput` where that cannot be."""
    x = np.column_stack([_scaled(rows, axis) for axis in vary])
    above, n = is_censored(rows), rows[UNITS[unit][0]].to_numpy(float)
    require(bool((n > 0).all()), "n*", 0, "positive at every point of a fit on a logarithmic scale")
    log_n = np.where(above, log_budget(rows, unit), np.log(np.where(above, 1.0, n)))
    return fit_plane(x, log_n - np.log(per), above, _known(rows, unit))


def _scaled(rows: pd.DataFrame, axis: str) -> Float[np.ndarray, " n"]:
    values = rows[axis].to_numpy(float)
    with np.errstate(all="ignore"):
        x = AXES[axis].scale(values)
    fine = bool(np.isfinite(x).all())
    require(fine, axis, values[~np.isfinite(x)][:1].tolist(), f"such that {AXES[axis].words} is a number")
    return x


def _known(rows: pd.DataFrame, unit: str = "episodes") -> Float[np.ndarray, " n"] | None:
    """Standard deviations of log n*, where the intervals have any."""
    sd = log_sd(rows, unit)
    return sd if bool((np.isfinite(sd) & (sd > 0)).all()) else None


def fit(rows: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The table fits.csv of the rows of an n* grid; `axes` are the columns that vary.

    For each series over H (rows that agree in all else): `fit` = "exponential" (log n* = intercept + slope·H), "power
    law" (intercept + slope·log H) and "linear" (n* = slope·H + intercept·√H), `delta_aic` against the best of them. For
    each method, where something else varies too or alone: `fit` = "joint", one row an `axis`, log n* = intercept + Σ
    slope·x with x of `AXES`. `low` and `high` are the slope's 95 % interval of profile likelihood; `scatter` is the
    standard deviation of log n* beyond the intervals of the points (nats, joint fits), `residuals` are log n* less the
    law point by point, `points` and `censored` are how many. Where there is no fit `note` says why.
    """
    found = []
    if "H" in axes:
        for name, group, vary in series(rows, axes, along=["H"]):
            if vary:
                found += [{**name, **row} for row in _over_horizon(group)]
    for name, group, vary in series(rows, axes):
        if vary and vary != ["H"]:
            found += [{**name, **row} for row in _joint(group, vary)]
    table = pd.DataFrame(found)
    names = [column for column in dict.fromkeys([*NAMED, *axes]) if column in table]
    return table.reindex(columns=[*names, *COLUMNS])


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    return {"points": len(rows), "censored": int(is_censored(rows).sum())}


def _over_horizon(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    above, n = is_censored(rows), rows["n_star"].to_numpy(float)
    horizons, budget = rows["H"].to_numpy(float), np.exp(log_budget(rows))
    try:
        found = fit_scaling(horizons, np.where(above, np.inf, n), _known(rows), budget)
    except BadInput as error:
        yield {"fit": "none", "axis": "H", **_counts(rows), "note": f"no fit: {error}"}
        return
    lines = dict(zip(LAWS, (found.exponential, found.polynomial, found.linear), strict=True))
    least = min(line.aic for line in lines.values())
    for name, line in lines.items():
        law = LAWS[name]
        fitted = law.base(horizons) + law.link(line.slope * law.x(horizons) + line.intercept)
        residuals = np.log(np.where(above, budget, n)) - fitted
        yield {
            "fit": name, "axis": "H", "slope": line.slope, "low": line.interval[0], "high": line.interval[1],
            "intercept": line.intercept, "delta_aic": line.aic - least, **_counts(rows),
            "residuals": _at_each(rows, ["H"], residuals, above),
        }  # fmt: skip


def _joint(rows: pd.DataFrame, vary: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        plane = slopes(rows, vary)
    except BadInput as error:
        yield {"fit": "none", "axis": " ".join(vary), **_counts(rows), "note": f"no fit: {error}"}
        return
    each = _at_each(rows, vary, plane.residuals, is_censored(rows))
    for j, axis in enumerate(vary):
        yield {
            "fit": "joint", "axis": axis, "slope": plane.slopes[j], "low": plane.low[j], "high": plane.high[j],
            "intercept": plane.intercept, "scatter": plane.scatter, **_counts(rows), "residuals": each,
        }  # fmt: skip


def _at_each(
    rows: pd.DataFrame, vary: Sequence[str], residuals: Float[np.ndarray, " n"], above: Bool[np.ndarray, " n"]
) -> str:
    """Residuals by point, "H=4 eta=0.3 +0.021; …"; of a censored point the least that it can be, "> −0.5"."""
    places = rows[list(vary)].itertuples(index=False)
    return "; ".join(
        " ".join([*(f"{a}={v:g}" for a, v in zip(vary, place, strict=True)), f"{'> ' if cut else ''}{residual:+.3g}"])
        for place, residual, cut in zip(places, residuals, above, strict=True)
    )

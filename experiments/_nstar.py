"""What the figures that measure n* share: n* and the known curves as rows, their claims, fits."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from nail.counting.drivers import Setting
from nail.counting.nstar import n_star
from nail.figures.experiment import Claim, Row
from nail.methods import METHOD
from nail.theory.bounds import phased_nail
from nail.theory.exact import n_bc, n_offline
from nail.theory.scaling import Scaling, fit_scaling

from ._theory import NORMAL_95, Point

EXPONENTIAL = ("loglossbc", "opd-f", "opd-r")
"""learners whose episodes follow the noisy expert or are sampled from a law fitted to it"""
POLYNOMIAL = ("dagger", "nail-f", "nail-r", "nailgun")
"""learners whose episodes are greedy in the end"""
KNOWN = {
    "n_offline": (n_offline, "lower", "genie: lower bound, offline"),
    "n_bc": (n_bc, "exact", "LogLossBC on the chain, exact"),
    "phased": (phased_nail, "upper", "phased NAIL, upper bound"),
}
"""curves that are known beside the measured n*: name → function of (H, A, η, δ), how it is drawn, label"""


COLUMNS = (
    "n_star", "low", "high", "queries", "queries_low", "queries_high", "censored", "allowed", "resolution", "mean_loss",
)  # fmt: skip
"""of a measured n*: episodes and expert queries with their intervals, infinite where censored"""


def measure_n_star(point: Point) -> list[Row]:
    """n* of `point` as one row: of a curve of `KNOWN`, or measured (instance, method, horizon, n_actions, eta, delta,
    replicates, seed, budget; and what the learner is told, where that matters)."""
    if point["method"] in KNOWN:
        value = KNOWN[point["method"]][0](point["horizon"], point["n_actions"], point["eta"], point["delta"])
        return [{**point, **dict.fromkeys(COLUMNS, ""), "n_star": value, "low": value, "high": value, "censored": 0}]
    told = {name: point[name] for name in ("kernel", "told_eta", "told_kernel") if name in point}
    setting = Setting(**{k: np.asarray(v) if isinstance(v, list) else v for k, v in told.items()})
    found = n_star(
        point["instance"], point["method"], point["horizon"], point["n_actions"], point["eta"], point["delta"],
        point["replicates"], point["seed"], point["budget"], setting,
    )  # fmt: skip
    episodes, queries = (np.inf, np.inf) if found.censored else (found.value, found.queries)
    numbers = (
        episodes, *found.interval, queries, *found.query_interval, int(found.censored), found.budget, found.resolution,
        found.mean_loss,
    )  # fmt: skip
    return [{**point, **dict(zip(COLUMNS, numbers, strict=True))}]


def censored(rows: list[Row]) -> bool:
    """Whether the budget did not suffice at any of these points (rows as text)."""
    return any(int(row["censored"]) for row in rows)


def reached(rows: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The points within the budget, of those with the `wanted` values."""
    return rows[(rows.censored == 0) & (rows[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def with_known(rows: pd.DataFrame, on: str) -> pd.DataFrame:
    """The measured points with the known curves at the same value of the column `on` beside them, as columns."""
    curves = {name: rows[rows.method == name].set_index(on).n_star for name in KNOWN}
    measured = rows[~rows.method.isin(KNOWN)]
    return measured.assign(**{name: measured[on].map(curve) for name, curve in curves.items()})


def episodes(rows: pd.DataFrame) -> pd.Series:
    """n*, or the budget where it did not suffice."""
    return rows.n_star.where(rows.censored == 0, rows.allowed)


UNITS = {"episodes": "episodes n*", "queries": "expert queries H·n*"}
"""what n* is counted in → the start of its axis label"""
ENDS = ("low", "high")
"""columns of an interval of `episodes`; `queries_low`, .. are those of `queries`"""


def both_units(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with n* in both units: `episodes` (the budget where it did not suffice), `queries` = H·episodes (the
    expert answers once a step), each with its interval."""
    n = rows.assign(episodes=episodes(rows))[["episodes", *ENDS]].astype(float)
    queries = n.mul(rows.horizon, axis=0).set_axis(["queries", *(f"queries_{end}" for end in ENDS)], axis=1)
    return rows.assign(episodes=n.episodes, **queries)


def in_unit(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """A table of `both_units` whose columns `episodes`, `low` and `high` are in this unit, for drawing."""
    if unit == "episodes":
        return table
    return table.assign(episodes=table[unit], **{end: table[f"{unit}_{end}"] for end in ENDS})


def n_label(unit: str, reached: str = "P(all H right) ≥ 1 − δ") -> str:
    """Label of an axis of n*, in `unit`, until `reached`."""
    return f"{UNITS[unit]} until {reached}"


def log_sd(rows: pd.DataFrame) -> Float[np.ndarray, " n"]:
    """Standard deviations of log n* that the bootstrap intervals imply, at least half the grid's resolution."""
    value, high = rows.n_star, rows.high.where(np.isfinite(rows.high))
    width = (np.log(high / rows.low) / 2).fillna(np.log(value / rows.low))
    return np.maximum(width / NORMAL_95, 0.5 * rows.resolution / value).to_numpy()


def fit_n_star(rows: pd.DataFrame) -> Scaling | None:
    """Exponential and polynomial fits of n*(H) over the points that are not censored; None for fewer than 3."""
    kept = reached(rows)
    if len(kept) < 3:
        return None
    return fit_scaling(kept.horizon.to_numpy(float), kept.n_star.to_numpy(float), log_sd(kept))


def known_claims(rows: pd.DataFrame, chain: str, genie: str, everywhere: str, ratios: str) -> list[Claim]:
    """Claims on measured points beside the known curves (`with_known`): LogLossBC on the chain is the exact one, no
    learner of it beats the genie, and greedy learners stay below the bound for phased NAIL.

    `chain`, `genie` and `everywhere` say where, in the three statements; `ratios` is n* of LogLossBC over the genie's.
    """
    offline = reached(rows, method="loglossbc")
    found = reached(rows, instance="poison-chain", method="loglossbc")
    exact, hits = found.n_star / found.n_bc, found.n_bc.between(found.low, found.high).sum()
    worst = (rows.n_star / rows.phased).groupby(rows.method).max()[list(POLYNOMIAL)]
    return [
        Claim(
            f"{chain}the measured n* of LogLossBC agrees with the exact one (most intervals contain it)",
            "docs/theory.md §4.2",
            f"{hits} of {len(found)} intervals contain it; measured/exact from {exact.min():.3f} to {exact.max():.3f}",
            bool(hits > len(found) / 2),
        ),
        Claim(
            f"LogLossBC needs at least the genie's number of trajectories {genie} (up to its interval)",
            "docs/theory.md §4.1", ratios, len(offline) > 0 and bool((offline.high >= offline.n_offline).all()),
        ),
        Claim(
            f"DAgger, NAIL and NAILGUN stay below the bound for phased NAIL {everywhere}", "docs/theory.md §4.2",
            "largest n*/bound: " + ", ".join(f"{METHOD[m].label} {x:.3f}" for m, x in worst.items()),
            bool(worst.max() < 1),
        ),
    ]  # fmt: skip

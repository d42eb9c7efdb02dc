"""εT² against εT: what one mistake costs with and without recovery, on the cliff (docs/theory.md §4.3).

The expected cost of a policy that errs with probability ε at on-path states: the recursion of
`exact.compounding_cost`, dynamic programming on the cliff itself, and simulated episodes of it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.envs.instances import cliff, erring
from nail.envs.mdp import value
from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, note
from nail.theory.bounds import compounding_bound
from nail.theory.exact import compounding_cost
from nail.theory.scaling import fit_line

from ._rows import column, select
from ._theory import NORMAL_95, Point, run_points, simulate

NAME = "theory_compounding"
ERRORS = 4.5
"""standard errors within which a simulated cost counts as the exact one (error probability 7e-6 a point)"""
SMALL = 0.1
"""εT up to which the orders εT² and εT are fitted"""


class Size(NamedTuple):
    """A preset."""

    horizons: tuple[int, ...]
    episodes: int
    error: float = 1e-3
    recoveries: tuple[int, ...] = (0, 2, 8)
    """u; 0: no recovery"""


SIZES = {
    "smoke": Size((10, 30, 100), 2_000, recoveries=(0, 2)),
    "cpu": Size((10, 20, 40, 80, 160, 320, 640, 1280, 2560), 20_000),
    "paper": Size((10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120), 200_000),
}


def series(size: Size) -> list[list[Point]]:
    """One series of growing T for each kind of recovery."""
    rest = {"error": size.error, "episodes": size.episodes}
    return [
        [{"recovery": u, "horizon": horizon, **rest, "seed": horizon + u} for horizon in size.horizons]
        for u in size.recoveries
    ]


def measure(point: Point) -> list[Row]:
    """Cost T − J of the erring expert: closed form, dynamic programming, Monte Carlo with its standard error."""
    recovery = point["recovery"] or None
    instance = cliff(point["horizon"], 2, recovery)
    policy = erring(instance, point["error"])
    rng = np.random.default_rng(point["seed"])
    cost = point["horizon"] - simulate(instance.mdp, policy, point["episodes"], rng)
    return [
        {
            **point,
            "exact": compounding_cost(point["horizon"], point["error"], recovery),
            "dynamic_programme": float(point["horizon"] - value(instance.mdp, policy)),
            "simulated": float(cost.mean()),
            "standard_error": float(cost.std(ddof=1) / np.sqrt(len(cost))),
            "bound": compounding_bound(point["horizon"], point["error"], recovery),
        }
    ]


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all points of a preset."""
    return run_points(NAME, out, series(SIZES[preset]), measure)


def analyse(rows: list[Row]) -> list[Row]:
    """Expected cost (steps off the path, in T steps): exact, simulated with its 95 % interval, bound."""
    return [
        {
            **{name: row[name] for name in ("recovery", "horizon", "error", "episodes", "exact", "simulated")},
            "low": float(row["simulated"]) - NORMAL_95 * float(row["standard_error"]),
            "high": float(row["simulated"]) + NORMAL_95 * float(row["standard_error"]),
            "bound": row["bound"],
        }
        for row in rows
    ]


def claims(rows: list[Row]) -> list[Claim]:
    """Three computations of one number agree; the bounds hold; the orders are T² and T."""
    exact, dp, mean, se = (column(rows, c) for c in ("exact", "dynamic_programme", "simulated", "standard_error"))
    seen = se > 0
    away = np.max(np.abs(mean - exact)[seen] / se[seen])
    found = [
        Claim(
            "the closed form is the dynamic programme's cost on the cliff (relative difference below 1e-9)",
            "docs/theory.md §4.3",
            f"largest relative difference {np.max(np.abs(dp / exact - 1)):.1e} over {len(rows)} points",
            bool(np.all(np.abs(dp / exact - 1) < 1e-9)),
        ),
        Claim(
            f"simulated cost is the exact one (within {ERRORS} standard errors at every point)",
            "docs/theory.md §4.3",
            f"farthest point {away:.2f} standard errors away, {int(np.sum(seen))} points",
            bool(away < ERRORS),
        ),
        Claim(
            "cost is at most εT² without recovery and uεT with recovery in u steps",
            "docs/theory.md §4.3 (Ross and Bagnell 2010)",
            f"largest cost/bound {np.max(exact / column(rows, 'bound')):.3f}",
            bool(np.all(exact <= column(rows, "bound"))),
        ),
    ]
    for recovery in _recoveries(rows):
        found.append(_order_claim(rows, recovery))
    return found


def _recoveries(rows: list[Row]) -> list[int]:
    return sorted({int(row["recovery"]) for row in rows})


def _order_claim(rows: list[Row], recovery: int) -> Claim:
    """Slope of log cost on log T; points within the recovery time have not felt it yet and are left out."""
    chosen = [row for row in select(rows, recovery=recovery) if int(row["horizon"]) >= 5 * recovery]
    if recovery == 0:
        chosen = [row for row in chosen if float(row["error"]) * int(row["horizon"]) <= SMALL]
    order, kind = (2, "no recovery") if recovery == 0 else (1, f"recovery in {recovery} steps")
    statement = f"{kind}: cost grows as T^{order} (exponent within 0.15)"
    if len(chosen) < 3:
        return Claim(statement, "docs/theory.md §4.3", f"only {len(chosen)} points in range", False)
    fits = {c: fit_line(np.log(column(chosen, "horizon")), np.log(column(chosen, c))) for c in ("exact", "simulated")}
    return Claim(
        statement,
        "docs/theory.md §4.3",
        f"exponent {fits['exact'].slope:.3f} exact, {fits['simulated'].slope:.3f} simulated, "
        f"T = {chosen[0]['horizon']}–{chosen[-1]['horizon']}",
        abs(fits["exact"].slope - order) < 0.15,
    )


def draw(table: list[Row]) -> Figure:
    """Cost against T on logarithmic axes; to the right the cost of one mistake, cost/(εT)."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    error = float(table[0]["error"])
    for look, recovery in zip(CASES, _recoveries(table), strict=False):
        rows = select(table, recovery=recovery)
        label = "no recovery" if recovery == 0 else f"recovery in u = {recovery} steps"
        for axes, per_mistake in ((left, False), (right, True)):
            _case(axes, rows, look, label, per_mistake)
    left.plot([], [], label="bound: εT², or uεT", **REFERENCE["upper"])
    left.plot([], [], label="exact", **REFERENCE["exact"])
    left.set_ylabel("expected cost (steps off the path)")
    right.set_ylabel("cost / (εT)  (steps off the path a mistake)")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("horizon T (steps)")
    left.axvline(1 / error, color="#cccccc", linewidth=0.8, zorder=0)
    left.annotate("εT = 1", (1 / error, 0.02), xycoords=("data", "axes fraction"), xytext=(-2, 0),
                  textcoords="offset points", fontsize=6.5, color="#666666", ha="right")  # fmt: skip
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5, columnspacing=1.2)
    note(
        figure, f"cliff, ε = {error:g}; marks: mean of {int(table[0]['episodes']):,} simulated episodes a point, bars: "
        "95 % intervals (± 1.96 standard errors); lines: exact",
    )  # fmt: skip
    return figure


def _case(axes: Axes, rows: list[Row], look, label: str, per_mistake: bool) -> None:
    """Simulated marks with bars on the exact line, and the bound."""
    t, exact, mean, low, high, bound = (
        column(rows, c) for c in ("horizon", "exact", "simulated", "low", "high", "bound")
    )
    unit = float(rows[0]["error"]) * t if per_mistake else np.ones_like(t)
    axes.plot(t, bound / unit, **{**REFERENCE["upper"], "color": look.colour}, alpha=0.6)
    axes.plot(t, exact / unit, **{**REFERENCE["exact"], "color": look.colour})
    seen = mean > 0
    bars = np.stack([mean - np.maximum(low, mean * 1e-3), high - mean])
    axes.errorbar(
        t[seen], (mean / unit)[seen], (bars / unit)[:, seen], color=look.colour, marker=look.mark, linestyle="none",
        elinewidth=0.9, label=label,
    )  # fmt: skip


EXPERIMENT = Experiment(
    name=NAME,
    summary="εT² against εT: the cost of mistakes with and without recovery, exact and simulated",
    cost={
        "smoke": "about 6 seconds on two cores",
        "cpu": "about 1.5 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
)

"""n*(H): episodes until a learner finds all H right actions, on the poison chain and the hidden path.

docs/theory.md §4.1, §4.2 and §5: exponential in H at rate −log q a step for learners that follow the noisy expert or
sample from a law fitted to it; polynomial for learners that play greedily. Beside the measured n*: the genie's lower
bound for offline learners, the exact n* of LogLossBC on the chain, and the bound for phased NAIL.
"""

import math
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import LOOK, REFERENCE, TEXT_WIDTH, measured, note
from nail.methods import METHOD
from nail.theory.bounds import phased_nail
from nail.theory.exact import n_bc, n_offline, right_probability

from ._rows import column, select
from ._theory import Point, censored, exact_columns, fit_n_star, measure_n_star, run_points

NAME = "theory_horizon"
EXPONENTIAL = ("loglossbc", "opd-f", "opd-r")
POLYNOMIAL = ("dagger", "nail-f", "nail-r", "nailgun")
INSTANCES = {"poison-chain": "poison chain", "hidden-path": "hidden path"}
REFERENCES = {
    "n_offline": ("lower", "genie: lower bound for every offline learner"),
    "n_bc": ("exact", "LogLossBC on the chain, exact"),
    "phased": ("upper", "phased NAIL, upper bound"),
}
NEAR = 0.1
"""relative distance of a fitted rate from −log q that still counts as equal"""
ABOUT_ONE = (0.75, 1.25)
"""exponents that count as about 1"""


class Size(NamedTuple):
    """A preset."""

    steep: tuple[int, ...]
    """horizons of the learners that are expected to be exponential, tried until the budget does not suffice"""
    flat: tuple[int, ...]
    """horizons of the others"""
    replicates: int
    budget: int
    n_actions: int = 4
    eta: float = 0.5
    delta: float = 0.1


SIZES = {
    "smoke": Size((2, 3, 4, 8), (2, 4, 6, 8), 40, 300),
    "cpu": Size((4, 6, 8, 10, 12, 15, 18, 21), (4, 6, 8, 12, 16, 24, 32, 40), 200, 100_000),
    "paper": Size(tuple(range(4, 41, 2)), (4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 100), 2_000, 1_000_000),
}


def series(size: Size) -> list[list[Point]]:
    """One series of growing H for each learner and instance, the costliest first; the known curves at the end.

    Every series has its own seed, so equal rules (NAIL-F and NAILGUN under uniform noise) are measured independently.
    """
    common = {"n_actions": size.n_actions, "eta": size.eta, "delta": size.delta}
    found = []
    for i, method in enumerate(EXPONENTIAL + POLYNOMIAL):
        for j, instance in enumerate(INSTANCES):
            horizons = size.steep if method in EXPONENTIAL else size.flat
            rest = {**common, "replicates": size.replicates, "seed": 10 * i + j, "budget": size.budget}
            found.append([{"instance": instance, "method": method, "horizon": h, **rest} for h in horizons])
    horizons = sorted({*size.steep, *size.flat})
    known = {**common, "replicates": 0, "seed": 0, "budget": 0}
    found.append([{"instance": "", "method": m, "horizon": h, **known} for m in REFERENCES for h in horizons])
    return found


def measure(point: Point) -> list[Row]:
    """One n*, measured or known."""
    known = {"n_offline": n_offline, "n_bc": n_bc, "phased": phased_nail}.get(point["method"])
    if known is None:
        return measure_n_star(point)
    value = known(point["horizon"], point["n_actions"], point["eta"], point["delta"])
    return [{**point, **exact_columns(value)}]


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all points of a preset."""
    return run_points(NAME, out, series(SIZES[preset]), measure, censored)


def analyse(rows: list[Row]) -> list[Row]:
    """Per point: n* in episodes with its interval (the budget where censored); per series: both fits."""
    table = []
    for instance in ("", *INSTANCES):
        for method in REFERENCES if instance == "" else EXPONENTIAL + POLYNOMIAL:
            chosen = select(rows, instance=instance, method=method)
            fits = _fit_columns(rows, instance, method)
            for row in chosen:
                value = row["allowed"] if int(row["censored"]) else row["n_star"]
                table.append(
                    {
                        "instance": instance, "method": method, "horizon": row["horizon"], "episodes": value,
                        "low": row["low"], "high": row["high"], "censored": row["censored"],
                        "n_actions": row["n_actions"], "eta": row["eta"], "delta": row["delta"],
                        "replicates": row["replicates"], **fits,
                    }
                )  # fmt: skip
    return table


def _fit_columns(rows: list[Row], instance: str, method: str) -> Row:
    """Slope of the expected form with its interval and theory, and AIC(exponential) − AIC(polynomial)."""
    fit = fit_n_star(select(rows, instance=instance, method=method)) if instance else None
    if fit is None:
        return dict.fromkeys(("form", "slope", "slope_low", "slope_high", "theory_slope", "delta_aic"), "")
    steep = method in EXPONENTIAL
    line = fit.exponential if steep else fit.polynomial
    return {
        "form": "exponential" if steep else "polynomial",
        "slope": line.slope,
        "slope_low": line.interval[0],
        "slope_high": line.interval[1],
        "theory_slope": rate(rows) if steep else 1.0,
        "delta_aic": fit.delta_aic,
    }


def rate(rows: list[Row]) -> float:
    """−log q of the figure's setting, nats a step."""
    return -math.log(right_probability(int(rows[0]["n_actions"]), float(rows[0]["eta"])))


def claims(rows: list[Row]) -> list[Claim]:
    """Form and slope of every curve, and its place between the bounds."""
    found = []
    for instance, title in INSTANCES.items():
        for method in EXPONENTIAL + POLYNOMIAL:
            found.append(_slope_claim(rows, instance, title, method))
    found.append(_exact_claim(rows))
    found.append(_genie_claim(rows))
    found.append(_phased_claim(rows))
    return found


def _slope_claim(rows: list[Row], instance: str, title: str, method: str) -> Claim:
    steep, b = method in EXPONENTIAL, rate(rows)
    expected = f"exponential in H at rate −log q = {b:.3f} nats a step (within {NEAR:.0%})" if steep else (
        f"polynomial in H with exponent about 1 (in {ABOUT_ONE[0]}–{ABOUT_ONE[1]})"
    )  # fmt: skip
    statement = f"{title}: n* of {METHOD[method].label} is {expected}"
    chosen = select(rows, instance=instance, method=method)
    fit = fit_n_star(chosen)
    if fit is None:
        return Claim(statement, "docs/theory.md §5", "fewer than 3 points within the budget", False)
    line = fit.exponential if steep else fit.polynomial
    target = b if steep else 1.0
    kept = [row for row in chosen if not int(row["censored"])]
    inside = line.interval[0] <= target <= line.interval[1]
    where = "contains" if inside else f"misses by {min(abs(e - target) for e in line.interval):.3f}"
    numbers = (
        f"slope {line.slope:.3f}, 95 % interval [{line.interval[0]:.3f}, {line.interval[1]:.3f}] "
        f"({where} {target:.3f}); "
        f"AIC(exponential) − AIC(polynomial) = {fit.delta_aic:.1f}; {len(kept)} points, "
        f"H = {kept[0]['horizon']}–{kept[-1]['horizon']}, n* = {kept[0]['n_star']}–{kept[-1]['n_star']}"
    )
    near = inside or abs(line.slope / b - 1) <= NEAR if steep else ABOUT_ONE[0] <= line.slope <= ABOUT_ONE[1]
    form = "exponential" if steep else "polynomial"
    return Claim(statement, "docs/theory.md §4.1, §4.2, §5", numbers, bool(near and fit.verdict == form))


def _exact_claim(rows: list[Row]) -> Claim:
    """Measured against the dynamic programme: standard errors from the bootstrap."""
    chosen = [r for r in select(rows, instance="poison-chain", method="loglossbc") if not int(r["censored"])]
    exact = {int(r["horizon"]): float(r["n_star"]) for r in select(rows, method="n_bc")}
    ratios = [float(r["n_star"]) / exact[int(r["horizon"])] for r in chosen]
    hits = sum(float(r["low"]) <= exact[int(r["horizon"])] <= float(r["high"]) for r in chosen)
    return Claim(
        "poison chain: the measured n* of LogLossBC agrees with the exact one (most intervals contain it)",
        "docs/theory.md §4.2",
        f"{hits} of {len(chosen)} intervals contain it; measured/exact from {min(ratios, default=math.nan):.3f} "
        f"to {max(ratios, default=math.nan):.3f}",
        bool(chosen) and hits > len(chosen) / 2,
    )


def _genie_claim(rows: list[Row]) -> Claim:
    genie = {int(r["horizon"]): float(r["n_star"]) for r in select(rows, method="n_offline")}
    pairs = [(float(r["high"]), float(r["n_star"]), genie[int(r["horizon"])], r) for i in INSTANCES
             for r in select(rows, instance=i, method="loglossbc") if not int(r["censored"])]  # fmt: skip
    least = min((n / g for _, n, g, _ in pairs), default=math.nan)
    return Claim(
        "LogLossBC needs at least the genie's number of trajectories on both instances (up to its interval)",
        "docs/theory.md §4.1",
        f"least n*/n_offline = {least:.3f} over {len(pairs)} points",
        bool(pairs) and all(high >= g for high, _, g, _ in pairs),
    )


def _phased_claim(rows: list[Row]) -> Claim:
    phased = {int(r["horizon"]): float(r["n_star"]) for r in select(rows, method="phased")}
    ratios = {m: max(float(r["n_star"]) / phased[int(r["horizon"])] for i in INSTANCES
                     for r in select(rows, instance=i, method=m)) for m in POLYNOMIAL}  # fmt: skip
    return Claim(
        "DAgger, NAIL and NAILGUN stay below the bound for phased NAIL at every H, on both instances",
        "docs/theory.md §4.2",
        "largest n*/bound: " + ", ".join(f"{METHOD[m].label} {x:.3f}" for m, x in ratios.items()),
        max(ratios.values()) < 1,
    )


def draw(table: list[Row]) -> Figure:
    """Two panels on a logarithmic axis of episodes; below, the legend with the fitted slopes."""
    figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
    panels = figure.subplot_mosaic([["chain", "path"], ["slopes", "slopes"]], height_ratios=[2.7, 1])
    for name, (instance, title) in zip(("chain", "path"), INSTANCES.items(), strict=True):
        _panel(panels[name], table, instance)
        panels[name].set_title(title)
    panels["path"].sharey(panels["chain"])
    panels["chain"].set_ylabel("episodes n* until P(all H right) ≥ 1 − δ")
    _slopes(panels["slopes"], table)
    n_actions, eta, delta = (table[0][k] for k in ("n_actions", "eta", "delta"))
    replicates = max(int(row["replicates"]) for row in table)
    note(
        figure, f"A = {n_actions}, η = {eta}, δ = {delta}; {replicates} replicates a point, bands: 95 % bootstrap "
        "intervals; open marks with arrows: beyond the budget, left out of the fits",
    )  # fmt: skip
    return figure


def _panel(axes: Axes, table: list[Row], instance: str) -> None:
    for method, (kind, label) in REFERENCES.items():
        if instance == "hidden-path" and method == "n_bc":
            continue
        rows = select(table, method=method)
        axes.plot(column(rows, "horizon"), column(rows, "episodes"), label=label, zorder=1.5, **REFERENCE[kind])
    for method in EXPONENTIAL + POLYNOMIAL:
        rows = select(table, instance=instance, method=method)
        x, value, low, high, beyond = (column(rows, c) for c in ("horizon", "episodes", "low", "high", "censored"))
        measured(axes, LOOK[method], x, value, low, high, beyond, hollow=method == "nailgun")
    found = [row for row in table if row["instance"]]
    axes.set_yscale("log")
    axes.set_ylim(min(column(found, "low")) / 1.5, max(column(found, "episodes")) * 5)
    axes.set_xlim(0, max(column(found, "horizon")) * 1.03)
    axes.set_xlabel("horizon H (steps)")
    axes.legend(loc="upper right", fontsize=6, borderaxespad=0, handlelength=2.6)


def _slopes(axes: Axes, table: list[Row]) -> None:
    """A table that is also the legend: mark and name, then slope with interval on each instance and in theory."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    methods = EXPONENTIAL + POLYNOMIAL
    axes.set_ylim(len(methods) + 0.1, -1.7)
    places = (0.21, 0.48, 0.75)
    heads = (*(f"fitted slope, {title}" for title in INSTANCES.values()), "theory")
    for x, head in zip(places, heads, strict=True):
        axes.text(x, -1.25, head, va="center", fontsize=7, color="#444444")
    for y, method in enumerate(methods):
        look = LOOK[method]
        fill = "none" if method == "nailgun" else look.colour
        axes.plot([0.0, 0.025, 0.05], [y] * 3, color=look.colour, linestyle=look.line, marker=look.mark,
                  markerfacecolor=fill, markevery=[1], clip_on=False)  # fmt: skip
        axes.text(0.065, y, METHOD[method].label, va="center", fontsize=7.5)
        cells = [select(table, instance=instance, method=method)[0] for instance in INSTANCES]
        for x, cell in zip(places, cells, strict=False):
            axes.text(x, y, _slope_text(cell), va="center", fontsize=7.5)
        known = next((c for c in cells if c["form"]), None)
        if known is not None:
            axes.text(places[2], y, _law(known, f"{float(known['theory_slope']):.3g}"), va="center", fontsize=7.5)


def _law(cell: Row, slope: str) -> str:
    return f"$\\propto e^{{{slope}\\,H}}$" if cell["form"] == "exponential" else f"$\\propto H^{{{slope}}}$"


def _slope_text(cell: Row) -> str:
    if not cell["form"]:
        return "too few points"
    slope, low, high = (float(cell[c]) for c in ("slope", "slope_low", "slope_high"))
    return f"{_law(cell, f'{slope:.3f}')}   [{low:.3f}, {high:.3f}]"


EXPERIMENT = Experiment(
    name=NAME,
    summary="n*(H) on the poison chain and the hidden path: who is exponential in the horizon, and at what rate",
    cost={
        "smoke": "about 1 minute on two cores",
        "cpu": "200 replicates a point, horizons to 40; about 7 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
)

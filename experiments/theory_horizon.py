"""n*(H): episodes until a learner finds all H right actions, on the poison chain and the hidden path.

docs/theory.md §4.1, §4.2 and §5: exponential in H at rate −log q a step for learners that follow the noisy expert or
sample from a law fitted to it; polynomial for learners that play greedily. Beside the measured n*: the genie's lower
bound for offline learners, the exact n* of LogLossBC on the chain, and the bound for phased NAIL.
"""

import math
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Row
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.methods import METHOD
from nail.theory.exact import right_probability

from ._nstar import (
    EXPONENTIAL,
    KNOWN,
    POLYNOMIAL,
    censored,
    episodes,
    fit_n_star,
    known_claims,
    measure_n_star,
    reached,
    with_known,
)
from ._theory import Point, figure_of_points

INSTANCES = {"poison-chain": "poison chain", "hidden-path": "hidden path"}
FIT = ("form", "slope", "slope_low", "slope_high", "theory_slope", "delta_aic")
"""columns of the fit of a series"""
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


def series(preset: str) -> list[list[Point]]:
    """One series of growing H for each learner and instance, the costliest first; the known curves at the end.

    Every series has its own seed, so equal rules (NAIL-F and NAILGUN under uniform noise) are measured independently.
    """
    size = SIZES[preset]
    common = {"n_actions": size.n_actions, "eta": size.eta, "delta": size.delta}
    found = []
    for i, method in enumerate(EXPONENTIAL + POLYNOMIAL):
        for j, instance in enumerate(INSTANCES):
            horizons = size.steep if method in EXPONENTIAL else size.flat
            rest = {**common, "replicates": size.replicates, "seed": 10 * i + j, "budget": size.budget}
            found.append([{"instance": instance, "method": method, "horizon": h, **rest} for h in horizons])
    horizons = sorted({*size.steep, *size.flat})
    known = {**common, "replicates": 0, "seed": 0, "budget": 0}
    found.append([{"instance": "", "method": m, "horizon": h, **known} for m in KNOWN for h in horizons])
    return found


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Per point: n* in episodes with its interval (the budget where censored); per series: both fits."""
    order = rows.instance.map(["", *INSTANCES].index)
    series = rows.assign(episodes=episodes(rows), order=order).groupby(["order", "instance", "method"], sort=False)
    table = pd.concat(points.assign(**_fit_columns(points, method)) for (_, _, method), points in series)
    kept = ["episodes", "low", "high", "censored", "n_actions", "eta", "delta", "replicates"]
    columns = ["instance", "method", "horizon", *kept, *FIT]
    return table.sort_values("order", kind="stable").reindex(columns=columns)


def _fit_columns(points: pd.DataFrame, method: str) -> Row:
    """Slope of the expected form with its interval and theory, and AIC(exponential) − AIC(polynomial)."""
    if method in KNOWN or (fit := fit_n_star(points)) is None:
        return {}
    steep = method in EXPONENTIAL
    line = fit.exponential if steep else fit.polynomial
    form, theory = ("exponential", rate(points)) if steep else ("polynomial", 1.0)
    return dict(zip(FIT, (form, line.slope, *line.interval, theory, fit.delta_aic), strict=True))


def rate(rows: pd.DataFrame) -> float:
    """−log q of the figure's setting, nats a step."""
    row = next(rows.itertuples())
    return -math.log(right_probability(row.n_actions, row.eta))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Form and slope of every curve, and its place between the bounds."""
    rows = with_known(rows, "horizon")
    found = [_slope_claim(rows, instance, method) for instance in INSTANCES for method in EXPONENTIAL + POLYNOMIAL]
    offline = reached(rows, method="loglossbc")
    ratios = f"least n*/n_offline = {(offline.n_star / offline.n_offline).min():.3f} over {len(offline)} points"
    both = "on both instances"
    return found + known_claims(rows, "poison chain: ", both, f"at every H, {both}", ratios)


def _slope_claim(rows: pd.DataFrame, instance: str, method: str) -> Claim:
    steep, b = method in EXPONENTIAL, rate(rows)
    expected = f"exponential in H at rate −log q = {b:.3f} nats a step (within {NEAR:.0%})" if steep else (
        f"polynomial in H with exponent about 1 (in {ABOUT_ONE[0]}–{ABOUT_ONE[1]})"
    )  # fmt: skip
    statement = f"{INSTANCES[instance]}: n* of {METHOD[method].label} is {expected}"
    kept = reached(rows, instance=instance, method=method)
    fit = fit_n_star(kept)
    if fit is None:
        return Claim(statement, "docs/theory.md §5", "fewer than 3 points within the budget", False)
    line = fit.exponential if steep else fit.polynomial
    target = b if steep else 1.0
    inside = line.interval[0] <= target <= line.interval[1]
    where = "contains" if inside else f"misses by {min(abs(e - target) for e in line.interval):.3f}"
    h, n = kept.horizon.iloc[[0, -1]], kept.n_star.iloc[[0, -1]]
    numbers = (
        f"slope {line.slope:.3f}, 95 % interval [{line.interval[0]:.3f}, {line.interval[1]:.3f}] "
        f"({where} {target:.3f}); AIC(exponential) − AIC(polynomial) = {fit.delta_aic:.1f}; {len(kept)} points, "
        f"H = {'–'.join(map(str, h))}, n* = {'–'.join(f'{x:.0f}' for x in n)}"
    )
    near = inside or abs(line.slope / b - 1) <= NEAR if steep else ABOUT_ONE[0] <= line.slope <= ABOUT_ONE[1]
    form = "exponential" if steep else "polynomial"
    return Claim(statement, "docs/theory.md §4.1, §4.2, §5", numbers, bool(near and fit.verdict == form))


def draw(table: pd.DataFrame) -> Figure:
    """Two panels on a logarithmic axis of episodes; below, the legend with the fitted slopes."""
    figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
    panels = figure.subplot_mosaic([["chain", "path"], ["slopes", "slopes"]], height_ratios=[2.7, 1])
    for name, (instance, title) in zip(("chain", "path"), INSTANCES.items(), strict=True):
        _panel(panels[name], table, instance)
        panels[name].set_title(title)
    panels["path"].sharey(panels["chain"])
    panels["chain"].set_ylabel("episodes n* until P(all H right) ≥ 1 − δ")
    _slopes(panels["slopes"], table)
    row = next(table.itertuples())
    note(
        figure, f"A = {row.n_actions}, η = {row.eta}, δ = {row.delta}; {table.replicates.max()} replicates a point, "
        "bands: 95 % bootstrap intervals; open marks with arrows: beyond the budget, left out of the fits",
    )  # fmt: skip
    return figure


def _panel(axes: Axes, table: pd.DataFrame, instance: str) -> None:
    for method, (_, kind, label) in KNOWN.items():
        if instance == "hidden-path" and method == "n_bc":
            continue
        points = table[table.method == method]
        axes.plot(points.horizon, points.episodes, label=label, zorder=1.5, **REFERENCE[kind])
    for method in EXPONENTIAL + POLYNOMIAL:
        points = table[(table.instance == instance) & (table.method == method)]
        measured(axes, look(method), points, "horizon", hollow=method == "nailgun")
    found = table[table.instance != ""]
    axes.set_yscale("log")
    axes.set_ylim(found.low.min() / 1.5, found.episodes.max() * 5)
    axes.set_xlim(0, found.horizon.max() * 1.03)
    axes.set_xlabel("horizon H (steps)")
    axes.legend(loc="upper right", fontsize=6, borderaxespad=0, handlelength=2.6)


def _slopes(axes: Axes, table: pd.DataFrame) -> None:
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
        style = look(method)
        fill = "none" if method == "nailgun" else style.colour
        axes.plot([0.0, 0.025, 0.05], [y] * 3, color=style.colour, linestyle=style.line, marker=style.mark,
                  markerfacecolor=fill, markevery=[1], clip_on=False)  # fmt: skip
        axes.text(0.065, y, METHOD[method].label, va="center", fontsize=7.5)
        theory = table.theory_slope[(table.method == method) & (table.form != "")]
        for x, instance in zip(places, INSTANCES, strict=False):
            cell = next(table[(table.instance == instance) & (table.method == method)].itertuples())
            fitted = f"{_law(method, f'{cell.slope:.3f}')}   [{cell.slope_low:.3f}, {cell.slope_high:.3f}]"
            axes.text(x, y, fitted if cell.form else "too few points", va="center", fontsize=7.5)
        if len(theory):
            axes.text(places[2], y, _law(method, f"{theory.iloc[0]:.3g}"), va="center", fontsize=7.5)


def _law(method: str, slope: str) -> str:
    return f"$\\propto e^{{{slope}\\,H}}$" if method in EXPONENTIAL else f"$\\propto H^{{{slope}}}$"


EXPERIMENT = figure_of_points(
    "theory_horizon",
    "n*(H) on the poison chain and the hidden path: who is exponential in the horizon, and at what rate",
    {
        "smoke": "about 1 minute on two cores",
        "cpu": "200 replicates a point, horizons to 40; about 7 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure_n_star, analyse, claims, draw, censored,
)  # fmt: skip

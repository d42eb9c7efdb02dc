"""n*(H): episodes until a learner finds all H right actions, on the poison chain and the hidden path.

docs/theory.md §4.1, §4.2, §4.7 and §5: exponential in H at rate −log q a step for learners that follow the noisy expert
or sample from a law fitted to it; linear with slope μ for learners that play greedily. Beside the measured n*: the
genie's lower bound for offline learners, the exact n* of LogLossBC on the chain, that of NAIL-F from the law of one
level, and the bound for phased NAIL.

What is not counted twice. Under uniform noise NAILGUN decides as NAIL-F does: it has no curve. On-policy learners have
one informative state a level, so the chain's loop is the hidden path's too; only LogLossBC decides over whole paths
there, by a search of its own, and that makes it the best offline learner of the hidden path (§4.7). That the two loops
agree is checked on the path's own tree (`TREE`), as a finite MDP.

What a query reads. NAIL-R and OPD-R read exact probabilities of the noisy expert, another oracle than labels: they are
marked, and no claim compares them with learners of labels. A reverse KL that sees labels alone has their frequencies as
its minimiser, which is the fit of NAIL-F and OPD-F: there is no other form with counts (§2).
"""

import math
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Row
from nail.figures.own import chosen
from nail.figures.plotting import TEXT_WIDTH, look, measured, note

from ._horizon_claims import CHAIN, CURVES, PATH, claims, fit, line_of, per_level, rate
from ._nstar import (
    EXPONENTIAL,
    KNOWN,
    POLYNOMIAL,
    TREE,
    both_units,
    censored,
    in_unit,
    label,
    measure_n_star,
    n_label,
    of,
    reference,
    require_methods,
)
from ._theory import Point, figure_of_points, seeded

FIT = ("form", "slope", "slope_low", "slope_high", "theory_slope", "delta_aic")
"""columns of the fit of a series"""


class Size(NamedTuple):
    """A preset."""

    H_steep: tuple[int, ...]
    """horizons of the learners that are expected to be exponential, tried until the budget does not suffice"""
    H: tuple[int, ...]
    """horizons of the others"""
    H_tree: tuple[int, ...]
    """horizons of the check on the tree, at two actions"""
    replicates: int
    """of the first; the others have five times as many, the check 25 times"""
    max_episodes: int
    A: int = 4
    eta: float = 0.5
    delta: float = 0.1
    method: tuple[str, ...] = EXPONENTIAL + POLYNOMIAL

    def varied(self, **changes: Any) -> "Size":
        """With other values: horizons `H` are those of all learners, and there is no check on the tree, unless these
        are given too."""
        also = {"H_steep": changes["H"], "H_tree": ()} if "H" in changes else {}
        return self._replace(**{**also, **changes})


SIZES = {
    "smoke": Size((1, 2, 3, 4), (1, 2, 3, 4), (3,), 40, 30),
    "cpu": Size((4, 6, 8, 10, 12, 14, 16, 18, 20), (4, 6, 8, 12, 16, 20, 24, 32, 40), (3, 4, 5), 200, 60_000),
    "paper": Size(tuple(range(4, 31, 2)), (4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 100), (3, 4, 5), 2_000, 1_000_000),
}


def series(size: str | Size) -> list[list[Point]]:
    """One series of growing H for each curve, the costliest first; the check on the tree; the known curves."""
    size = chosen(SIZES, size)
    require_methods("theory_horizon", size.method)
    common = {"eta": size.eta, "delta": size.delta}
    wide, narrow = {**common, "part": "curves", "n_actions": size.A}, {**common, "part": "tree", "n_actions": 2}

    def points(instance, method, horizons, times, fields):
        rest = {**fields, "replicates": times * size.replicates, "budget": size.max_episodes}
        there = sorted(horizons) if method in size.method else ()
        return [seeded({"instance": instance, "method": method, "horizon": h, **rest}) for h in there]

    found = [points(PATH, "loglossbc", size.H_steep, 1, wide)]
    found += [points(CHAIN, method, size.H_steep, 1, wide) for method in reversed(EXPONENTIAL)]
    found += [points(CHAIN, method, size.H, 5, wide) for method in POLYNOMIAL]
    found += [points(TREE, method, size.H_tree, 25, narrow) for method in ("nail-f", "opd-f")]
    found.append(points(CHAIN, "opd-f", size.H_tree, 25, narrow))
    horizons, known = sorted({*size.H_steep, *size.H}), {"instance": "", "replicates": 0, "seed": 0, "budget": 0}
    found.append([{"method": m, "horizon": h, **wide, **known} for m in KNOWN for h in horizons])
    found.append([{"method": m, "horizon": h, **narrow, **known} for m in KNOWN for h in size.H_tree])
    return [points for points in found if points]


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Per point: n* in episodes and in queries with its interval (the budget where censored); per curve: its fit."""
    groups = both_units(rows).groupby(["part", "instance", "method"], sort=False)
    table = pd.concat(points.assign(**_fit_columns(points, *key)) for key, points in groups)
    kept = ["episodes", "low", "high", "queries", "queries_low", "queries_high", "censored", "oracle", "n_actions",
            "eta", "delta", "replicates"]  # fmt: skip
    return table.reindex(columns=["part", "instance", "method", "horizon", *kept, *FIT])


def _fit_columns(points: pd.DataFrame, part: str, instance: str, method: str) -> Row:
    """Slope of the expected form with its interval and theory, and AIC(exponential) − AIC of the better other one."""
    if part != "curves" or method in KNOWN or (found := fit(points)) is None:
        return {}
    form, line = line_of(found, method)
    theory = rate(points) if method in EXPONENTIAL else per_level(points) if method == "nail-f" else math.nan
    return dict(zip(FIT, (form, line.slope, *line.interval, theory, found.delta_aic), strict=True))


def draw(table: pd.DataFrame, unit: str = "episodes") -> Figure:
    """Two panels on a logarithmic axis; below, the legend with the fitted slopes."""
    figure = Figure(figsize=(TEXT_WIDTH, 5.4), layout="constrained")
    panels = figure.subplot_mosaic([["chain", "path"], ["slopes", "slopes"]], height_ratios=[2.4, 1])
    table = in_unit(of(table, part="curves"), unit)
    _panel(panels["chain"], table, CHAIN)
    _panel(panels["path"], table, PATH)
    panels["chain"].set_title("poison chain")
    panels["path"].set_title("hidden path")
    floor = "LogLossBC: no offline learner is\nbelow this curve (docs/theory.md §4.7)"
    panels["path"].text(0.98, 0.04, floor, ha="right", fontsize=7, transform=panels["path"].transAxes)
    panels["path"].sharey(panels["chain"])
    panels["chain"].set_ylabel(n_label(unit))
    handles, labels = panels["chain"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, columnspacing=1.2)
    _slopes(panels["slopes"], table)
    row = next(table[table.replicates > 0].itertuples())
    note(
        figure, f"A = {row.n_actions}, η = {row.eta}, δ = {row.delta}; {table.replicates[table.replicates > 0].min()} "
        f"replicates a point, {table.replicates.max()} of greedy learners; bands: 95 % intervals;\nopen "
        "marks with arrows: beyond the budget, in the fits as such. Under uniform ν NAILGUN is NAIL-F, and on-policy "
        "learners have the\nsame law on the hidden path: not drawn twice.",
    )  # fmt: skip
    return figure


def _panel(axes: Axes, table: pd.DataFrame, instance: str) -> None:
    for name in KNOWN if instance == CHAIN else ("n_offline",):
        reference(axes, table, name, "horizon")
    for method in EXPONENTIAL + POLYNOMIAL:
        points = of(table, instance=instance, method=method)
        if len(points):
            measured(axes, look(method), points, "horizon")
    found = table[table.instance != ""]
    axes.set_yscale("log")
    axes.set_ylim(max(found.low.min(), 0.5) / 1.5, found.episodes.max() * 3)
    here = found if instance == CHAIN else of(found, instance=PATH)
    axes.set_xlim(0, (here if len(here) else found).horizon.max() * 1.03)
    axes.set_xlabel("horizon H (steps)")


def _slopes(axes: Axes, table: pd.DataFrame) -> None:
    """A table that is also the legend: mark and name, then slope with interval, in theory, and the gap in AIC."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(CURVES) + 0.1, -1.7)
    places = (0.31, 0.61, 0.79)
    heads = ("fitted n* (episodes)", "theory", "AIC: exponential − best other")
    for x, head in zip(places, heads, strict=True):
        axes.text(x, -1.25, head, va="center", fontsize=7, color="#444444")
    drawn = [curve for curve in CURVES if len(of(table, instance=curve[0], method=curve[1]))]
    for y, (instance, method) in enumerate(drawn):
        style, cell = look(method), next(of(table, instance=instance, method=method).itertuples())
        axes.plot([0.0, 0.025, 0.05], [y] * 3, color=style.colour, linestyle=style.line, marker=style.mark,
                  markevery=[1], clip_on=False)  # fmt: skip
        where = ", hidden path" if instance == PATH else ""
        axes.text(0.065, y, label(method) + where, va="center", fontsize=7.5)
        if cell.form not in ("exponential", "linear"):
            axes.text(places[0], y, "too few points", va="center", fontsize=7.5)
            continue
        fitted = f"{_law(method, f'{cell.slope:.3f}')}   [{cell.slope_low:.3f}, {cell.slope_high:.3f}]"
        # where no curve has one the whole column is empty, and text
        known = not isinstance(cell.theory_slope, str) and not math.isnan(cell.theory_slope)
        theory = _law(method, f"{cell.theory_slope:.3f}") if known else ""
        for x, text in zip(places, (fitted, theory, f"{cell.delta_aic:.0f}"), strict=True):
            axes.text(x, y, text, va="center", fontsize=7.5)


def _law(method: str, slope: str) -> str:
    return f"$\\propto e^{{{slope}\\,H}}$" if method in EXPONENTIAL else f"${slope}\\,H + O(\\sqrt{{H}})$"


EXPERIMENT = figure_of_points(
    "theory_horizon",
    "n*(H) on the poison chain and the hidden path: who is exponential in the horizon, and at what rate",
    {
        "smoke": "about 20 seconds on two cores",
        "cpu": "200 replicates a point, horizons to 40; about 3 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure_n_star, analyse, claims, draw, censored, ("episodes", "queries"), SIZES, {"smoke": 20, "cpu": 180},
)  # fmt: skip

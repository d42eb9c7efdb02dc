"""The general polynomial bound of docs/theory.md §5, measured where it can fail: Bayes mixtures over layered classes.

Two inequalities: Σ_i Σ_h E TV(π*, π̂_i)² <= log|Π|/(2(1−η)²), and mean |J(π*) − J(π̂_i)| <= R·√(H·log|Π|/(2(1−η)²n)).
The classes are those of _layered_classes.py: random ones, and two hard ones (coin, rare) that come near the bounds.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.counting.mixture import mixture_sums
from nail.figures.experiment import Row
from nail.figures.plotting import CASES, TEXT_WIDTH, look, note

from ._general_bound import RATIO, SETTING, analyse, claims
from ._layered_classes import SPACING, episodes, exact, problems
from ._theory import Point, figure_of_points, seeded

LEARNERS = {"mixture": {}, "greedy": {"greedy": True}, "wrong-eta": {"told_eta": 0.0}}


class Size(NamedTuple):
    """A preset; each of H, N and η is moved from its first value alone."""

    instances: int
    replicates: int
    """per instance"""
    factors: tuple[int, ...]
    """n in units of 2·H·log|Π|/(1−η)², where the bound on the regret is R/2"""
    horizons: tuple[int, ...] = (4, 2, 8)
    sizes: tuple[int, ...] = (4, 2, 16)
    etas: tuple[float, ...] = (0.5, 0.25, 0.75)
    n_states: int = 4
    n_actions: int = 3
    branching: int = 2


SIZES = {
    "smoke": Size(6, 4, (1, 2), horizons=(3, 2), sizes=(3, 2), etas=(0.5, 0.25), n_states=3),
    "cpu": Size(24, 8, (1, 2, 4, 8)),
    "paper": Size(100, 20, (1, 2, 4, 8, 16, 32), n_states=8, n_actions=4),
}


def series(preset: str) -> list[list[Point]]:
    """One series a family, learner and setting; a hard family has a point for each n, since its laws depend on n."""
    size = SIZES[preset]
    first = {"horizon": size.horizons[0], "size": size.sizes[0], "eta": size.etas[0]}
    moved = {"horizon": size.horizons[1:], "size": size.sizes[1:], "eta": size.etas[1:]}
    settings = [first, *({**first, name: x} for name, values in moved.items() for x in values)]
    rest = {"instances": size.instances, "replicates": size.replicates}
    shape = {"n_states": size.n_states, "n_actions": size.n_actions, "branching": size.branching}
    factors = ":".join(map(str, size.factors))
    random = [
        [{"family": "random", "learner": learner, **setting, "factors": factors, **rest, **shape}]
        for learner in LEARNERS for setting in (settings if learner == "mixture" else [first])
    ]  # fmt: skip
    hard = [
        [{"family": family, "learner": "mixture", **setting, "factors": str(k), **rest} for k in size.factors]
        for family in SPACING for setting in settings
    ]  # fmt: skip
    return [[seeded(point) for point in points] for points in random + hard]


def measure(point: Point) -> list[Row]:
    """Sums over episodes, mean over replicates, one row an instance and n; for a hard family their exact means."""
    factors = [int(k) for k in point["factors"].split(":")]
    marks = [episodes(point["horizon"], point["size"], point["eta"], k) for k in factors]
    found = mixture_sums(problems(point), point["eta"], marks, point["replicates"], point["seed"],
                         **LEARNERS[point["learner"]])  # fmt: skip
    known = exact(point, marks[0]) if point["family"] in SPACING else {"exact_tv2": np.nan, "exact_regret": np.nan}
    return [
        {**point, "instance": i, "factor": k, "episodes": n,
         **{name: float(sums[i, :, j].mean()) for name, sums in found._asdict().items()}, **known}
        for i in range(point["instances"])
        for j, (k, n) in enumerate(zip(factors, marks, strict=True))
    ]  # fmt: skip


CURVES = {
    ("random", "mixture"): (CASES[1], "random"), ("coin", "mixture"): (CASES[2], "coin"),
    ("rare", "mixture"): (CASES[4], "rare"),
    ("random", "greedy"): (look("nail-class"), "random, argmax driver (no guarantee)"),
    ("random", "wrong-eta"): (look("nail-wrong-eta"), "random, told η' = 0 (no guarantee)"),
}  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Measured over bound: above against n in the first setting, below against H, N and η at the largest n/n₀."""
    figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    first, last = table.iloc[0], table.factor.max()
    base = table[(table[SETTING] == first[SETTING]).all(axis=1)]
    panels = top.subplots(1, 2)
    for axes, name in zip(panels, RATIO, strict=True):
        _curves(axes, base, "factor", name, CURVES)
        axes.set_xlabel("n/n₀,  n₀ = 2·H·log|Π|/(1−η)² episodes")
        axes.set_ylabel(RATIO[name])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1.2)
    within = {key: CURVES[key] for key in CURVES if key[1] == "mixture"}
    for axes, axis in zip(bottom.subplots(1, 3, sharey=True), SETTING, strict=True):
        others = [other for other in SETTING if other != axis]
        points = table[(table[others] == first[others]).all(axis=1) & (table.factor == last)].sort_values(axis)
        for name in RATIO:
            _curves(axes, points, axis, name, within, hollow=name == "regret")
        axes.set_xlabel({"horizon": "horizon H (steps)", "size": "candidates a layer N", "eta": "η"}[axis])
        if axis == "horizon":
            axes.set_ylabel("measured / bound")
    note(
        figure, f"above: H = {first.horizon}, N = {first['size']}, η = {first.eta}; below: one moved, n = {last}·n₀, "
        "filled: Σ TV², hollow: regret; dotted: the bound; thin lines: exact;\nmeans over "
        f"{first.instances} instances × {first.replicates} replicates, bars: 95 % intervals over instances (jackknife)",
    )  # fmt: skip
    return figure


def _curves(axes: Axes, points: pd.DataFrame, x: str, name: str, curves: dict, hollow: bool = False) -> None:
    """Marks with bars, one curve a family and learner, on the exact lines."""
    axes.axhline(1.0, color="#888888", linestyle=":", linewidth=1.1, zorder=1)
    for (family, learner), (style, label) in curves.items():
        at = points[(points.family == family) & (points.learner == learner)]
        bars = (at[name] - at[f"{name}_low"], at[f"{name}_high"] - at[name])
        known = family in SPACING
        axes.errorbar(
            at[x], at[name], bars, color=style.colour, marker=style.mark, label=label, elinewidth=0.9, linewidth=1.0,
            linestyle="none" if known else style.line, markerfacecolor="white" if hollow else style.colour,
        )  # fmt: skip
        if known:
            axes.plot(at[x], at[f"exact_{name}"], color=style.colour, linewidth=0.7)
    axes.set_yscale("log")
    axes.set_xscale("linear" if x == "eta" else "log", **({} if x == "eta" else {"base": 2}))
    axes.set_xticks(sorted(points[x].unique()))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()


EXPERIMENT = figure_of_points(
    "theory_general_bound",
    "the general polynomial bound, measured over bound: Bayes mixtures over layered classes, random and hard",
    {
        "smoke": "about 10 seconds on two cores",
        "cpu": "about 35 seconds on two cores",
        "paper": "larger classes, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

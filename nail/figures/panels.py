"""One panel of a picture of rows: lines, marks, bands, and reference lines under them."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nail.figures.medians import FEW
from nail.figures.plotting import REFERENCE, Look, measured
from nail.figures.references import KINDS
from nail.figures.shown import Shown, in_order, is_number
from nail.figures.words import value_label

LINES = ("-", (0, (4, 1.5)), ":", (0, (5, 1.5, 1, 1.5)))
"""kinds of lines, by value"""
FARTHEST = 300.0
"""factor by which a bound may lie beyond what was measured and still be in the picture"""
DODGE = 0.5
"""of the space between two names on an axis, what its marks are spread over"""


def draw_panel(axes: Axes, points: pd.DataFrame, what: Shown, looks: dict[Any, Look]) -> None:
    """All series of one panel, and reference lines under them."""
    lines = values_of(points, what.line)
    places = None if what.x == "episodes" or is_number(points[what.x]) else values_of(points, what.x)
    for kind, group in points[points.kind.isin(KINDS)].groupby("kind"):
        for _, line in group.groupby("name"):
            _reference(axes, line, what, looks, REFERENCE[str(kind)])
    for turn, (value, style) in enumerate(looks.items()):
        for place, kind in enumerate(lines):
            mine = points if what.by is None else points[_same(points[what.by], value)]
            mine = mine if what.line is None else mine[_same(mine[what.line], kind)]
            chosen = mine[~mine.kind.isin(KINDS)]
            own = style if what.line is None else style._replace(line=LINES[place])
            if (mine.kind == "exact").any():
                own = own._replace(line="none")  # the line is the exact one, and marks are what was measured
            if places is not None:
                shift = 0.0 if what.by == what.x else DODGE * ((turn + 0.5) / len(looks) - 0.5)
                at = [places.index(x) + shift for x in chosen[what.x]]
                chosen, own = chosen.assign(**{what.x: at}), own._replace(line="none")
            if len(chosen):
                _series(axes, chosen.sort_values(what.x, kind="stable"), what.x, own, hollow=place > 0)
    if places is not None:
        names = [value_label(what.x, place, points) for place in places]
        long = sum(map(len, names)) > 40
        axes.set_xticks(range(len(places)), names, rotation=30 if long else 0, ha="right" if long else "center")
        axes.set_xlim(-0.5, len(places) - 0.5)


def _series(axes: Axes, points: pd.DataFrame, x: str, style: Look, hollow: bool) -> None:
    """A line through the points of one setting's series, and what is known of their spread."""
    seeds, middle = points[points.kind == "seed"], points[points.kind != "seed"]
    few = middle.n_seeds.max() <= FEW
    curve = x == "episodes"
    if few and curve:
        for _, one in seeds.groupby("seed"):
            axes.plot(one[x], one.value, color=style.colour, linewidth=0.6, alpha=0.45, linestyle=style.line)
    elif few:
        for beyond, some in seeds.groupby("censored"):
            small = {"markersize": 2.6, "alpha": 0.55, "linestyle": "none", "color": style.colour}
            axes.plot(
                some[x], some.value, marker=style.mark, markerfacecolor="none" if beyond else style.colour, **small
            )
            for at in zip(some[x], some.value, strict=True) if beyond else ():
                up = {"arrowstyle": "<-", "color": style.colour, "linewidth": 0.6, "alpha": 0.8, "mutation_scale": 6}
                axes.annotate("", at, xytext=(0, 9), textcoords="offset points", arrowprops=up)
    low, high = (middle[end].mask(few & (middle.kind == "median")) for end in ("low", "high"))
    middle = middle.assign(low=low, high=high.clip(upper=FARTHEST * points.value.max()))
    if curve:
        axes.fill_between(middle[x], middle.low, middle.high, color=style.colour, alpha=0.16, linewidth=0)
        axes.plot(middle[x], middle.value, color=style.colour, linestyle=style.line, marker=style.mark,
                  markerfacecolor="none" if hollow else style.colour, markevery=max(1, len(middle) // 8))  # fmt: skip
        return
    kept = middle[middle.censored == 0]
    if style.line == "none" or len(kept) == 1:
        # a band needs a line
        axes.vlines(kept[x], kept.low, kept.high, color=style.colour, linewidth=0.9)
        middle = middle.assign(low=np.nan, high=np.nan)
    measured(axes, style, middle, x, "value", hollow)


def _reference(axes: Axes, line: pd.DataFrame, what: Shown, looks: dict[Any, Look], style: dict[str, Any]) -> None:
    """A bound or a known curve of all series of a panel: once where several have the same, else in their colours."""
    keys = [name for name in (what.by, what.line) if name]
    drawn: dict[tuple, list[Any]] = {}
    for _, one in line.groupby(keys, dropna=False) if keys else [((), line)]:
        at = tuple(zip(one[what.x], one.value, strict=True))
        owner = next(value for value in looks if what.by is None or _same(one[what.by], value).all())
        drawn.setdefault(at, []).append(owner)
    several = len(drawn) > 1 and what.by
    for at, owners in drawn.items():
        colour = {"color": looks[owners[0]].colour} if several and len(set(owners)) == 1 else {}
        axes.plot(*zip(*at, strict=True), zorder=1.5, **{**style, **colour})


def values_of(points: pd.DataFrame, name: str | None) -> list[Any]:
    """The values of a column in their order; of none [None]."""
    return [None] if name is None else in_order(points[name].unique())


def _same(column: pd.Series, value: Any) -> pd.Series:
    return column.isna() if isinstance(value, float) and np.isnan(value) else column == value

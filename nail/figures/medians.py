"""The table that a picture of rows is drawn from: a row for each seed of a setting, and one of their median."""

import numpy as np
import pandas as pd

from nail.counting.columns import UNITS
from nail.figures.shown import SOLVE, Shown
from nail.stats import median_interval
from nail.sweep.table import solved_at

INTERVALS = {value: ends for value, *ends in UNITS.values()}
"""of a measured n*: columns of its interval"""
FEW = 5
"""seeds up to which each is drawn; from there on the median has a band: 6 are the first whose range is a 95 % interval
of it"""


def measurements(rows: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """One row a measurement: the columns of the picture, `seed`, `value` (infinite beyond the budget), `budget`, and
    the interval `low`, `high` of a measured n*."""
    kept = list(dict.fromkeys(name for name in (*shown.series, shown.x, "seed") if name in rows))
    if shown.measured:
        return _of_points(rows, shown, kept)
    rows = rows.sort_values("step", kind="stable")
    last = rows.groupby("run").tail(1).set_index("run")
    if shown.y in SOLVE:
        count = SOLVE[shown.y]
        return last[kept].assign(value=solved_at(rows, count=count), budget=last[count]).reset_index(drop=True)
    found = rows if shown.x == "episodes" else last
    return found[kept].assign(value=found[shown.y], budget=np.nan).reset_index(drop=True)


def _of_points(rows: pd.DataFrame, shown: Shown, kept: list[str]) -> pd.DataFrame:
    found = rows[kept].assign(value=rows[shown.y], budget=np.nan)
    if shown.y in INTERVALS:
        low, high = (rows[name] for name in INTERVALS[shown.y])
        beyond = rows.censored != 0
        held = next((name for name in ("allowed", "max_episodes") if name in rows and shown.y == "n_star"), None)
        allowed = rows[held] if held else low
        found = found.assign(value=rows[shown.y].where(~beyond, np.inf), budget=allowed, low=low, high=high)
    return found.reset_index(drop=True)


def tabulate(found: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """The table of a picture, in the order of its axes: of each setting a row of kind "point" (one measurement, with
    its interval where it has one), or a row of kind "seed" each and one of kind "median" with the interval of order
    statistics at its `level`. A `value` that is `censored` is the budget."""
    keys = list(dict.fromkeys([*shown.series, shown.x]))
    alone = found.groupby(keys, dropna=False).value.transform("size") == 1
    each = found.assign(kind=np.where(alone, "point", "seed"), n_seeds=1)
    table = pd.concat([each, _medians(found[~alone], keys)], ignore_index=True) if not alone.all() else each
    table = table.sort_values(keys, kind="stable", ignore_index=True)
    beyond = np.isinf(table.value) & table.budget.notna()
    table = table.assign(y=shown.y, censored=beyond.astype(int), value=table.value.mask(beyond, table.budget))
    columns = [*keys, "kind", "name", "y", "value", "low", "high", "level", "censored", "seed", "n_seeds"]
    return table.reindex(columns=columns)


def _medians(found: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row a setting: `nail.stats.median_interval` of its values. That picks order statistics by their number alone,
    so it is asked once for each number of values."""
    ordered = found.dropna(subset=["value"]).sort_values("value", kind="stable")
    groups = ordered.groupby(keys, dropna=False)
    place, count = groups.cumcount(), groups.value.transform("size")
    picked = {n: median_interval(np.arange(n, dtype=float)) for n in count.unique()}

    def at(name: str) -> pd.DataFrame:
        return ordered[place == count.map({n: getattr(places, name) for n, places in picked.items()})]

    ends = {name: at(name).set_index(keys).value.rename(name) for name in ("low", "high")}
    middle = at("value").assign(kind="median", n_seeds=count, level=count.map({n: p.level for n, p in picked.items()}))
    kept = middle[[*keys, "kind", "value", "budget", "level", "n_seeds"]]
    for end in ends.values():
        kept = kept.merge(end.reset_index(), on=keys, how="left")
    return kept

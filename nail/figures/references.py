"""Curves that are drawn beside a measured n*: bounds of the user's, and the exact n* where it is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nail.checks import BadInput
from nail.counting.columns import UNITS
from nail.figures.shown import Shown

UNIT_OF = {columns[0]: unit for unit, columns in UNITS.items()}
"""column of a measured n* → the unit of a bound that counts it"""
KINDS = ("upper", "lower", "exact")
"""of a reference line, in the column `kind` of a picture's table"""


def reference_lines(
    rows: pd.DataFrame, shown: Shown, bounds: Sequence[Any], exact: bool
) -> tuple[pd.DataFrame, str]:  # fmt: skip
    """(rows of the picture's table, one a point of a line; what is not drawn, in words).

    Raises `BadInput` where rows or y are not a measured n*, and where `exact` is asked for and nothing is known.
    """
    if (bounds or exact) and not (shown.measured and shown.y in UNIT_OF):
        what = "bound" if bounds else "exact"
        raise BadInput(f"{what} must be left out where y is not a measured n*, and it is {shown.y}")
    found, unseen = [], []
    for bound in bounds:
        if bound.unit == UNIT_OF[shown.y]:
            found.append(_lines(rows, shown, bound.side, bound.name, bound.values(rows)))
        else:
            unseen.append(bound.name)
    if exact:
        found.append(_lines(rows, shown, "exact", "exact n*", known_n_star(rows, shown.y)))
        if found[-1].empty:
            raise BadInput(
                "exact must be left out here: n* is known of loglossbc on poison-chain, and of nail-f and nailgun on "
                "poison-chain and hidden-path, under uniform noise and with criterion mean"
            )
    words = f"Not drawn, as they count no {UNIT_OF[shown.y]}: {', '.join(unseen)}." if unseen else ""
    return (pd.concat(found, ignore_index=True) if found else pd.DataFrame()), words


def _lines(rows: pd.DataFrame, shown: Shown, kind: str, name: str, values: Any) -> pd.DataFrame:
    keys = list(dict.fromkeys([*shown.series, shown.x]))
    line = rows[keys].assign(kind=kind, name=name, y=shown.y, value=np.asarray(values, float))
    return line.dropna(subset=["value"]).drop_duplicates(keys).sort_values(keys, kind="stable")


def known_n_star(rows: pd.DataFrame, y: str) -> np.ndarray:
    """The exact n* at each point (y: n_star), or the labels that it takes (y: queries, H an episode); NaN where none is
    known."""
    from nail.theory.known import EXACT

    kernel = "noise_kernel" if "noise_kernel" in rows else "kernel"
    usual = {"criterion": ("mean",), kernel: ("uniform", ""), "noise": ("huber", "uniform", "")}
    plain = np.ones(len(rows), bool)
    for name, values in usual.items():
        plain &= rows[name].isin(values).to_numpy() if name in rows else True
    found = []
    for point, usable in zip(rows.itertuples(), plain, strict=True):
        curve = EXACT.get((point.instance, point.method)) if usable else None
        n = np.nan if curve is None else curve(int(point.H), int(point.A), float(point.eta), float(point.delta))
        found.append(n * (point.H if y == "queries" else 1))
    return np.array(found, float)

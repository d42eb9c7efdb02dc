"""What a picture of any table of rows shows: which columns tell its points apart, and where each of them goes.

Two kinds of rows can be drawn: those of training runs (`nail train`, `nail sweep grid`: one a run and evaluation) and
those of measured sample complexities (`nail n-star --vary`: one a point, with a column `n_star`). A folder can hold
both; a picture shows one of them.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from nail.checks import BadInput, require, require_known
from nail.counting.columns import ANSWERS, OF_THE_INSTANCE
from nail.figures.plotting import LOOK
from nail.sweep.table import BY_POSITION, chains_in

SOLVE = {"episodes_to_solve": "episodes", "queries_to_solve": "expert_queries"}
"""what can be read off a run beside the columns of its rows → the column that counts it"""
PROVENANCE = ("run", "git_revision", "source_hash", "device", "devices", "preset", "validation_contexts",
              "point_seed")  # fmt: skip
METRICS = {
    "step", "episodes", "expert_queries", "verified_rollouts", "full_exact", "answer_exact", "val_loss", "train_loss",
    "accuracy", "test_loss", *BY_POSITION,
}  # fmt: skip
"""columns of a training run that are no option even where they do not change in a run"""
POINTS = {
    "instance", "method", "H", "A", "eta", "delta", "n_star", "low", "high", "queries", "queries_low", "queries_high",
    "censored",
}  # fmt: skip
RUNS = {"run", "method", "seed", "step", "episodes"}
"""columns of the two kinds of rows"""
EFFORT = ("max_episodes", "replicates", "instances")
"""how much a point of n* was given: of several measurements of one point the one with most counts"""
COARSE = ("noise", "criterion", "definition")
"""options that tell settings apart only where no other does: burst and epsilon say more than noise and criterion"""
MOST_PANELS, MOST_LINES, LEAST_X = 20, 4, 3
"""panels of a picture; values that kinds of lines tell apart; values of a training axis from which on it is x"""


class Shown(NamedTuple):
    """Where the columns of a table of rows go in a picture."""

    measured: bool
    """whether the rows are measured n*, or else of training runs"""
    x: str
    y: str
    by: str | None
    """colour and mark"""
    panels: tuple[str, ...]
    line: str | None
    """kind of line"""

    @property
    def series(self) -> list[str]:
        """Columns that tell the lines of the picture apart."""
        return list(dict.fromkeys(name for name in (*self.panels, self.by, self.line) if name))


def kinds_in(rows: pd.DataFrame) -> dict[bool, pd.DataFrame]:
    """Whether they are measured n* → rows of that kind, each where there are some; of two kinds each without the
    columns that are empty in it."""
    points = rows.n_star.notna() if "n_star" in rows else pd.Series(False, rows.index)
    found = {kind: part for kind, part in ((True, rows[points]), (False, rows[~points])) if len(part)}
    if len(found) < 2:
        return found
    return {kind: part.loc[:, (part.notna() & (part != "")).any()] for kind, part in found.items()}


def _with_y(rows: pd.DataFrame, y: str | None) -> pd.DataFrame:
    """Of two kinds of rows the one that y is a column of; without y measured n*."""
    kinds = kinds_in(rows)
    if len(kinds) < 2 or y is None:
        return kinds.get(True, rows)
    known = {kind: _drawable(part) for kind, part in kinds.items()}
    if not any(y in names for names in known.values()):
        require_known("y", y, [name for names in known.values() for name in names if not name.startswith("position_")])
    return kinds[y in known[True]]


def prepared(rows: pd.DataFrame, y: str | None = None, kept: Iterable[str | None] = ()) -> pd.DataFrame:
    """The rows that a picture is made of: of two kinds those that y belongs to (without y measured n*). The method of a
    stage is its chain, and of several measurements of one n* the one with the largest budget (then most replicates) is
    left, as far as these are none of the columns `kept`. Definitions are numbered.

    Raises `BadInput` if they are rows of neither kind, or none, and for a y that is in neither of two.
    """
    rows = _with_y(rows, y)
    measured, columns = "n_star" in rows, set(rows)
    if not (POINTS if measured else RUNS) <= columns:
        raise BadInput("rows must be of training runs or of measured sample complexities, and these are of neither")
    require(len(rows), "rows", "none", "at least one row to draw")
    if not measured:
        return rows.assign(method=chains_in(rows))
    rows = rows.reset_index(drop=True)
    if "definition" in rows:
        own = [value for value in rows.definition.dropna().unique() if value]
        rows = rows.assign(definition=rows.definition.map({v: f"{n} ({v})" for n, v in enumerate(own, 1)}).fillna(""))
    effort = [name for name in EFFORT if name in rows and name not in kept]
    point = [name for name in options_of(rows) if name not in effort]
    if not (effort and point):
        return rows
    given = rows[effort].fillna(0)  # an instance that takes no such option
    order = given.sort_values(effort, kind="stable").index
    most = given.loc[order].groupby([rows.loc[order, name] for name in point], dropna=False).transform("last")
    return rows[(given == most.reindex(rows.index)).all(axis=1)]


def options_of(rows: pd.DataFrame) -> list[str]:
    """Columns that say what a row is a measurement of, without the seed."""
    if "n_star" in rows:
        out = {"seed", *ANSWERS, *OF_THE_INSTANCE, *PROVENANCE}
        return [name for name in rows if name not in out and not name.startswith("version_")]
    constant = rows.groupby("run").nunique(dropna=False).max() <= 1
    out = {"seed", "start", *PROVENANCE, *METRICS}
    return [
        name for name in rows
        if name not in out and not name.startswith(("version_", "position_")) and constant.get(name, True)
    ]  # fmt: skip


def apart(rows: pd.DataFrame, names: list[str]) -> list[str]:
    """Those of the columns `names` that tell settings apart which the ones before them do not."""
    found: list[str] = []
    settings = 1
    for name in names:
        now = rows.groupby([*found, name], dropna=False).ngroups
        if now > settings:
            found, settings = [*found, name], now
    return found


def in_order(values: Iterable[Any]) -> list[Any]:
    """Values of a column as legends and axes have them: methods as `LOOK` does, others ascending, nothing last."""
    known = list(LOOK)

    def place(value: Any) -> tuple:
        missing = isinstance(value, float) and math.isnan(value)
        return missing, isinstance(value, str), known.index(value) if value in known else len(known), value

    return sorted(values, key=place)


def is_number(column: pd.Series) -> bool:
    """Whether the values of a column have places on an axis."""
    return is_numeric_dtype(column) and not is_bool_dtype(column)


def shown(
    rows: pd.DataFrame, x: str | None = None, y: str | None = None, by: str | None = None, panel: str | None = None,
    labels: bool = False,
) -> Shown:  # fmt: skip
    """Where each column of `prepared` rows goes; what is not given is chosen.

    x is H of measured n*, else the axis with most values, where it has `LEAST_X` or more, else the episodes of training
    (of n*: the methods); y is n* (or `labels` that it took), or full-chain accuracy; colours are methods; what is left
    goes into panels, and two axes into panels and kinds of lines. Raises `BadInput` for a column that is none of the
    rows, and for more than `MOST_PANELS` panels.
    """
    measured, options = "n_star" in rows, options_of(rows)
    given = [name for name in (x, by, panel) if name and name != "episodes"]
    for role, name in (("x", x), ("by", by), ("panel", panel)):
        if name:
            require_known(role, name, [*options, *(["episodes"] if role == "x" and not measured else [])])
    require(len({*given}) == len(given), "x, by and panel", ", ".join(given), "different columns")
    y = _y(rows, y, measured, labels)
    first = [name for name in ("method", "instance", "task") if name in options]
    rest = sorted(options, key=lambda name: name in COARSE)
    varied = apart(rows, list(dict.fromkeys([*given, *first, *rest])))
    if x is None:
        x = _x(rows, [name for name in varied if name not in given], measured, y)
    left = [name for name in varied if name not in (x, by, panel)]
    if by is None and left:
        by = "method" if "method" in left else _most(rows, left)
        left.remove(by)
    if by is None and x == "method":
        by = x
    line, panels = None, (panel,) if panel else ()
    few = [name for name in left if rows[name].nunique(dropna=False) <= MOST_LINES]
    if len(left) + len(panels) >= 2 and few:
        line = min(few, key=lambda name: rows[name].nunique(dropna=False))
        left.remove(line)
    panels = (*panels, *left)
    count = rows.groupby(list(panels), dropna=False).ngroups if panels else 1
    what = " × ".join(panels)
    require(count <= MOST_PANELS, "number of panels", f"{count} ({what}): choose others as x, by and panel",
            f"at most {MOST_PANELS}")  # fmt: skip
    return Shown(measured, x, y, by, panels, line)


def _y(rows: pd.DataFrame, y: str | None, measured: bool, labels: bool) -> str:
    if y is None:
        usual = ["queries" if labels else "n_star"] if measured else ["full_exact", "accuracy", "train_loss"]
        y = next((name for name in usual if name in rows), usual[0])
    known = _drawable(rows)
    if y not in known:
        require_known("y", y, [name for name in known if not name.startswith("position_")])
    return y


def _drawable(rows: pd.DataFrame) -> list[str]:
    """What y can be of rows of one kind."""
    outside = {*options_of(rows), *PROVENANCE, "seed", "episodes", "step"}
    known = [name for name in rows if name not in outside and is_number(rows[name])]
    return [*known, *(SOLVE if "full_exact" in rows else ())]


def _x(rows: pd.DataFrame, varied: list[str], measured: bool, y: str) -> str:
    numbers = [name for name in varied if is_number(rows[name])]
    counts = {name: rows[name].nunique() for name in numbers}
    if measured and counts.get("H", 0) >= min(LEAST_X, max(counts.values(), default=1)):
        return "H"
    most = _most(rows, numbers) if numbers else None
    if not measured and y not in SOLVE:
        return most if most and counts[most] >= LEAST_X else "episodes"
    return most or (varied[0] if varied else "H" if "H" in rows else "method")


def _most(rows: pd.DataFrame, names: list[str]) -> str:
    """The column with most values, the first of several such."""
    return max(names, key=lambda name: rows[name].nunique(dropna=False))

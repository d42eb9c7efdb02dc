"""Tables of rows as they are read back: a pandas DataFrame with types."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from nail.checks import BadInput
from nail.envs.tasks import TASKS
from nail.lm.config import LmConfig
from nail.sweep.store import read_csv
from nail.training.config import TrainConfig, config_class
from nail.training.kinds import kinds_of

POSITIONS = "position_accuracy"
BY_POSITION = (
    POSITIONS, "advantage_mean", "advantage_low", "advantage_negative", "off_support", "repeated",
)  # fmt: skip
"""columns whose cells hold numbers by position, with blanks between"""
TEXT = {
    "run", "git_revision", "source_hash", "device", "preset", "instance", "part", *BY_POSITION,
}  # fmt: skip
"""columns beside the fields of configurations that are text, whatever they look like (a hash of digits is no number)"""
NUMBER = re.compile(r"[+-]?(nan|inf|(0|[1-9][0-9]*)(\.[0-9]*)?(e[+-]?[0-9]+)?)", re.ASCII | re.IGNORECASE)
"""a number as tables have it: 0042 and 1_000 are names"""


def read_rows(path: Path | str) -> pd.DataFrame:
    """A table of rows (a CSV file, or that of a folder) as a DataFrame with types.

        >>> Path("rows.csv").write_text("run,eta,steps\\n012,0.5,3\\n")
        24
        >>> read_rows(".").to_dict("records")
        [{'run': '012', 'eta': 0.5, 'steps': 3}]

    Of a folder the rows of all finished runs count: its `rows.csv`, or where that lacks some of the present revision
    (a sweep is at work, or was killed) those that lie in the folder. Numbers are read back bit for bit; an empty cell
    of a column of numbers is NaN, one of a column of text is "". Accuracy at positions 1..H of the chain is in the
    columns `position_1`, …, `position_H`.
    Raises `FileNotFoundError` if there is no such file, `Damaged` if it is cut off or its rows are ragged.
    """
    path = Path(path)
    return by_columns(typed(_rows_in(path) if path.is_dir() else read_csv(path)))


def _rows_in(folder: Path) -> list[dict[str, str]]:
    path = folder / "rows.csv"
    rows = read_csv(path) if path.exists() else []
    if any(folder.glob("runs/*/lot.json")):
        from nail.sweep.finished import finished

        found = finished(folder)
        if _runs_in(found) - _runs_in(rows):
            return found
    return rows or read_csv(path)


def _runs_in(rows: list[dict[str, str]]) -> set[tuple[str | None, str | None]]:
    """Runs, each with the source that computed it."""
    return {(row.get("run"), row.get("source_hash")) for row in rows}


def typed(rows: list[dict[str, str]]) -> pd.DataFrame:
    """Rows of text as a DataFrame: columns in which every cell is a number or empty become numbers, bit for bit.

    A column whose field a configuration declares as text stays text, whatever stands in it. A column that a row lacks
    is an empty cell of it.
    """
    table = pd.DataFrame(rows, dtype=str).fillna("")
    text = TEXT | text_fields(table.task.unique() if "task" in table else ())
    return table.apply(lambda column: column if _is_text(column, text) else _numbers(column))


def by_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `position_accuracy`, numbers in one cell, as columns `position_1`, …, `position_H`, NaN beyond the
    end of a chain that is shorter than another.

        >>> by_columns(typed([{"run": "a", "position_accuracy": "1 0.5"}])).to_dict("records")
        [{'run': 'a', 'position_1': 1.0, 'position_2': 0.5}]
    """
    if POSITIONS not in table:
        return table
    at = table.columns.get_loc(POSITIONS)
    try:
        wide = table[POSITIONS].str.split(expand=True).astype(float)
    except ValueError as error:
        raise BadInput(f"{POSITIONS} must be numbers with blanks between ({error})") from error
    wide.columns = [f"position_{h}" for h in range(1, 1 + wide.shape[1])]
    return pd.concat([table.iloc[:, :at], wide, table.iloc[:, at + 1 :]], axis=1)


def text_fields(tasks: Iterable[str] = ()) -> set[str]:
    """Fields that are text: of language models' runs, of all runs, and of the runs of `tasks` as far as these are
    known."""
    kinds = [LmConfig, TrainConfig, *(config_class(task) for task in tasks if task in TASKS)]
    fields = (field for kind in kinds for field in dataclasses.fields(kind))
    return {field.name for field in fields if {str, Path} & set(kinds_of(field))}


def _is_text(column: pd.Series, text: set[str]) -> bool:
    name = str(column.name)
    return name in text or name.startswith("version_") or bool((column == "").all())


def _numbers(column: pd.Series) -> pd.Series:
    """The column as integers, floats or truth values, if each of its cells is one; else as it is."""
    cells = column.tolist()
    if set(cells) <= {"True", "False"}:
        return column == "True"
    if not all(NUMBER.fullmatch(cell) for cell in cells if cell):
        return column
    for kind in (int, float):
        try:
            return pd.Series([kind(cell) if cell or kind is int else float("nan") for cell in cells], column.index)
        except (ValueError, OverflowError):
            continue
    return column


def chains_in(rows: pd.DataFrame) -> pd.Series:
    """The chain of each row's run as text, the methods of its stages joined by " > "; of a fresh run its own method.

        >>> chains_in(typed([{"run": "a", "method": "opd-f"}, {"run": "b", "method": "nail-f", "start": "a"}])).tolist()
        ['opd-f', 'opd-f > nail-f']

    A start of which there are no rows is shown by its id.
    """
    if "start" not in rows:
        return rows.method
    runs = rows.drop_duplicates("run").set_index("run")
    names: dict[str, str] = {}

    def name(run: str) -> str:
        if run not in runs.index:
            return run
        if run not in names:
            start, method = runs.start[run], runs.method[run]
            names[run] = f"{name(start)} > {method}" if start else method
        return names[run]

    return rows.run.map(name)


SOLVED = 0.95
"""full-chain accuracy from which on a run counts as having solved its task"""


def solved_at(rows: pd.DataFrame, key: str = "run", count: str = "episodes") -> pd.Series:
    """By `key`, what a column that grows (`episodes`, `expert_queries`) holds at a run's first evaluation with
    full-chain accuracy ≥ `SOLVED`; infinite if there is none in the budget.

    A run solved between this evaluation and the one before: times are late by at most one such interval.
    """
    found = rows[rows.full_exact >= SOLVED].groupby(key)[count].min()
    return found.astype(float).reindex(sorted(rows[key].unique()), fill_value=float("inf"))

"""Tables of rows as they are read back: a pandas DataFrame with types."""

from pathlib import Path

import pandas as pd

from nail.sweep.store import read_csv

BY_POSITION = (
    "position_accuracy", "advantage_mean", "advantage_low", "advantage_negative", "off_support", "repeated",
)  # fmt: skip
"""columns whose cells hold numbers by position, with blanks between"""
TEXT = (
    "run", "start", "method", *BY_POSITION, "mask_first", "git_revision", "source_hash", "device", "preset", "instance",
    "noise", "reward",
)  # fmt: skip
"""columns that are text, whatever they look like (a hash of digits is no number)"""


def read_rows(path: Path | str) -> pd.DataFrame:
    """A table of rows (a CSV file, or the `rows.csv` of a folder) as a DataFrame with types.

        >>> Path("rows.csv").write_text("run,eta,steps\\n012,0.5,3\\n")
        24
        >>> read_rows(".").to_dict("records")
        [{'run': '012', 'eta': 0.5, 'steps': 3}]

    Numbers are read back bit for bit; an empty cell of a column of numbers is NaN, one of a column of text is "".
    Raises `FileNotFoundError` if there is no such file, `Damaged` if it is cut off or its rows are ragged.
    """
    path = Path(path)
    rows = read_csv(path / "rows.csv" if path.is_dir() else path)
    return typed(rows)


def typed(rows: list[dict[str, str]]) -> pd.DataFrame:
    """Rows of text as a DataFrame: columns in which every cell is a number or empty become numbers, bit for bit.

    A column that a row lacks is an empty cell of it.
    """
    table = pd.DataFrame(rows, dtype=str).fillna("")
    return table.apply(lambda column: column if _is_text(column) else _numbers(column))


def _is_text(column: pd.Series) -> bool:
    return str(column.name) in TEXT or str(column.name).startswith("version_") or bool((column == "").all())


def _numbers(column: pd.Series) -> pd.Series:
    """The column as integers, floats or truth values, if each of its cells is one; else as it is."""
    cells = column.tolist()
    if set(cells) <= {"True", "False"}:
        return column == "True"
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

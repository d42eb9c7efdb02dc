"""Tables come back as they were written: names stay names, numbers of columns of numbers are numbers."""

import dataclasses
from pathlib import Path

import pytest

from nail.checks import BadInput
from nail.envs.tasks import TASKS
from nail.lm.config import LmConfig
from nail.sweep.store import parse_csv, to_csv
from nail.sweep.table import read_rows, typed
from nail.training.config import config_class
from nail.training.kinds import kinds_of

NASTY = [
    "0042", "1_000", "nan", "None", "1e5", "True", "False", "inf", "-inf", "a,b", 'say "x"', "it's", "two\nlines",
    "a\r\nb", "a\rb", " 7 ", "7", "0.5", "٣", "η", "#", "\t", "NA", "null", "",
]  # fmt: skip
VALUES = {int: [0, 7, 2**31 - 1], float: [0.0, 0.1, 1e-30, 1e30, 3.0], bool: [True, False]}


def back(column, values, **others):
    """The cells of a column that was written and read again, one row each."""
    rows = [{"run": "0123456789ab", column: value, **others} for value in values]
    return typed(parse_csv(to_csv(rows).encode(), Path("rows.csv")))[column].tolist()


@pytest.mark.parametrize("kind", [*map(config_class, TASKS), LmConfig], ids=[*TASKS, "lm"])
def test_fields_come_back_as_they_are_declared(kind):
    """Each alone in its column (which decides of what type that is), and with others."""
    others = {"task": kind.definitions[0].name} if kind is not LmConfig else {}
    for field in dataclasses.fields(kind):
        if field.name == "task":
            continue
        declared = next(k for k in (bool, int, float, str, None) if k is None or k in kinds_of(field))
        if declared in VALUES:
            found = back(field.name, VALUES[declared], **others)
            assert found == VALUES[declared], field.name
            assert all(isinstance(value, (declared, int)) for value in found), field.name
        else:
            assert back(field.name, NASTY, **others) == NASTY, field.name
            for name in NASTY[:9]:
                assert back(field.name, [name, name], **others) == [name, name], field.name


def test_columns_of_nobody_are_numbers_where_they_look_like_numbers():
    assert back("mine", ["0042", "7"]) == ["0042", "7"]
    assert back("mine", ["1_000"]) == ["1_000"]
    assert back("mine", ["٣"]) == ["٣"]
    assert back("mine", ["1e-05", "-3", "nan", "INF", "2."])[:2] == [1e-05, -3.0]
    assert back("mine", ["12", "-0"]) == [12, 0]


def test_accuracy_by_position_is_read_as_columns(tmp_path):
    """In the place of the cell, NaN beyond the end of a shorter chain; the file keeps the cell."""
    path = tmp_path / "rows.csv"
    cells = {"a": "1 0.25 0", "b": "0.5"}
    path.write_text(to_csv([{"run": run, "position_accuracy": cell, "eta": 0.5} for run, cell in cells.items()]))
    found = read_rows(path)
    assert list(found) == ["run", "position_1", "position_2", "position_3", "eta"]
    assert found.iloc[0].tolist() == ["a", 1.0, 0.25, 0.0, 0.5]
    assert found.position_1.tolist() == [1.0, 0.5]
    assert found[["position_2", "position_3"]].iloc[1].isna().all()
    path.write_text(to_csv([{"run": "a", "position_accuracy": "1 x"}]))
    with pytest.raises(BadInput, match="position_accuracy must be numbers"):
        read_rows(path)

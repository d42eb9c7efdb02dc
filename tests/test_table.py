"""Tables come back as they were written: names stay names, numbers of columns of numbers are numbers."""

import dataclasses
from pathlib import Path

import pytest

from nail.envs.tasks import TASKS
from nail.lm.config import LmConfig
from nail.sweep.store import parse_csv, to_csv
from nail.sweep.table import typed
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

"""Types of a configuration's fields, and values as these types."""

import dataclasses
import numbers
import types
import typing
from typing import Any

import numpy as np

from nail.checks import require

_KINDS = {
    int: (numbers.Integral, "an integer"), float: (numbers.Real, "a number"), str: (str, "a text"),
    bool: ((bool, np.bool_), "true or false"),
}  # fmt: skip
"""type of a field → what is taken for it, in Python and in words"""


def kinds_of(field: dataclasses.Field) -> list[Any]:
    """The types of a field's values, as they were declared (a union gives several)."""
    return list(typing.get_args(field.type)) if isinstance(field.type, types.UnionType) else [field.type]


def as_declared(field: dataclasses.Field, value: Any) -> Any:
    """`value` as the field's type; raises `BadInput` if it is of another."""
    kinds = kinds_of(field)
    if not set(kinds) <= {*_KINDS, types.NoneType} or (value is None and types.NoneType in kinds):
        return value
    for kind in (kind for kind in kinds if kind in _KINDS):
        taken, said = _KINDS[kind]
        require(isinstance(value, taken) and (kind is bool or not isinstance(value, (bool, np.bool_))),
                field.name, repr(value), said)  # fmt: skip
        return kind(value)
    return value

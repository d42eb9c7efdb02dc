"""A sweep is a tuple of configurations: the product of its axes, or a share of it."""

import dataclasses
import itertools
import math
import types
from collections.abc import Iterable
from typing import Any

from nail.checks import MAX_RUNS, BadInput, require
from nail.sweep.stages import Runs, by_id, first_of, flat
from nail.training.config import TrainConfig, group_key, refuse_unknown, run_id
from nail.training.kinds import kinds_of
from nail.training.ranges import check


def grid(base: TrainConfig, **axes: Iterable[Any]) -> tuple[TrainConfig, ...]:
    """All combinations of `axes` (field=values) around `base`, checked; the last axis varies fastest.

        >>> len(grid(TrainConfig(m=10, width=64), eta=(0.0, 0.2), method=("nail-f", "opd-f"), seed=range(3)))
        12

    Raises `BadInput` for a field that the task does not have, an axis without values, a value out of range, and runs
    that occur twice.
    """
    values = {}
    for name, axis in axes.items():
        _field_of(base, name)
        values[name] = tuple(axis)
        require(values[name], f"the axis {name}", "none", "one value or more")
    count = math.prod(map(len, values.values()))
    require(count <= MAX_RUNS, "the product of the axes", f"{count} runs", f"at most {MAX_RUNS} runs")
    product = itertools.product(*values.values())
    configs = tuple(check(dataclasses.replace(base, **dict(zip(values, point, strict=True)))) for point in product)
    differ = len(flat(configs))
    if differ < len(configs):
        raise BadInput(f"the axes {', '.join(values)} name a run twice ({differ} of {len(configs)} differ)")
    return configs


def shard(configs: Runs, index: int, count: int) -> tuple[TrainConfig, ...]:
    """Share `index` (from 1) of `count` shares of a sweep; they are disjoint and together the whole.

    It depends on the set of runs only, not on their order: runs are sorted by the hash of their program and their own,
    and dealt out, so that the shares differ by at most one run (and so do their shares of a program, by one). Stages go
    where the first run of their chain goes.
    """
    require(count >= 1, "the number of shards", count, "an integer of at least 1")
    require(1 <= index <= count, "the shard", f"{index}/{count}", f"between 1/{count} and {count}/{count}")
    known = by_id(flat(configs))
    firsts = {run: first_of(config, known) for run, config in known.items()}
    dealt = sorted(by_id(firsts.values()).values(), key=lambda c: (group_key(c), run_id(c)))[index - 1 :: count]
    mine = by_id(dealt)
    return tuple(config for run, config in known.items() if run_id(firsts[run]) in mine)


def parse_shard(text: str) -> tuple[int, int]:
    """(index, count) of a text "i/n"; raises `BadInput` if it is anything else."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and len(text) < 40):
        raise BadInput(f"shard must be i/n with 1 ≤ i ≤ n, for example 2/4, got {text}")
    require(1 <= int(index) <= int(count), "shard", text, "i/n with 1 ≤ i ≤ n")
    return int(index), int(count)


def _field_of(base: TrainConfig, name: str) -> dataclasses.Field:
    """The field that can be an axis around `base`; raises `BadInput` for any other."""
    if name == "task":
        raise BadInput("an axis must be a field other than task: tasks have different fields, so make a grid for each")
    refuse_unknown(type(base), [name])
    return next(field for field in dataclasses.fields(base) if field.name == name)


def parse_axis(text: str, base: TrainConfig) -> tuple[str, tuple[Any, ...]]:
    """(field, values) of a text "field=v1,v2,…", or "field=a:b" for the integers a, …, b − 1, around `base`.

    Raises `BadInput` for a field that the task does not have or a value that is not of its type.
    """
    name, values = split_axis(text)
    return name, parse_values(name, kinds_of(_field_of(base, name)), values)


def split_axis(text: str) -> tuple[str, str]:
    """(field, text of its values) of a text "field=…"; raises `BadInput` for another."""
    name, equals, values = text.partition("=")
    if not equals:
        raise BadInput(f"vary must be field=value,value,… or field=from:to, got {text}")
    return name.strip().replace("-", "_"), values


def parse_values(name: str, kinds: list[Any], text: str) -> tuple[Any, ...]:
    """The values of one of these types in a text "v1,v2,…", or "a:b" for the integers a, …, b − 1."""
    found: list[Any] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, colon, last = part.partition(":")
        if colon and kinds == [int]:
            numbers = range(_value(name, kinds, first), _value(name, kinds, last))
            require(numbers.stop - numbers.start <= MAX_RUNS, f"the axis {name}", part, f"at most {MAX_RUNS} values")
            found += numbers
        else:
            found.append(_value(name, kinds, part))
    return tuple(found)


def _value(name: str, kinds: list[Any], text: str) -> Any:
    """`text` as a value of one of these types."""
    if types.NoneType in kinds and text.lower() == "none":
        return None
    (kind,) = (k for k in kinds if k is not types.NoneType)
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        if kind is not bool:
            return kind(text)
    except ValueError:
        pass
    raise BadInput(f"{name} must be {'true or false' if kind is bool else f'of type {kind.__name__}'}, got {text!r}")

"""What a figure computes, before it is computed: its configurations as a small table, and an estimate of the time."""

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from nail.registry import document_fields
from nail.sweep.stages import Runs, flat

if TYPE_CHECKING:
    from nail.figures.experiment import Experiment

Point = dict[str, Any]
NO_SETTING = ("seed", "budget", "tree_seed")
"""columns of points that are no settings: what each point has of its own"""


class Speed(NamedTuple):
    """How fast something was computed."""

    rate: float
    """work a second, as `work_of` counts it"""
    measured: str
    """on what, in words"""


def work_of(runs: Runs) -> float:
    """Tokens that training runs learn from: updates × episodes of an update × length of the chain, summed."""
    return float(sum(c.steps * c.batch * getattr(c, "m", getattr(c, "H", 1)) for c in flat(runs)))


def work_of_points(points: Iterable[Point]) -> float:
    """Replicates × levels, summed over points: to be multiplied by the episodes that each takes, which are unknown."""
    return float(sum(point.get("replicates", 0) * (point.get("horizon") or 1) for point in points))


def shown(experiment: "Experiment", preset: str, size: Any) -> str:
    """The configurations of a figure at a preset or a size, and an estimate of the time, as text."""
    own, lines, time = not isinstance(size, str), [], f"time: {experiment.cost[preset]}"
    kind = "a grid of your own" if own else preset
    if experiment.runs is not None:
        configs = flat(experiment.runs(size))
        rows = [{**config.columns(), "start": "another run" if config.start else ""} for config in configs]
        lines += [f"{experiment.name}, {kind}: {len(rows):,} runs", *table(rows, "seed")]
        if own:
            left_out = "compiling, and another network than the preset's,"
            time = _estimate(experiment, preset, work_of(configs), "updates × batch × chain length", left_out)
    if experiment.points is not None:
        points = [point for series in experiment.points(size) for point in series]
        rows = [{k: v for k, v in point.items() if k not in NO_SETTING} for point in points]
        fold = "horizon" if len({point.get("horizon") for point in points}) > 1 else "eta"
        lines += [f"{experiment.name}, {kind}: {len(rows):,} points", *table(rows, fold)]
        if own:
            left_out = "compiling, and the episodes that a point takes, unknown before,"
            time = _estimate(experiment, preset, work_of_points(points), "replicates × H", left_out)
    return "\n".join([*(lines or [f"{experiment.name}, {kind}"]), time])


def _estimate(experiment: "Experiment", preset: str, work: float, unit: str, left_out: str) -> str:
    speed = experiment.speed(preset) if experiment.speed else None
    if speed is None:
        return f"time: unknown, {preset} was not timed"
    seconds = work / speed.rate
    time = f"{seconds:,.0f} seconds" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
    return (
        f"time: about {time} on two cores, if nothing is done yet: {speed.measured}, and this was scaled from it in "
        f"proportion to {unit}; {left_out} are not in it"
    )


def table(rows: Sequence[dict[str, Any]], fold: str) -> list[str]:
    """Lines of text: the settings that all rows have in common, then those that vary, one line each, with the values of
    the column `fold` that occur with the others side by side."""
    cells = [{name: _word(value) for name, value in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in cells for name in row))
    varying = [name for name in names if len({row.get(name, "") for row in cells}) > 1]
    # what changes least often comes first
    varying.sort(key=lambda name: sum(a.get(name) != b.get(name) for a, b in itertools.pairwise(cells)))
    common = ", ".join(f"{name} {cells[0][name]}" for name in names if name not in varying and cells[0][name])
    by: dict[tuple[str, ...], list[str]] = {}
    for row in cells:
        folded = by.setdefault(tuple(row.get(name, "") for name in varying if name != fold), [])
        folded += [row[fold]] if fold in row and fold in varying else []
    columns = [*(name for name in varying if name != fold), *([fold] if fold in varying else [])]
    found = pd.DataFrame([[*key, *([_series(values)] if fold in varying else [])] for key, values in by.items()],
                         columns=columns)  # fmt: skip
    return ([f"in common: {common}"] if common else []) + (found.to_string(index=False).splitlines() if columns else [])


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def _series(values: list[str]) -> str:
    """Values side by side; integers without a gap by their ends."""
    whole = [int(value) for value in values if value.isdecimal()]
    if len(whole) == len(values) > 2 and whole == list(range(whole[0], whole[-1] + 1)):
        return f"{whole[0]}–{whole[-1]}"
    return " ".join(values)


document_fields(__name__)

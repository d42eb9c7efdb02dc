"""A figure on a grid of the user's own: the size that a preset gives a figure, with some of it replaced.

The size of a figure of training runs is a `RunGrid`. That of a figure of points is a NamedTuple of its axes and
settings: a field that holds a tuple is an axis, of one value or more, and any other is a setting, of one value.
"""

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from nail.checks import MAX_RUNS, require
from nail.registry import document_fields
from nail.sweep.grid import grid, parse_axis, parse_values, split_axis
from nail.theory import ranges
from nail.training.config import TrainConfig

Values = tuple[Any, ...]
KEPT = ("task", "seed", "steps", "start", "expert")
"""fields of a configuration that no grid of one's own replaces by name"""


class RunGrid(NamedTuple):
    """Axes and settings of a figure of training runs."""

    base: TrainConfig
    """the settings, and the values of the axes that are not varied"""
    seeds: Iterable[int]
    axes: dict[str, Values]
    """field → values, the first one outermost"""

    def runs(self) -> tuple[TrainConfig, ...]:
        """The product of the axes and the seeds, which vary fastest; raises `BadInput` as `grid` does."""
        return grid(self.base, **self.axes, seed=self.seeds)


class Own(NamedTuple):
    """What a grid of one's own has instead of its preset's."""

    vary: Mapping[str, Values] = {}
    """axis or setting → values"""
    seeds: int | None = None
    """number of seeds, 0, 1, …"""
    steps: int | None = None
    """updates of a run"""

    def options(self, preset: str) -> str:
        """The options of the command line that give this grid."""
        words = ["--preset", preset]
        for name, values in self.vary.items():
            words += ["--vary", f"{name}={','.join('none' if x is None else str(x) for x in values)}"]
        for name in ("seeds", "steps"):
            words += [] if getattr(self, name) is None else [f"--{name}", str(getattr(self, name))]
        return shlex.join(words)


def parse(figure: str, size: Any, texts: Iterable[str]) -> dict[str, Values]:
    """Axis → values of texts "axis=v1,v2,…" or "axis=a:b" (integers below b) for a figure of this size.

    Raises `BadInput` for an axis that the figure does not have, one that is named twice, and values of another type.
    """
    found: dict[str, Values] = {}
    for text in texts:
        name, values = split_axis(text)
        require(name not in found, "vary", text, "given once for each axis")
        require_axis(figure, size, name)
        if isinstance(size, RunGrid):
            _, found[name] = parse_axis(text, size.base)
        else:
            found[name] = parse_values(name, [type(_tuple(getattr(size, name))[0])], values)
    return found


def _tuple(value: Any) -> Values:
    return value if isinstance(value, tuple) else (value,)


def chosen(sizes: Mapping[str, Any], size: Any) -> Any:
    """The size of a preset, or the size that is given in place of one."""
    return sizes[size] if isinstance(size, str) else size


def axes_of(size: Any) -> dict[str, Values]:
    """Axis → the values that a size has of it."""
    if isinstance(size, RunGrid):
        return size.axes
    return {name: value for name, value in size._asdict().items() if isinstance(value, tuple)}


def settings_of(size: Any) -> tuple[str, ...]:
    """Names of the settings of a size: those take one value."""
    if isinstance(size, RunGrid):
        names = (field.name for field in dataclasses.fields(size.base))
        return tuple(name for name in names if name not in (*KEPT, *size.axes))
    return tuple(name for name, value in size._asdict().items() if not isinstance(value, tuple))


def require_axis(figure: str, size: Any, name: str) -> None:
    """`BadInput`, with the axes that a figure has, for any other name."""
    axes, settings = axes_of(size), settings_of(size)
    rest = f"a field of TrainConfig other than {', '.join(KEPT)}" if isinstance(size, RunGrid) else ", ".join(settings)
    require(
        name in axes or name in settings, "vary", name,
        f"an axis of {figure} ({', '.join(axes)}), or with one value a setting of it ({rest})",
    )  # fmt: skip


def replaced(figure: str, size: Any, own: Own) -> Any:
    """`size` with the axes and settings of `own`.

    With `steps` a run has as many evaluations as before, unless `eval_every` is among the settings. Raises `BadInput`
    for an axis that the figure does not have, no values, several of a setting, and seeds or steps of a figure that has
    none.
    """
    for name, values in own.vary.items():
        require_axis(figure, size, name)
        require(len(values) > 0, name, "no value", "one value or more")
        several = name in axes_of(size)
        require(several or len(values) == 1, name, f"{len(values)} values", f"one value: it is no axis of {figure}")
        require(len(set(values)) == len(values), name, ", ".join(map(str, values)), "different values")
    axes = {name: tuple(values) for name, values in own.vary.items() if name in axes_of(size)}
    settings = {name: values[0] for name, values in own.vary.items() if name not in axes}
    if not isinstance(size, RunGrid):
        for name in ("seeds", "steps"):
            require(getattr(own, name) is None, name, getattr(own, name), f"left out: {figure} has replicates instead")
        found = size.varied(**axes, **settings) if hasattr(size, "varied") else size._replace(**axes, **settings)
        return check(found)
    if own.steps is not None:
        require(own.steps >= 1, "steps", own.steps, "an integer of at least 1")
        every = -(-own.steps * size.base.eval_every // size.base.steps)
        settings = {"steps": own.steps, "eval_every": every, **settings}
    seeds = size.seeds
    if own.seeds is not None:
        require(1 <= own.seeds <= MAX_RUNS, "seeds", own.seeds, f"in 1..{MAX_RUNS}")
        seeds = range(own.seeds)
    base = dataclasses.replace(size.base, **settings)
    return RunGrid(base, seeds, {**size.axes, **axes})


RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **ranges.RANGES,
    "H": (lambda x: 1 <= x <= 10_000, "an integer in 1..10000"),
    "A": (lambda x: 2 <= x <= 1_000, "an integer in 2..1000"),
    "eta": (lambda x: 0 <= x <= 0.9, "in [0, 0.9]"),
}
"""what an axis or a setting of points must be: as in a grid of sample complexities, but for what exact curves take; a
field H_… is in the range of H"""


def check(size: Any) -> Any:
    """`size`, of points; raises `BadInput` for a value outside its range."""
    for name, values in size._asdict().items():
        ok, allowed = RANGES.get(name.partition("_")[0], RANGES.get(name, (lambda x: True, "")))
        for value in _tuple(values):
            require(ok(value), name, value, allowed)
    return size


document_fields(__name__)

"""A grid of sample complexities: the product of its axes as points, checked before any is measured."""

import itertools
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nail.checks import BadInput, require, require_known
from nail.complexity import kernels
from nail.complexity.points import (
    BURSTS,
    HUBER,
    Measure,
    Point,
    by_level,
    check,
    check_noise,
    definitions,
    options_of,
    run_of,
)
from nail.counting import INSTANCES
from nail.envs.tasks import TASKS
from nail.methods import METHOD
from nail.registry import fingerprint
from nail.theory.ranges import require_ranges
from nail.training.config import content_hash
from nail.training.kinds import as_declared

MAX_POINTS = 100_000
"""of a grid"""
COUNTS, RATES = ("replicates", "instances", "seed", "max_episodes"), ("eta", "delta", "epsilon", "burst")
COMMON = ("instance", "method", "kernel", "criterion", "noise", *COUNTS, *RATES)
"""options that every instance has, but for `instances`, which those that are drawn from a seed have"""
COSTLIER = {"H": 1, "eta": 1, "delta": -1, "epsilon": -1}
"""axes along which n* grows, the first one that is varied first; −1: towards small values"""


@dataclass(frozen=True)
class Plan:
    """The points of a grid in the order of its axes, and as series of growing cost, the costliest series first."""

    points: list[Point]
    series: list[list[Point]]
    axes: tuple[str, ...]
    """names of what is varied"""
    measure: Measure

    def share(self, index: int, count: int) -> list[list[Point]]:
        """The series of share `index` (from 1) of `count`: shares are disjoint, and together the whole."""
        dealt = sorted(self.series, key=lambda points: run_of(points[0]))[index - 1 :: count]
        mine = {run_of(points[0]) for points in dealt}
        return [points for points in self.series if run_of(points[0]) in mine]


def plan(axes: Mapping[str, Sequence[Any]]) -> Plan:
    """The product of `axes` (option → values, the last one varies fastest) as a plan; an option of one value is fixed.

    Raises `BadInput` for an option without values or that an instance does not have, more than `MAX_POINTS` points,
    points that occur twice, and what `nail.complexity.points.check` refuses.
    """
    for name, values in axes.items():
        require(len(values) > 0, f"the axis {name}", "none", "one value or more")
    count = math.prod(map(len, axes.values()))
    require(count <= MAX_POINTS, "the product of the axes", f"{count:,} points", f"at most {MAX_POINTS:,} points")
    maker = _Maker(_given(axes["instance"]))
    varied = tuple(name for name, values in axes.items() if len(values) > 1)
    maker.require_options([name for name in axes if name not in COMMON], varied)
    product = itertools.product(*({**axes, "instance": tuple(maker.instances)}).values())
    points = [maker.point(dict(zip(axes, values, strict=True))) for values in product]
    differ = len(set(map(run_of, points)))
    if differ < len(points):
        raise BadInput(f"the axes {', '.join(varied)} name a point twice ({differ} of {len(points)} differ)")
    return Plan(points, series_of(points, varied), varied, maker.measure)


def series_of(points: Sequence[Point], varied: Sequence[str]) -> list[list[Point]]:
    """Points that agree in all but the first varied axis along which n* grows, in its order; series of the largest η,
    the smallest δ and the largest H first."""
    along = next((name for name in COSTLIER if name in varied), None)
    found: dict[str, list[Point]] = {}
    for point in points:
        rest = {name: value for name, value in point.items() if name not in (along, "point_seed")}
        found.setdefault(content_hash(rest if along else point), []).append(point)

    def cost(point: Point, names: Sequence[str]) -> tuple[float, ...]:
        return tuple(float(COSTLIER[name] * point[name]) for name in names if name in point)

    ordered = [sorted(members, key=lambda point: cost(point, (along,) if along else ())) for members in found.values()]
    return sorted(ordered, key=lambda members: cost(members[0], ("eta", "delta", "epsilon", "H")), reverse=True)


def _given(instances: Sequence[Any]) -> dict[str, Any]:
    """Name → itself, or the object that the user gave: an `Instance` or a function seed → `Instance`."""
    found: dict[str, Any] = {}
    for one in instances:
        name = one if isinstance(one, str) else getattr(one, "name", None) or getattr(one, "__name__", "instance")
        if not isinstance(one, str) and name in TASKS:
            name = f"{name} (own)"
        if name in found:
            raise BadInput(
                f"instances must have different names, got {name!r} twice: a function is named by its __name__ (def), "
                "an Instance by instance._replace(name=…)"
            )
        found[name] = one
    return found


class _Maker:
    """Makes points: fills in what is not said, and draws the first instance of each kind once, to look at it."""

    def __init__(self, instances: dict[str, Any]):
        self.instances = instances
        self.measure = Measure({name: one for name, one in instances.items() if one is not name})
        self.firsts: dict[str, Any] = {}
        self.fingerprints: dict[str, str | None] = {}
        tabular = [name for name, row in TASKS.items() if row.instance]
        for name in set(instances) - set(self.measure.given):
            require_known("instance", name, tabular)
        self.options = {name: {} if name in self.measure.given else options_of(name) for name in instances}
        drawn = [name for name, one in instances.items() if name not in INSTANCES and (one is name or callable(one))]
        self.drawn = frozenset(drawn)

    def require_options(self, asked: Sequence[str], varied: Sequence[str]) -> None:
        """Raise `BadInput` for an option that no instance has, or is to be varied and one does not have it."""
        for name in asked:
            without = [instance for instance, known in self.options.items() if name not in known]
            if without and (name in varied or len(without) == len(self.options)):
                known = ", ".join(self.options[without[0]]) or "none: H and A are its own"
                raise BadInput(f"{name} is no option of the instance {without[0]} (its options: {known})")
        fixed = [instance for instance in self.instances if instance not in self.drawn]
        if "instances" in varied and fixed:
            raise BadInput(f"instances is no axis of {fixed[0]}, which is not drawn from seed, seed+1, …")

    def point(self, values: dict[str, Any]) -> Point:
        """One point, checked, with a seed of its own that is made from all its options."""
        instance, method, kernel = values["instance"], values["method"], kernels.kernel_text(values.get("kernel"))
        METHOD.find(method)
        point: Point = {"instance": instance, "method": method}
        for name, default in self.options[instance].items():
            field = TASKS[instance].options.__dataclass_fields__[name]
            point[name] = as_declared(field, values.get(name, default))
        rates = [name for name in RATES if name in ("eta", "delta") or values.get(name) is not None]
        point |= {name: _number(name, values[name]) for name in rates}
        point["criterion"], noise = values.get("criterion", "mean"), values.get("noise", HUBER)
        require_known("noise", noise, (HUBER, BURSTS))
        point |= {} if noise == HUBER else {"noise": noise}
        point["kernel"] = "uniform" if kernel == kernels.OWN and instance in TASKS.own else kernel
        counted = [name for name in COUNTS if name != "instances" or instance in self.drawn]
        point |= {name: _number(name, values[name]) for name in counted}
        require_ranges(point)
        check_noise(noise, point.get("burst"), point["eta"])
        first = None if by_level(point) else self.first(point)
        if first is not None:
            point |= dict(zip("HSA", first.mdp.r.shape, strict=True))
        check(point, first)
        # of the options alone: a definition's hash depends on the version of Python
        seed = int(content_hash({"point": point})[:8], 16) % 2**31
        return {**point, **definitions(self.fingerprint(instance), METHOD.fingerprint(method)), "point_seed": seed}

    def first(self, point: Point) -> Any:
        """The instance that the user's seed gives, with the kernel that is asked for; checked."""
        from nail.counting.nstar import draw
        from nail.envs.instances import check_instance
        from nail.envs.play import check_once

        instance = point["instance"]
        key = content_hash([instance, point["kernel"], point["seed"], {n: point[n] for n in self.options[instance]}])
        if key not in self.firsts:
            if self.options[instance]:
                task = TASKS[instance]
                task.options(**{name: point[name] for name in self.options[instance]}).check()
                check_once(task)
            (self.firsts[key],) = draw(self.measure.instance(point), point["seed"], 1, 1)
            check_instance(self.firsts[key])
        return self.firsts[key]

    def fingerprint(self, instance: str) -> str | None:
        """What an instance from outside the package is, as a hash."""
        if instance not in self.fingerprints:
            one = self.instances[instance]
            self.fingerprints[instance] = TASKS.fingerprint(instance) if one is instance else fingerprint(one)
        return self.fingerprints[instance]


def _number(name: str, value: Any) -> int | float:
    """A count or a rate as Python's own number; raises `BadInput` for what is none."""
    kind, said = (numbers.Integral, "a whole number") if name in COUNTS else (numbers.Real, "a number")
    require(isinstance(value, kind) and not isinstance(value, bool), name, repr(value), said)
    return int(value) if name in COUNTS else float(value)

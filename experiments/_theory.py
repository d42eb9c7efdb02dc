"""What the theory figures share: points as the rows of a figure."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nail.figures.configurations import Speed, work_of_points
from nail.figures.experiment import Claim, Experiment, Row
from nail.sweep.points import run_points
from nail.training.config import content_hash

Point = dict[str, Any]


def seeded(point: Point) -> Point:
    """The point with a seed made from all its fields, so that no two points share random numbers."""
    return {**point, "seed": int(content_hash(point)[:8], 16) % 2**31}


def figure_of_points(
    name: str, summary: str, cost: dict[str, str], series: Callable[[Any], list[list[Point]]],
    measure: Callable[[Point], list[Row]], analyse: Callable[[pd.DataFrame], pd.DataFrame],
    claims: Callable[[pd.DataFrame], list[Claim]], draw: Callable[..., Figure],
    stop: Callable[[list[Row]], bool] = lambda rows: False, units: tuple[str, ...] = (),
    sizes: Mapping[str, Any] = MappingProxyType({}), seconds: Mapping[str, float] = MappingProxyType({}),
) -> Experiment:  # fmt: skip
    """A figure whose rows are those of points, measured series by series: `series` gives them for a preset, or for a
    size where it has `sizes`. `seconds` are what a preset takes on two cores, as the cost says."""

    def speed(preset: str) -> Speed | None:
        if preset not in seconds:
            return None
        work = work_of_points(point for points in series(preset) for point in points)
        return Speed(work / seconds[preset], f"{name} at {preset} takes {seconds[preset]:,.0f} seconds")

    return Experiment(
        name, summary, cost, lambda size, out: run_points(name, out, series(size), measure, stop), analyse, claims,
        draw, units=units, points=series, sizes=sizes, speed=speed,
    )  # fmt: skip

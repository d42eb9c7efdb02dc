"""What the theory figures share: points as the rows of a figure."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.sweep.points import run_points
from nail.training.config import content_hash

Point = dict[str, Any]


def seeded(point: Point) -> Point:
    """The point with a seed made from all its fields, so that no two points share random numbers."""
    return {**point, "seed": int(content_hash(point)[:8], 16) % 2**31}


def figure_of_points(
    name: str, summary: str, cost: dict[str, str], series: Callable[[str], list[list[Point]]],
    measure: Callable[[Point], list[Row]], analyse: Callable[[pd.DataFrame], pd.DataFrame],
    claims: Callable[[pd.DataFrame], list[Claim]], draw: Callable[..., Figure],
    stop: Callable[[list[Row]], bool] = lambda rows: False, units: tuple[str, ...] = (),
) -> Experiment:  # fmt: skip
    """A figure whose rows are those of points, measured series by series: `series` gives them for a preset."""
    return Experiment(
        name, summary, cost, lambda preset, out: run_points(name, out, series(preset), measure, stop), analyse, claims,
        draw, units=units,
    )  # fmt: skip

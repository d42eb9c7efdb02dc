"""What the training figures share: sizes, metrics over seeds, curves and episodes-to-solve as rows of a table."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from nail.figures.experiment import Row
from nail.figures.survival import Median, Solved, median
from nail.training.config import TrainConfig

from ._rows import column, select

SOLVED = 0.95
"""full-chain accuracy from which on a run counts as having solved its task"""
UNSOLVED = 0.5
"""full-chain accuracy below which a run counts as not having solved it"""
SEEDS = 3

PAPER = TrainConfig(precision="bfloat16")
CPU = TrainConfig(
    m=10, eta=0.5, width=64, heads=4, init_std=0.1, lr=1e-3, warmup=100, steps=2_500, eval_every=125, n_validation=500
)
SMOKE = dataclasses.replace(
    CPU, p=3, m=3, width=16, heads=2, batch=16, steps=40, warmup=5, eval_every=10, n_validation=50
)
BASE = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
"""preset → NAIL-F at the preset's high noise; figures vary it, and share the runs that they have in common"""


def seeds(config: TrainConfig) -> tuple[TrainConfig, ...]:
    """The configuration with each of the figures' seeds."""
    return tuple(dataclasses.replace(config, seed=seed) for seed in range(SEEDS))


def over_seeds(rows: Iterable[Row], metric: str) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, "seeds T"]]:
    """Episodes at the evaluations, and a metric of each seed there. The rows are one setting's."""
    rows = list(rows)
    by_seed = [
        sorted(select(rows, seed=s), key=lambda r: int(r["step"])) for s in sorted({int(r["seed"]) for r in rows})
    ]
    return column(by_seed[0], "episodes"), np.stack([column(run, metric) for run in by_seed])


def final(rows: Iterable[Row], metric: str) -> Float[np.ndarray, " seeds"]:
    """A metric of each seed after the whole budget. The rows are one setting's."""
    return over_seeds(rows, metric)[1][:, -1]


def times_to_solve(rows: Iterable[Row]) -> list[Solved]:
    """Per seed, the first evaluation with full-chain accuracy ≥ `SOLVED`, or the budget, censored.

    A run solved between this evaluation and the one before it: times are late by at most one evaluation interval.
    """
    episodes, accuracy = over_seeds(rows, "full_exact")
    found = []
    for run in accuracy:
        hits = np.flatnonzero(run >= SOLVED)
        found.append(Solved(float(episodes[hits[0]]), False) if len(hits) else Solved(float(episodes[-1]), True))
    return found


def to_solve(rows: Iterable[Row]) -> Median:
    """Kaplan–Meier median of `times_to_solve` with its 95 % interval."""
    return median(times_to_solve(rows))


COLUMNS = ("kind", "metric", "episodes", "mean", "sd", "low", "high", "censored", "n_seeds")


def curve_rows(rows: list[Row], metric: str, **keys: Any) -> list[Row]:
    """One row an evaluation: mean and standard deviation (of the sample, n − 1) over seeds."""
    episodes, values = over_seeds(rows, metric)
    empty = dict.fromkeys(COLUMNS, "")
    return [
        {**keys, **empty, "kind": "curve", "metric": metric, "episodes": n, "mean": at.mean(), "sd": at.std(ddof=1),
         "n_seeds": len(at)}
        for n, at in zip(episodes, values.T, strict=True)
    ]  # fmt: skip


def solve_rows(rows: list[Row], **keys: Any) -> list[Row]:
    """Episodes-to-solve: a row per seed (kind "seed") and one of the median (kind "median"; the budget if censored)."""
    times, empty = times_to_solve(rows), {**dict.fromkeys(COLUMNS, ""), "metric": "episodes_to_solve"}
    middle, budget = median(times), max(t.episodes for t in times)
    found = [{**keys, **empty, "kind": "seed", "episodes": t.episodes, "censored": int(t.censored)} for t in times]
    unsolved = math.isinf(middle.value)
    found.append(
        {**keys, **empty, "kind": "median", "episodes": budget if unsolved else middle.value, "low": middle.low,
         "high": middle.high, "censored": int(unsolved), "n_seeds": len(times)}
    )  # fmt: skip
    return found


def per_seed(values: Iterable[float]) -> str:
    """Numbers of the seeds, for a claim."""
    return " ".join(f"{x:.3g}" for x in values)


def in_words(found: Median) -> str:
    """A median time with its interval, for a claim."""
    if math.isinf(found.value):
        return "not solved by half of the seeds"
    high = "∞" if math.isinf(found.high) else f"{found.high:,.0f}"
    return f"{found.value:,.0f} [{found.low:,.0f}, {high}]"


def thousands(axes: Axes, axis: str = "x") -> None:
    """Episodes on an axis in thousands."""
    getattr(axes, f"{axis}axis").set_major_formatter(lambda value, _: f"{value / 1000:g}")


def draw_curves(
    axes: Axes, table: list[Row], by: str, colour: Callable[[float], Any], label: Callable[[float], str]
) -> None:
    """Full-chain accuracy against training trajectories: a curve and a band (± 1 standard deviation) each `by`."""
    for value in sorted({float(row[by]) for row in table}):
        chosen = select(table, **{by: value})
        x, mean, sd = (column(chosen, name) for name in ("episodes", "mean", "sd"))
        band = np.clip(mean - sd, 0, 1), np.clip(mean + sd, 0, 1)
        axes.fill_between(x, *band, color=colour(value), alpha=0.13, linewidth=0)
        axes.plot(x, mean, color=colour(value), label=label(value))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=0)
    axes.set_xlabel("training trajectories (thousands)")
    thousands(axes)


def draw_times(axes: Axes, table: list[Row], x: str, look: Any, label: str, shift: float = 0.0) -> None:
    """Episodes-to-solve against `x`: a small mark per seed (open with an arrow where it never solved), and a line
    through the medians, dotted to where they are censored."""
    medians = sorted(select(table, kind="median"), key=lambda r: float(r[x]))
    at, value = column(medians, x) + shift, column(medians, "episodes")
    beyond = column(medians, "censored").astype(bool)
    axes.plot(at, value, color=look.colour, linestyle=":", linewidth=0.9)
    axes.plot(
        at, np.where(beyond, np.nan, value), color=look.colour, linestyle=look.line, label=label, marker=look.mark
    )
    for row in select(table, kind="seed"):
        never = int(row["censored"])
        face = "white" if never else look.colour
        axes.plot(
            float(row[x]) + shift, float(row["episodes"]), marker="^" if never else look.mark, color=look.colour,
            markerfacecolor=face, markersize=3.6 if never else 2.6, linestyle="none", alpha=0.8,
        )  # fmt: skip

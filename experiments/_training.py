"""What the training figures share: sizes, metrics over seeds, curves and episodes-to-solve as rows of a table."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment
from nail.figures.plotting import Look
from nail.figures.survival import Median, Solved, median
from nail.sweep.run import rows_of
from nail.training.config import TrainConfig

SOLVED = 0.95
"""full-chain accuracy from which on a run counts as having solved its task"""
UNSOLVED = 0.5
"""full-chain accuracy below which a run counts as not having solved it"""
SEEDS = range(3)

PAPER = TrainConfig(precision="bfloat16")
CPU = TrainConfig(
    m=10, eta=0.5, width=64, heads=4, init_std=0.1, lr=1e-3, warmup=100, steps=2_500, eval_every=125, n_validation=500
)
SMOKE = dataclasses.replace(
    CPU, p=3, m=3, width=16, heads=2, batch=16, steps=40, warmup=5, eval_every=10, n_validation=50
)
BASE = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
"""preset → NAIL-F at the preset's high noise; figures vary it, and share the runs that they have in common"""


def figure_of_runs(
    name: str, summary: str, cost: dict[str, str], runs: Callable[[str], tuple[TrainConfig, ...]],
    analyse: Callable[[pd.DataFrame], pd.DataFrame], claims: Callable[[pd.DataFrame], list[Claim]],
    draw: Callable[[pd.DataFrame], Figure],
) -> Experiment:  # fmt: skip
    """A figure whose rows are those of training runs: `runs` gives them for a preset."""
    return Experiment(
        name, summary, cost, lambda preset, out: rows_of(runs(preset), out), analyse, claims, draw, runs
    )  # fmt: skip


def over_seeds(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric by episodes (index) and seed (columns). The rows are one setting's."""
    return rows.pivot(index="episodes", columns="seed", values=metric)


def final(rows: pd.DataFrame, metric: str) -> Float[np.ndarray, " seeds"]:
    """A metric of each seed after the whole budget. The rows are one setting's."""
    return over_seeds(rows, metric).to_numpy()[-1]


def times_to_solve(rows: pd.DataFrame) -> list[Solved]:
    """Per seed, the first evaluation with full-chain accuracy ≥ `SOLVED`, or the budget, censored.

    A run solved between this evaluation and the one before it: times are late by at most one evaluation interval.
    """
    solved = over_seeds(rows, "full_exact") >= SOLVED
    budget = solved.index[-1]
    return [Solved(float(hit.idxmax() if hit.any() else budget), not hit.any()) for _, hit in solved.items()]


def to_solve(rows: pd.DataFrame) -> Median:
    """Kaplan–Meier median of `times_to_solve` with its 95 % interval."""
    return median(times_to_solve(rows))


def tabulate(
    rows: pd.DataFrame, by: list[str], metrics: Iterable[str] = ("full_exact",), times: bool = True
) -> pd.DataFrame:
    """The table of a figure: for each setting (values of the columns `by`, in order of appearance) a curve over
    episodes of each metric, and its episodes-to-solve."""
    parts = []
    for values, chosen in rows.groupby(by, sort=False):
        found = [curve_rows(chosen, metric) for metric in metrics] + ([solve_rows(chosen)] if times else [])
        parts += [part.assign(**dict(zip(by, values, strict=True))) for part in found]
    columns = [*by, "kind", "metric", "episodes", "mean", "sd", "low", "high", "censored", "n_seeds"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def curve_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row an evaluation: mean and standard deviation (of the sample, n − 1) over seeds."""
    values = over_seeds(rows, metric)
    at = values.to_numpy()
    numbers = {"mean": at.mean(1), "sd": at.std(1, ddof=1), "n_seeds": at.shape[1]}
    return pd.DataFrame({"kind": "curve", "metric": metric, "episodes": values.index, **numbers})


def solve_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Episodes-to-solve: a row per seed (kind "seed") and one of the median (kind "median"; the budget if censored)."""
    times = times_to_solve(rows)
    middle, budget = median(times), max(t.episodes for t in times)
    unsolved = math.isinf(middle.value)
    found = [{"kind": "seed", "episodes": t.episodes, "censored": int(t.censored)} for t in times]
    found.append(
        {"kind": "median", "episodes": budget if unsolved else middle.value, "low": middle.low, "high": middle.high,
         "censored": int(unsolved), "n_seeds": len(times)}
    )  # fmt: skip
    return pd.DataFrame(found).assign(metric="episodes_to_solve")


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
    axes: Axes, table: pd.DataFrame, by: str, colour: Callable[[float], Any], label: Callable[[float], str]
) -> None:
    """Full-chain accuracy against training trajectories: a curve and a band (± 1 standard deviation) each `by`."""
    for value, points in table[table.kind == "curve"].groupby(by):
        x, mean, sd = points["episodes"], points["mean"], points["sd"]
        axes.fill_between(
            x, (mean - sd).clip(0, 1), (mean + sd).clip(0, 1), color=colour(value), alpha=0.13, linewidth=0
        )
        axes.plot(x, mean, color=colour(value), label=label(value))
    accuracy_axes(axes)


def accuracy_axes(axes: Axes) -> None:
    """Limits and label of accuracy against training trajectories."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=0)
    axes.set_xlabel("training trajectories (thousands)")
    thousands(axes)


def draw_times(axes: Axes, table: pd.DataFrame, x: str, look: Look, label: str, shift: float = 0.0) -> None:
    """Episodes-to-solve against `x`: a small mark per seed (open with an arrow where it never solved), and a line
    through the medians, dotted to where they are censored."""
    medians = table[table.kind == "median"].sort_values(x)
    at, value = medians[x] + shift, medians.episodes
    axes.plot(at, value, color=look.colour, linestyle=":", linewidth=0.9)
    axes.plot(
        at, value.where(medians.censored == 0), color=look.colour, linestyle=look.line, label=label, marker=look.mark
    )
    for (never,), seeds in table[table.kind == "seed"].groupby(["censored"]):
        axes.plot(
            seeds[x] + shift, seeds.episodes, marker="^" if never else look.mark, color=look.colour,
            markerfacecolor="white" if never else look.colour, markersize=3.6 if never else 2.6, linestyle="none",
            alpha=0.8,
        )  # fmt: skip
    axes.set_title(f"episodes until accuracy ≥ {SOLVED}")
    axes.set_ylabel("trajectories (thousands)")
    axes.set_ylim(bottom=0)
    thousands(axes, "y")

"""Figure 3: the temperature of the student's rollout, for NAIL-F and NAIL-R, from greedy (T = 0) to sampled (T = 1).

Paper, figure 3 (docs/paper.md §1.3), at high noise. T = 0 are runs of figure 2, which claims that they solve the task.
At T = 1 NAIL-F is OPD-F, number by number, of which figure 2 claims that it does not; NAIL-R is OPD-R but for its
auxiliary token, which is drawn afresh.
"""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import TEXT_WIDTH, look, note
from nail.methods import METHOD
from nail.stats import trend_test
from nail.sweep.grid import grid
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    LEVEL,
    SEEDS,
    UNSOLVED,
    draw_curves,
    draw_times,
    each_seed,
    figure_of_runs,
    interval_note,
    late,
    per_seed,
    tabulate,
    times_by,
)

ORDER = ("nail-f", "nail-r")
TEMPERATURES = {
    "smoke": (0.0, 0.4, 1.0),
    "cpu": (0.0, 0.2, 0.4, 1.0),
    "laptop": (0.0, 0.2, 0.4, 1.0),
    "paper": (0.0, 0.1, 0.2, 0.3, 0.4, 1.0),
}


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Two methods × temperatures × the seeds; greedy is the methods' own, so that those runs are figure 2's."""
    temperatures = [temperature or None for temperature in TEMPERATURES[preset]]
    return grid(BASE[preset], method=ORDER, temperature=temperatures, seed=SEEDS[preset])


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Curves of full-chain accuracy, and episodes-to-solve, for each method and temperature."""
    return tabulate(rows, ["method", "temperature", "p", "m", "eta"])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Heat slows down, and never helps; a run that does not solve the task ties with the others that do not, at the
    top."""
    hottest = rows[(rows.method == "nail-r") & (rows.temperature == rows.temperature.max())]
    accuracy = late(hottest, "full_exact")
    return [claim for method in ORDER for claim in _claims_of(rows[rows.method == method], METHOD[method].label)] + [
        Claim(
            f"NAIL-R with rollouts sampled at T = 1 does not solve the task (full chain < {UNSOLVED}, every seed)",
            "paper, Fig. 3", f"one seed at {UNSOLVED} or more over the last quarter (median of its evaluations)",
            f"full-chain accuracy per seed: {per_seed(accuracy)}", bool((accuracy < UNSOLVED).all()),
        )
    ]  # fmt: skip


def _claims_of(rows: pd.DataFrame, label: str) -> list[Claim]:
    temperatures, times = times_by(rows, "temperature")
    p = trend_test(times, temperatures, np.random.default_rng(0))
    greedy, numbers = (
        times[:, :1],
        "thousand episodes per seed: "
        + "; ".join(f"T={t:g}: {each_seed(column)}" for t, column in zip(temperatures, times.T, strict=True)),
    )
    return [
        Claim(
            f"the hotter the rollouts, the later {label} solves the task (Page's test, temperatures permuted within "
            f"seeds, p < {LEVEL:g})", "docs/theory.md §4.2; paper, Fig. 3", f"p ≥ {LEVEL:g}",
            f"p = {p:.2g}; {numbers}", p < LEVEL,
        ),
        Claim(
            f"no seed of {label} solves the task earlier with hotter rollouts than with greedy ones",
            "docs/theory.md §4.2", "one seed that solves it at an earlier evaluation at some T > 0, or never at T = 0",
            numbers, bool((greedy <= times[:, 1:]).all() and np.isfinite(greedy).all()),
        ),
    ]  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Curves of both methods by temperature, and episodes-to-solve against it."""
    figure = Figure(figsize=(TEXT_WIDTH, 2.95), layout="constrained")
    *panels, times = figure.subplots(1, 3)
    every = sorted(table.temperature.unique())
    colours = dict(zip(every, matplotlib.colormaps["plasma"](np.linspace(0, 0.88, len(every))), strict=True))
    for axes, method in zip(panels, ORDER, strict=True):
        draw_curves(
            axes, table[table.method == method], "temperature", colours.__getitem__,
            lambda t: f"T = {t:g}" + (" (greedy)" if t == 0 else ""),
        )  # fmt: skip
        axes.set_title(METHOD[method].label)
    panels[0].set_ylabel("full-chain accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=6)
    for i, method in enumerate(ORDER):
        chosen = table[table.method == method]
        draw_times(times, chosen, "temperature", look(method), METHOD[method].label, shift=0.012 * (2 * i - 1))
    times.set_xlabel("rollout temperature T (0: greedy)")
    times.legend(loc="lower right")
    row = next(table.itertuples())
    note(
        figure, f"p = {row.p}, m = {row.m}, η = {row.eta:g}; left: mean of {row.n_seeds:g} seeds, "
        f"band: ± 1 standard deviation;\nright: {interval_note(table)}, and each seed (△: not within the budget)",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_runs(
    "fig3",
    "rollout temperature of NAIL-F and NAIL-R, from greedy to sampled, at high noise",
    {
        "smoke": "18 runs, seconds on two cores",
        "cpu": "40 runs of 2,500 updates, 10 of them figure 2's; at the rate of figure 2 the others take 3 minutes",
        "laptop": "24 runs of 24,000 updates, 6 of them figure 2's; at its rate the others take 35 minutes",
        "paper": "60 runs of 46,875 updates, 10 of them figure 2's, an accelerator",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

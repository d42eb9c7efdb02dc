"""Figure 3: the temperature of the student's rollout, for NAIL-F and NAIL-R, from greedy (T = 0) to sampled (T = 1).

Paper, figure 3 (docs/paper.md §1.3), at high noise. T = 0 are runs of figure 2. At T = 1 NAIL-F is OPD-F, and NAIL-R
is OPD-R but for its auxiliary token, which is drawn afresh.
"""

import itertools
import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import TEXT_WIDTH, look, note
from nail.methods import METHOD
from nail.sweep.grid import grid
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    SEEDS,
    SOLVED,
    UNSOLVED,
    draw_curves,
    draw_times,
    figure_of_runs,
    final,
    in_words,
    per_seed,
    tabulate,
    to_solve,
)

ORDER = ("nail-f", "nail-r")
TEMPERATURES = {
    "smoke": (0.0, 0.4, 1.0),
    "cpu": (0.0, 0.2, 0.4, 1.0),
    "paper": (0.0, 0.1, 0.2, 0.3, 0.4, 1.0),
}


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Two methods × temperatures × three seeds; greedy is the methods' own, so that those runs are figure 2's."""
    temperatures = [temperature or None for temperature in TEMPERATURES[preset]]
    return grid(BASE[preset], method=ORDER, temperature=temperatures, seed=SEEDS)


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Curves of full-chain accuracy, and episodes-to-solve, for each method and temperature."""
    return tabulate(rows, ["method", "temperature", "p", "m", "eta"])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Greedy solves, sampling at T = 1 does not, and heat never helps."""
    return [claim for method in ORDER for claim in _claims_of(rows[rows.method == method], METHOD[method].label)]


def _claims_of(rows: pd.DataFrame, label: str) -> list[Claim]:
    every, chosen = zip(*rows.groupby("temperature"), strict=True)
    times = [to_solve(setting) for setting in chosen]
    cold, hot = final(chosen[0], "full_exact"), final(chosen[-1], "full_exact")
    ordered = all(a.value <= b.value for a, b in itertools.pairwise(times))
    return [
        Claim(
            f"{label} with greedy rollouts solves the task (full chain ≥ {SOLVED}, every seed)", "paper, Fig. 3",
            f"final full-chain accuracy per seed: {per_seed(cold)}", bool((cold >= SOLVED).all()),
        ),
        Claim(
            f"{label} with rollouts sampled at T = {every[-1]:g} does not (full chain < {UNSOLVED}, every seed)",
            "paper, Fig. 3", f"final full-chain accuracy per seed: {per_seed(hot)}", bool((hot < UNSOLVED).all()),
        ),
        Claim(
            f"a hotter rollout never makes {label} faster (medians of episodes-to-solve do not fall with T)",
            "docs/theory.md §4.2", "; ".join(f"T={t:g}: {in_words(x)}" for t, x in zip(every, times, strict=True)),
            ordered and times[0].value < math.inf,
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
        "band: ± 1 standard deviation; right: Kaplan–Meier median, and each seed (△: not within the budget)",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_runs(
    "fig3",
    "rollout temperature of NAIL-F and NAIL-R, from greedy to sampled, at high noise",
    {
        "smoke": "18 runs, seconds on two cores",
        "cpu": "24 runs of 2,500 updates, 6 of them figure 2's; the others take about 5 minutes on two cores",
        "paper": "36 runs of 46,875 updates, 6 of them figure 2's, an accelerator",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

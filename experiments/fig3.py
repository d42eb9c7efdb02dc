"""Figure 3: the temperature of the student's rollout, for NAIL-F and NAIL-R, from greedy (T = 0) to sampled (T = 1).

Paper, figure 3 (docs/paper.md), at high noise. T = 0 are runs of figure 2. At T = 1 NAIL-F is OPD-F, and NAIL-R
is OPD-R but for its auxiliary token, which is drawn afresh.
"""

import dataclasses
import itertools
import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import LOOK, TEXT_WIDTH, note
from nail.methods import METHOD
from nail.sweep.run import run_all
from nail.training.config import TrainConfig

from ._rows import select
from ._training import (
    BASE,
    SOLVED,
    UNSOLVED,
    curve_rows,
    draw_curves,
    draw_times,
    final,
    in_words,
    per_seed,
    seeds,
    solve_rows,
    thousands,
    to_solve,
)

METHODS = ("nail-f", "nail-r")
TEMPERATURES = {
    "smoke": (0.0, 0.4, 1.0),
    "cpu": (0.0, 0.2, 0.4, 1.0),
    "paper": (0.0, 0.1, 0.2, 0.3, 0.4, 1.0),
}


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Two methods × temperatures × three seeds; greedy is the methods' own, so that those runs are figure 2's."""
    settings = [
        dataclasses.replace(BASE[preset], method=method, temperature=temperature or None)
        for method in METHODS
        for temperature in TEMPERATURES[preset]
    ]
    return tuple(run for setting in settings for run in seeds(setting))


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all runs of a preset."""
    return run_all(runs(preset), out)


def analyse(rows: list[Row]) -> list[Row]:
    """Curves of full-chain accuracy, and episodes-to-solve, for each method and temperature."""
    table = []
    for method in METHODS:
        for temperature in temperatures(rows):
            chosen = select(rows, method=method, temperature=temperature)
            keys = {"method": method, "temperature": temperature, **{k: rows[0][k] for k in ("p", "m", "eta")}}
            table += curve_rows(chosen, "full_exact", **keys) + solve_rows(chosen, **keys)
    return table


def temperatures(rows: list[Row]) -> list[float]:
    """The temperatures of the figure, greedy first."""
    return sorted({float(row["temperature"]) for row in rows})


def claims(rows: list[Row]) -> list[Claim]:
    """Greedy solves, sampling at T = 1 does not, and heat never helps."""
    return [claim for method in METHODS for claim in _claims_of(select(rows, method=method), METHOD[method].label)]


def _claims_of(rows: list[Row], label: str) -> list[Claim]:
    every = temperatures(rows)
    times = [to_solve(select(rows, temperature=t)) for t in every]
    cold, hot = (final(select(rows, temperature=t), "full_exact") for t in (every[0], every[-1]))
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
            "docs/theory.md §3", "; ".join(f"T={t:g}: {in_words(x)}" for t, x in zip(every, times, strict=True)),
            ordered and times[0].value < math.inf,
        ),
    ]  # fmt: skip


def draw(table: list[Row]) -> Figure:
    """Curves of both methods by temperature, and episodes-to-solve against it."""
    figure = Figure(figsize=(TEXT_WIDTH, 2.95), layout="constrained")
    *panels, times = figure.subplots(1, 3)
    every = temperatures(table)
    colours = matplotlib.colormaps["plasma"](np.linspace(0, 0.88, len(every)))
    for axes, method in zip(panels, METHODS, strict=True):
        draw_curves(
            axes, select(table, method=method, kind="curve"), "temperature", lambda t: colours[every.index(t)],
            lambda t: f"T = {t:g}" + (" (greedy)" if t == 0 else ""),
        )  # fmt: skip
        axes.set_title(METHOD[method].label)
    panels[0].set_ylabel("full-chain accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=6)
    for i, method in enumerate(METHODS):
        chosen = [row for row in select(table, method=method) if row["kind"] != "curve"]
        draw_times(times, chosen, "temperature", LOOK[method], METHOD[method].label, shift=0.012 * (2 * i - 1))
    times.set_title(f"episodes until accuracy ≥ {SOLVED}")
    times.set_xlabel("rollout temperature T (0: greedy)")
    times.set_ylabel("trajectories (thousands)")
    times.set_ylim(bottom=0)
    thousands(times, "y")
    times.legend(loc="lower right")
    first = next(row for row in table if row["kind"] == "curve")
    setting = f"p = {first['p']}, m = {first['m']}, η = {float(first['eta']):g}"
    note(
        figure, f"{setting}; left: mean of {first['n_seeds']} seeds, "
        "band: ± 1 standard deviation; right: Kaplan–Meier median, and each seed (△: not within the budget)",
    )  # fmt: skip
    return figure


EXPERIMENT = Experiment(
    name="fig3",
    summary="rollout temperature of NAIL-F and NAIL-R, from greedy to sampled, at high noise",
    cost={
        "smoke": "18 runs, seconds on two cores",
        "cpu": "24 runs of 2,500 updates, 6 of them figure 2's; the others take about 5 minutes on two cores",
        "paper": "36 runs of 46,875 updates, 6 of them figure 2's, an accelerator",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
    runs=runs,
)

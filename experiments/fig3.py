"""Figure 3: the temperature of the student's rollout, for NAIL-F and NAIL-R, from greedy (T = 0) to sampled (T = 1).

Paper, figure 3 (docs/paper.md §1.3), at high noise. T = 0 are runs of figure 2, which claims that they solve the task.
At T = 1 NAIL-F is OPD-F, number by number, of which figure 2 claims that it does not; NAIL-R is OPD-R but for its
auxiliary token, which is drawn afresh.
"""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nail.checks import require_known
from nail.figures.claims import every, judged
from nail.figures.experiment import Claim
from nail.figures.own import RunGrid, chosen
from nail.figures.plotting import TEXT_WIDTH, look, note
from nail.stats import trend_test
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    LEVEL,
    SEEDS,
    UNSOLVED,
    decidable,
    draw_curves,
    draw_times,
    each_seed,
    enough_seeds,
    figure_of_runs,
    high_noise,
    interval_note,
    label_of,
    late,
    learnable,
    of_seeds,
    per_seed,
    tabulate,
    there,
    times_by,
    unsolved_ties,
)

ORDER = ("nail-f", "nail-r")
TEMPERATURES = {
    "smoke": (0.0, 0.4, 1.0),
    "cpu": (0.0, 0.2, 0.4, 1.0),
    "laptop": (0.0, 0.2, 0.4, 1.0),
    "paper": (0.0, 0.1, 0.2, 0.3, 0.4, 1.0),
}


SIZES = {
    preset: RunGrid(base, SEEDS[preset], {"method": ORDER, "temperature": TEMPERATURES[preset]})
    for preset, base in BASE.items()
}


def runs(size: str | RunGrid) -> tuple[TrainConfig, ...]:
    """Two methods × temperatures × the seeds; greedy is the methods' own, so that those runs are figure 2's."""
    size = chosen(SIZES, size)
    for method in size.axes["method"]:
        require_known("method of fig3", method, ORDER)
    temperatures = tuple(temperature or None for temperature in size.axes["temperature"])
    return size._replace(axes={**size.axes, "temperature": temperatures}).runs()


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Curves of full-chain accuracy, and episodes-to-solve, for each method and temperature."""
    return tabulate(rows, ["method", "temperature", "p", "m", "eta"])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Heat slows down, and never helps; a run that does not solve the task ties with the others that do not, at the
    top."""
    sampled, can = rows[(rows.method == "nail-r") & (rows.temperature == 1)], learnable(rows)

    def measure() -> tuple[str, bool]:
        accuracy = late(sampled, "full_exact")
        return f"full-chain accuracy per seed: {per_seed(accuracy)}", bool((accuracy < UNSOLVED).all())

    return [claim for method in ORDER for claim in _claims_of(rows[rows.method == method], label_of(method), can)] + [
        judged(
            f"NAIL-R with rollouts sampled at T = 1 does not solve the task (full chain < {UNSOLVED}, every seed)",
            "paper, Fig. 3", f"one seed at {UNSOLVED} or more over the last quarter (median of its evaluations)",
            {**there(sampled, "NAIL-R at T = 1"), **enough_seeds(sampled), **high_noise(rows), **can}, measure,
        )
    ]  # fmt: skip


def _claims_of(rows: pd.DataFrame, label: str, can: dict[str, bool]) -> list[Claim]:
    needs, settings = {**there(rows, label), **high_noise(rows), **can}, rows.temperature.nunique()
    both = {f"{label} at T = 0 and at a T > 0": bool((rows.temperature == 0).any() and (rows.temperature > 0).any())}

    def measured() -> tuple[np.ndarray, np.ndarray, str]:
        temperatures, times = times_by(rows, "temperature")
        each = (f"T={t:g}: {each_seed(column)}" for t, column in zip(temperatures, times.T, strict=True))
        return temperatures, times, "thousand episodes per seed: " + "; ".join(each)

    def later() -> tuple[str, bool]:
        temperatures, times, numbers = measured()
        p = trend_test(times, temperatures, np.random.default_rng(0))
        return f"p = {p:.2g}; {numbers}", p < LEVEL

    def none_earlier() -> tuple[str, bool | None]:
        _, times, numbers = measured()
        return numbers, every(*(None if np.isinf(each).all() else bool(each[0] <= each.min()) for each in times))

    def ties() -> int:
        return unsolved_ties(times_by(rows, "temperature")[1]) if len(rows) else 1

    return [
        judged(
            f"the hotter the rollouts, the later {label} solves the task (Page's test, temperatures permuted within "
            f"seeds, p < {LEVEL:g})", "docs/theory.md §4.2; paper, Fig. 3",
            f"p ≥ {LEVEL:g}, where temperatures that a seed does not solve tie as the latest",
            {**needs, **decidable(rows.seed.nunique(), settings, ties())}, later,
        ),
        judged(
            f"no seed of {label} solves the task earlier with hotter rollouts than with greedy ones",
            "docs/theory.md §4.2",
            "one seed that solves it at an earlier evaluation at some T > 0, or only there (a seed that never solves "
            "it decides nothing)",
            {**needs, **both, **enough_seeds(rows)}, none_earlier,
        ),
    ]  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Curves of both methods by temperature, and episodes-to-solve against it."""
    methods = list(table.method.unique())
    figure = Figure(figsize=(TEXT_WIDTH, 2.95), layout="constrained")
    *panels, times = figure.subplots(1, 1 + len(methods))
    every = sorted(table.temperature.unique())
    colours = dict(zip(every, matplotlib.colormaps["plasma"](np.linspace(0, 0.88, len(every))), strict=True))
    for axes, method in zip(panels, methods, strict=True):
        draw_curves(
            axes, table[table.method == method], "temperature", colours.__getitem__,
            lambda t: f"T = {t:g}" + (" (greedy)" if t == 0 else ""),
        )  # fmt: skip
        axes.set_title(label_of(method))
    panels[0].set_ylabel("full-chain accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=6)
    for i, method in enumerate(methods):
        points = table[table.method == method]
        draw_times(times, points, "temperature", look(method), label_of(method), shift=0.012 * (2 * i - 1))
    times.set_xlabel("rollout temperature T (0: greedy)")
    times.legend(loc="lower right")
    row = next(table.itertuples())
    note(
        figure, f"p = {row.p}, m = {row.m}, η = {row.eta:g}; left: {of_seeds(row.n_seeds)};\n"
        f"right: {interval_note(table)}, and each seed (△: not within the budget)",
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
    runs, analyse, claims, draw, SIZES,
)  # fmt: skip

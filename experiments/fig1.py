"""Figure 1: the three ways to learn from a noisy expert, who drives and who labels, and what comes of each.

Paper, figure 1 (docs/paper.md §1.3): offline behaviour cloning, on-policy distillation with sampled rollouts, and NAIL
with greedy ones. The curves are runs of figure 2 at high noise; in one output folder they are computed once.
"""

import itertools

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from nail.checks import require_known
from nail.figures.claims import judged
from nail.figures.experiment import Claim
from nail.figures.own import RunGrid, chosen
from nail.figures.plotting import TEXT_WIDTH, curve, handle, look, note
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    SEEDS,
    accuracy_axes,
    enough_seeds,
    figure_of_runs,
    high_noise,
    label_of,
    learnable,
    of_seeds,
    over_seeds,
    per_seed,
    tabulate,
)

SCHEMES = {
    "loglossbc": ("Offline behaviour cloning", "noisy expert", "drives and labels"),
    "opd-f": ("On-policy distillation", "student, sampled", "drives"),
    "nail-f": ("NAIL", "student, greedy", "drives"),
}
"""method → title, who drives, what that one does"""


SIZES = {preset: RunGrid(base, SEEDS[preset], {"method": tuple(SCHEMES)}) for preset, base in BASE.items()}


def runs(size: str | RunGrid) -> tuple[TrainConfig, ...]:
    """Three methods at high noise, with the seeds of figure 2."""
    size = chosen(SIZES, size)
    for method in size.axes["method"]:
        require_known("method of fig1", method, SCHEMES)
    return size.runs()


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Full-chain accuracy: mean and standard deviation over seeds at each evaluation."""
    return tabulate(rows, ["method", "p", "m", "eta"], times=False)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """NAIL against the other two over all of training; who has solved the task at its end is claimed by figure 2."""
    needs = {f"runs of {label_of(method)}": bool((rows.method == method).any()) for method in SCHEMES}

    def measure() -> tuple[str, bool]:
        mean = {method: over_seeds(rows[rows.method == method], "full_exact").mean().to_numpy() for method in SCHEMES}
        nail = mean["nail-f"]
        numbers = "; ".join(f"{label_of(method)} {per_seed(values)}" for method, values in mean.items())
        chance = f"; by chance, if methods were alike: at most {len(mean) ** -len(nail):.2g}"
        return numbers + chance, bool(nail.min() > max(mean["loglossbc"].max(), mean["opd-f"].max()))

    return [
        judged(
            "over the whole of training every seed of NAIL-F is above every seed of offline cloning and of on-policy "
            "distillation (full-chain accuracy, mean over evaluations)", "paper, Fig. 1",
            "one seed of LogLossBC or OPD-F whose mean is not below that of every seed of NAIL-F",
            {**needs, **enough_seeds(rows), **high_noise(rows), **learnable(rows)}, measure,
        )
    ]  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Three schemes above, their curves below."""
    figure, methods = Figure(figsize=(TEXT_WIDTH, 4.3), layout="constrained"), list(table.method.unique())
    panels = figure.subplot_mosaic([methods, ["curves"] * len(methods)], height_ratios=[1, 1.25])
    for method in methods:
        _scheme(panels[method], method)
    axes = panels["curves"]
    for method in methods:
        curve(axes, method, table[table.method == method], clip=(0.0, 1.0))
    accuracy_axes(axes)
    axes.set_ylabel("full-chain accuracy")
    axes.legend(handles=[handle(method, label_of(method)) for method in methods], loc="center right")
    row = next(table.itertuples())
    q = 1 - row.eta + row.eta / row.p
    note(
        figure, f"modular addition, p = {row.p}, m = {row.m}, η = {row.eta:g}, $q^m$ = {q**row.m:.2g}; "
        f"{of_seeds(row.n_seeds)}",
    )  # fmt: skip
    return figure


def _scheme(axes: Axes, method: str) -> None:
    """Who drives the episode, who labels it, and what it ends in."""
    title, driver, does = SCHEMES[method]
    colour = look(method).colour
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_title(title, color=colour, fontweight="bold")
    _box(axes, (0.5, 0.84), driver, colour)
    offline = method == "loglossbc"
    states = (0.14, 0.38, 0.62, 0.86)
    for x in states:
        axes.plot(x, 0.5, "o", color="white", markeredgecolor="#333333", markersize=11)
    for i, (a, b) in enumerate(itertools.pairwise(states)):
        axes.text(a, 0.5, f"$s_{i + 1}$", ha="center", va="center", fontsize=7)
        _arrow(axes, (a + 0.06, 0.5), (b - 0.06, 0.5), colour)
    axes.text(states[-1], 0.5, "$s_H$", ha="center", va="center", fontsize=7)
    _arrow(axes, (0.5, 0.75), (0.5, 0.54), colour)
    axes.text(0.53, 0.65, does, fontsize=7, color=colour, va="center")
    if offline:
        axes.text(0.5, 0.2, "a wrong label is fed back:\nthe chain is poisoned from there on",
                  ha="center", va="center", fontsize=7, color="#444444")  # fmt: skip
        return
    _box(axes, (0.5, 0.14), "noisy expert", look("loglossbc").colour)
    for x in states:
        _arrow(axes, (0.5 + (x - 0.5) * 0.55, 0.235), (x, 0.43), "#777777", dashed=True)
    axes.text(0.97, 0.3, "labels", fontsize=7, color="#444444", va="center", ha="right")


def _box(axes: Axes, at: tuple[float, float], text: str, colour: str) -> None:
    style = {"boxstyle": "round,pad=0.012,rounding_size=0.03", "linewidth": 1.1}
    patch = FancyBboxPatch((at[0] - 0.26, at[1] - 0.08), 0.52, 0.16, facecolor="white", edgecolor=colour, **style)
    axes.add_patch(patch)
    axes.text(*at, text, ha="center", va="center", fontsize=7.5, color=colour)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, dashed: bool = False) -> None:
    line = {"linestyle": (0, (3, 2)), "linewidth": 0.8} if dashed else {"linewidth": 1.2}
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, color=colour, **line))


EXPERIMENT = figure_of_runs(
    "fig1",
    "the three ways to learn from a noisy expert: who drives, who labels, what comes of it",
    {
        "smoke": "9 runs of figure 2, seconds on two cores",
        "cpu": "15 runs of figure 2 (none of its own in the same folder)",
        "laptop": "9 runs of figure 2",
        "paper": "15 runs of figure 2, an accelerator",
    },
    runs, analyse, claims, draw, SIZES,
)  # fmt: skip

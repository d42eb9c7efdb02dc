"""Figure 4: chain length m × corruption rate η: episodes until each method solves the task.

Paper, figure 4 (docs/paper.md §1.3). Contours are the chance q^m that an expert's trajectory is clean to its end,
q = 1 − η + η/p (docs/theory.md §3.3): what offline learning depends on.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from nail.figures.claims import every, judged
from nail.figures.experiment import Claim
from nail.figures.own import RunGrid, chosen
from nail.figures.plotting import TEXT_WIDTH, note
from nail.stats import median_interval, trend_test
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    LEVEL,
    RARE,
    SEEDS,
    SOLVED,
    UNSOLVED,
    clean_chance,
    decides,
    enough_seeds,
    figure_of_runs,
    in_words,
    label_of,
    late,
    per_seed,
    solved_cells,
    tabulate,
    there,
    thousands,
    times_to_solve,
)

ORDER = ("loglossbc", "opd-f", "nail-f")
GRID = {
    "smoke": ((3, 4), (0.0, 0.5)),
    "cpu": ((4, 7, 10), (0.0, 0.25, 0.5)),
    "laptop": ((3, 15, 31), (0.0, 0.1, 0.2)),
    "paper": ((3, 9, 15, 23, 31), (0.0, 0.05, 0.1, 0.15, 0.2)),
}
"""preset → chain lengths m, corruption rates η"""
SIZES = {
    preset: RunGrid(BASE[preset], SEEDS[preset], {"method": ORDER, "m": lengths, "eta": etas})
    for preset, (lengths, etas) in GRID.items()
}
CONTOURS = (0.5, RARE, 0.01, 0.001)


def runs(size: str | RunGrid) -> tuple[TrainConfig, ...]:
    """Three methods × chain lengths × corruption rates × the seeds."""
    return chosen(SIZES, size).runs()


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Episodes-to-solve of each seed and their median with its interval, for each method, m and η."""
    rows = rows.assign(clean_chance=list(map(clean_chance, rows.p, rows.m, rows.eta)))
    return tabulate(rows, ["method", "m", "eta", "p", "clean_chance"], metrics=())


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Where each method solves the task, beside the chance of a clean trajectory."""
    of = {method: dict(iter(rows[rows.method == method].groupby(["m", "eta"]))) for method in ORDER}
    solved, seeds = solved_cells(rows), enough_seeds(rows)
    nail = there(rows[rows.method == "nail-f"], label_of("nail-f"))

    def measure() -> tuple[str, bool | None]:
        lowest = {cell: late(runs, "full_exact").min() for cell, runs in of["nail-f"].items()}
        numbers = _in_cells({cell: f"{x:.3g}" for cell, x in lowest.items()})
        verdict = every(*(bool(x >= SOLVED) if solved[cell] else None for cell, x in lowest.items()))
        return f"full-chain accuracy, lowest seed: {numbers}{_unsolved(lowest, solved)}", verdict

    solves = judged(
        f"NAIL-F solves every cell (full chain ≥ {SOLVED}, every seed)", "paper, Fig. 4",
        f"one seed below {SOLVED} over the last quarter (median of its evaluations), in a cell that some run solves",
        {**nail, **seeds, **_solvable(list(of["nail-f"]), solved)}, measure,
    )  # fmt: skip
    chance = {cell: clean_chance(rows.p.iloc[0], *cell) for cells in of.values() for cell in cells}
    fail = [_fails(method, of, chance, solved, seeds) for method in ("loglossbc", "opd-f")]
    return [solves, *itertools.chain(*fail)]


def _solvable(cells: list, solved: dict) -> dict[str, bool]:
    """The need of a claim about all of some cells: a cell that nothing solves says no more than that the budget or the
    network is too small there."""
    need = f"a run that solves the task (full chain ≥ {SOLVED}) in every cell meant, or in one that refutes the claim"
    return {need: any(solved[cell] for cell in cells)}


def _unsolved(cells: Iterable, solved: dict) -> str:
    """In words, the cells that decide nothing."""
    found = ", ".join(f"m={m}, η={eta:g}" for m, eta in cells if not solved[m, eta])
    return f"; decides nothing, as no run solves it: {found}" if found else ""


def _fails(method: str, of: dict[str, dict], chance: dict, solved: dict, seeds: dict[str, bool]) -> list[Claim]:
    """A method that depends on clean trajectories; NAIL-F's time stands for what a chain of length m takes to learn,
    and where its median seed does not solve the task in the budget there is no such time."""
    cells, label = of[method], label_of(method)
    nail = {cell: median_interval(times_to_solve(runs)).value for cell, runs in of["nail-f"].items()}
    found = {cell: median_interval(times_to_solve(runs)) for cell, runs in cells.items()}
    ranked = sorted((cell for cell in cells if nail.get(cell, math.inf) < math.inf), key=lambda cell: -chance[cell])
    source = f"docs/theory.md {'§4.1' if method == 'loglossbc' else '§4.2'}; paper, Fig. 4"
    rare = [cell for cell in cells if chance[cell] < RARE]

    def none_solved() -> tuple[str, bool | None]:
        accuracy = {cell: late(cells[cell], "full_exact") for cell in rare}
        numbers = _in_cells({cell: per_seed(x) for cell, x in accuracy.items()})
        verdict = every(*(bool((x < UNSOLVED).all()) if solved[cell] else None for cell, x in accuracy.items()))
        return f"full-chain accuracy per seed: {numbers}{_unsolved(rare, solved)}", verdict

    def slower() -> tuple[str, bool]:
        kept, level = [cell for cell in cells if cell in ranked], next(iter(found.values())).level
        ratio = [found[cell].value / nail[cell] for cell in kept]
        p = trend_test(np.array([ratio]), -np.array([chance[cell] for cell in kept]), np.random.default_rng(0))
        times = _in_cells({cell: in_words(found[cell]) for cell in kept})
        left = ", ".join(f"m={m}, η={eta:g}" for m, eta in cells if (m, eta) not in ranked)
        numbers = f"{label}, thousand episodes, median [{100 * level:.4g} % interval]: {times}"
        return f"p = {p:.2g}; {numbers}{f'; left out: {left}' if left else ''}", p < LEVEL

    never = sum(math.isinf(found[cell].value) for cell in ranked)
    return [
        judged(
            f"{label} does not solve any cell where a clean trajectory is rarer than {RARE:g} (full chain < "
            f"{UNSOLVED}, every seed)", source,
            f"one seed at {UNSOLVED} or more over the last quarter (median of its evaluations), in such a cell that "
            "some run solves",
            {f"{label} in such a cell": bool(rare), **seeds, **_solvable(rare, solved)}, none_solved,
        ),
        judged(
            f"the rarer clean trajectories are, the more episodes {label} takes relative to NAIL-F (rank correlation "
            f"of q^m and the ratio of medians, cells permuted, one-sided p < {LEVEL:g})", source,
            f"p ≥ {LEVEL:g}, where cells that the median seed of {label} does not solve tie at the largest ratio, and "
            "cells that the median seed of NAIL-F does not solve are left out",
            {f"{label} in cells that the median seed of NAIL-F solves, enough for a p value below {LEVEL:g} with the "
             f"ties of q^m and of cells that {label} does not solve":
             decides(1, len(ranked), _alike([chance[cell] for cell in ranked], never)), **seeds}, slower,
        ),
    ]  # fmt: skip


def _alike(chances: list[float], never: int) -> int:
    """Of the orders of cells, how many have the largest rank correlation that there can be: `chances` descend and may
    tie, and the `never` largest ratios, those of cells that are not solved, do."""
    orders = lambda values: math.prod(map(math.factorial, Counter(values).values()))  # noqa: E731
    return orders(chances) * math.factorial(never) // orders(chances[len(chances) - never :])


def _in_cells(found: dict[tuple[float, float], str]) -> str:
    return "; ".join(f"m={m}, η={eta:g}: {text}" for (m, eta), text in found.items())


def draw(table: pd.DataFrame) -> Figure:
    """A heat map a method: m across, η upwards, the median in each cell, contours of q^m."""
    methods = list(table.method.unique())
    figure = Figure(figsize=(TEXT_WIDTH * max(1, len(methods) / 3), 2.7), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    medians = table[table.kind == "median"]
    solved = medians.episodes[medians.censored == 0]
    ends = min(solved, default=1.0), medians.episodes.max()
    norm = LogNorm(ends[0] / (2 if ends[0] == ends[1] else 1), ends[1])
    for axes, method in zip(panels, methods, strict=True):
        mesh = _map(axes, medians[medians.method == method], norm)
        axes.set_title(label_of(method))
        axes.set_xlabel("chain length m")
    panels[0].set_ylabel("corruption rate η")
    bar = figure.colorbar(mesh, ax=panels, pad=0.01, aspect=25)
    bar.set_label("trajectories until solved (thousands)")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 4, 7)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    thousands(bar.ax, "y")
    note(
        figure, f"p = {table.p[0]}; cells: median of {medians.n_seeds.iloc[0]:g} seeds, in thousands; "
        "hatched: not within the budget for half of the seeds; lines: chance $q^m$ of a clean expert trajectory",
    )  # fmt: skip
    return figure


def _edges(centres: np.ndarray) -> np.ndarray:
    """Cell borders: midpoints, and as far out at the ends; of a single cell, half its value (or 0.1) away."""
    if len(centres) == 1:
        return centres + np.array([-0.5, 0.5]) * (centres[0] or 0.2)
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _map(axes: Axes, medians: pd.DataFrame, norm: LogNorm):
    cells = medians.pivot(index="eta", columns="m", values=["episodes", "censored"])
    values, never = cells["episodes"].to_numpy(), cells["censored"].to_numpy() == 1
    etas, lengths = cells.index.to_numpy(), cells["episodes"].columns.to_numpy()
    x, y = _edges(lengths), _edges(etas)
    mesh = axes.pcolormesh(x, y, np.where(never, np.nan, values), cmap="YlGnBu", norm=norm, edgecolors="white")
    blank = np.where(never, 1.0, np.nan)
    axes.pcolor(x, y, blank, cmap="Greys", vmin=0, vmax=8, hatch="////", edgecolor="#bbbbbb", linewidth=0)
    plate = {"boxstyle": "round,pad=0.15", "facecolor": "white", "linewidth": 0}
    for (i, j), value in np.ndenumerate(values):
        dark = not never[i, j] and norm(value) > 0.6
        axes.text(
            lengths[j], etas[i], f"{'> ' if never[i, j] else ''}{value / 1000:.3g}", ha="center", va="center",
            fontsize=7.5, color="white" if dark else "#222222", bbox=plate if never[i, j] else None,
        )  # fmt: skip
    p = medians.p.iloc[0]
    fine = np.meshgrid(np.linspace(x[0], x[-1], 100), np.clip(np.linspace(y[0], y[-1], 100), 0, None))
    chance = clean_chance(p, *fine)
    if any(chance.min() < level < chance.max() for level in CONTOURS):
        lines = axes.contour(*fine, chance, levels=sorted(CONTOURS), colors="#D55E00", linewidths=0.9)
        places = [place for level in lines.levels if (place := _on_a_border(x, y, p, level))]
        axes.clabel(lines, fmt=lambda level: f"$q^m$ = {level:g}", fontsize=7, manual=places)
    axes.set_xticks(lengths, [f"{m:g}" for m in lengths])
    axes.set_yticks(etas, [f"{eta:g}" for eta in etas])
    axes.grid(False)
    return mesh


def _on_a_border(x: np.ndarray, y: np.ndarray, p: int, level: float) -> tuple[float, float] | None:
    """Where the contour q^m = level crosses a border between columns, away from the edges of the map."""
    margin = 0.06 * (y[-1] - y[0])
    for m in x[1:-1]:
        eta = (1 - level ** (1 / m)) / (1 - 1 / p)
        if y[0] + margin < eta < y[-1] - margin:
            return m, eta
    return None


EXPERIMENT = figure_of_runs(
    "fig4",
    "episodes-to-solve over chain length m × corruption rate η, with contours of q^m",
    {
        "smoke": "36 runs of 40 updates, seconds on two cores",
        "cpu": "135 runs of 2,500 updates, 30 of them figure 2's; at figure 2's rate the others take 10 minutes",
        "laptop": "81 runs of 24,000 updates, 18 of them figure 2's; two hours at its rate, less where m is smaller",
        "paper": "375 runs of 46,875 updates, an accelerator",
    },
    runs, analyse, claims, draw, SIZES,
)  # fmt: skip

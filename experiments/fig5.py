"""Figure 5: NAIL-β, from the forward to the reverse KL, without noise and at high noise.

Paper, figure 5 (docs/paper.md §1.3): every mixture solves the task in both regimes; how fast depends strongly on β. The
ends are runs of figure 2, which claims that they solve the task: NAIL-β with β = 0 is NAIL-F and with β = 1 NAIL-R,
update by update.
"""

import itertools
import math

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from nail.figures.claims import judged
from nail.figures.experiment import Claim
from nail.figures.own import RunGrid, chosen
from nail.figures.plotting import CASES, TEXT_WIDTH, Look, note
from nail.stats import Median, difference_test, median_interval
from nail.sweep.grid import grid
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    LEVEL,
    SEEDS,
    SOLVED,
    decidable,
    draw_curves,
    draw_times,
    each_seed,
    enough_seeds,
    figure_of_runs,
    interval_note,
    late,
    learnable,
    of_seeds,
    tabulate,
    times_by,
    unsolved_ties,
)

BETAS = {
    "smoke": (0.5,),
    "cpu": (0.25, 0.5, 0.75),
    "laptop": (0.25, 0.5, 0.75),
    "paper": (0.1, 0.25, 0.5, 0.75, 0.9),
}
"""mixtures between the ends"""
ENDS = {"nail-f": 0.0, "nail-r": 1.0}
STRONG = 2.0
"""ratio of the time of the reverse KL to that of the forward KL from which on speed depends strongly on β"""
REGIMES = (Look("#0072B2", "o"), Look("#D55E00", "s"))
"""without noise, at high noise; of more levels the others are `CASES`"""
SIZES = {
    preset: RunGrid(base, SEEDS[preset], {"eta": (0.0, base.eta), "beta": (0.0, *BETAS[preset], 1.0)})
    for preset, base in BASE.items()
}


def runs(size: str | RunGrid) -> tuple[TrainConfig, ...]:
    """Noise levels × (NAIL-F, mixtures, NAIL-R) × the seeds."""
    (base, seeds, axes), found = chosen(SIZES, size), []
    ends = [method for method, beta in ENDS.items() if beta in axes["beta"]]
    between = [beta for beta in axes["beta"] if beta not in ENDS.values()]
    for eta in axes["eta"]:
        found += grid(base, eta=(eta,), method=ends, seed=seeds) if ends else ()
        found += grid(base, eta=(eta,), method=("nail-beta",), beta=between, seed=seeds) if between else ()
    return tuple(found)


def with_beta(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows, sorted by η and β, whose column `beta` is the weight of the reverse KL that the method has: 0 and 1 at the
    ends."""
    return rows.assign(beta=rows.method.map(ENDS).fillna(rows.beta)).sort_values(["eta", "beta"], kind="stable")


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Curves of full-chain accuracy, and episodes-to-solve, for each noise level and β."""
    return tabulate(with_beta(rows), ["eta", "beta", "p", "m"])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Every mixture solves the task; speed depends on β."""
    return [claim for eta, level in with_beta(rows).groupby("eta") for claim in _claims_at(level, eta)]


def _claims_at(rows: pd.DataFrame, eta: float) -> list[Claim]:
    mixed, betas = rows[rows.method == "nail-beta"], rows.beta.nunique()
    both = {**enough_seeds(rows), **learnable(rows)}

    def solved() -> tuple[str, bool]:
        lowest = {beta: late(runs, "full_exact").min() for beta, runs in mixed.groupby("beta")}
        numbers = "; ".join(f"β={beta:g}: {x:.3g}" for beta, x in lowest.items())
        return f"lowest seed: {numbers}", all(x >= SOLVED for x in lowest.values())

    def depends() -> tuple[str, bool]:
        values, times = times_by(rows, "beta")
        p = difference_test(times, np.random.default_rng(0))
        each = (f"β={beta:g}: {each_seed(column)}" for beta, column in zip(values, times.T, strict=True))
        return f"p = {p:.2g}; thousand episodes per seed: " + "; ".join(each), p < LEVEL

    def strong() -> tuple[str, bool | None]:
        least, most, never = _ratios(times_by(rows, "beta")[1], np.unique(rows.episodes))
        interval = f"{100 * least.level:.4g} % interval [{least.low:.3g}, {most.high:.3g}]"
        open_ended = least.low < STRONG <= never.low
        return f"ratio {least.value:.3g} to {most.value:.3g}, {interval}", None if open_ended else least.low >= STRONG

    return [
        judged(
            f"η={eta:g}: every mixture between the ends solves the task (full chain ≥ {SOLVED}, every seed)",
            "paper, Fig. 5", f"one seed at one β below {SOLVED} over the last quarter (median of its evaluations)",
            {"a β between 0 and 1": len(mixed) > 0, **both}, solved,
        ),
        judged(
            f"η={eta:g}: speed depends on β (Friedman's test, β permuted within seeds, p < {LEVEL:g})",
            "paper, Fig. 5", f"p ≥ {LEVEL:g}, where values of β that a seed does not solve tie as the latest",
            {**decidable(rows.seed.nunique(), betas, alike(times_by(rows, "beta")[1])), **both}, depends,
        ),
        judged(
            f"η={eta:g}: the dependence is strong (the reverse KL takes at least {STRONG:g} times as long as the "
            "forward KL)", "paper, Fig. 5",
            f"an interval of the median ratio (order statistics, within seeds) that reaches below {STRONG:g}; a seed "
            "solves the task at the earliest just after the evaluation before, or after the budget: if the interval "
            f"reaches below {STRONG:g} only by seeds that the reverse KL does not solve, this is undecided",
            {"β = 0 and β = 1": set(ENDS.values()) <= set(rows.beta), **both}, strong,
        ),
    ]  # fmt: skip


def alike(times: Float[np.ndarray, "seeds betas"]) -> int:
    """Of the orders of β within seeds, how many have the largest statistic of Friedman's test that there can be: all
    seeds agree on an order, whichever, but for what they do not solve."""
    first = np.isinf(times).sum(1).min()
    return math.factorial(times.shape[1]) // math.factorial(int(first)) * unsolved_ties(times)


def _ratios(
    times: Float[np.ndarray, "seeds betas"], evaluated: Float[np.ndarray, " evaluations"]
) -> tuple[Median, Median, Median]:
    """Median over seeds of the time of the reverse KL over that of the forward KL, at the least and at the most, and at
    the least where the reverse KL never solves what it does not in the budget.

    A time is known up to the distance between evaluations, and one beyond the budget is only known to be longer.
    """
    between, budget = np.diff(evaluated).max(), evaluated[-1]
    forward, reverse = times[:, 0], times[:, -1]
    earliest = np.where(np.isinf(times), budget, np.maximum(times - between, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = earliest[:, -1] / forward, reverse / earliest[:, 0]
    least, most = (np.nan_to_num(x, nan=fill, posinf=np.inf) for x, fill in zip(ends, (0.0, np.inf), strict=True))
    return median_interval(least), median_interval(most), median_interval(np.where(np.isinf(reverse), np.inf, least))


def draw(table: pd.DataFrame) -> Figure:
    """Curves of each noise level by β, and episodes-to-solve against β."""
    levels = table.groupby("eta")
    figure = Figure(figsize=(TEXT_WIDTH * max(1, (1 + len(levels)) / 3), 2.95), layout="constrained")
    *panels, times = figure.subplots(1, 1 + len(levels))
    colours = matplotlib.colormaps["viridis"]
    looks = itertools.cycle((*REGIMES, *CASES))
    for i, (axes, look, (eta, level)) in enumerate(zip(panels, looks, levels, strict=False)):
        draw_curves(
            axes, level, "beta", lambda beta: colours(0.9 * beta),
            lambda beta: f"β = {beta:g}" + {0.0: " (NAIL-F)", 1.0: " (NAIL-R)"}.get(beta, ""),
        )  # fmt: skip
        axes.set_title(f"η = {eta:g}")
        draw_times(times, level, "beta", look, f"η = {eta:g}", shift=0.012 * (2 * i - 1))
    panels[0].set_ylabel("full-chain accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=7)
    times.set_xlabel("β (0: forward, 1: reverse KL)")
    times.legend(loc="lower right")
    row = next(table.itertuples())
    note(
        figure, f"p = {row.p}, m = {row.m}; left: {of_seeds(row.n_seeds)};\n"
        f"right: {interval_note(table)}, and each seed (△: not within the budget)",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_runs(
    "fig5",
    "NAIL-β from forward to reverse KL, without noise and at high noise",
    {
        "smoke": "18 runs, seconds on two cores",
        "cpu": "50 runs of 2,500 updates, 20 of them figure 2's; at the rate of figure 2 the others take 3 minutes",
        "laptop": "30 runs of 24,000 updates, 12 of them figure 2's; at its rate the others take 35 minutes",
        "paper": "70 runs of 46,875 updates, 20 of them figure 2's, an accelerator",
    },
    runs, analyse, claims, draw, SIZES,
)  # fmt: skip

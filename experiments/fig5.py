"""Figure 5: NAIL-β, from the forward to the reverse KL, without noise and at high noise.

Paper, figure 5 (docs/paper.md §1.3): every mixture solves the task in both regimes; how fast depends strongly on β. The
ends are runs of figure 2: NAIL-β with β = 0 is NAIL-F and with β = 1 NAIL-R, update by update.
"""

import math

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import TEXT_WIDTH, Look, note
from nail.sweep.grid import grid
from nail.training.config import TrainConfig

from ._training import BASE, SEEDS, SOLVED, draw_curves, draw_times, figure_of_runs, final, in_words, tabulate, to_solve

BETAS = {"smoke": (0.5,), "cpu": (0.25, 0.5, 0.75), "paper": (0.1, 0.25, 0.5, 0.75, 0.9)}
"""mixtures between the ends"""
ENDS = {"nail-f": 0.0, "nail-r": 1.0}
STRONG = 2.0
"""ratio of the slowest to the fastest median from which on speed depends strongly on β"""
REGIMES = (Look("#0072B2", "o"), Look("#D55E00", "s"))


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Two noise levels × (NAIL-F, mixtures, NAIL-R) × three seeds."""
    base, found = BASE[preset], []
    for eta in (0.0, base.eta):
        found += grid(base, eta=(eta,), method=ENDS, seed=SEEDS)
        found += grid(base, eta=(eta,), method=("nail-beta",), beta=BETAS[preset], seed=SEEDS)
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
    worst = {beta: final(chosen, "full_exact").min() for beta, chosen in rows.groupby("beta")}
    times = {beta: to_solve(chosen) for beta, chosen in rows.groupby("beta")}
    slowest, fastest = (pick(x.value for x in times.values()) for pick in (max, min))
    ratio = slowest / fastest if fastest < math.inf else math.nan
    return [
        Claim(
            f"η={eta:g}: every mixture solves the task (full chain ≥ {SOLVED} at the end, every seed)", "paper, Fig. 5",
            "lowest seed: " + "; ".join(f"β={beta:g}: {x:.3g}" for beta, x in worst.items()),
            all(x >= SOLVED for x in worst.values()),
        ),
        Claim(
            f"η={eta:g}: speed depends strongly on β (slowest median at least {STRONG:g} times the fastest)",
            "paper, Fig. 5",
            f"ratio {ratio:.3g}; " + "; ".join(f"β={beta:g}: {in_words(x)}" for beta, x in times.items()),
            bool(ratio >= STRONG),
        ),
    ]  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Curves of each noise level by β, and episodes-to-solve against β."""
    figure = Figure(figsize=(TEXT_WIDTH, 2.95), layout="constrained")
    *panels, times = figure.subplots(1, 3)
    colours = matplotlib.colormaps["viridis"]
    for i, (axes, look, (eta, level)) in enumerate(zip(panels, REGIMES, table.groupby("eta"), strict=True)):
        draw_curves(
            axes, level, "beta", lambda beta: colours(0.9 * beta),
            lambda beta: f"β = {beta:g}" + {0.0: " (NAIL-F)", 1.0: " (NAIL-R)"}.get(beta, ""),
        )  # fmt: skip
        axes.set_title(f"η = {eta:g}")
        draw_times(times, level, "beta", look, f"η = {eta:g}", shift=0.012 * (2 * i - 1))
    panels[0].set_ylabel("full-chain accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=7)
    times.set_xlabel("β (0: forward, 1: reverse KL)")
    times.legend()
    row = next(table.itertuples())
    note(
        figure, f"p = {row.p}, m = {row.m}; left: mean of {row.n_seeds:g} seeds, band: ± 1 standard "
        "deviation; right: Kaplan–Meier median, and each seed (△: not within the budget)",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_runs(
    "fig5",
    "NAIL-β from forward to reverse KL, without noise and at high noise",
    {
        "smoke": "18 runs, seconds on two cores",
        "cpu": "30 runs of 2,500 updates, 12 of them figure 2's; the others take about 5 minutes on two cores",
        "paper": "42 runs of 46,875 updates, 12 of them figure 2's, an accelerator",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

"""Figure 5: NAIL-β, from the forward to the reverse KL, without noise and at high noise.

Paper, figure 5 (docs/paper.md): every mixture solves the task in both regimes; how fast depends strongly on β. The
ends are runs of figure 2: NAIL-β with β = 0 is NAIL-F and with β = 1 NAIL-R, update by update.
"""

import dataclasses
import math
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import TEXT_WIDTH, Look, note
from nail.sweep.run import run_all
from nail.training.config import TrainConfig

from ._rows import select
from ._training import (
    BASE,
    SOLVED,
    curve_rows,
    draw_curves,
    draw_times,
    final,
    in_words,
    seeds,
    solve_rows,
    thousands,
    to_solve,
)

BETAS = {"smoke": (0.5,), "cpu": (0.25, 0.5, 0.75), "paper": (0.1, 0.25, 0.5, 0.75, 0.9)}
"""mixtures between the ends"""
ENDS = {"nail-f": 0.0, "nail-r": 1.0}
STRONG = 2.0
"""ratio of the slowest to the fastest median from which on speed depends strongly on β"""
REGIMES = (Look("#0072B2", "o"), Look("#D55E00", "s"))


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Two noise levels × (NAIL-F, mixtures, NAIL-R) × three seeds."""
    base = BASE[preset]
    found = []
    for eta in (0.0, base.eta):
        noise = dataclasses.replace(base, eta=eta)
        settings = [dataclasses.replace(noise, method=method) for method in ENDS]
        settings += [dataclasses.replace(noise, method="nail-beta", beta=beta) for beta in BETAS[preset]]
        found += [run for setting in settings for run in seeds(setting)]
    return tuple(found)


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all runs of a preset."""
    return run_all(runs(preset), out)


def with_beta(rows: list[Row]) -> list[Row]:
    """Rows whose column `beta` is the weight of the reverse KL that the method has: 0 and 1 at the ends."""
    return [{**row, "beta": ENDS.get(row["method"], row["beta"])} for row in rows]


def analyse(rows: list[Row]) -> list[Row]:
    """Curves of full-chain accuracy, and episodes-to-solve, for each noise level and β."""
    table, rows = [], with_beta(rows)
    for eta in levels(rows, "eta"):
        for beta in levels(rows, "beta"):
            chosen = select(rows, eta=eta, beta=beta)
            keys = {"eta": eta, "beta": beta, "p": rows[0]["p"], "m": rows[0]["m"]}
            table += curve_rows(chosen, "full_exact", **keys) + solve_rows(chosen, **keys)
    return table


def levels(rows: list[Row], name: str) -> list[float]:
    """The values of a column, in order."""
    return sorted({float(row[name]) for row in rows})


def claims(rows: list[Row]) -> list[Claim]:
    """Every mixture solves the task; speed depends on β."""
    rows = with_beta(rows)
    return [claim for eta in levels(rows, "eta") for claim in _claims_at(select(rows, eta=eta), eta)]


def _claims_at(rows: list[Row], eta: float) -> list[Claim]:
    betas = levels(rows, "beta")
    worst = {beta: final(select(rows, beta=beta), "full_exact").min() for beta in betas}
    times = {beta: to_solve(select(rows, beta=beta)) for beta in betas}
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


def draw(table: list[Row]) -> Figure:
    """Curves of each noise level by β, and episodes-to-solve against β."""
    figure = Figure(figsize=(TEXT_WIDTH, 2.95), layout="constrained")
    *panels, times = figure.subplots(1, 3)
    etas, colours = levels(table, "eta"), matplotlib.colormaps["viridis"]
    for axes, eta in zip(panels, etas, strict=True):
        draw_curves(
            axes, select(table, eta=eta, kind="curve"), "beta", lambda beta: colours(0.9 * beta),
            lambda beta: f"β = {beta:g}" + {0.0: " (NAIL-F)", 1.0: " (NAIL-R)"}.get(beta, ""),
        )  # fmt: skip
        axes.set_title(f"η = {eta:g}")
    panels[0].set_ylabel("full-chain accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=7)
    for i, (eta, look) in enumerate(zip(etas, REGIMES, strict=True)):
        chosen = [row for row in select(table, eta=eta) if row["kind"] != "curve"]
        draw_times(times, chosen, "beta", look, f"η = {eta:g}", shift=0.012 * (2 * i - 1))
    times.set_title(f"episodes until accuracy ≥ {SOLVED}")
    times.set_xlabel("β (0: forward, 1: reverse KL)")
    times.set_ylabel("trajectories (thousands)")
    times.set_ylim(bottom=0)
    thousands(times, "y")
    times.legend()
    first = next(row for row in table if row["kind"] == "curve")
    note(
        figure, f"p = {first['p']}, m = {first['m']}; left: mean of {first['n_seeds']} seeds, band: ± 1 standard "
        "deviation; right: Kaplan–Meier median, and each seed (△: not within the budget)",
    )  # fmt: skip
    return figure


EXPERIMENT = Experiment(
    name="fig5",
    summary="NAIL-β from forward to reverse KL, without noise and at high noise",
    cost={
        "smoke": "18 runs, seconds on two cores",
        "cpu": "30 runs of 2,500 updates, 12 of them figure 2's; the others take about 5 minutes on two cores",
        "paper": "42 runs of 46,875 updates, 12 of them figure 2's, an accelerator",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
    runs=runs,
)

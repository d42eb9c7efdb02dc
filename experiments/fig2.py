"""Figure 2: modular addition at η = 0 and at high noise; who learns the clean expert from noisy labels.

Paper, figure 2 (docs/paper.md §1.3). The presets `smoke` and `cpu` have a shorter chain and a higher η than the paper,
so that the chance of a clean trajectory, q^m with q = 1−η+η/p, is as small, and larger initial weights and learning
rate, so that a small network leaves its plateaus sooner.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import TEXT_WIDTH, curve, handle, note
from nail.methods import METHOD
from nail.sweep.grid import grid
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    SEEDS,
    SOLVED,
    UNSOLVED,
    accuracy_axes,
    figure_of_runs,
    final,
    in_words,
    per_seed,
    tabulate,
    to_solve,
)

ZERO_LOSS = 0.05
"""nats per token"""
ORDER = ("loglossbc", "dagger", "opd-f", "opd-r", "nail-f", "nail-r")
NAIL, OTHERS = ("nail-f", "nail-r"), ("loglossbc", "opd-f", "opd-r")
METRICS = ("full_exact", "answer_exact", "val_loss")


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Six methods × two noise levels × three seeds."""
    base = BASE[preset]
    return grid(base, method=ORDER, eta=(0.0, base.eta), seed=SEEDS)


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (of the sample, n − 1) over seeds of each metric at each evaluation."""
    return tabulate(rows.sort_values("eta", kind="stable"), ["eta", "method", "p", "m"], METRICS, times=False)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The captions' claims, each with its numbers (docs/paper.md §1.3)."""
    clean, noisy = (dict(iter(level.groupby("method"))) for _, level in rows.groupby("eta"))
    found = [claim for method in NAIL for claim in _clean_claims(clean[method], METHOD[method].label)]
    found += [_plateau_claim(clean["opd-f"]), _fastest_claim(clean)]
    return found + [_noisy_claim(noisy[method], method) for method in NAIL + OTHERS]


def _clean_claims(rows: pd.DataFrame, label: str) -> list[Claim]:
    source, loss, accuracy = "paper, Fig. 2", final(rows, "val_loss"), final(rows, "full_exact")
    return [
        Claim(
            f"η=0: {label} drives the clean loss to zero (below {ZERO_LOSS} nats/token, every seed)", source,
            f"final loss per seed: {label} {per_seed(loss)}", bool(np.all(loss < ZERO_LOSS)),
        ),
        Claim(
            f"η=0: {label} reaches perfect accuracy (full chain ≥ 0.99, every seed)", source,
            f"final full-chain accuracy per seed: {label} {per_seed(accuracy)}", bool(np.all(accuracy >= 0.99)),
        ),
    ]  # fmt: skip


def _plateau_claim(rows: pd.DataFrame) -> Claim:
    loss, accuracy = final(rows, "val_loss"), final(rows, "full_exact")
    return Claim(
        f"η=0: OPD-F plateaus (clean validation loss above {ZERO_LOSS} nats/token at the end, every seed)",
        "paper, Fig. 2",
        f"final loss per seed: OPD-F {per_seed(loss)}; full-chain accuracy: OPD-F {per_seed(accuracy)}",
        bool(np.all(loss > ZERO_LOSS)),
    )


def _fastest_claim(clean: dict[str, pd.DataFrame]) -> Claim:
    """Episodes-to-solve is censored at the budget: Kaplan–Meier median."""
    times = {method: to_solve(clean[method]) for method in ORDER}
    fastest = min(found.value for found in times.values())
    return Claim(
        f"η=0: LogLossBC learns fastest (Kaplan–Meier median of episodes to full chain ≥ {SOLVED})",
        "docs/paper.md §1.3, expected",
        "; ".join(f"{METHOD[method].label} {in_words(found)}" for method, found in times.items()),
        fastest < math.inf and times["loglossbc"].value == fastest,
    )


def _noisy_claim(rows: pd.DataFrame, method: str) -> Claim:
    label, solves = METHOD[method].label, method in NAIL
    accuracy = final(rows, "full_exact")
    what = f"solves the task (full chain ≥ {SOLVED}" if solves else f"does not solve the task (full chain < {UNSOLVED}"
    return Claim(
        f"η={rows.eta.iloc[0]:g}: {label} {what}, every seed)",
        "paper, Fig. 2",
        f"final full-chain accuracy per seed: {label} {per_seed(accuracy)}",
        bool(np.all(accuracy >= SOLVED) if solves else np.all(accuracy < UNSOLVED)),
    )


def draw(table: pd.DataFrame) -> Figure:
    """Two noise levels side by side; clean validation loss above, full-chain accuracy below."""
    row, levels = next(table.itertuples()), table.groupby("eta")
    figure = Figure(figsize=(TEXT_WIDTH, 4.7), layout="constrained")
    grid = figure.subplots(2, len(levels), sharex=True, squeeze=False)
    for (loss, accuracy), (eta, level) in zip(grid.T, levels, strict=True):
        q = 1 - eta + eta / row.p
        for method in ORDER:
            chosen = level[level.method == method]
            curve(loss, method, chosen[chosen.metric == "val_loss"], clip=(1e-5, np.inf))
            curve(accuracy, method, chosen[chosen.metric == "full_exact"], clip=(0.0, 1.0))
        loss.set_title(f"η = {eta:g},  $q^m$ = {q**row.m:.2g}")
        if eta == 0:
            loss.set_yscale("log")
            loss.set_ylim(bottom=1e-5)
        else:
            _mark_exact_fit(loss, -math.log(q))
        accuracy_axes(accuracy)
    grid[0, 0].set_ylabel("clean validation loss\n(nats/token)")
    grid[1, 0].set_ylabel("full-chain accuracy")
    handles = [handle(method, METHOD[method].label) for method in ORDER]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(ORDER), columnspacing=1.2)
    note(
        figure, f"mean of {row.n_seeds:g} seeds, band: ± 1 standard deviation; p = {row.p}, m = {row.m}; "
        "$q^m$: chance that an expert's trajectory is clean to its end",
    )  # fmt: skip
    return figure


def _mark_exact_fit(axes: Axes, level: float) -> None:
    """The clean loss of a student that equals the noisy law: −ln q (docs/paper.md §1.2: 0.188 at η=0.2, p=7)."""
    axes.axhline(level, color="#666666", linewidth=0.9, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.annotate(
        f"−ln q = {level:.3f}: a student equal to the noisy law", (0.02, level), color="#444444",
        xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points", va="top", fontsize=7,
    )  # fmt: skip


EXPERIMENT = figure_of_runs(
    "fig2",
    "modular addition at η = 0 and high noise: clean validation loss and full-chain accuracy",
    {
        "smoke": "36 runs of 40 updates, about 25 seconds on two cores",
        "cpu": "36 runs of 2,500 updates, about 7 minutes on two cores",
        "paper": "36 runs of 46,875 updates of a 3.15 M-parameter student, an accelerator",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

"""Unknown corruption: NAILGUN, which needs no η and no ν, against NAIL told the truth, a wrong η or a wrong ν.

docs/theory.md §4.6, on the poison chain (the right actions are uniform, ν does not know them). Two kernels: adversarial (all
noise on one action, so that labels of a wrong action reach the right one's share at η = 1/2), and skewed. With a
uniform kernel every told η gives the plurality, so it would compare nothing.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import LOOK, REFERENCE, TEXT_WIDTH, measured, note
from nail.methods import METHOD
from nail.theory.bounds import phased_labels

from ._rows import column, select
from ._theory import Point, measure_n_star, run_points

NAME = "theory_unknown_noise"
ORDER = ("nail-channel", "nailgun", "nail-wrong-eta", "nail-wrong-nu")
KERNELS = {"adversarial": [0.0, 1.0, 0.0, 0.0], "skewed": [0.05, 0.6, 0.25, 0.1]}
TOLD_KERNELS = {"adversarial": [0.0, 0.0, 1.0, 0.0], "skewed": [0.6, 0.05, 0.1, 0.25]}
"""what NAIL (wrong ν) believes: the noise's mass on another action"""
TOLD_ETA = 0.05
"""what NAIL (wrong η) believes"""
N_ACTIONS = 4


class Size(NamedTuple):
    """A preset."""

    etas: tuple[float, ...]
    horizon: int
    replicates: int
    budget: int
    delta: float = 0.1


SIZES = {
    "smoke": Size((0.2, 0.4, 0.55), 3, 40, 500),
    "cpu": Size((0.1, 0.2, 0.3, 0.35, 0.4, 0.43, 0.46, 0.48, 0.52, 0.56), 8, 400, 30_000),
    "paper": Size((0.1, 0.2, 0.3, 0.35, 0.4, 0.43, 0.46, 0.48, 0.49, 0.52, 0.56), 32, 2_000, 300_000),
}


def series(size: Size) -> list[list[Point]]:
    """One series of growing η for each kernel and learner."""
    return [
        [
            {
                "instance": "poison-chain", "noise": noise, "method": method, "eta": eta, "horizon": size.horizon,
                "n_actions": N_ACTIONS, "delta": size.delta, "replicates": size.replicates, "seed": 200 + i,
                "budget": size.budget, "kernel": kernel, "told_eta": TOLD_ETA, "told_kernel": TOLD_KERNELS[noise],
            }
            for eta in size.etas
        ]
        for noise, kernel in KERNELS.items()
        for i, method in enumerate(ORDER)
    ]  # fmt: skip


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all points of a preset."""
    return run_points(NAME, out, series(SIZES[preset]), measure_n_star)


def gap(noise: str, eta: float) -> float:
    """Least margin of the right action's label probability over another's: (1−η) + η·min_{a≠b}(ν(a) − ν(b))."""
    kernel = KERNELS[noise]
    return 1.0 - eta + eta * (min(kernel) - max(kernel))


def phased_nailgun(horizon: int, n_actions: int, noise: str, eta: float, delta: float) -> float:
    """H·k episodes, k = ⌈2·log(2AH/δ)/gap²⌉ labels a level: the bound of docs/theory.md §4.2 with the margin of an unknown
    kernel in place of 1−η; infinite where the margin is not positive."""
    margin = gap(noise, eta)
    return horizon * phased_labels(horizon, n_actions, 1.0 - margin, delta) if margin > 1e-12 else math.inf


def analyse(rows: list[Row]) -> list[Row]:
    """n* in episodes with its interval (the budget where censored), the mean loss there, and the bound for NAILGUN."""
    return [
        {
            "noise": row["noise"], "method": row["method"], "eta": row["eta"],
            "episodes": row["allowed"] if int(row["censored"]) else row["n_star"],
            **{k: row[k] for k in ("low", "high", "censored", "mean_loss", "horizon", "n_actions", "delta")},
            "replicates": row["replicates"], "told_eta": row["told_eta"],
            "bound": phased_nailgun(int(row["horizon"]), int(row["n_actions"]), row["noise"], float(row["eta"]),
                                    float(row["delta"])),
        }
        for row in rows
    ]  # fmt: skip


def claims(rows: list[Row]) -> list[Claim]:
    """NAILGUN up to η near 1/2 and no further, what wrong beliefs cost, what the truth is worth."""
    found = [_nailgun_claim(rows, noise) for noise in KERNELS]
    found.append(_bound_claim(rows))
    found.append(_beyond_claim(rows))
    for noise in KERNELS:
        found += [_worse_claim(rows, noise, "nail-wrong-nu"), _worse_claim(rows, noise, "nail-wrong-eta")]
    return [*found, _truth_claim(rows)]


def _numbers(rows: list[Row]) -> str:
    return ", ".join(
        f"η={r['eta']} " + (f"not within {r['allowed']}" if int(r["censored"]) else r["n_star"]) for r in rows
    )


def _inside(rows: list[Row], noise: str, method: str) -> list[Row]:
    return [row for row in select(rows, noise=noise, method=method) if float(row["eta"]) < 0.5]


def _nailgun_claim(rows: list[Row], noise: str) -> Claim:
    chosen = _inside(rows, noise, "nailgun")
    return Claim(
        f"{noise} ν: NAILGUN, told nothing, succeeds at every η < 1/2 of the grid",
        "paper, abstract; docs/theory.md §4.6",
        f"n*: {_numbers(chosen)}",
        not any(int(row["censored"]) for row in chosen),
    )


def _bound_claim(rows: list[Row]) -> Claim:
    chosen = [row for row in rows if row["method"] == "nailgun" and float(row["eta"]) < 0.5]
    ratios = [float(r["n_star"]) / phased_nailgun(int(r["horizon"]), int(r["n_actions"]), r["noise"], float(r["eta"]),
                                                  float(r["delta"])) for r in chosen]  # fmt: skip
    return Claim(
        "NAILGUN stays below the phased bound with the margin of its kernel (1−2η for the adversarial one)",
        "docs/theory.md §4.2 with the margin of §4.6",
        f"largest n*/bound {max(ratios):.3f}",
        max(ratios) < 1,
    )


def _beyond_claim(rows: list[Row]) -> Claim:
    chosen = [row for row in select(rows, noise="adversarial", method="nailgun") if float(row["eta"]) > 0.5]
    losses = ", ".join(f"η={r['eta']} {float(r['mean_loss']):.2f}" for r in chosen)
    return Claim(
        "adversarial ν, η > 1/2: NAILGUN fails, being outside its guarantee",
        "docs/theory.md §4.6",
        f"mean loss at the end of the budget: {losses}",
        bool(chosen) and all(int(r["censored"]) for r in chosen),
    )


def _worse_claim(rows: list[Row], noise: str, method: str) -> Claim:
    """Strictly more episodes than NAILGUN: the intervals are apart, or the budget does not suffice."""
    theirs, nailgun = _inside(rows, noise, method), _inside(rows, noise, "nailgun")
    worse = [float(t["low"]) > float(g["high"]) for t, g in zip(theirs, nailgun, strict=True)]
    return Claim(
        f"{noise} ν: {METHOD[method].label} needs more episodes than NAILGUN at every η < 1/2 (intervals apart)",
        "docs/theory.md §4.6",
        f"more at {sum(worse)} of {len(worse)} η; its n*: {_numbers(theirs)}; NAILGUN's: {_numbers(nailgun)}",
        all(worse),
    )


def _truth_claim(rows: list[Row]) -> Claim:
    """The Bayes rule of the true channel is never much worse than the plurality."""
    ratios = [float(t["n_star"]) / float(g["n_star"]) for noise in KERNELS
              for t, g in zip(_inside(rows, noise, "nail-channel"), _inside(rows, noise, "nailgun"), strict=True)
              if not int(t["censored"]) and not int(g["censored"])]  # fmt: skip
    return Claim(
        "NAIL told the true η and ν needs no more episodes than NAILGUN (up to 10 %)",
        "docs/theory.md §4.6",
        f"n*(NAIL)/n*(NAILGUN) from {min(ratios):.3f} to {max(ratios):.3f} over {len(ratios)} pairs",
        max(ratios) <= 1.1,
    )


def draw(table: list[Row]) -> Figure:
    """Episodes on a logarithmic axis against η, one panel a kernel; beyond η = 1/2 nothing is guaranteed."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, noise in zip(panels, KERNELS, strict=True):
        _panel(axes, table, noise)
        law = ", ".join(f"{x:g}" for x in KERNELS[noise])
        axes.set_title(f"{noise} ν = ({law})")
    panels[0].set_ylabel("episodes n* until P(all H right) ≥ 1 − δ")
    panels[0].set_ylim(min(column(table, "low")) / 1.5, max(column(table, "episodes")) * 3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, columnspacing=1.2)
    row = table[0]
    note(
        figure, f"poison chain, H = {row['horizon']}, A = {row['n_actions']}, δ = {row['delta']}; wrong η: told "
        f"{row['told_eta']}; wrong ν: told the mass on another action; {row['replicates']} replicates a point,\nbands: "
        "95 % bootstrap intervals; open marks with arrows: beyond the budget; shaded: outside NAILGUN's guarantee",
    )  # fmt: skip
    return figure


def _panel(axes: Axes, table: list[Row], noise: str) -> None:
    for method in ORDER:
        rows = select(table, noise=noise, method=method)
        eta, value, low, high, beyond = (column(rows, c) for c in ("eta", "episodes", "low", "high", "censored"))
        measured(axes, LOOK[method], eta, value, low, high, beyond, method == "nailgun", METHOD[method].label)
    bound = [row for row in select(table, noise=noise, method="nailgun") if np.isfinite(float(row["bound"]))]
    axes.plot(column(bound, "eta"), column(bound, "bound"), label="phased bound for NAILGUN", **REFERENCE["upper"])
    axes.axvspan(0.5, max(column(table, "eta")) + 0.01, color="#f2f2f2", zorder=0)
    axes.set_yscale("log")
    axes.set_xlabel("corruption rate η")


EXPERIMENT = Experiment(
    name=NAME,
    summary="unknown corruption: NAILGUN against NAIL told the truth, a wrong η or a wrong ν, up to η near 1/2",
    cost={
        "smoke": "about 12 seconds on two cores",
        "cpu": "about 1.5 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
)

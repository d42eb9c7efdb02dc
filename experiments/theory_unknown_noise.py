"""Unknown corruption: NAILGUN, which needs no η and no ν, against NAIL told the truth, a wrong η or a wrong ν.

docs/theory.md §4.6, on the poison chain (the right actions are uniform, ν does not know them). Two kernels: adversarial
(all noise on one action, so that labels of a wrong action reach the right one's share at η = 1/2), and skewed. With a
uniform kernel every told η gives the plurality, so it would compare nothing.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.methods import METHOD
from nail.theory.bounds import phased_labels

from ._nstar import episodes, measure_n_star, reached
from ._theory import Point, figure_of_points

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


def series(preset: str) -> list[list[Point]]:
    """One series of growing η for each kernel and learner."""
    size = SIZES[preset]
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


def gap(noise: str, eta: float) -> float:
    """Least margin of the right action's label probability over another's: (1−η) + η·min_{a≠b}(ν(a) − ν(b))."""
    kernel = KERNELS[noise]
    return 1.0 - eta + eta * (min(kernel) - max(kernel))


def phased_nailgun(horizon: int, n_actions: int, noise: str, eta: float, delta: float) -> float:
    """H·k episodes, k = ⌈2·log(2AH/δ)/gap²⌉ labels a level: the bound of docs/theory.md §4.2 with the margin of an
    unknown kernel in place of 1−η; infinite where the margin is not positive."""
    margin = gap(noise, eta)
    return horizon * phased_labels(horizon, n_actions, 1.0 - margin, delta) if margin > 1e-12 else math.inf


def bounds(rows: pd.DataFrame) -> list[float]:
    """`phased_nailgun` of each row."""
    return list(map(phased_nailgun, rows.horizon, rows.n_actions, rows.noise, rows.eta, rows.delta))


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """n* in episodes with its interval (the budget where censored), the mean loss there, and the bound for NAILGUN."""
    kept = ["low", "high", "censored", "mean_loss", "horizon", "n_actions", "delta", "replicates", "told_eta"]
    table = rows.assign(episodes=episodes(rows), bound=bounds(rows))
    return table[["noise", "method", "eta", "episodes", *kept, "bound"]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """NAILGUN up to η near 1/2 and no further, what wrong beliefs cost, what the truth is worth."""
    inside = rows[rows.eta < 0.5]
    learners = {noise: dict(iter(points.groupby("method"))) for noise, points in inside.groupby("noise")}
    found = [_nailgun_claim(noise, learners[noise]["nailgun"]) for noise in KERNELS]
    found += [_bound_claim(inside[inside.method == "nailgun"]), _beyond_claim(rows[rows.eta > 0.5])]
    for noise in KERNELS:
        found += [_worse_claim(noise, learners[noise], method) for method in ("nail-wrong-nu", "nail-wrong-eta")]
    return [*found, _truth_claim(reached(inside))]


def _numbers(points: pd.DataFrame) -> str:
    return ", ".join(
        f"η={p.eta} " + (f"not within {p.allowed}" if p.censored else f"{p.n_star:.0f}") for p in points.itertuples()
    )


def _nailgun_claim(noise: str, points: pd.DataFrame) -> Claim:
    return Claim(
        f"{noise} ν: NAILGUN, told nothing, succeeds at every η < 1/2 of the grid",
        "paper, abstract; docs/theory.md §4.6",
        f"n*: {_numbers(points)}",
        not points.censored.any(),
    )


def _bound_claim(points: pd.DataFrame) -> Claim:
    worst = (points.n_star / bounds(points)).max()
    return Claim(
        "NAILGUN stays below the phased bound with the margin of its kernel (1−2η for the adversarial one)",
        "docs/theory.md §4.2 with the margin of §4.6",
        f"largest n*/bound {worst:.3f}",
        bool(worst < 1),
    )


def _beyond_claim(beyond: pd.DataFrame) -> Claim:
    points = beyond[(beyond.noise == "adversarial") & (beyond.method == "nailgun")]
    losses = ", ".join(f"η={p.eta} {p.mean_loss:.2f}" for p in points.itertuples())
    return Claim(
        "adversarial ν, η > 1/2: NAILGUN fails, being outside its guarantee",
        "docs/theory.md §4.6",
        f"mean loss at the end of the budget: {losses}",
        len(points) > 0 and bool(points.censored.all()),
    )


def _worse_claim(noise: str, learners: dict[str, pd.DataFrame], method: str) -> Claim:
    """Strictly more episodes than NAILGUN: the intervals are apart, or the budget does not suffice."""
    theirs, nailgun = learners[method], learners["nailgun"]
    worse = theirs.low.to_numpy() > nailgun.high.to_numpy()
    return Claim(
        f"{noise} ν: {METHOD[method].label} needs more episodes than NAILGUN at every η < 1/2 (intervals apart)",
        "docs/theory.md §4.6",
        f"more at {worse.sum()} of {len(worse)} η; its n*: {_numbers(theirs)}; NAILGUN's: {_numbers(nailgun)}",
        bool(worse.all()),
    )


def _truth_claim(found: pd.DataFrame) -> Claim:
    """The Bayes rule of the true channel is never much worse than the plurality."""
    n = found.pivot(index=["noise", "eta"], columns="method", values="n_star")
    ratios = (n["nail-channel"] / n["nailgun"]).dropna()
    return Claim(
        "NAIL told the true η and ν needs no more episodes than NAILGUN (up to 10 %)",
        "docs/theory.md §4.6",
        f"n*(NAIL)/n*(NAILGUN) from {ratios.min():.3f} to {ratios.max():.3f} over {len(ratios)} pairs",
        bool(ratios.max() <= 1.1),
    )


def draw(table: pd.DataFrame) -> Figure:
    """Episodes on a logarithmic axis against η, one panel a kernel; beyond η = 1/2 nothing is guaranteed."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, noise in zip(panels, KERNELS, strict=True):
        _panel(axes, table, noise)
        law = ", ".join(f"{x:g}" for x in KERNELS[noise])
        axes.set_title(f"{noise} ν = ({law})")
    panels[0].set_ylabel("episodes n* until P(all H right) ≥ 1 − δ")
    panels[0].set_ylim(table.low.min() / 1.5, table.episodes.max() * 3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, columnspacing=1.2)
    row = next(table.itertuples())
    note(
        figure, f"poison chain, H = {row.horizon}, A = {row.n_actions}, δ = {row.delta}; wrong η: told {row.told_eta}; "
        f"wrong ν: told the mass on another action; {row.replicates} replicates a point,\nbands: "
        "95 % bootstrap intervals; open marks with arrows: beyond the budget; shaded: outside NAILGUN's guarantee",
    )  # fmt: skip
    return figure


def _panel(axes: Axes, table: pd.DataFrame, noise: str) -> None:
    for method in ORDER:
        points = table[(table.noise == noise) & (table.method == method)]
        measured(axes, look(method), points, "eta", hollow=method == "nailgun", label=METHOD[method].label)
    bound = points[np.isfinite(points.bound)]
    axes.plot(bound.eta, bound.bound, label="phased bound for NAILGUN", **REFERENCE["upper"])
    axes.axvspan(0.5, table.eta.max() + 0.01, color="#f2f2f2", zorder=0)
    axes.set_yscale("log")
    axes.set_xlabel("corruption rate η")


EXPERIMENT = figure_of_points(
    "theory_unknown_noise",
    "unknown corruption: NAILGUN against NAIL told the truth, a wrong η or a wrong ν, up to η near 1/2",
    {
        "smoke": "about 12 seconds on two cores",
        "cpu": "about 1.5 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure_n_star, analyse, claims, draw,
)  # fmt: skip

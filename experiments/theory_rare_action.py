"""Horizon-free or not: episodes that a likelihood-ratio test needs on the rare-action instance (docs/theory.md §4.4).

Exact binomial sums, and the test run on simulated labels, drawn one by one from the instance's noisy law.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nail.envs.instances import rare_action
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, note
from nail.figures.stats import proportion_interval
from nail.theory.bounds import rare_action_episodes
from nail.theory.exact import lrt_error, smallest
from nail.theory.scaling import fit_scaling

from ._theory import Point, figure_of_points

CASE = {
    "clean": ("uniform", 1.0, "no noise (η = 0)"),
    "dominated-1": ("dominated", 1.0, "dominated, C = 1"),
    "dominated-4": ("dominated", 4.0, "dominated, C = 4"),
    "uniform": ("uniform", 1.0, "uniform noise (not dominated)"),
}
"""noise, domination C, label"""
DRAWS = 2**22
"""labels simulated at a time"""
LEVEL = 0.999
"""of the Clopper–Pearson intervals that the exact error must lie in"""


class Size(NamedTuple):
    """A preset."""

    horizons: tuple[int, ...]
    simulated: tuple[int, ...]
    """horizons at which the test is also simulated"""
    replicates: int
    eta: float = 0.5
    c: float = 0.5
    delta: float = 0.05


SIZES = {
    "smoke": Size((4, 8, 16, 32), (4, 16), 300),
    "cpu": Size((4, 8, 16, 32, 64, 128, 256, 512, 1024), (4, 8, 16, 32, 64), 2_000),
    "paper": Size((4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096), (4, 8, 16, 32, 64, 100), 20_000),
}


def series(preset: str) -> list[list[Point]]:
    """One series of growing H for each case."""
    size = SIZES[preset]
    return [
        [
            {
                "case": case, "horizon": horizon, "eta": 0.0 if case == "clean" else size.eta, "c": size.c,
                "delta": size.delta, "replicates": size.replicates if horizon in size.simulated else 0,
                "seed": 10 * horizon + i,
            }
            for horizon in size.horizons
        ]
        for i, case in enumerate(CASE)
    ]  # fmt: skip


def measure(point: Point) -> list[Row]:
    """Smallest n with exact error ≤ δ, that error, and how often the simulated test errs with n episodes."""
    noise, domination, _ = CASE[point["case"]]
    horizon, c, eta = point["horizon"], point["c"], point["eta"]

    def error(n: int) -> float:
        return lrt_error(horizon, c, eta, n, noise, domination)

    n = smallest(lambda n: error(n) <= point["delta"], 1)
    wrong = simulate_test(point, n) if point["replicates"] else ""
    return [
        {
            **point,
            "episodes": n,
            "error": error(n),
            "error_before": error(n - 1),
            "wrong": wrong,
            "guide": rare_action_episodes(horizon, c, eta, point["delta"]) if point["case"] == "uniform" else "",
        }
    ]


def simulate_test(point: Point, n: int) -> int:
    """Wrong decisions of the test in `replicates` experiments, θ = 0 and 1 by turns; ties by a fair coin.

    Each of the nH labels of an experiment is drawn from the noisy law π_{θ,η} at the step; the log-likelihood ratio
    adds up log π_{1,η}(label) − log π_{0,η}(label).
    """
    noise, domination, _ = CASE[point["case"]]
    laws = [rare_action(point["horizon"], point["c"], theta, noise, domination).noisy(point["eta"])[0, 0]
            for theta in (0, 1)]  # fmt: skip
    gain = np.log(laws[1]) - np.log(laws[0])
    rng = np.random.default_rng(point["seed"])
    labels, wrong = n * point["horizon"], 0
    block = max(1, DRAWS // labels)
    for first in range(0, point["replicates"], block):
        theta = np.arange(first, min(first + block, point["replicates"])) % 2
        rare = np.where(theta == 1, laws[1][1], laws[0][1])
        ones = np.zeros(len(theta), int)
        for begun in range(0, labels, DRAWS):
            size = (len(theta), min(DRAWS, labels - begun))
            ones += (rng.random(size, np.float32) < rare[:, None].astype(np.float32)).sum(1)
        ratio = ones * gain[1] + (labels - ones) * gain[0]
        chosen = np.where(np.abs(ratio) < 1e-9 * labels, rng.integers(0, 2, len(theta)), ratio > 0)
        wrong += int(np.sum(chosen != theta))
    return wrong


def simulated(rows: pd.DataFrame, level: float) -> pd.DataFrame:
    """The rows where the test was simulated, with its error and a Clopper–Pearson interval of it."""
    found = rows[rows.replicates > 0].astype({"wrong": int})
    seen = [proportion_interval(wrong, runs, level) for wrong, runs in zip(found.wrong, found.replicates, strict=True)]
    return found.assign(**pd.DataFrame(seen, found.index, ["simulated", "simulated_low", "simulated_high"]))


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Episodes that the exact error needs, and the simulated error there with its interval."""
    kept = ["case", "horizon", "eta", "c", "delta", "replicates", "episodes", "error"]
    seen = simulated(rows, 0.95)[["simulated", "simulated_low", "simulated_high"]]
    return rows[kept].join(seen).assign(guide=rows.guide)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Constant with domination, linear without, and the simulated test errs as often as the binomial sum says."""
    of = dict(iter(rows.groupby("case")))
    found = [_constant_claim(of[case], CASE[case][2]) for case in ("clean", "dominated-1", "dominated-4")]
    return [*found, _linear_claim(of["uniform"]), _guide_claim(of["uniform"]), _simulation_claim(rows)]


def _constant_claim(points: pd.DataFrame, title: str) -> Claim:
    later = points[points.horizon >= 16]
    n, h = later.episodes, later.horizon
    return Claim(
        f"{title}: episodes do not grow with H (within 20 % from H = 16 on)",
        "docs/theory.md §4.4",
        f"n = {n.min()}–{n.max()} for H = {h.min()}–{h.max()}",
        bool(n.max() <= 1.2 * n.min()),
    )


def _linear_claim(points: pd.DataFrame) -> Claim:
    fit = fit_scaling(points.horizon.to_numpy(float), points.episodes.to_numpy(float))
    low, high = fit.polynomial.interval
    return Claim(
        "uniform noise: episodes grow linearly in H (exponent within 0.1 of 1, polynomial by AIC)",
        "docs/theory.md §4.4",
        f"exponent {fit.polynomial.slope:.3f}, 95 % interval of the fit [{low:.3f}, {high:.3f}]; "
        f"AIC(exponential) − AIC(polynomial) = {fit.delta_aic:.1f}",
        abs(fit.polynomial.slope - 1) < 0.1 and fit.verdict == "polynomial",
    )


def _guide_claim(points: pd.DataFrame) -> Claim:
    ratio = points.episodes / points.guide
    return Claim(
        "uniform noise: n is ηH/(c²(1−η)²)·log(1/δ) up to a constant (n/formula varies by less than a factor 2)",
        "docs/theory.md §4.4",
        f"n/formula from {ratio.min():.3f} to {ratio.max():.3f}, {ratio.iloc[-1]:.3f} at the largest H",
        bool(ratio.max() < 2 * ratio.min()),
    )


def _simulation_claim(rows: pd.DataFrame) -> Claim:
    seen = simulated(rows, LEVEL)
    hits = seen.error.between(seen.simulated_low, seen.simulated_high).sum()
    away = (seen.simulated - seen.error).abs() / np.sqrt(seen.error * (1 - seen.error) / seen.replicates)
    return Claim(
        f"the simulated test errs as often as the exact sum says ({LEVEL:.1%} Clopper–Pearson intervals)",
        "docs/theory.md §4.4",
        f"{hits} of {len(seen)} intervals contain the exact error; farthest {away.max():.2f} standard errors",
        bool(hits == len(seen)),
    )


def draw(table: pd.DataFrame) -> Figure:
    """Episodes against H on logarithmic axes; to the right the simulated error over the exact one."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    for i, (look, (case, (_, _, label))) in enumerate(zip(CASES, CASE.items(), strict=False)):
        points = table[table.case == case]
        left.plot(points.horizon, points.episodes, color=look.colour, marker=look.mark, label=label)
        seen = points.dropna(subset="simulated")
        mean, low, high = (seen[c] / seen.error for c in ("simulated", "simulated_low", "simulated_high"))
        right.errorbar(
            seen.horizon * 1.06 ** (i - 1.5), mean, (mean - low, high - mean), color=look.colour, marker=look.mark,
            linestyle="none", elinewidth=0.9,
        )  # fmt: skip
    guide = table.dropna(subset="guide")
    left.plot(guide.horizon, guide.guide, label="ηH/(c²(1−η)²)·log(1/δ)", **REFERENCE["upper"])
    right.axhline(1.0, label="exact", **REFERENCE["exact"])
    left.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("horizon H (steps)")
    left.set_ylabel("episodes until the test's error ≤ δ (exact)")
    right.set_ylabel("simulated error / exact error")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1.2)
    *_, last = table.itertuples()
    note(
        figure, f"rare action, HΔ = {last.c}, η = {last.eta}, δ = {last.delta}; right: {table.replicates.max():,} "
        "simulated experiments a point with the n of the left panel, bars: 95 % Clopper–Pearson intervals",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_rare_action",
    "episodes of a likelihood-ratio test: free of the horizon if the expert dominates the noise, else linear",
    {
        "smoke": "about 5 seconds on two cores",
        "cpu": "about 10 seconds on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

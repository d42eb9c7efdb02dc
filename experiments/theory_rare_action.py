"""Horizon-free or not: episodes that a likelihood-ratio test needs on the rare-action instance (docs/theory.md §4.4).

Exact binomial sums, and the test run on simulated labels, drawn one by one from the instance's noisy law. That the
test's error bounds regret takes both signs of the reward (`exact.two_point_regret`): the exact regret of learners that
make a policy of the number of 1-labels, beside that bound.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.envs.instances import rare_action
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, note
from nail.stats import REFUTED, coverage_chance, proportion_interval
from nail.theory.bounds import rare_action_episodes
from nail.theory.exact import lrt_error, rare_label_probabilities, smallest, two_point_regret

from ._rare_action import LEARNERS, regret_claims, regrets, worst
from ._theory import Point, figure_of_points, seeded

CASE = {
    "clean": ("uniform", 1.0, "no noise (η = 0)"),
    "dominated-1": ("dominated", 1.0, "dominated, C = 1"),
    "dominated-4": ("dominated", 4.0, "dominated, C = 4"),
    "uniform": ("uniform", 1.0, "uniform noise (not dominated)"),
}
"""noise, domination C, label"""
DRAWS = 2**22
"""labels simulated at a time"""
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
"""of the test's n, at which regret is computed"""
GRID = ((0.25, 0.5, 0.75), (0.25, 0.5, 1.0))
"""η and c over which the formula for uniform noise is held against the exact n"""
REGRET_OF = ("uniform", "dominated-1")
KNOWN = ("error", "error_before", "wrong", "guide", "learner", "sign", "positive", "signed", "bound")
"""columns of what is computed, empty where it is not"""


class Size(NamedTuple):
    """A preset."""

    horizons: tuple[int, ...]
    simulated: tuple[int, ...]
    """horizons at which the test is also simulated"""
    regretted: tuple[int, ...]
    """horizons at which regret is computed, the last one drawn"""
    replicates: int
    eta: float = 0.5
    c: float = 0.5
    delta: float = 0.05


SIZES = {
    "smoke": Size((4, 8, 16, 32), (4, 16), (16,), 300),
    "cpu": Size((4, 8, 16, 32, 64, 128, 256, 512, 1024), (4, 8, 16, 32, 64), (16, 256), 2_000),
    "paper": Size((4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096), (4, 8, 16, 32, 64, 100), (16, 256), 20_000),
}


def series(preset: str) -> list[list[Point]]:
    """One series of growing H for each case; the grid of the formula; regret against n."""
    size = SIZES[preset]

    def point(kind, case, horizon, eta=size.eta, c=size.c, replicates=0, share=1.0):
        eta = 0.0 if case == "clean" else eta
        return seeded({"kind": kind, "case": case, "horizon": horizon, "eta": eta, "c": c, "delta": size.delta,
                       "replicates": replicates, "share": share})  # fmt: skip

    found = [[point("test", case, h, replicates=size.replicates * (h in size.simulated)) for h in size.horizons]
             for case in CASE]  # fmt: skip
    found.append([point("grid", "uniform", max(size.horizons), eta, c) for eta in GRID[0] for c in GRID[1]])
    found += [[point("regret", case, h, share=share) for share in SHARES]
              for case in REGRET_OF for h in size.regretted]  # fmt: skip
    return found


def measure(point: Point) -> list[Row]:
    """Smallest n with exact error ≤ δ, that error, and how often the simulated test errs with n episodes; or the exact
    regret of each learner for each sign after a `share` of n episodes."""
    noise, domination, _ = CASE[point["case"]]
    horizon, c, eta = point["horizon"], point["c"], point["eta"]

    def error(n: int) -> float:
        return lrt_error(horizon, c, eta, n, noise, domination)

    n, empty = smallest(lambda n: error(n) <= point["delta"], 1), dict.fromkeys(KNOWN, "")
    if point["kind"] == "regret":
        n = max(1, round(point["share"] * n))
        bound = two_point_regret(horizon, c, error(n))
        found = regrets(horizon, c, n, *rare_label_probabilities(horizon, c, eta, noise, domination), eta)
        return [{**point, "episodes": n, **empty, "error": error(n), "bound": bound, **row} for row in found]
    known = {"error": error(n), "error_before": error(n - 1)}
    if point["replicates"]:
        known["wrong"] = simulate_test(point, n)
    if point["case"] == "uniform":
        known["guide"] = rare_action_episodes(horizon, c, eta, point["delta"])
    return [{**point, "episodes": n, **empty, **known}]


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
        parts = ones * gain[1], (labels - ones) * gain[0]
        ratio, rounding = sum(parts), 1e-12 * sum(map(np.abs, parts))
        chosen = np.where(np.abs(ratio) <= rounding, rng.integers(0, 2, len(theta)), ratio > 0)
        wrong += int(np.sum(chosen != theta))
    return wrong


def simulated(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows where the test was simulated, with its error and a 95 % Clopper–Pearson interval of it."""
    found = rows[rows.replicates > 0].astype({"wrong": int})
    seen = [proportion_interval(wrong, runs) for wrong, runs in zip(found.wrong, found.replicates, strict=True)]
    return found.assign(**pd.DataFrame(seen, found.index, ["simulated", "simulated_low", "simulated_high"]))


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Episodes that the exact error needs, the simulated error there with its interval; regret with its bound."""
    kept = ["kind", "case", "horizon", "eta", "c", "delta", "replicates", "episodes", "error"]
    seen = simulated(rows)[["simulated", "simulated_low", "simulated_high"]]
    test = rows[rows.kind == "test"][kept].join(seen).assign(guide=rows.guide)
    return pd.concat([test, worst(rows).reset_index().assign(kind="regret")])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Constant with domination, linear without; the simulated test; what the test says about regret."""
    test = rows[rows.kind == "test"]
    of = dict(iter(test.groupby("case")))
    found = [_constant_claim(of[case], CASE[case][2]) for case in ("clean", "dominated-1", "dominated-4")]
    return [*found, _linear_claim(of["uniform"]), _guide_claim(rows[rows.kind == "grid"]), _simulation_claim(test),
            *regret_claims(rows[rows.kind == "regret"])]  # fmt: skip


def _constant_claim(points: pd.DataFrame, title: str) -> Claim:
    later = points[points.horizon >= 16]
    n, h = later.episodes, later.horizon
    return Claim(
        f"computed: {title}: episodes do not grow with H",
        "docs/theory.md §4.4",
        "a largest n more than 1.2 times the smallest, from H = 16 on",
        f"n = {n.min()}–{n.max()} for H = {h.min()}–{h.max()}",
        bool(n.max() <= 1.2 * n.min()),
    )


def _linear_claim(points: pd.DataFrame) -> Claim:
    h, n = np.log(points[["horizon", "episodes"]].to_numpy(float)[-4:].T)
    slopes = np.diff(n) / np.diff(h)
    return Claim(
        "computed: uniform noise: episodes grow linearly in H",
        "docs/theory.md §4.4",
        "an exponent of the exact n farther than 0.05 from 1 in any of the last three octaves",
        f"exponents {', '.join(f'{x:.3f}' for x in slopes)}, H up to {points.horizon.max()}",
        bool((np.abs(slopes - 1) <= 0.05).all()),
    )


def _guide_claim(points: pd.DataFrame) -> Claim:
    ratio = points.episodes / points.guide
    return Claim(
        "computed: uniform noise: over η and c, n is ηH/(c²(1−η)²)·log(1/δ) up to a constant",
        "docs/theory.md §4.4",
        "n/formula that varies by a factor 2 or more over the grid of η and c",
        f"n/formula from {ratio.min():.3f} to {ratio.max():.3f}, H = {points.horizon.max()}, η = {points.eta.min()}–"
        f"{points.eta.max()}, c = {points.c.min()}–{points.c.max()}",
        bool(ratio.max() < 2 * ratio.min()),
    )


def _simulation_claim(rows: pd.DataFrame) -> Claim:
    seen = simulated(rows)
    hits = int(seen.error.between(seen.simulated_low, seen.simulated_high).sum())
    chance = coverage_chance(hits, len(seen))
    return Claim(
        "the simulated test errs as often as the exact sum says",
        "docs/theory.md §4.4",
        f"so few 95 % intervals with the exact error that P(that few or fewer) < {REFUTED:g} at a coverage of 95 %",
        f"{hits} of {len(seen)} intervals contain it (P = {chance:.2g})",
        bool(chance >= REFUTED),
    )


def draw(table: pd.DataFrame) -> Figure:
    """Episodes against H on logarithmic axes; the simulated error over the exact one; regret against n."""
    figure = Figure(figsize=(TEXT_WIDTH, 5.2), layout="constrained")
    panels = figure.subplot_mosaic([["n", "error"], ["regret", "words"]])
    left, right = panels["n"], panels["error"]
    test = table[table.kind == "test"]
    for i, (look, (case, (_, _, label))) in enumerate(zip(CASES, CASE.items(), strict=False)):
        points = test[test.case == case]
        left.plot(points.horizon, points.episodes, color=look.colour, marker=look.mark, label=label)
        seen = points.dropna(subset="simulated")
        mean, low, high = (seen[c] / seen.error for c in ("simulated", "simulated_low", "simulated_high"))
        right.errorbar(
            seen.horizon * 1.06 ** (i - 1.5), mean, (mean - low, high - mean), color=look.colour, marker=look.mark,
            linestyle="none", elinewidth=0.9,
        )  # fmt: skip
    guide = test.dropna(subset="guide")
    left.plot(guide.horizon, guide.guide, label="ηH/(c²(1−η)²)·log(1/δ)", **REFERENCE["upper"])
    right.axhline(1.0, label="exact", **REFERENCE["exact"])
    left.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("horizon H (steps)")
    left.set_ylabel("episodes until error ≤ δ (exact)")
    right.set_ylabel("simulated error / exact error")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1.2)
    _regret_panel(panels["regret"], panels["words"], table[table.kind == "regret"])
    *_, last = test.itertuples()
    note(
        figure, f"rare action, HΔ = {last.c}, η = {last.eta}, δ = {last.delta}; upper right: "
        f"{test.replicates.max():,.0f} simulated experiments a point\nwith the n of the left panel, bars: 95 % "
        "Clopper–Pearson intervals; lower left: exact sums",
    )  # fmt: skip
    return figure


def _regret_panel(axes: Axes, words: Axes, table: pd.DataFrame) -> None:
    """Exact worst regret with uniform noise at the largest H; the legend in the place beside it."""
    table = table[(table.case == "uniform") & (table.horizon == table.horizon.max())]
    for look, (learner, label) in zip(CASES, LEARNERS.items(), strict=False):
        points = table[table.learner == learner]
        axes.plot(points.episodes, points.positive, color=look.colour, marker=look.mark, label=label)
        if learner == "moment":
            axes.plot(
                points.episodes, points.signed, color=look.colour, linestyle="--", label="its signed regret, mean"
            )
    axes.plot(points.episodes, points.bound, label="no learner is below: (J-gap)·error", **REFERENCE["lower"])
    axes.set(xscale="log", yscale="log", xlabel=f"episodes n (uniform noise, H = {points.horizon.iloc[0]:.0f})")
    axes.set_ylabel("regret, worst sign and θ (exact)")
    words.set_axis_off()
    words.legend(*axes.get_legend_handles_labels(), loc="center left")


EXPERIMENT = figure_of_points(
    "theory_rare_action",
    "episodes of a likelihood-ratio test: free of the horizon if the expert dominates the noise, else linear; regret",
    {
        "smoke": "about 5 seconds on two cores",
        "cpu": "about 8 seconds on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

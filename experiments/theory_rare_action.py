"""Horizon-free or not: episodes that a likelihood-ratio test needs on the rare-action instance (docs/theory.md §4.4).

Exact binomial sums, and the test run on simulated labels, drawn one by one from the instance's noisy law.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from nail.envs.instances import rare_action
from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, note
from nail.figures.stats import proportion_interval
from nail.theory.bounds import rare_action_episodes
from nail.theory.exact import lrt_error, smallest
from nail.theory.scaling import fit_scaling

from ._rows import column, select
from ._theory import Point, run_points

NAME = "theory_rare_action"
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


def series(size: Size) -> list[list[Point]]:
    """One series of growing H for each case."""
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


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all points of a preset."""
    return run_points(NAME, out, series(SIZES[preset]), measure)


def analyse(rows: list[Row]) -> list[Row]:
    """Episodes that the exact error needs, and the simulated error there with its interval."""
    table = []
    for row in rows:
        runs = int(row["replicates"])
        seen = proportion_interval(int(row["wrong"]), runs, 0.95, "clopper-pearson") if runs else ("", "", "")
        table.append(
            {
                **{k: row[k] for k in ("case", "horizon", "eta", "c", "delta", "replicates", "episodes", "error")},
                "simulated": seen[0], "simulated_low": seen[1], "simulated_high": seen[2], "guide": row["guide"],
            }
        )  # fmt: skip
    return table


def claims(rows: list[Row]) -> list[Claim]:
    """Constant with domination, linear without, and the simulated test errs as often as the binomial sum says."""
    found = []
    for case in ("clean", "dominated-1", "dominated-4"):
        later = [row for row in select(rows, case=case) if int(row["horizon"]) >= 16]
        n = column(later, "episodes")
        found.append(
            Claim(
                f"{CASE[case][2]}: episodes do not grow with H (within 20 % from H = 16 on)",
                "docs/theory.md §4.4",
                f"n = {n.min():.0f}–{n.max():.0f} for H = {later[0]['horizon']}–{later[-1]['horizon']}",
                bool(n.max() <= 1.2 * n.min()),
            )
        )
    return [*found, _linear_claim(rows), _guide_claim(rows), _simulation_claim(rows)]


def _linear_claim(rows: list[Row]) -> Claim:
    chosen = select(rows, case="uniform")
    fit = fit_scaling(column(chosen, "horizon"), column(chosen, "episodes"))
    low, high = fit.polynomial.interval
    return Claim(
        "uniform noise: episodes grow linearly in H (exponent within 0.1 of 1, polynomial by AIC)",
        "docs/theory.md §4.4",
        f"exponent {fit.polynomial.slope:.3f}, 95 % interval of the fit [{low:.3f}, {high:.3f}]; "
        f"AIC(exponential) − AIC(polynomial) = {fit.delta_aic:.1f}",
        abs(fit.polynomial.slope - 1) < 0.1 and fit.verdict == "polynomial",
    )


def _guide_claim(rows: list[Row]) -> Claim:
    chosen = select(rows, case="uniform")
    ratio = column(chosen, "episodes") / column(chosen, "guide")
    return Claim(
        "uniform noise: n is ηH/(c²(1−η)²)·log(1/δ) up to a constant (n/formula varies by less than a factor 2)",
        "docs/theory.md §4.4",
        f"n/formula from {ratio.min():.3f} to {ratio.max():.3f}, {ratio[-1]:.3f} at the largest H",
        bool(ratio.max() < 2 * ratio.min()),
    )


def _simulation_claim(rows: list[Row]) -> Claim:
    simulated = [row for row in rows if int(row["replicates"])]
    hits, worst = 0, 0.0
    for row in simulated:
        runs, p = int(row["replicates"]), float(row["error"])
        seen = proportion_interval(int(row["wrong"]), runs, LEVEL, "clopper-pearson")
        hits += seen.low <= p <= seen.high
        worst = max(worst, abs(seen.estimate - p) / np.sqrt(p * (1 - p) / runs))
    return Claim(
        f"the simulated test errs as often as the exact sum says ({LEVEL:.1%} Clopper–Pearson intervals)",
        "docs/theory.md §4.4",
        f"{hits} of {len(simulated)} intervals contain the exact error; farthest {worst:.2f} standard errors",
        hits == len(simulated),
    )


def draw(table: list[Row]) -> Figure:
    """Episodes against H on logarithmic axes; to the right the simulated error over the exact one."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    for i, (look, (case, (_, _, label))) in enumerate(zip(CASES, CASE.items(), strict=False)):
        rows = select(table, case=case)
        left.plot(column(rows, "horizon"), column(rows, "episodes"), color=look.colour, marker=look.mark, label=label)
        seen = [row for row in rows if row["simulated"]]
        exact, mean, low, high = (column(seen, c) for c in ("error", "simulated", "simulated_low", "simulated_high"))
        right.errorbar(
            column(seen, "horizon") * 1.06 ** (i - 1.5), mean / exact, np.stack([mean - low, high - mean]) / exact,
            color=look.colour, marker=look.mark, linestyle="none", elinewidth=0.9,
        )  # fmt: skip
    guide = [row for row in table if row["guide"]]
    left.plot(column(guide, "horizon"), column(guide, "guide"), label="ηH/(c²(1−η)²)·log(1/δ)", **REFERENCE["upper"])
    right.axhline(1.0, label="exact", **REFERENCE["exact"])
    left.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("horizon H (steps)")
    left.set_ylabel("episodes until the test's error ≤ δ (exact)")
    right.set_ylabel("simulated error / exact error")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1.2)
    last = table[-1]
    runs = max(int(row["replicates"]) for row in table)
    note(
        figure, f"rare action, HΔ = {last['c']}, η = {last['eta']}, δ = {last['delta']}; right: {runs:,} simulated "
        "experiments a point with the n of the left panel, bars: 95 % Clopper–Pearson intervals",
    )  # fmt: skip
    return figure


EXPERIMENT = Experiment(
    name=NAME,
    summary="episodes of a likelihood-ratio test: free of the horizon if the expert dominates the noise, else linear",
    cost={
        "smoke": "about 5 seconds on two cores",
        "cpu": "about 10 seconds on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
)

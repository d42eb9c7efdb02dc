"""n*(ρ) at a fixed marginal η on the poison chain: what it matters that corrupted labels come in bursts.

docs/theory.md §1.1: labels of an episode are corrupted by a Markov chain of coins, ρ = P(corrupted → corrupted). The
marginal law of a label is the same for every ρ. A learner of the noisy expert's own trajectories needs clean heads of
them, which long bursts leave: its exact n* falls by orders of magnitude as ρ grows. A greedy learner's policy is wrong
in μH episodes in mean for every ρ; only the spread over replicates can change.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from nail.complexity.intervals import log_sd
from nail.counting import levels
from nail.counting.drivers import Setting, complete
from nail.counting.learners import learner
from nail.counting.nstar import AHEAD, n_star
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.noise import Bursts
from nail.stats import NORMAL_95
from nail.theory.bursts import burst_rates, n_bc_by_level
from nail.theory.known import level_spread, n_greedy, n_levels

from ._nstar import (
    COLUMNS,
    at_each,
    both_units,
    censored,
    columns_of,
    coverage_claim,
    in_unit,
    label,
    n_label,
    of,
)
from ._theory import Point, figure_of_points, seeded


class Size(NamedTuple):
    """A preset."""

    rhos: tuple[float, ...]
    horizon: int
    replicates: int
    budget: int
    n_actions: int = 4
    eta: float = 0.5
    delta: float = 0.1


SIZES = {
    "smoke": Size((0.3, 0.5, 0.8), 3, 40, 300),
    "cpu": Size((*(i / 10 for i in range(10)), 0.95), 8, 1_000, 100_000),
    "paper": Size((*(i / 20 for i in range(20)), 0.98), 12, 4_000, 1_000_000),
}
METHODS = ("loglossbc", "nail-f")
EXACT, MEAN, SPREAD = "n_bc", "n_levels", "spread"
"""known curves: exact n* of LogLossBC, μH, and σ√H, which is the spread of episodes at ρ = η"""
WRONG = ("wrong", "wrong_low", "wrong_high", "wrong_sd")
"""columns: episodes in which NAIL-F's policy is wrong, mean over replicates with its interval and their spread"""
SETTLED = 16
"""the policy is watched for so many times μH episodes"""


def known(point: Point) -> float:
    """A known number at one ρ."""
    setting = point["horizon"], point["n_actions"], point["eta"]
    if point["method"] == EXACT:
        return n_bc_by_level(point["n_actions"], burst_rates(*setting, point["rho"]), point["delta"])
    if point["method"] == MEAN:
        return n_levels(*setting, point["delta"])
    return level_spread(*setting[1:]) * point["horizon"] ** 0.5


def wrong_episodes(point: Point, noise: Bursts) -> Float[np.ndarray, " R"]:
    """Σ_n 1{NAIL-F's policy after n episodes is wrong at some level}, of each replicate."""
    row, setting = learner("nail-f"), complete(Setting(noise.eta, burst=noise.rho), point["n_actions"])
    state = levels.begin(point["horizon"], point["n_actions"], point["replicates"], point["seed"])
    total = 1.0 - np.asarray(levels.advance(row, state, setting, 0, 1)[1], float)[:, 0]
    most = n_levels(point["horizon"], point["n_actions"], point["eta"], point["delta"])
    for _ in range(int(np.ceil(SETTLED * most / AHEAD))):
        state, right = levels.advance(row, state, setting, 1, AHEAD)
        total += (~np.asarray(right)).sum(1)
    return total


def measure(point: Point) -> list[Row]:
    """n* at one ρ, and of NAIL-F in how many episodes its policy is wrong; or a known number."""
    empty = dict.fromkeys(WRONG, "")
    if point["method"] not in METHODS:
        value = known(point)
        ends = {"n_star": value, "low": value, "high": value, "censored": 0}
        return [{**point, **dict.fromkeys(COLUMNS, ""), **ends, **empty}]
    noise = Bursts(point["eta"], point["rho"])
    names = ("instance", "method", "horizon", "n_actions", "delta", "replicates", "seed")
    found = n_star(**{name: point[name] for name in names}, max_episodes=point["budget"], noise=noise)
    if point["method"] == "nail-f":
        wrong = wrong_episodes(point, noise)
        mean, sd = float(wrong.mean()), float(wrong.std(ddof=1))
        half = NORMAL_95 * sd / len(wrong) ** 0.5
        empty = dict(zip(WRONG, (mean, mean - half, mean + half, sd), strict=True))
    return [{**point, **columns_of(found), **empty}]


def series(preset: str) -> list[list[Point]]:
    """A learner with ρ falling: what LogLossBC needs grows; the known curves at the end."""
    size = SIZES[preset]
    common = {"instance": "poison-chain", "horizon": size.horizon, "n_actions": size.n_actions, "eta": size.eta,
              "delta": size.delta}  # fmt: skip
    rest, none = {"replicates": size.replicates, "budget": size.budget}, {"replicates": 0, "seed": 0, "budget": 0}
    rhos = size.rhos[::-1]
    return [[seeded({**common, "method": method, "rho": rho, **rest}) for rho in rhos] for method in METHODS] + [
        [{**common, "method": name, "rho": rho, **none} for name in (EXACT, MEAN, SPREAD) for rho in rhos]
    ]


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """n* in episodes and in queries with its interval, and NAIL-F's wrong episodes; by ρ."""
    kept = ["episodes", "low", "high", "queries", "queries_low", "queries_high", "censored", "oracle", "horizon",
            "n_actions", "eta", "delta", "replicates", *WRONG]  # fmt: skip
    return both_units(rows).sort_values(["method", "rho"])[["method", "rho", *kept]].reset_index(drop=True)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Both exact laws, and what bursts do to each learner."""
    rows = rows.sort_values("rho")
    curves = {name: of(rows, method=name).set_index("rho").n_star for name in (EXACT, MEAN)}
    found = rows[rows.method.isin(METHODS)]
    offline, greedy = (
        part.assign(**{name: part.rho.map(curve) for name, curve in curves.items()})
        for part in (of(found, method=method) for method in METHODS)
    )
    lost = greedy.assign(
        n_star=greedy.wrong.astype(float), low=greedy.wrong_low.astype(float), high=greedy.wrong_high.astype(float),
        resolution=0.0, censored=0,
    )  # fmt: skip
    source = "docs/theory.md §1.1"
    mean = coverage_claim(
        lost, MEAN, "rho", "NAIL-F's policy is wrong in μH episodes in mean, however long the bursts", source
    )
    return [
        coverage_claim(offline, EXACT, "rho", "the measured n*(ρ) of LogLossBC is the exact one", source),
        _falls_claim(offline),
        mean._replace(refutes=f"n* is here the mean over replicates, the curve μH: {mean.refutes}"),
        _moves_claim(offline, greedy),
    ]


def _falls_claim(offline: pd.DataFrame) -> Claim:
    """Neighbours are compared by the difference of two independent logarithms."""
    statement, source = "the longer the bursts, the fewer trajectories LogLossBC needs", "docs/theory.md §1.1"
    refutes = (
        "between two neighbouring ρ n* rises (95 % interval of the change of log n* above 0), or from the least to the "
        "largest ρ it does not fall (interval not below 0), or fewer than 3 ρ are within the budget; what is beyond "
        "the budget is left out"
    )
    inside = offline[offline.censored == 0]
    if len(inside) < 3:
        return Claim(statement, source, refutes, "fewer than 3 ρ within the budget", False)
    log, sd = np.log(inside.n_star.to_numpy(float)), log_sd(inside)
    rises = np.diff(log) - NORMAL_95 * np.hypot(sd[1:], sd[:-1]) > 0
    falls = log[-1] - log[0] + NORMAL_95 * np.hypot(sd[0], sd[-1]) < 0
    return Claim(statement, source, refutes, "n*: " + at_each("rho", inside, inside.n_star),
                 bool(falls and not rises.any()))  # fmt: skip


def _moves_claim(offline: pd.DataFrame, greedy: pd.DataFrame) -> Claim:
    """|log n*(largest ρ)/n*(least ρ)| of both learners, from independent points."""
    statement = "from the least to the largest ρ, n* of LogLossBC changes by a larger factor than that of NAIL-F"
    source = "docs/theory.md §1.1"
    refutes = (
        "|log of the factor| of LogLossBC less that of NAIL-F is not above 0 by 1.96 standard deviations, or one of "
        "them is beyond the budget at an end; ends are the least and the largest ρ that both have"
    )
    both = sorted(set(offline.rho) & set(greedy.rho))
    ends = [part.set_index("rho").loc[[both[0], both[-1]]] for part in (offline, greedy)] if both else []
    if len(both) < 2 or any((part.censored != 0).any() for part in ends):
        return Claim(statement, source, refutes, "an end is beyond the budget", False)
    factors = [np.log(part.n_star.iloc[1] / part.n_star.iloc[0]) for part in ends]
    spread = np.sqrt(sum((log_sd(part) ** 2).sum() for part in ends))
    measured = ", ".join(
        f"{name} {np.exp(factor):.3g}" for name, factor in zip(("LogLossBC", "NAIL-F"), factors, strict=True)
    )
    holds = abs(factors[0]) - abs(factors[1]) > NORMAL_95 * spread
    return Claim(statement, source, refutes, f"n*(ρ={both[-1]:g})/n*(ρ={both[0]:g}): {measured}", bool(holds))


def draw(table: pd.DataFrame, unit: str = "episodes") -> Figure:
    """n*(ρ) on a logarithmic axis; to the right the episodes in which NAIL-F's policy is wrong."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    wrong = of(table, method="nail-f")
    row, table = next(wrong.itertuples()), in_unit(table, unit)
    exact, mean, spread = (of(table, method=name) for name in (EXACT, MEAN, SPREAD))
    for method in METHODS:
        measured(left, look(method), of(table, method=method), "rho", label=label(method))
    left.plot(
        exact.rho, exact.episodes, label="LogLossBC, exact", zorder=3, **{**REFERENCE["exact"], "color": "#cccccc"}
    )
    memoryless = n_greedy(row.horizon, row.n_actions, row.eta, row.delta) * (row.horizon if unit == "queries" else 1)
    left.plot([row.eta], [memoryless], marker="o", color=look("nail-f").colour, markersize=9, markerfacecolor="none",
              linestyle="none", label="NAIL-F at ρ = η, known")  # fmt: skip
    ends = {"low": wrong.wrong_low, "high": wrong.wrong_high}
    measured(right, look("nail-f"), wrong.assign(**ends), "rho", "wrong", label="mean")
    right.plot(wrong.rho, wrong.wrong_sd, linestyle="--", color=look("nail-f").colour, label="standard deviation")
    scale = row.horizon if unit == "queries" else 1
    right.plot(mean.rho, mean.episodes / scale, label="μH: exact mean", zorder=1.5, **REFERENCE["exact"])
    right.plot(spread.rho, spread.episodes / scale, label="σ√H: standard deviation at ρ = η", **REFERENCE["lower"])
    left.set_yscale("log")
    left.set_ylim(top=20 * exact.episodes.max())
    left.set_ylabel(n_label(unit))
    right.set_ylim(bottom=0)
    right.set_ylabel("episodes in which NAIL-F's policy is wrong")
    for axes in (left, right):
        axes.axvline(row.eta, color="#bbbbbb", linewidth=0.8, zorder=0.5)
        axes.set_xlabel("ρ = P(corrupted → corrupted)")
        axes.legend(loc="upper right" if axes is left else "lower left")
    note(
        figure, f"poison chain, H = {row.horizon}, A = {row.n_actions}, η = {row.eta:g} at every ρ, δ = {row.delta}; "
        f"{row.replicates} replicates a point, bands: 95 % intervals; grey: ρ = η.",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_bursts",
    "n*(ρ) at fixed η: labels that are wrong in bursts, offline and for a greedy learner",
    {
        "smoke": "about 15 seconds on two cores",
        "cpu": "about a minute on two cores",
        "paper": "finer grid, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw, censored, ("episodes", "queries"),
)  # fmt: skip

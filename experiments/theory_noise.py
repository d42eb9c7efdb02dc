"""n*(η) at a fixed horizon, on the poison chain: what noise costs a learner that sees only clean trajectories' heads,
and what it costs one that labels its own greedy path.

docs/theory.md §4.1, §4.2 and §5: offline n* grows as q^{−(H−1)} times the labels that a plurality needs; a greedy
learner pays μ(A, η) episodes a level, which is 1/κ up to a factor 1.01–1.20, κ = 2(√q − √(η/A))². Under uniform noise
NAILGUN decides as NAIL-F does: it has no curve. NAIL-R and OPD-R read probabilities, another oracle than labels: no
claim is about them.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nail.figures.claims import every, judged
from nail.figures.experiment import Claim
from nail.figures.own import chosen
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.stats import NORMAL_95
from nail.theory.bounds import kappa

from ._nstar import (
    EXPONENTIAL,
    KNOWN,
    POLYNOMIAL,
    above_zero,
    at_each,
    both_units,
    censored,
    coverage_claim,
    episodes,
    in_unit,
    label,
    log_sd,
    measure_n_star,
    n_label,
    of,
    reference,
    require_methods,
    with_known,
)
from ._theory import Point, figure_of_points, seeded


class Size(NamedTuple):
    """A preset."""

    eta: tuple[float, ...]
    H: int
    replicates: int
    max_episodes: int
    A: int = 4
    delta: float = 0.1
    method: tuple[str, ...] = EXPONENTIAL + POLYNOMIAL


TENTHS = tuple(i / 10 for i in range(1, 9))
SIZES = {
    "smoke": Size((0.1, 0.3, 0.5), 3, 40, 300),
    "cpu": Size(TENTHS, 8, 400, 100_000),
    "paper": Size((*(i / 20 for i in range(1, 18)),), 16, 2_000, 1_000_000),
}


def series(size: str | Size) -> list[list[Point]]:
    """One series of growing η for each learner; the known curves at the end."""
    size = chosen(SIZES, size)
    require_methods("theory_noise", size.method)
    etas = sorted(size.eta)
    common = {"instance": "poison-chain", "horizon": size.H, "n_actions": size.A, "delta": size.delta}
    rest = {"replicates": size.replicates, "budget": size.max_episodes}
    known = {"replicates": 0, "seed": 0, "budget": 0}
    methods = reversed(size.method)
    return [[seeded({**common, "method": method, "eta": eta, **rest}) for eta in etas] for method in methods] + [
        [{**common, "method": method, "eta": eta, **known} for method in KNOWN for eta in etas]
    ]


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """n* in episodes and in queries with its interval (the budget where censored), and κ."""
    kept = ["episodes", "low", "high", "queries", "queries_low", "queries_high", "censored", "oracle", "horizon",
            "n_actions", "delta", "replicates", "kappa"]  # fmt: skip
    return both_units(rows).assign(kappa=list(map(kappa, rows.n_actions, rows.eta)))[["method", "eta", *kept]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Both exact curves through the measured points, and who is hurt more by noise."""
    beside = with_known(rows, "eta")
    return [
        coverage_claim(
            of(beside, method="loglossbc"), "n_bc", "eta", "the measured n*(η) of LogLossBC is the exact one",
            "docs/theory.md §4.2",
        ),
        coverage_claim(
            of(beside, method="nail-f"), "n_greedy", "eta",
            "the measured n*(η) of NAIL-F is that of the law of one level", "docs/theory.md §4.2",
        ),
        _gap_claim(of(rows, method="loglossbc"), of(rows, method="nail-f")),
    ]  # fmt: skip


def _gap_claim(offline: pd.DataFrame, greedy: pd.DataFrame) -> Claim:
    """Labels are what both read. Neighbours are compared by the difference of two independent log ratios; where the
    budget does not suffice LogLossBC it bounds n*, and with it the factor, from below."""
    both = sorted(set(offline.eta) & set(greedy.eta))
    offline, greedy = (x.set_index("eta").loc[both].reset_index() for x in (offline, greedy))
    statement = "the more noise, the larger the factor between LogLossBC and NAIL-F"
    source, refutes = "docs/theory.md §4.1, §4.2", (
        "between two neighbouring η the factor falls (95 % interval of the change below 0, the second within the "
        "budget), or from the least to the largest η (interval below 0), or it is below 1 at the largest (intervals "
        "apart); undecided where the interval of the growth holds 0 or those at the largest η overlap; beyond the "
        "budget LogLossBC's n* is taken to be the budget, a lower bound, which cannot refute"
    )  # fmt: skip
    beyond = (offline.censored != 0).to_numpy()
    needs = {
        "2 η of LogLossBC and NAIL-F": len(both) >= 2,
        "LogLossBC within the budget at the least η": not beyond[:1].any(),
        "NAIL-F within the budget": not greedy.censored.any(),
        **above_zero(pd.concat([offline, greedy])),
    }

    def measure() -> tuple[str, bool | None]:
        ratio = np.log((episodes(offline) / greedy.n_star).to_numpy(float))
        sd = np.hypot(log_sd(offline), log_sd(greedy))
        falls = (np.diff(ratio) + NORMAL_95 * np.hypot(sd[1:], sd[:-1]) < 0) & ~beyond[1:]
        change, half = ratio[-1] - ratio[0], NORMAL_95 * np.hypot(sd[0], sd[-1])
        first, last = offline.iloc[-1], greedy.iloc[-1]
        grows = True if change > half else False if change < -half and not beyond[-1] else None
        above = True if first.low > last.high else False if first.high < last.low else None
        measured = "n*(LogLossBC)/n*(NAIL-F): " + at_each("eta", offline, np.exp(ratio))
        if beyond.any():
            measured += "; a lower bound at " + ", ".join(f"η={eta:g}" for eta in offline.eta[beyond])
        return measured, every(not falls.any(), grows, above)

    return judged(statement, source, refutes, needs, measure)


def draw(table: pd.DataFrame, unit: str = "episodes") -> Figure:
    """n* on a logarithmic axis against η; to the right what a level costs the learners of labels, beside 1/κ."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    table = in_unit(table, unit)
    found = table[~table.method.isin(KNOWN)]
    row = next(found.itertuples())
    for name in KNOWN:
        reference(left, table, name, "eta")
    for method in EXPONENTIAL + POLYNOMIAL:
        if len(points := of(found, method=method)):
            measured(left, look(method), points, "eta", label=label(method))
    level = table.assign(**(table[["episodes", "low", "high"]] / row.horizon))
    for name in ("n_greedy", "n_levels"):
        reference(right, level, name, "eta")
    for method in ("dagger", "nail-f"):
        if len(points := of(level, method=method)):
            measured(right, look(method), points, "eta")
    exact = of(table, method="n_levels")
    cost = row.horizon if unit == "queries" else 1
    right.plot(exact.eta, cost / exact.kappa, label="1/κ", **{**REFERENCE["lower"], "linestyle": "--"})
    left.set_ylim(max(found.low.min(), 0.5) / 1.5, found.episodes.max() * 2)
    left.set_ylabel(n_label(unit))
    right.set_ylabel("episodes a level, n*/H" if unit == "episodes" else "expert queries a level, n*")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_xlabel("corruption rate η")
    handles, labels = left.get_legend_handles_labels()
    more = right.get_legend_handles_labels()
    figure.legend([*handles, more[0][-1]], [*labels, more[1][-1]], loc="outside upper center", ncols=3,
                  columnspacing=1.2)  # fmt: skip
    note(
        figure, f"poison chain, H = {row.horizon}, A = {row.n_actions}, δ = {row.delta}; {row.replicates} "
        "replicates a point, bands: 95 % intervals; open marks with arrows: beyond the budget.\n"
        "Under uniform ν NAILGUN is NAIL-F: not drawn twice. Learners that read probabilities have another oracle.",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_noise",
    "n*(η) at fixed H: offline and sampling learners against greedy ones, and what a level costs",
    {
        "smoke": "about 10 seconds on two cores",
        "cpu": "about 35 seconds on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure_n_star, analyse, claims, draw, censored, ("episodes", "queries"), SIZES, {"smoke": 10, "cpu": 35},
)  # fmt: skip

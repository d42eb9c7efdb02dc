"""n*(η) at a fixed horizon, on the poison chain: what noise costs a learner that sees only clean trajectories' heads,
and what it costs one that labels its own greedy path.

docs/theory.md §4.1, §4.2 and §5: offline n* grows as q^{−(H−1)} times the labels that a plurality needs; for NAIL the
rate of a deterministic class under uniform noise is 1/κ, κ = 2(√q − √(η/A))².
"""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.methods import METHOD
from nail.theory.bounds import kappa

from ._nstar import (
    EXPONENTIAL,
    KNOWN,
    POLYNOMIAL,
    censored,
    episodes,
    known_claims,
    measure_n_star,
    reached,
    with_known,
)
from ._theory import Point, figure_of_points

WITHIN = 3.0
"""κ·n* of a learner whose n* is about 1/κ varies by less than this factor"""


class Size(NamedTuple):
    """A preset."""

    etas: tuple[float, ...]
    horizon: int
    replicates: int
    budget: int
    n_actions: int = 4
    delta: float = 0.1


TENTHS = tuple(i / 10 for i in range(1, 9))
SIZES = {
    "smoke": Size((0.1, 0.3, 0.5), 3, 40, 300),
    "cpu": Size(TENTHS, 8, 400, 100_000),
    "paper": Size((*(i / 20 for i in range(1, 18)),), 16, 2_000, 1_000_000),
}


def series(preset: str) -> list[list[Point]]:
    """One series of growing η for each learner; the known curves at the end."""
    size = SIZES[preset]
    common = {"instance": "poison-chain", "horizon": size.horizon, "n_actions": size.n_actions, "delta": size.delta}
    found = []
    for i, method in enumerate(EXPONENTIAL + POLYNOMIAL):
        rest = {"replicates": size.replicates, "seed": 100 + i, "budget": size.budget}
        found.append([{**common, "method": method, "eta": eta, **rest} for eta in size.etas])
    rest = {"replicates": 0, "seed": 0, "budget": 0}
    found.append([{**common, "method": method, "eta": eta, **rest} for method in KNOWN for eta in size.etas])
    return found


def with_kappa(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column κ(η)."""
    return rows.assign(kappa=list(map(kappa, rows.n_actions, rows.eta)))


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """n* in episodes with its interval (the budget where censored), and κ."""
    kept = ["low", "high", "censored", "horizon", "n_actions", "delta", "replicates"]
    return with_kappa(rows).assign(episodes=episodes)[["method", "eta", "episodes", *kept, "kappa"]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Agreement with the exact curve, both bounds, the 1/κ law, and who is hurt more by noise."""
    rows = with_kappa(with_known(rows, "eta"))
    offline = reached(rows, method="loglossbc")
    scaling = [_kappa_claim(reached(rows, method=method), METHOD[method].label) for method in POLYNOMIAL]
    ratios = "n*/n_offline: " + _at_each(offline.eta, offline.n_star / offline.n_offline)
    return [*known_claims(rows, "", "at every η", "at every η", ratios), *scaling, _gap_claim(rows)]


def _at_each(etas: Iterable[float], values: Iterable[float]) -> str:
    return ", ".join(f"η={eta:g} {x:.2f}" for eta, x in zip(etas, values, strict=True))


def _kappa_claim(found: pd.DataFrame, label: str) -> Claim:
    """n*·κ is constant up to a factor if n* is proportional to 1/κ."""
    raw, scaled = (x.max() / x.min() for x in (found.n_star, found.n_star * found.kappa))
    return Claim(
        f"n* of {label} is about 1/κ(η): κ·n* varies by less than a factor {WITHIN:g}",
        "docs/theory.md §5",
        f"κ·n* varies by a factor {scaled:.2f} while n* varies by {raw:.1f} "
        f"(η = {found.eta.min():g}–{found.eta.max():g})",
        bool(scaled < WITHIN),
    )


def _gap_claim(rows: pd.DataFrame) -> Claim:
    n = reached(rows).pivot(index="eta", columns="method", values="n_star")
    ratios = (n["loglossbc"] / n["nail-f"]).dropna()
    return Claim(
        "the more noise, the larger the factor between LogLossBC and NAIL-F",
        "docs/theory.md §4.1, §4.2",
        "n*(LogLossBC)/n*(NAIL-F): " + _at_each(ratios.index, ratios),
        bool(ratios.is_monotonic_increasing and ratios.is_unique and ratios.iloc[-1] > 1),
    )


def draw(table: pd.DataFrame) -> Figure:
    """Episodes on a logarithmic axis against η; to the right n*·κ, flat where n* is proportional to 1/κ."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method, (_, kind, label) in KNOWN.items():
        points = table[table.method == method]
        left.plot(points.eta, points.episodes, label=label, **REFERENCE[kind])
        right.plot(points.eta, points.episodes * points.kappa, **REFERENCE[kind])
    for method in EXPONENTIAL + POLYNOMIAL:
        points, style, hollow = table[table.method == method], look(method), method == "nailgun"
        measured(left, style, points, "eta", hollow=hollow, label=METHOD[method].label)
        scaled = points[["episodes", "low", "high"]].mul(points.kappa, axis=0)
        measured(right, style, points.assign(**scaled), "eta", hollow=hollow)
    found = table[~table.method.isin(KNOWN)]
    left.set_ylim(found.low.min() / 1.5, found.episodes.max() * 2)
    left.set_ylabel("episodes n* until P(all H right) ≥ 1 − δ")
    right.set_ylabel("κ·n* (flat if n* ∝ 1/κ)")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_xlabel("corruption rate η")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5, columnspacing=1.2)
    row = next(found.itertuples())
    note(
        figure, f"poison chain, H = {row.horizon}, A = {row.n_actions}, δ = {row.delta}; {row.replicates} "
        "replicates a point, bands: 95 % bootstrap intervals; open marks with arrows: beyond the budget",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_noise",
    "n*(η) at fixed H: offline and sampling learners against greedy ones, and the 1/κ law",
    {
        "smoke": "about 12 seconds on two cores",
        "cpu": "about 1 minute on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure_n_star, analyse, claims, draw, censored,
)  # fmt: skip

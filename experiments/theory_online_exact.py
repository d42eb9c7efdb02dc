"""The exact law of a greedy learner beside the simulated one: success(n) and n*(H), on the poison chain.

docs/theory.md §4.2: success(n) = (e_n)ᵀ R^H 1 with R the law of one level, so n*(H) = μH + z_{1−δ}·σ√H + O(1), μ and σ
the mean and the spread of one level's cost (here with ties to the lowest action, as the learner breaks them). R is a
dynamic programme for two actions; for four it comes from one simulated level, whose error is in the intervals of
success(n), not in those of n*. Every measured point has its own random numbers.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from nail.counting.drivers import Setting
from nail.counting.nstar import level_octaves
from nail.figures.claims import inside, judged
from nail.figures.experiment import Claim, Row
from nail.figures.own import chosen
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, measured, note
from nail.stats import NORMAL_95, REFUTED, coverage_chance, proportion_interval
from nail.theory.online import (
    Level,
    episodes_per_level,
    level_moments,
    level_table,
    n_star_online,
    success_curve,
    success_error,
)
from nail.theory.scaling import fit_line

from ._nstar import (
    COLUMNS,
    ENDS,
    UNITS,
    at_each,
    both_units,
    coverage_claim,
    enough_points,
    episodes,
    fit_n_star,
    in_unit,
    log_sd,
    measure_n_star,
    of,
)
from ._theory import Point, figure_of_points, seeded

ACTIONS = {2: "exact", 4: "simulated"}
"""number of actions → how the law of one level is had"""
LOOKS = dict(zip(ACTIONS, (case._replace(line="none") for case in CASES[1:3]), strict=True))
SOURCE = "docs/theory.md §4.2"
NEAR = 0.05
"""relative distance of a fitted μ from the exact one that counts as equal"""
ROOT, ROOT_MARGIN = 0.5, 0.15
"""exponent of n* − μH, and what counts as that"""
SHARES = (0.3, 0.6, 0.9)
"""success is measured where the law first reaches these"""
CURVE = 40
"""points of a drawn curve of success"""


class Size(NamedTuple):
    """A preset."""

    H: tuple[int, ...]
    """of measured n*"""
    H_success: tuple[int, ...]
    """of measured success"""
    replicates: int
    levels: int
    """simulated levels behind the law for A > 2"""
    max_episodes: int
    eta: float = 0.5
    delta: float = 0.1

    def varied(self, **changes: Any) -> "Size":
        """With other values: success is measured at the ends of the horizons `H`, unless it is said where."""
        also = {"H_success": tuple(sorted({min(changes["H"]), max(changes["H"])}))} if "H" in changes else {}
        return self._replace(**{**also, **changes})


SIZES = {
    "smoke": Size((2, 4, 6, 8), (2, 8), 100, 4000, 500),
    "cpu": Size((4, 8, 16, 25, 50, 75, 100, 130, 160, 200), (2, 5, 10, 20, 50, 200), 1000, 20_000, 2000),
    "paper": Size(
        (4, 8, 16, 25, 50, 75, 100, 150, 200, 300, 400), (2, 5, 10, 20, 50, 200, 400), 10_000, 30_000, 4000
    ),
}  # fmt: skip


def series(size: str | Size) -> list[list[Point]]:
    """One series for each number of actions: the curves, then the points, the costliest first."""
    size = chosen(SIZES, size)
    found = []
    for n_actions in ACTIONS:
        common = {
            "instance": "poison-chain", "method": "nail-f", "n_actions": n_actions, "eta": size.eta,
            "delta": size.delta, "levels": size.levels, "longest": max(size.H),
            "replicates": size.replicates, "budget": size.max_episodes, "horizon": "", "share": "",
        }  # fmt: skip
        few = sorted(size.H_success)
        points = [{"kind": "curve"}, *({"kind": "law", "horizon": h} for h in few)]
        points += [{"kind": "n_star", "horizon": h} for h in sorted(size.H, reverse=True)]
        points += [{"kind": "success", "horizon": h, "share": s} for h in reversed(few) for s in SHARES]
        found.append([seeded({**common, **point}) for point in points])
    return found


@lru_cache
def law(n_actions: int, eta: float, levels: int, longest: int, delta: float) -> Level:
    """One level, with labels enough for `longest` of them to succeed with probability 0.99, and 1 − δ."""
    labels, reached = math.ceil(1.25 * longest * episodes_per_level(n_actions, eta)) + 40, False
    while not reached:
        level = level_table(n_actions, eta, labels, replicates=levels)
        reached, labels = success_curve(level, [longest])[0, -1] >= max(0.99, 1 - delta), 2 * labels
    return level


def measure(point: Point) -> list[Row]:
    """By `kind`: "curve", n* of the law at every horizon; "law", its success at one; or "n_star" and "success", those
    measured, with the law's beside it as `exact`."""
    level = law(*(point[k] for k in ("n_actions", "eta", "levels", "longest", "delta")))
    delta = point["delta"]
    known = {"mu": episodes_per_level(point["n_actions"], point["eta"]),
             "root": norm.isf(delta) * level_moments(level)[1]}  # fmt: skip
    row = {**dict.fromkeys((*COLUMNS, "n", "success", "exact_error"), ""), **point, **known}
    horizon = point["horizon"]
    if point["kind"] == "n_star":
        return [{**row, **found, "exact": n_star_online(level, horizon, delta)} for found in measure_n_star(point)]
    if point["kind"] == "curve":
        horizons = list(range(1, point["longest"] + 1))
        n_star = np.argmax(success_curve(level, horizons) >= 1 - delta, axis=1)
        return [{**row, "horizon": h, "exact": int(n)} for h, n in zip(horizons, n_star, strict=True)]
    success = success_curve(level, [horizon])[0]
    if point["kind"] == "law":
        drawn = np.linspace(*np.searchsorted(success, (0.001, 0.99)), CURVE).astype(int)
        return [{**row, "n": n, "exact": success[n]} for n in np.unique(drawn)]
    n, right = simulated(point, int(np.argmax(success >= point["share"])))
    share = proportion_interval(right, point["replicates"])
    law_error = success_error(level, horizon, n)
    found = {"n": n, "success": share.estimate, "low": share.low, "high": share.high}
    return [{**row, **found, "exact": success[n], "exact_error": law_error}]


def simulated(point: Point, least: int) -> tuple[int, int]:
    """The first checkpoint n >= `least` of the simulated learner, and its replicates that are right at all levels."""
    octaves = level_octaves(
        point["method"], point["horizon"], point["n_actions"], Setting(point["eta"]), point["replicates"],
        point["seed"], max(point["budget"], least + 1),
    )  # fmt: skip
    episodes, loss = next((at, loss) for at, loss in octaves if at[-1] >= least)
    first = int(np.searchsorted(episodes, least))
    return int(episodes[first]), int((~loss[:, first]).sum())


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Measured n* (episodes, or the budget) and measured success, with their 95 % intervals, beside the curves."""
    measured_there = ["n", "success", "episodes", *ENDS, "censored", "queries", "queries_low", "queries_high"]
    known = ["exact", "exact_error", "mu", "root", "eta", "delta", "replicates", "levels"]
    return both_units(rows)[["kind", "n_actions", "horizon", *measured_there, *known]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Coverage of success and of n*; μ and the √H term, for each number of actions."""
    found = []
    for n_actions in ACTIONS:
        here = of(rows, n_actions=n_actions)
        found += [
            _success_claim(of(here, kind="success"), n_actions), _slope_claim(of(here, kind="n_star"), n_actions),
            _root_claim(of(here, kind="n_star"), n_actions),
        ]  # fmt: skip
    return [*found, coverage_claim(
        of(rows, kind="n_star"), "exact", "horizon",
        "n*(H) of simulated NAIL-F is that of the law of one level, A = 2 and 4", SOURCE,
    )]  # fmt: skip


def _success_claim(points: pd.DataFrame, n_actions: int) -> Claim:
    """Clopper and Pearson's intervals, their ends moved outwards by the law's own error in quadrature (0 at A = 2)."""

    def measure() -> tuple[str, bool]:
        share, error = points.success, NORMAL_95 * points.exact_error
        low = share - np.hypot(share - points.low, error)
        high = share + np.hypot(points.high - share, error)
        hits = int(points.exact.between(low, high).sum())
        p = coverage_chance(hits, len(points))
        differences = zip(points.horizon, points.n, share - points.exact, strict=True)
        return (
            f"{hits} of {len(points)} contain it (probability {p:.2g}); measured − law: "
            + ", ".join(f"H={h} n={n:.0f} {d:+.3f}" for h, n, d in differences), p >= REFUTED,
        )  # fmt: skip

    return judged(
        f"success(n) of simulated NAIL-F at A = {n_actions} is (e_n)ᵀ R^H 1", SOURCE,
        "so few of the 95 % intervals (Clopper and Pearson, with the law's own standard error where it is simulated) "
        f"contain the law's that this few or fewer has probability below {REFUTED:g} (binomial, 0.95 each)",
        {"points of success": len(points) > 0}, measure,
    )  # fmt: skip


def _slope_claim(points: pd.DataFrame, n_actions: int) -> Claim:
    def measure() -> tuple[str, bool | None]:
        mu, root = (float(points[name].max()) for name in ("mu", "root"))
        line = fit_n_star(points, root).linear
        low, high = line.interval
        numbers = f"slope {line.slope:.4f} [{low:.4f}, {high:.4f}], μ = {mu:.4f}; z·σ = {root:.3f}"
        return numbers, inside((low, high), (1 - NEAR) * mu, (1 + NEAR) * mu)

    return judged(
        f"measured n*(H) at A = {n_actions} is μH + z·σ√H + a with the exact μ: the fitted slope is within {NEAR:.0%}",
        SOURCE,
        f"the 95 % interval of the fitted slope (z·σ from the law, a free) is not inside [{1 - NEAR:g}μ, "
        f"{1 + NEAR:g}μ]; undecided where it is wider than that and meets it",
        enough_points(points), measure,
    )  # fmt: skip


def _root_claim(points: pd.DataFrame, n_actions: int) -> Claim:
    n, mu = episodes(points), points.mu
    rest = n - mu * points.horizon

    def measure() -> tuple[str, bool | None]:
        each = "n* − μH: " + at_each("horizon", points, rest)
        if (rest <= 0).any():
            return f"no exponent; {each}", False
        sd = log_sd(points) * (n / rest).to_numpy(float)
        fit = fit_line(np.log(points.horizon.to_numpy(float)), np.log(rest.to_numpy(float)), sd)
        numbers = f"exponent {fit.slope:.3f} [{fit.interval[0]:.3f}, {fit.interval[1]:.3f}]; {each}"
        return numbers, inside(fit.interval, ROOT - ROOT_MARGIN, ROOT + ROOT_MARGIN)

    return judged(
        f"measured n*(H) − μH at A = {n_actions} grows as √H, not as H (exponent {ROOT:g} ± {ROOT_MARGIN:g})", SOURCE,
        f"the 95 % interval of the slope of log(n* − μH) on log H is not inside {ROOT:g} ± {ROOT_MARGIN:g}, or an n* "
        "is at most μH; undecided where the interval is wider than that and meets it",
        {**enough_points(points), "no point beyond the budget": not points.censored.any()}, measure,
    )  # fmt: skip


def draw(table: pd.DataFrame, unit: str = "episodes") -> Figure:
    """n*(H) with the law and its asymptote; what it is above μH, against √H; success against n at a few horizons."""

    def per(rows: pd.DataFrame) -> pd.Series | int:
        return rows.horizon if unit == "queries" else 1

    figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
    panels = figure.subplot_mosaic([["n", "rest"], ["success", "success"]])
    for n_actions, how in ACTIONS.items():
        here, style, colour = of(table, n_actions=n_actions), LOOKS[n_actions], {"color": LOOKS[n_actions].colour}
        curve, points = of(here, kind="curve"), of(here, kind="n_star")
        h, asymptote = curve.horizon, curve.mu * curve.horizon + curve.root * np.sqrt(curve.horizon)
        exact, limit = {**REFERENCE["exact"], **colour}, {**REFERENCE["lower"], **colour}
        measured(panels["n"], style, in_unit(points, unit), "horizon", label=f"A = {n_actions}, measured")
        panels["n"].plot(h, curve.exact * per(curve), label=f"law of one level ({how})", **exact)
        panels["n"].plot(h, asymptote * per(curve), label="μH + z·σ√H", **limit)
        rest = points[["episodes", *ENDS]].sub(points.mu * points.horizon, axis=0).assign(root=np.sqrt(points.horizon))
        measured(panels["rest"], style, rest, "root")
        panels["rest"].plot(np.sqrt(h), curve.exact - curve.mu * h, **exact)
        panels["rest"].plot(np.sqrt(h), asymptote - curve.mu * h, **limit)
        for _, rise in of(here, kind="law").groupby("horizon"):
            panels["success"].plot(rise.n * per(rise), rise.exact, **exact)
        dots = of(here, kind="success")
        panels["success"].errorbar(
            dots.n * per(dots), dots.success, [dots.success - dots.low, dots.high - dots.success],
            fmt=style.mark, markersize=3.5, elinewidth=0.9, **colour,
        )  # fmt: skip
    panels["n"].set_ylabel(UNITS[unit])
    panels["n"].set_xlabel("horizon H (steps)")
    panels["rest"].set_ylabel("n* − μH (episodes)")
    panels["rest"].set_xlabel("√H")
    panels["success"].set_xscale("log")
    panels["success"].set_xlim(left=max(of(table, kind="success").n.min(), 0.5) * 0.8)
    few = ", ".join(map(str, np.unique(of(table, kind="law").horizon)))
    panels["success"].set_xlabel(("expert queries H·n" if unit == "queries" else "episodes n") + f"; H = {few}")
    panels["success"].set_ylabel("P(all H right)")
    figure.legend(*panels["n"].get_legend_handles_labels(), loc="outside upper center", ncols=2, columnspacing=1.2)
    row = next(table.itertuples())
    note(
        figure, f"NAIL-F on the poison chain, η = {row.eta}; n*: first n with P(all H right) ≥ 1 − δ, δ = {row.delta}; "
        f"{row.replicates} replicates a point, all independent;\nbands and bars: 95 % intervals (Clopper and "
        f"Pearson); law at A = 4 from {row.levels} simulated levels",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_online_exact",
    "the exact law of a greedy learner beside the simulated one: success(n), n*(H) to H = 200, and its √H term",
    {
        "smoke": "about 10 seconds on two cores",
        "cpu": "about 50 seconds on two cores",
        "paper": "more horizons and replicates; not timed yet",
    },
    series, measure, analyse, claims, draw, units=tuple(UNITS), sizes=SIZES, seconds={"smoke": 10, "cpu": 50},
)  # fmt: skip

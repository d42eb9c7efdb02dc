"""What the figures that measure n* share: n* and the known curves as rows, units, intervals, fits, claims."""

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from scipy.stats import norm

from nail.checks import BadInput, require_known
from nail.complexity.intervals import log_sd
from nail.counting.crossing import NStar, crossing
from nail.counting.drivers import Setting
from nail.counting.nstar import instance_octaves, n_star, oracle
from nail.envs.instances import hidden_path
from nail.figures.claims import judged
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import REFERENCE, look
from nail.methods import METHOD
from nail.stats import REFUTED, coverage_chance
from nail.theory.bounds import phased_nail
from nail.theory.exact import n_bc, n_offline
from nail.theory.known import n_greedy, n_levels
from nail.theory.scaling import Scaling, fit_scaling

from ._theory import Point

EXPONENTIAL = ("loglossbc", "opd-f", "opd-r")
"""learners whose episodes follow the noisy expert or are sampled from a law fitted to it"""
POLYNOMIAL = ("dagger", "nail-f", "nail-r")
"""learners whose episodes are greedy in the end"""
FEWEST = 3
"""points within the budget that a claim about a curve takes"""
TREE = "hidden-path-tree"
"""the hidden path's own tree, run by the loop for any finite MDP"""
LEANING = float(norm.isf(REFUTED / 2))
"""standard deviations by which all points together may lie to one side of a curve"""


KNOWN = {
    "n_offline": (n_offline, "lower", "genie: lower bound, offline"),
    "n_bc": (n_bc, "exact", "LogLossBC on the chain, exact"),
    "n_greedy": (n_greedy, "exact", "NAIL-F, from the law of one level"),
    "n_levels": (n_levels, "lower", "μH, mean cost of H levels"),
    "phased": (phased_nail, "upper", "phased NAIL, upper bound"),
}
"""curves that are known beside the measured n*: name → function of (H, A, η, δ), how it is drawn, label"""


COLUMNS = (
    "n_star", "low", "high", "queries", "queries_low", "queries_high", "censored", "allowed", "resolution", "mean_loss",
    "oracle",
)  # fmt: skip
"""of a measured n*: episodes and expert queries with their intervals, infinite where censored, what a query reads"""


def n_star_tree(point: Point) -> NStar:
    """n* on the hidden path's own tree, by the loop for any finite MDP: the same number of replicates of each of the
    A^H secrets, each right or wrong as the chain's are."""
    horizon, n_actions, method = point["horizon"], point["n_actions"], point["method"]
    secrets = product(range(n_actions), repeat=horizon)
    drawn = [hidden_path(horizon, n_actions, np.array(secret)) for secret in secrets]
    setting, seed, budget = Setting(point["eta"]), point["seed"], point["budget"]
    octaves = instance_octaves(drawn, method, setting, point["replicates"], seed, budget, pool=True)
    failures = ((at, loss > 0.5) for at, loss in octaves)
    return crossing(failures, point["delta"], horizon, budget, oracle(method))


def measure_n_star(point: Point) -> list[Row]:
    """n* of `point` as one row: of a curve of `KNOWN` (NaN where that cannot be had), or measured (instance, method,
    horizon, n_actions, eta, delta, replicates, seed, budget; and what the learner is told, where that matters)."""
    if point["method"] in KNOWN:
        try:
            value = KNOWN[point["method"]][0](point["horizon"], point["n_actions"], point["eta"], point["delta"])
        except BadInput:
            value = math.nan
        return [{**point, **dict.fromkeys(COLUMNS, ""), "n_star": value, "low": value, "high": value, "censored": 0}]
    told = {name: point[name] for name in ("kernel", "told_eta", "told_kernel") if name in point}
    setting = Setting(**{k: np.asarray(v) if isinstance(v, list) else v for k, v in told.items()})
    found = n_star_tree(point) if point["instance"] == TREE else n_star(
        point["instance"], point["method"], point["horizon"], point["n_actions"], point["eta"], point["delta"],
        point["replicates"], point["seed"], point["budget"], setting,
    )  # fmt: skip
    return [{**point, **columns_of(found)}]


def columns_of(found: NStar) -> Row:
    """A measured n* as `COLUMNS`."""
    episodes, queries = (np.inf, np.inf) if found.censored else (found.value, found.queries)
    numbers = (
        episodes, *found.interval, queries, *found.query_interval, int(found.censored), found.budget, found.resolution,
        found.mean_loss, found.oracle,
    )  # fmt: skip
    return dict(zip(COLUMNS, numbers, strict=True))


def label(method: str) -> str:
    """Name of a learner, with its oracle where that is not labels."""
    reads = oracle(method)
    return METHOD[method].label + ("" if reads == "labels" else f" (reads {reads})")


def censored(rows: list[Row]) -> bool:
    """Whether the budget did not suffice at any of these points (rows as text)."""
    return any(int(row["censored"]) for row in rows)


def of(rows: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The points with the `wanted` values."""
    return rows[(rows[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def with_known(rows: pd.DataFrame, on: str) -> pd.DataFrame:
    """The measured points with the known curves at the same value of the column `on` beside them, as columns."""
    curves = {name: rows[rows.method == name].set_index(on).n_star for name in KNOWN}
    measured = rows[~rows.method.isin(KNOWN)]
    return measured.assign(**{name: measured[on].map(curve) for name, curve in curves.items()})


def episodes(rows: pd.DataFrame) -> pd.Series:
    """n*, or the budget where it did not suffice."""
    return rows.n_star.where(rows.censored == 0, rows.allowed)


UNITS = {"episodes": "episodes n*", "queries": "expert queries H·n*"}
"""what n* is counted in → the start of its axis label"""
ENDS = ("low", "high")
"""columns of an interval of `episodes`; `queries_low`, .. are those of `queries`"""


def both_units(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with n* in both units: `episodes` (the budget where it did not suffice), `queries` = H·episodes (the
    expert answers once a step: one oracle, see `label`), each with its interval."""
    n = rows.assign(episodes=episodes(rows))[["episodes", *ENDS]].astype(float)
    queries = n.mul(rows.horizon, axis=0).set_axis(["queries", *(f"queries_{end}" for end in ENDS)], axis=1)
    return rows.assign(episodes=n.episodes, **queries)


def in_unit(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """A table of `both_units` whose columns `episodes`, `low` and `high` are in this unit, for drawing."""
    if unit == "episodes":
        return table
    return table.assign(episodes=table[unit], **{end: table[f"{unit}_{end}"] for end in ENDS})


def n_label(unit: str, reached: str = "P(all H right) ≥ 1 − δ") -> str:
    """Label of an axis of n*, in `unit`, until `reached`."""
    return f"{UNITS[unit]} until {reached}"


def reference(axes: Axes, table: pd.DataFrame, name: str, on: str) -> None:
    """A known curve, those of NAIL-F in its colour."""
    _, kind, title = KNOWN[name]
    colour = {"color": look("nail-f").colour} if name in ("n_greedy", "n_levels") else {}
    points = of(table, method=name)
    axes.plot(points[on], points.episodes, label=title, zorder=1.5, **{**REFERENCE[kind], **colour})


def fit_n_star(rows: pd.DataFrame, root: float | None = None) -> Scaling | None:
    """The fits of n*(H) over all points, censored ones as such (`root`: see `fit_scaling`); None for fewer than
    `FEWEST` within the budget."""
    if (rows.censored == 0).sum() < FEWEST:
        return None
    n = rows.n_star.where(rows.censored == 0, np.inf)
    columns = rows.horizon, n, log_sd(rows), rows.allowed
    return _fit(*(tuple(map(float, column)) for column in columns), root)


@lru_cache
def _fit(horizons: tuple, n: tuple, sd: tuple, budget: tuple, root: float | None) -> Scaling:
    """The table and the claims of a figure read the same fits."""
    return fit_scaling(*map(np.array, (horizons, n, sd, budget)), root=root)


def log_ratio(above: pd.DataFrame, below: pd.DataFrame) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """log of the ratio of two independent measurements of n*, point by point, and its standard deviation."""
    return (
        np.log(above.n_star.to_numpy(float) / below.n_star.to_numpy(float)),
        np.hypot(log_sd(above), log_sd(below)),
    )


NAMES = {"horizon": "H", "eta": "η", "rho": "ρ"}


def at_each(on: str | tuple[str, ...], points: pd.DataFrame, values: Iterable[float]) -> str:
    """A number at each point, named by one column or several: "H=4 1.02, H=6 0.98, .."."""
    columns = [on] if isinstance(on, str) else list(on)
    places = points[columns].itertuples(index=False)
    return ", ".join(
        " ".join([*(f"{NAMES[c]}={value:g}" for c, value in zip(columns, place, strict=True)), f"{x:.3g}"])
        for place, x in zip(places, values, strict=True)
    )


def enough_points(points: pd.DataFrame) -> dict[str, bool]:
    """The need of a claim about a curve of measured points."""
    enough = int((points.censored == 0).sum()) >= FEWEST
    return {f"{FEWEST} points within the budget": enough, **above_zero(points)}


def above_zero(points: pd.DataFrame) -> dict[str, bool]:
    """The need of what reads the logarithm of n*: few replicates can be right before the first episode."""
    return {"n* above 0": bool((points.n_star > 0).all())}


def require_methods(figure: str, methods: Iterable[str]) -> None:
    """`BadInput` for a learner that the figures of n* over H and η do not draw."""
    for method in methods:
        require_known(f"method of {figure}", method, EXPONENTIAL + POLYNOMIAL)


def coverage_claim(points: pd.DataFrame, curve: str, on: str | tuple[str, ...], statement: str, source: str) -> Claim:
    """The measured n* of `points` is that of the known `curve` (a column, `with_known`), by two tests of the points
    within the budget: how many 95 % intervals contain it, and Σz/√k, z = log(n*/curve)/sd, for what they have in
    common. A censored point whose budget is above the curve is a miss; another one says nothing."""
    found = points[points.censored == 0]

    def measure() -> tuple[str, bool]:
        hits = int(found[curve].between(found.low, found.high).sum())
        trials = len(found) + int(((points.censored != 0) & (points.allowed > points[curve])).sum())
        chance = coverage_chance(hits, trials)
        z = np.log((found.n_star / found[curve]).to_numpy(float)) / log_sd(found)
        leaning = float(z.sum() / np.sqrt(len(z)))
        return (
            f"{hits} of {trials} contain it (probability {chance:.2g}); Σz/√k = {leaning:.2f}, k = {len(z)}; measured/"
            "curve: " + at_each(on, points, episodes(points) / points[curve]),
            bool(chance >= REFUTED and abs(leaning) <= LEANING),
        )

    return judged(
        statement, source,
        f"so few of the 95 % intervals contain the curve that this few or fewer has probability below {REFUTED:g} "
        f"(binomial, 0.95 each; a budget above the curve that does not suffice is a miss), or |Σz|/√k above "
        f"{LEANING:.2f} over the k points within the budget, z = log(n*/curve)/sd (two-sided, the same probability)",
        {**enough_points(points), "the curve at each point": bool(points[curve].notna().all())}, measure,
    )  # fmt: skip

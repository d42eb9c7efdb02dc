"""Who may drive when the expert is stochastic: greedy, sampled from the noisy law, sampled from the clean estimate.

docs/theory.md §4.8, on an A-ary tree of depth H whose expert answers everywhere, π*(·|s) drawn once per node: one
action (deterministic), or Dirichlet(1, .., 1) (stochastic). All three learners see labels through the known channel
with uniform ν and deploy the same thing, the maximum-likelihood clean law of their labels, sampled; they differ in who
drives. Everything below is exact given the labels, by enumeration of the A^H trajectories (nail/counting/trees.py):
the total variation between the trajectory laws of π* and π̂, and the π*-mass of trajectories through a node without a
label.

A greedy driver settles on the path of π*'s most probable actions, and labels no other node then, so the rest of its law
stays where it was. Its limit is the law that is π* on that path and uniform elsewhere: no bound, since before it
settles the driver leaves labels elsewhere. Nodes with a few labels are no longer unlabelled (about 0.4 of the mass), so
the unvisited mass does not come to that limit; they are too poorly known to move the total variation away from it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from nail.counting.drivers import Setting, Tally, World
from nail.counting.layered import simulation
from nail.counting.learners import Learner, clean_estimate
from nail.counting.trees import greedy_limit, total_variation, tree, unvisited_mass
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.noise import Huber
from nail.policies.softmax_table import frequencies
from nail.stats import jackknife_interval, mean_interval, ratio_interval

from ._theory import Point, figure_of_points, seeded

DRIVERS = {
    "nail-channel": "greedy",
    "opd-f": "sampled from the noisy law",
    "opd-channel": "sampled from the clean estimate",
}
"""method → who drives"""
EXPERTS = {"deterministic": "deterministic expert", "stochastic": "stochastic expert, Dirichlet(1)"}
QUANTITIES = {"tv": "TV(π*, π̂) of trajectories", "unvisited": "π*-mass, a node unlabelled"}
SOURCE = "docs/theory.md §4.8"
STANDS, FALLS = 0.0, -0.5
"""the theory's exponents of n, of a curve that does not fall any more and of one that does"""
EXPONENT_MARGIN = 0.1
"""distance of an exponent from the theory's that counts as being there"""
LIMIT_MARGIN = 0.1
"""relative distance from the limit that counts as being there"""
NOTHING, MOST = 0.01, 0.5
"""π*-masses"""


class Size(NamedTuple):
    """A preset."""

    trees: int
    replicates: int
    """learners per tree"""
    first: int
    """episodes before the first evaluation; later ones at twice, four times, .. that"""
    doublings: int
    span: int
    """doublings at the end, from which rates are read"""
    horizon: int = 5
    n_actions: int = 3
    eta: float = 0.5


SIZES = {
    "smoke": Size(4, 2, 8, 4, 3, horizon=3),
    "cpu": Size(24, 4, 16, 9, 3),
    "paper": Size(200, 8, 16, 14, 3),
}


def series(preset: str) -> list[list[Point]]:
    """One series of trees for each expert and driver; drivers meet the same trees."""
    fields = SIZES[preset]._asdict()
    count = fields.pop("trees")
    trees = [
        {"expert": expert, "tree": i, "tree_seed": seeded({"expert": expert, "tree": i})["seed"], **fields}
        for expert in EXPERTS
        for i in range(count)
    ]
    return [
        [seeded({**tree, "method": method}) for tree in trees if tree["expert"] == expert]
        for expert in EXPERTS
        for method in DRIVERS
    ]


def _labels(row: Learner, setting: Setting, world: World, tally: Tally) -> Int[np.ndarray, "H S A"]:
    return tally.labels


def measure(point: Point) -> list[Row]:
    """Mean over learners of both quantities on one tree, at each evaluation, with what they are in the greedy limit."""
    instance = tree(point["tree_seed"], point["horizon"], point["n_actions"], point["expert"])
    run = simulation(_labels, instance, point["method"], Setting(point["eta"]), point["replicates"], point["seed"])
    labelled, law = greedy_limit(instance.expert)
    limits = {
        "tv_limit": total_variation(law, instance.expert),
        "unvisited_limit": unvisited_mass(labelled, instance.expert),
    }
    at, rows = point["first"] * 2 ** np.arange(point["doublings"] + 1), []
    for episodes, more in zip(at, np.diff(at, prepend=0), strict=True):
        labels = run(more, 1)[:, 0]
        with jax.enable_x64(True):
            law = np.asarray(clean_estimate(frequencies(jnp.asarray(labels)), Huber(point["eta"], instance.kernel)))
        tv = total_variation(law, instance.expert).mean()
        missed = unvisited_mass((labels.sum(-1) > 0).astype(float), instance.expert).mean()
        rows.append({**point, "episodes": int(episodes), "tv": tv, "unvisited": missed, **limits})
    return rows


def by_tree(rows: pd.DataFrame, quantity: str) -> Float[np.ndarray, "trees n"]:
    """One expert's and driver's values, a row a tree and a column a number of episodes."""
    return rows.pivot(index="tree", columns="episodes", values=quantity).to_numpy()


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over trees with Student's 95 % interval, for each quantity, expert, driver and number of episodes."""
    parts = []
    for (expert, method), points in rows.groupby(["expert", "method"], sort=False):
        for quantity in QUANTITIES:
            value, low, high = mean_interval(by_tree(points, quantity))
            parts.append(pd.DataFrame({
                "quantity": quantity, "expert": expert, "method": method, "episodes": np.unique(points.episodes),
                "value": value, "low": low, "high": high, "limit": points[f"{quantity}_limit"].mean(),
                "trees": points.tree.nunique(), **dict(points.iloc[0][["replicates", "horizon", "n_actions", "eta"]]),
            }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Rates over the last doublings, the greedy limit, who is nearer, what is never labelled."""
    of = dict(iter(rows.groupby(["expert", "method"])))
    greedy = of["stochastic", "nail-channel"]
    return [
        _rate_claim(greedy, "stochastic", "nail-channel", falls=False),
        _limit_claim(greedy),
        *(_rate_claim(of["stochastic", method], "stochastic", method) for method in ("opd-channel", "opd-f")),
        _nearer_claim(of, "stochastic", "opd-channel"),
        *(_rate_claim(of["deterministic", method], "deterministic", method) for method in DRIVERS),
        _nearer_claim(of, "deterministic", "nail-channel"),
        *_unvisited_claims(of),
    ]  # fmt: skip


def _rate_claim(points: pd.DataFrame, expert: str, method: str, falls: bool = True) -> Claim:
    span = points.span.iloc[0] + 1
    log_n = np.log(np.unique(points.episodes)[-span:])
    values = by_tree(points, "tv")[:, -span:]
    slope, low, high = jackknife_interval(
        lambda each: np.polyfit(log_n, np.log(np.maximum(each.mean(0), 1e-300)), 1)[0], values
    )
    theory = FALLS if falls else STANDS
    how = f"{'falls with n' if falls else 'does not fall any more'} (exponent {theory:g} ± {EXPONENT_MARGIN})"
    return Claim(
        f"{expert} expert, driver {DRIVERS[method]}: the TV {how}, at the end", SOURCE,
        f"the 95 % interval (jackknife over trees) of the slope of log mean TV on log n, last {span - 1} doublings, "
        f"is not inside [{theory - EXPONENT_MARGIN:g}, {theory + EXPONENT_MARGIN:g}]",
        f"slope {slope:.3f} [{low:.3f}, {high:.3f}]; TV {values[:, 0].mean():.4f} at n = {np.exp(log_n[0]):.0f}, "
        f"{values[:, -1].mean():.4f} at n = {np.exp(log_n[-1]):.0f}",
        bool(low >= theory - EXPONENT_MARGIN and high <= theory + EXPONENT_MARGIN),
    )  # fmt: skip


def _last(points: pd.DataFrame, column: str) -> np.ndarray:
    """A column at the last evaluation, by tree."""
    return points[points.episodes == points.episodes.max()].sort_values("tree")[column].to_numpy()


def _limit_claim(points: pd.DataFrame) -> Claim:
    tv, limit = _last(points, "tv"), _last(points, "tv_limit")
    ratio, low, high = ratio_interval(tv, limit)
    return Claim(
        f"stochastic expert, driver greedy: the TV ends at its limit as computed (within {LIMIT_MARGIN:.0%})", SOURCE,
        f"the 95 % interval of mean TV/mean limit at the last n, jackknife over pairs of a tree, is not inside "
        f"[{1 - LIMIT_MARGIN:g}, {1 + LIMIT_MARGIN:g}]",
        f"ratio {ratio:.3f} [{low:.3f}, {high:.3f}]; TV {tv.mean():.4f}, limit {limit.mean():.4f}",
        bool(low > 1 - LIMIT_MARGIN and high < 1 + LIMIT_MARGIN),
    )  # fmt: skip


def _nearer_claim(of: dict[tuple[str, str], pd.DataFrame], expert: str, method: str) -> Claim:
    ratio, low, high = ratio_interval(_last(of[expert, method], "tv"), _last(of[expert, "opd-f"], "tv"))
    return Claim(
        f"{expert} expert: driver {DRIVERS[method]} ends nearer to π* than driver {DRIVERS['opd-f']}", SOURCE,
        "the 95 % interval of the ratio of mean TVs at the last n, jackknife over pairs of a tree, reaches 1 or more",
        f"ratio {ratio:.3f} [{low:.3f}, {high:.3f}]", high < 1,
    )  # fmt: skip


def _unvisited_claims(of: dict[tuple[str, str], pd.DataFrame]) -> list[Claim]:
    ends = {key: mean_interval(by_tree(points, "unvisited")[:, -1])[1:] for key, points in of.items()}
    low, high = ends.pop(("stochastic", "nail-channel"))
    points, rest = of["stochastic", "nail-channel"], max(high for _, high in ends.values())
    return [
        Claim(
            f"stochastic expert, driver greedy: a π*-mass above {MOST} passes a node without a label, at the end",
            SOURCE,
            f"Student's 95 % interval (over trees) of the mean unvisited mass at the last n reaches {MOST} or less",
            f"{_last(points, 'unvisited').mean():.3f} [{low:.3f}, {high:.3f}]; with labels on the greedy path alone "
            f"{_last(points, 'unvisited_limit').mean():.3f}", bool(low > MOST),
        ),
        Claim(
            f"every other driver and expert: the π*-mass through nodes without a label ends below {NOTHING}", SOURCE,
            f"at the last n Student's 95 % interval (over trees) of one of their mean masses reaches {NOTHING}",
            f"largest upper end {rest:.2g}", bool(rest < NOTHING),
        ),
    ]  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Quantities down, experts across."""
    figure = Figure(figsize=(TEXT_WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for (quantity, name), line in zip(QUANTITIES.items(), panels, strict=True):
        line[0].set_ylabel(name)
        for axes, expert in zip(line, EXPERTS, strict=True):
            here = table[(table.quantity == quantity) & (table.expert == expert)]
            for method, label in DRIVERS.items():
                measured(axes, look(method), here[here.method == method], "episodes", "value", label=label)
            limit = here.limit.iloc[0]
            if quantity == "tv" and limit > 0:
                axes.axhline(limit, label="greedy driver, limit", **REFERENCE["exact"])
    for axes, title in zip(panels[0], EXPERTS.values(), strict=True):
        axes.set_title(title)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    for axes in panels[1]:
        axes.set_xlabel("episodes n")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.legend(*panels[0, 1].get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1.2)
    row = next(table.itertuples())
    note(
        figure, f"tree of depth H = {row.horizon}, A = {row.n_actions}, uniform noise η = {row.eta}; deployed, whoever "
        f"drives: the clean law behind the labels; mean over {row.trees} trees × {row.replicates} learners,\n"
        "bands: Student's 95 % intervals over trees",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_drivers",
    "who may drive when the expert is stochastic: greedy, sampled from the noisy law, sampled from the clean estimate",
    {
        "smoke": "about 10 seconds on two cores",
        "cpu": "about 50 seconds on two cores",
        "paper": "more trees and episodes; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

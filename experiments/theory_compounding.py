"""εT² against εT: what one mistake costs with and without recovery, on the cliff (docs/theory.md §4.3).

The expected cost of a policy that errs with probability ε at on-path states: the recursion of
`exact.compounding_cost`, dynamic programming on the cliff itself, and simulated episodes of it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.envs.instances import cliff, erring
from nail.envs.mdp import TabularMDP, value
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, Look, note
from nail.stats import NORMAL_95, REFUTED, coverage_chance
from nail.theory.bounds import compounding_bound
from nail.theory.exact import compounding_cost

from ._theory import Point, figure_of_points, seeded

ERRORS = 4.5
"""standard errors beyond which a simulated cost is another one than the exact (error probability 7e-6 a point)"""
ROUNDING = 1e-9
SMALL = 0.1
"""εT up to which mistakes are rare: there the order T² is read"""
SHARE = 0.45
"""of the bound that the cost amounts to at leading order: ½ without recovery, 1 with it"""
NEAR = 0.1
"""distance of an exponent from the order"""


class Size(NamedTuple):
    """A preset."""

    horizons: tuple[int, ...]
    episodes: int
    error: float = 1e-3
    recoveries: tuple[int, ...] = (0, 2, 8)
    """u; 0: no recovery"""


SIZES = {
    "smoke": Size((10, 40, 80), 2_000, recoveries=(0, 2)),
    "cpu": Size((10, 20, 40, 80, 160, 320, 640, 1280, 2560), 5_000),
    "paper": Size((10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120), 200_000),
}


def series(preset: str) -> list[list[Point]]:
    """One series of growing T for each kind of recovery."""
    size = SIZES[preset]
    rest = {"error": size.error, "episodes": size.episodes}
    return [[seeded({"recovery": u, "horizon": horizon, **rest}) for horizon in size.horizons] for u in size.recoveries]


def measure(point: Point) -> list[Row]:
    """Cost T − J of the erring expert: closed form, dynamic programming, Monte Carlo with its standard error."""
    recovery = point["recovery"] or None
    instance = cliff(point["horizon"], 2, recovery)
    policy = erring(instance, point["error"])
    rng = np.random.default_rng(point["seed"])
    cost = point["horizon"] - simulate(instance.mdp, policy, point["episodes"], rng)
    return [
        {
            **point,
            "exact": compounding_cost(point["horizon"], point["error"], recovery),
            "dynamic_programme": float(point["horizon"] - value(instance.mdp, policy)),
            "simulated": float(cost.mean()),
            "standard_error": float(cost.std(ddof=1) / np.sqrt(len(cost))),
            "bound": compounding_bound(point["horizon"], point["error"], recovery),
        }
    ]


def simulate(
    mdp: TabularMDP, policy: Float[np.ndarray, "H S A"], episodes: int, rng: np.random.Generator
) -> Float[np.ndarray, " episodes"]:
    """Total reward of independent episodes of a policy, by Monte Carlo: s_1 ~ ρ, a_h ~ π_h(·|s_h), s_{h+1} ~ P_h."""

    def draw(laws):
        return np.minimum((rng.random(len(laws))[:, None] >= laws.cumsum(-1)).sum(-1), laws.shape[-1] - 1)

    state = draw(np.broadcast_to(mdp.rho, (episodes, mdp.n_states)))
    total = np.zeros(episodes)
    for h in range(mdp.horizon):
        action = draw(policy[h][state])
        total += mdp.r[h][state, action]
        state = draw(mdp.P[h][state, action])
    return total


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Expected cost (steps off the path, in T steps): exact, simulated with its 95 % interval, bound."""
    half = NORMAL_95 * rows.standard_error
    table = rows.assign(low=rows.simulated - half, high=rows.simulated + half)
    return table[["recovery", "horizon", "error", "episodes", "exact", "simulated", "low", "high", "bound"]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Three computations of one number agree; the bounds hold and have the right order, T² and T."""
    off = (rows.dynamic_programme / rows.exact - 1).abs().max()
    return [
        Claim(
            "computed: the closed form is the dynamic programme's cost on the cliff",
            "docs/theory.md §4.3",
            f"a relative difference of {ROUNDING:g} or more at any point",
            f"largest relative difference {off:.1e} over {len(rows)} points",
            bool(off < ROUNDING),
        ),
        _simulation_claim(rows),
        *(_bound_claim(chosen, recovery) for recovery, chosen in rows.groupby("recovery")),
        *(_order_claim(chosen, recovery) for recovery, chosen in rows.groupby("recovery")),
    ]


def _simulation_claim(rows: pd.DataFrame) -> Claim:
    """Points are independent; where no episode erred there is no interval, and the point counts as missed."""
    away = (rows.simulated - rows.exact).abs() / rows.standard_error.where(rows.standard_error > 0, 0.0)
    hits = int((away < NORMAL_95).sum())
    chance = coverage_chance(hits, len(rows))
    return Claim(
        "the simulated cost's 95 % intervals contain the exact cost as often as they should",
        "docs/theory.md §4.3",
        f"so few intervals with it that P(that few or fewer) < {REFUTED:g} at a coverage of 95 %, or a point more than "
        f"{ERRORS} standard errors away",
        f"{hits} of {len(rows)} intervals contain it (P = {chance:.2g}); farthest {away.max():.2f} standard errors",
        bool(chance >= REFUTED and away.max() < ERRORS),
    )


def _kind(recovery: int) -> str:
    return f"recovery in {recovery} steps" if recovery else "no recovery"


def _of_leading_order(rows: pd.DataFrame, recovery: int) -> pd.DataFrame:
    """The points at which the orders are read: mistakes still rare, or T well beyond the time to recover."""
    return rows[rows.horizon >= 5 * recovery] if recovery else rows[rows.error * rows.horizon <= SMALL]


def _bound_claim(rows: pd.DataFrame, recovery: int) -> Claim:
    ratio = rows.exact / rows.bound
    least = _of_leading_order(ratio.to_frame("ratio").join(rows[["horizon", "error"]]), recovery).ratio.min()
    where = f"T ≥ {5 * recovery}" if recovery else f"εT ≤ {SMALL}"
    return Claim(
        f"computed: {_kind(recovery)}: the cost is at most {'uεT' if recovery else 'εT²'}, and at least {SHARE} of it",
        "docs/theory.md §4.3 (Ross and Bagnell 2010)",
        f"cost/bound above 1 at any point, or below {SHARE} at one with {where}",
        f"cost/bound up to {ratio.max():.3f}; at {where} from {least:.3f}",
        bool(ratio.max() <= 1 and least >= SHARE),
    )


def _order_claim(rows: pd.DataFrame, recovery: int) -> Claim:
    """Slope of log cost on log T between the last two points of leading order."""
    order = 1 if recovery else 2
    t, cost = np.log(_of_leading_order(rows, recovery)[["horizon", "exact"]].to_numpy()[-2:].T)
    slope = float(np.diff(cost)[0] / np.diff(t)[0]) if len(t) == 2 else np.nan
    return Claim(
        f"computed: {_kind(recovery)}: the cost grows as T^{order}",
        "docs/theory.md §4.3",
        f"an exponent of the exact cost farther than {NEAR} from {order} over the last octave with "
        + (f"T ≥ {5 * recovery}" if recovery else f"εT ≤ {SMALL}"),
        f"exponent {slope:.3f}, T = {'–'.join(f'{x:.0f}' for x in np.exp(t))}",
        bool(abs(slope - order) <= NEAR),
    )


def draw(table: pd.DataFrame) -> Figure:
    """Cost against T on logarithmic axes; to the right the cost of one mistake, cost/(εT)."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    row = next(table.itertuples())
    for look, (recovery, points) in zip(CASES, table.groupby("recovery"), strict=False):
        label = "no recovery" if recovery == 0 else f"recovery in u = {recovery} steps"
        for axes, per_mistake in ((left, False), (right, True)):
            _case(axes, points, look, label, per_mistake)
    left.plot([], [], label="bound: εT², or uεT", **REFERENCE["upper"])
    left.plot([], [], label="exact", **REFERENCE["exact"])
    left.set_ylabel("expected cost (steps off the path)")
    right.set_ylabel("cost/(εT) (steps off the path)")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("horizon T (steps)")
    left.axvline(1 / row.error, color="#cccccc", linewidth=0.8, zorder=0)
    left.annotate("εT = 1", (1 / row.error, 0.02), xycoords=("data", "axes fraction"), xytext=(-2, 0),
                  textcoords="offset points", fontsize=7, color="#666666", ha="right")  # fmt: skip
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5, columnspacing=1.2)
    note(
        figure, f"cliff, ε = {row.error:g}; marks: mean of {row.episodes:,} simulated episodes a point, bars: "
        "95 % intervals (± 1.96 standard errors); lines: exact",
    )  # fmt: skip
    return figure


def _case(axes: Axes, points: pd.DataFrame, look: Look, label: str, per_mistake: bool) -> None:
    """Simulated marks with bars on the exact line, and the bound."""
    if per_mistake:
        costs = points[["exact", "simulated", "low", "high", "bound"]]
        points = points.assign(**costs.div(points.error * points.horizon, axis=0))
    axes.plot(points.horizon, points.bound, **{**REFERENCE["upper"], "color": look.colour}, alpha=0.6)
    axes.plot(points.horizon, points.exact, **{**REFERENCE["exact"], "color": look.colour})
    seen = points[points.simulated > 0]
    mean, low = seen.simulated, np.maximum(seen.low, seen.simulated * 1e-3)
    axes.errorbar(
        seen.horizon, mean, (mean - low, seen.high - mean), color=look.colour, marker=look.mark, linestyle="none",
        elinewidth=0.9, label=label,
    )  # fmt: skip


EXPERIMENT = figure_of_points(
    "theory_compounding",
    "εT² against εT: the cost of mistakes with and without recovery, exact and simulated",
    {
        "smoke": "about 6 seconds on two cores",
        "cpu": "about 15 seconds on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

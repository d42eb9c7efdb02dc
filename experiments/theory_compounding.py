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
from nail.theory.bounds import compounding_bound
from nail.theory.exact import compounding_cost
from nail.theory.scaling import fit_line

from ._theory import NORMAL_95, Point, figure_of_points

ERRORS = 4.5
"""standard errors within which a simulated cost counts as the exact one (error probability 7e-6 a point)"""
SMALL = 0.1
"""εT up to which the orders εT² and εT are fitted"""


class Size(NamedTuple):
    """A preset."""

    horizons: tuple[int, ...]
    episodes: int
    error: float = 1e-3
    recoveries: tuple[int, ...] = (0, 2, 8)
    """u; 0: no recovery"""


SIZES = {
    "smoke": Size((10, 30, 100), 2_000, recoveries=(0, 2)),
    "cpu": Size((10, 20, 40, 80, 160, 320, 640, 1280, 2560), 20_000),
    "paper": Size((10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120), 200_000),
}


def series(preset: str) -> list[list[Point]]:
    """One series of growing T for each kind of recovery."""
    size = SIZES[preset]
    rest = {"error": size.error, "episodes": size.episodes}
    return [
        [{"recovery": u, "horizon": horizon, **rest, "seed": horizon + u} for horizon in size.horizons]
        for u in size.recoveries
    ]


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
    """Three computations of one number agree; the bounds hold; the orders are T² and T."""
    off = (rows.dynamic_programme / rows.exact - 1).abs().max()
    away = ((rows.simulated - rows.exact).abs() / rows.standard_error)[rows.standard_error > 0]
    found = [
        Claim(
            "the closed form is the dynamic programme's cost on the cliff (relative difference below 1e-9)",
            "docs/theory.md §4.3",
            f"largest relative difference {off:.1e} over {len(rows)} points",
            bool(off < 1e-9),
        ),
        Claim(
            f"simulated cost is the exact one (within {ERRORS} standard errors at every point)",
            "docs/theory.md §4.3",
            f"farthest point {away.max():.2f} standard errors away, {len(away)} points",
            bool(away.max() < ERRORS),
        ),
        Claim(
            "cost is at most εT² without recovery and uεT with recovery in u steps",
            "docs/theory.md §4.3 (Ross and Bagnell 2010)",
            f"largest cost/bound {(rows.exact / rows.bound).max():.3f}",
            bool((rows.exact <= rows.bound).all()),
        ),
    ]
    return [*found, *(_order_claim(chosen, recovery) for recovery, chosen in rows.groupby("recovery"))]


def _order_claim(rows: pd.DataFrame, recovery: int) -> Claim:
    """Slope of log cost on log T; points within the recovery time have not felt it yet and are left out."""
    chosen = rows[rows.error * rows.horizon <= SMALL] if recovery == 0 else rows[rows.horizon >= 5 * recovery]
    order, kind = (2, "no recovery") if recovery == 0 else (1, f"recovery in {recovery} steps")
    statement = f"{kind}: cost grows as T^{order} (exponent within 0.15)"
    if len(chosen) < 3:
        return Claim(statement, "docs/theory.md §4.3", f"only {len(chosen)} points in range", False)
    t, *costs = np.log(chosen[["horizon", "exact", "simulated"]].to_numpy().T)
    exact, simulated = (fit_line(t, cost).slope for cost in costs)
    return Claim(
        statement,
        "docs/theory.md §4.3",
        f"exponent {exact:.3f} exact, {simulated:.3f} simulated, T = {chosen.horizon.min()}–{chosen.horizon.max()}",
        abs(exact - order) < 0.15,
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
    right.set_ylabel("cost / (εT)  (steps off the path a mistake)")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("horizon T (steps)")
    left.axvline(1 / row.error, color="#cccccc", linewidth=0.8, zorder=0)
    left.annotate("εT = 1", (1 / row.error, 0.02), xycoords=("data", "axes fraction"), xytext=(-2, 0),
                  textcoords="offset points", fontsize=6.5, color="#666666", ha="right")  # fmt: skip
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
        "cpu": "about 1.5 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

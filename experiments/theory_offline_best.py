"""The best offline learner of the hidden path (docs/theory.md §4.7): is LogLossBC the Bayes rule, what else is there?

Above and at the lower left, A = 2 and small H: on the same simulated data LogLossBC (best-path search), the full
posterior over A^H, and offline learners that decide step by step; beside them the exact success of the Bayes rule
where all data sets can be enumerated, of the plurality at each prefix (`exact.bc_exact`), and of the genie of §4.1.
At the lower right n*(H) of LogLossBC for uniform ν and for one that never hits the clean action: on the path that is
uniform noise of rate ηA/(A−1) (`posterior.leaf_laws`), so rate, genie and plurality are known there as well.
"""

import math
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, look, measured, note
from nail.stats import NORMAL_95, REFUTED, coverage_chance, proportion_interval
from nail.theory.exact import n_bc, n_offline

from ._nstar import COLUMNS, both_units, fit_n_star, in_unit, measure_n_star, n_label
from ._offline import LEARNERS, SEEN, successes
from ._theory import Point, figure_of_points, seeded

NOISE = {"uniform": "uniform ν", "never": "ν never hits the clean action"}
SAME = 0.01
"""difference of two successes that counts as none"""
ERRORS = 4.5
"""standard errors above zero at which a learner counts as better than the Bayes rule (error probability 4e-6)"""
SURE = 0.99
"""success of the genie up to which the Bayes rule must show below it"""
NEAR = 0.1
"""of the rate, within which the whole interval of a fitted one must lie"""


class Size(NamedTuple):
    """A preset."""

    cases: tuple[tuple[str, int, float], ...]
    """(noise, H, η) of the posteriors"""
    episodes: tuple[int, ...]
    replicates: int
    """of a measured success"""
    uniform: tuple[int, ...]
    never: tuple[int, ...]
    """horizons of n*(H)"""
    few: int
    """replicates of n*"""
    budget: int
    n_actions: int = 4
    eta: float = 0.5
    delta: float = 0.1


CASES_OF = (("uniform", 2, 0.5), ("uniform", 4, 0.5), ("uniform", 6, 0.5), ("never", 6, 0.3))
EPISODES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
SIZES = {
    "smoke": Size(CASES_OF, (1, 2, 8), 1_000, (2, 3, 4), (2, 3, 4), 100, 4_000),
    "cpu": Size(CASES_OF, EPISODES, 100_000, tuple(range(3, 13)), tuple(range(3, 11)), 600, 40_000),
    "paper": Size(CASES_OF, EPISODES, 1_000_000, tuple(range(3, 19)), tuple(range(3, 14)), 2_000, 400_000),
}


def series(preset: str) -> list[list[Point]]:
    """n*(H) of both kernels, then one series of growing n for each posterior; every point has its own data."""
    size = SIZES[preset]
    slow = {"kind": "n_star", "instance": "hidden-path", "method": "loglossbc", "n_actions": size.n_actions,
            "eta": size.eta, "delta": size.delta, "replicates": size.few, "budget": size.budget, "n": 0}  # fmt: skip
    found = [[seeded({**slow, "noise": noise, "horizon": horizon}) for horizon in horizons]
             for noise, horizons in (("never", size.never), ("uniform", size.uniform))]  # fmt: skip
    for noise, horizon, eta in size.cases:
        quick = {**slow, "kind": "success", "method": "", "n_actions": 2, "eta": eta, "noise": noise,
                 "horizon": horizon, "replicates": size.replicates, "budget": 0}  # fmt: skip
        found.append([seeded({**quick, "n": n}) for n in size.episodes])
    return found


def uniform_rate(noise: str, n_actions: int, eta: float) -> float:
    """η of the uniform kernel that has the same labels on the path."""
    return eta if noise == "uniform" else eta * n_actions / (n_actions - 1)


def measure(point: Point) -> list[Row]:
    """n* of LogLossBC with the genie's and the chain's, or the successes of all learners with n episodes."""
    eta = uniform_rate(point["noise"], point["n_actions"], point["eta"])
    setting = (point["horizon"], point["n_actions"], eta)
    if point["kind"] == "success":
        return [{**point, **dict.fromkeys(COLUMNS, ""), **row} for row in successes(point, *setting)]
    (row,) = measure_n_star({**point, "eta": eta})
    known = {"exact": n_bc(*setting, point["delta"]), "genie": n_offline(*setting, point["delta"])}
    return [{**row, "eta": point["eta"], **dict.fromkeys(SEEN, ""), **known}]


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """n* with the genie's and the prefix plurality's, in both units; success with 95 % intervals, genie, exact."""
    slow, quick = rows[rows.kind == "n_star"], rows[rows.kind == "success"]
    half = NORMAL_95 * quick.success_se
    quick = quick.assign(low=quick.success - half, high=quick.success + half)
    kept = ["kind", "noise", "method", "horizon", "n_actions", "eta", "delta", "replicates", "n"]
    units = ["episodes", "low", "high", "censored", "queries", "queries_low", "queries_high"]
    rates = slow.noise.map({noise: fit_n_star(points).exponential.slope for noise, points in slow.groupby("noise")})
    table = pd.concat([both_units(slow).assign(rate=rates), quick])
    return table[[*kept, *units, "rate", "success", "off_mode", "exact", "genie"]]


def rate(noise: str, n_actions: int, eta: float) -> float:
    """−log of the probability that a label on the path is right, nats a step."""
    right = 1.0 - eta + eta / n_actions if noise == "uniform" else 1.0 - eta
    return -math.log(right)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """LogLossBC is the Bayes rule, nothing offline is above it, the genie is; two kernels, two rates."""
    quick, slow = rows[rows.kind == "success"], rows[rows.kind == "n_star"]
    exact = quick[(quick.method.isin(("loglossbc", "prefix"))) & quick.exact.notna()]
    of = dict(iter(exact.groupby("method")))
    return [
        _mode_claim(quick[quick.method == "loglossbc"]),
        _mass_claim(quick[quick.method == "loglossbc"]),
        _coverage_claim(of["loglossbc"], "LogLossBC's success is the Bayes rule's exact one", "docs/theory.md §4.7"),
        _coverage_claim(
            of["prefix"],
            "the plurality at each prefix succeeds as LogLossBC on the poison chain",
            "docs/theory.md §4.2",
        ),
        _none_above_claim(quick[~quick.method.isin(("bayes", "loglossbc"))]),
        _genie_claim(quick[quick.method == "loglossbc"]),
        *(_rate_claim(points, noise) for noise, points in slow.groupby("noise", sort=False)),
        _between_claim(slow),
    ]


def _mode_claim(points: pd.DataFrame) -> Claim:
    off, sets = int(points.off_mode.sum()), points.replicates.sum()
    return Claim(
        "LogLossBC's path is a mode of the posterior over all A^H paths, on every data set",
        "docs/theory.md §4.7",
        "one data set on which its posterior is below the largest (by more than 1e-8 of it)",
        f"{off} of {sets:,} data sets, A = 2, H ≤ {points.horizon.max()}",
        off == 0,
    )


def _mass_claim(points: pd.DataFrame) -> Claim:
    """Success is counted against the secret, the mass is computed from the data alone."""
    far = points.above.abs() + 2.576 * points.above_se
    return Claim(
        "LogLossBC succeeds as often as the posterior's mass of its mode says",
        "docs/theory.md §4.7",
        f"a 99 % interval of the difference that is not inside ±{SAME}, at any n",
        f"largest end of an interval {far.max():.4f}, {len(points)} points of {points.replicates.max():,} data sets",
        bool(far.max() < SAME),
    )


def _coverage_claim(points: pd.DataFrame, statement: str, source: str) -> Claim:
    seen = [proportion_interval(round(p.success * p.replicates), p.replicates) for p in points.itertuples()]
    hits = sum(low <= exact <= high for (_, low, high), exact in zip(seen, points.exact, strict=True))
    chance = coverage_chance(hits, len(points))
    return Claim(
        f"{statement} (95 % intervals contain it as often as they should)",
        source,
        f"so few intervals with it that P(that few or fewer) < {REFUTED:g} at a coverage of 95 %",
        f"{hits} of {len(points)} intervals contain it (P = {chance:.2g}); largest difference "
        f"{(points.success - points.exact).abs().max():.4f}",
        bool(chance >= REFUTED),
    )


def _none_above_claim(points: pd.DataFrame) -> Claim:
    best = (points.above / points.above_se.clip(1e-9)).max()
    short = points.groupby("method").above.min()
    return Claim(
        "no offline learner that was tried is above the Bayes rule",
        "docs/theory.md §4.7",
        f"a learner and an n with a success more than {ERRORS} standard errors above the mode's mass on the same data",
        f"largest excess {best:.2f} standard errors, {len(points)} comparisons; largest shortfall: "
        + ", ".join(f"{LEARNERS[method]} {-x:.3f}" for method, x in short.items()),
        bool(best <= ERRORS),
    )


def _genie_claim(points: pd.DataFrame) -> Claim:
    shown = points[points.genie <= SURE]
    gap = shown.genie - shown.success
    lead = (gap / shown.success_se.clip(1e-9)).min()
    return Claim(
        "the genie, told all but the last action, is above the best offline learner",
        "docs/theory.md §4.1, §4.7",
        f"an n with a genie's success up to {SURE} and less than {ERRORS} standard errors above LogLossBC's",
        f"least lead {gap.min():.4f}, least in standard errors {lead:.1f}, {len(shown)} points",
        bool(lead >= ERRORS),
    )


def _rate_claim(points: pd.DataFrame, noise: str) -> Claim:
    row = next(points.itertuples())
    b, fit = rate(noise, row.n_actions, row.eta), fit_n_star(points)
    low, high = fit.exponential.interval
    name = "−log q" if noise == "uniform" else "−log(1−η)"
    return Claim(
        f"{NOISE[noise]}: n* of the best offline learner is exponential in H at rate {name}",
        "docs/theory.md §4.7, §5",
        f"a 95 % interval of the fitted rate not inside {name} ± {NEAR:.0%}, or a verdict other than exponential",
        f"rate {fit.exponential.slope:.3f} [{low:.3f}, {high:.3f}], {name} = {b:.3f} nats a step; AIC(exponential) − "
        f"AIC(best other) = {fit.delta_aic:.1f}; H = {points.horizon.min()}–{points.horizon.max()}",
        bool((1 - NEAR) * b <= low and high <= (1 + NEAR) * b and fit.verdict == "exponential"),
    )


def _between_claim(points: pd.DataFrame) -> Claim:
    """An interval lies wholly above (or below) the truth with probability 2.5 %: a binomial test of how many do."""
    wrong = int(((points.high < points.genie) | (points.low > points.exact)).sum())
    chance = coverage_chance(len(points) - wrong, len(points), 0.975)
    ratio = points.n_star / points.exact
    return Claim(
        "the best offline learner needs no fewer episodes than the genie and no more than plurality at each prefix",
        "docs/theory.md §4.1, §4.2, §4.7",
        "so many 95 % intervals of n* wholly below the genie's exact n*, or wholly above the plurality's, that P(that "
        f"many or more) < {REFUTED:g} at 2.5 % each",
        f"{wrong} of {len(points)} (P = {chance:.2g}); n*/n*(genie) from {(points.n_star / points.genie).min():.2f}, "
        f"n*/n*(plurality) {ratio.min():.2f}–{ratio.max():.2f}",
        bool(chance >= REFUTED),
    )


def draw(table: pd.DataFrame, unit: str = "episodes") -> Figure:
    """Success against n, one panel a posterior, and n*(H) on a logarithmic axis."""
    figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
    panels = figure.subplot_mosaic([["0", "1", "2"], ["3", "n", "n"]])
    quick = table[table.kind == "success"]
    for at, ((noise, horizon), points) in enumerate(quick.groupby(["noise", "horizon"], sort=False)):
        _success_panel(panels[str(at)], points)
        panels[str(at)].set_title(f"{NOISE[noise]}\nH = {horizon}, η = {points.eta.iloc[0]}")
    for name in ("0", "3"):
        panels[name].set_ylabel("P(all H right)")
    figure.legend(*panels["0"].get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1.2)
    slow = table[table.kind == "n_star"]
    _n_panel(panels["n"], slow, unit)
    row = next(slow.itertuples())
    note(
        figure, f"P(all H right): A = 2, {quick.replicates.max():,} data sets a mark, intervals within the marks; "
        f"crosses: all data sets enumerated;\nn*: A = {row.n_actions}, η = {row.eta}, δ = {row.delta}, "
        f"{row.replicates} replicates a point, bands: 95 % intervals",
    )  # fmt: skip
    return figure


def _success_panel(axes: Axes, table: pd.DataFrame) -> None:
    of = dict(iter(table.groupby("method")))
    bayes = of["bayes"]
    axes.plot(bayes.n, bayes.genie, label="genie, exact", **REFERENCE["lower"])
    axes.plot(bayes.n, bayes.success, label="posterior mode", **REFERENCE["exact"])
    axes.plot(bayes.n, bayes.exact, "x", color="#222222", markersize=7, markeredgewidth=0.8)
    for style, (method, label) in zip((look("loglossbc"), *CASES[1:]), LEARNERS.items(), strict=True):
        size = {"markersize": 6, "markerfacecolor": "none"} if method == "loglossbc" else {"markersize": 3.2}
        axes.plot(of[method].n, of[method].success, style.mark, color=style.colour, label=label, **size)
    axes.plot(bayes.n, of["prefix"].exact, color=CASES[1].colour, linewidth=0.7)
    axes.set(xscale="log", xlabel="episodes n", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _n_panel(axes: Axes, table: pd.DataFrame, unit: str) -> None:
    for style, noise in zip((look("loglossbc"), CASES[3]), NOISE, strict=True):
        points = table[table.noise == noise]
        per = points.horizon if unit == "queries" else 1
        row = next(points.itertuples())
        name = "−log q" if noise == "uniform" else "−log(1−η)"
        label = f"{NOISE[noise]}: rate {row.rate:.3f}, {name} = {rate(noise, row.n_actions, row.eta):.3f}"
        measured(axes, style._replace(line="none"), in_unit(points, unit), "horizon", label=label)
        axes.plot(points.horizon, points.genie * per, **{**REFERENCE["lower"], "color": style.colour})
        axes.plot(points.horizon, points.exact * per, **{**REFERENCE["exact"], "color": style.colour})
    axes.plot([], [], label="genie, exact", **REFERENCE["lower"])
    axes.plot([], [], label="plurality at each prefix, exact", **REFERENCE["exact"])
    axes.set(yscale="log", xlabel="horizon H (steps)")
    axes.set_ylabel(n_label(unit, "success 1 − δ"), fontsize=7)
    axes.legend(loc="upper left", fontsize=7)
    axes.set_ylim(top=axes.get_ylim()[1] * 30)


EXPERIMENT = figure_of_points(
    "theory_offline_best",
    "the best offline learner of the hidden path: LogLossBC against the full posterior, and two kernels' rates",
    {
        "smoke": "about 10 seconds on two cores",
        "cpu": "about a minute on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw, units=("episodes", "queries"),
)  # fmt: skip

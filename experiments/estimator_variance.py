"""Bias and variance of the return-to-go estimator of the reverse KL against the horizon (docs/theory.md §6).

Exact at every horizon by a recursion over the states of small sequence problems, at small horizons by enumeration of
all sequences too, and by Monte Carlo with standard errors. Three problems: independent tokens; an early branch, where
the terms of the token-level gradient add up; the same branch with sequences of a stale student, where the scores do.
"""

from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, note
from nail.theory import estimator
from nail.theory.scaling import LineFit, fit_line

from ._theory import Point, figure_of_points, seeded

GAMMAS = (0.0, 0.5, 0.9, 0.99, 1.0)
PROBLEMS = {
    "independent": estimator.independent_tokens(),
    "branch": estimator.early_branch(),
    "stale": estimator.early_branch(drawn=0.9),
}
TITLES = {"independent": "independent tokens", "branch": "early branch", "stale": "early branch, stale rollouts"}
STATED = {0.0: 2, 1.0: 4}
"""γ → exponent of the stated worst case (arXiv 2603.25562)"""
THEORY = {
    ("independent", 0.0): 1, ("independent", 1.0): 3, ("branch", 0.0): 2, ("branch", 1.0): 3,
    ("stale", 0.0): 2, ("stale", 1.0): 4,
}  # fmt: skip
"""(problem, γ) → exponent of the variance for large T, derived in nail/theory/estimator.py"""
NEAR = 0.1
"""distance of a fitted exponent from the derived one that counts as equal"""
ERRORS = 5.0
"""standard errors within which Monte Carlo counts as exact (error probability 6e-7 a number, if normal)"""
ROUNDING = 1e-9
BIASED, SLACK = 0.1, 20
"""bias/gradient of a biased estimator; factor between a bound of the right order and what it bounds"""
KEPT = [
    "problem", "gamma", "horizon", "episodes", "gradient", "bias", "enumerated_bias", "variance",
    "enumerated_variance", "simulated_variance", "simulated_variance_se", "stated_bound", "martingale_bound",
]  # fmt: skip
"""columns of the rows that are columns of the table"""
CROSS = {"markersize": 6.5, "markeredgewidth": 0.8}


class Size(NamedTuple):
    """A preset."""

    horizons: tuple[int, ...]
    episodes: int
    enumerated: int
    """largest T at which all 2^T sequences are enumerated"""
    fit_from: int
    """smallest T of the fits"""


SIZES = {
    "smoke": Size((2, 4, 8, 16, 32, 64), 2_000, 8, 16),
    "cpu": Size((2, 4, 8, 12, 16, 32, 64, 128, 256, 512, 1024), 20_000, 12, 64),
    "paper": Size((2, 4, 8, 12, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384), 100_000, 16, 256),
}


def series(preset: str) -> list[list[Point]]:
    """One series of growing T for each problem."""
    size = SIZES[preset]
    rest = {"episodes": size.episodes, "fit_from": size.fit_from}
    return [
        [seeded({"problem": name, "horizon": t, "enumerate": int(t <= size.enumerated), **rest}) for t in size.horizons]
        for name in PROBLEMS
    ]


def measure(point: Point) -> list[Row]:
    """One row per γ: exact, enumerated and simulated bias and variance, and the bounds on the second moment."""
    problem, horizon = PROBLEMS[point["problem"]], point["horizon"]
    rng = np.random.default_rng(point["seed"])
    truth = estimator.gradient(problem, horizon)
    samples = estimator.simulate_estimator(problem, np.array(GAMMAS), horizon, point["episodes"], rng)
    rows = []
    for gamma, drawn in zip(GAMMAS, samples, strict=True):
        exact = estimator.exact_moments(problem, gamma, horizon)
        rows.append(
            {
                **point, "gamma": gamma, "gradient": float(np.linalg.norm(truth)),
                "second_moment": exact.variance + float(exact.mean @ exact.mean),
                "bias": float(np.linalg.norm(exact.mean - truth)), "variance": exact.variance,
                **_enumerated_columns(problem, gamma, horizon, bool(point["enumerate"])),
                **_simulated_columns(drawn, exact),
                "stated_bound": estimator.stated_bound(problem, gamma, horizon),
                "martingale_bound": estimator.martingale_bound(problem, gamma, horizon),
            }
        )  # fmt: skip
    return rows


def _enumerated_columns(problem: estimator.SequenceProblem, gamma: float, horizon: int, wanted: bool) -> Row:
    """Bias ‖E ĝ_γ − ∇KL‖ and variance from all sequences, with ∇KL from automatic differentiation, so that nothing is
    shared with the recursion; empty where not `wanted`."""
    if not wanted:
        return {"enumerated_bias": "", "enumerated_variance": ""}
    listed = estimator.enumerated_moments(problem, gamma, horizon)
    with jax.enable_x64(True):
        differentiated = np.asarray(jax.grad(estimator.sequence_kl)(problem.theta, problem, horizon))
    bias = float(np.linalg.norm(listed.mean - differentiated))
    return {"enumerated_bias": bias, "enumerated_variance": listed.variance}


def _simulated_columns(drawn: np.ndarray, exact: estimator.Moments) -> Row:
    """Sample variance (trace) with its standard error, and the farthest coordinate of the mean in standard errors."""
    n = len(drawn)
    mean, squares = drawn.mean(0), np.sum((drawn - drawn.mean(0)) ** 2, -1)
    se = drawn.std(0, ddof=1) / np.sqrt(n)
    away = np.abs(mean - exact.mean)[se > 0] / se[se > 0]
    return {
        "simulated_variance": float(squares.sum() / (n - 1)),
        "simulated_variance_se": float(squares.std(ddof=1) / np.sqrt(n)),
        "mean_errors": float(away.max(initial=0.0)),
    }


def fit_exponent(points: pd.DataFrame, name: str) -> LineFit | None:
    """Exponent of a column in T from `fit_from` on; Monte Carlo is weighted by its standard errors. None where the
    column is zero up to rounding."""
    chosen = points[points.horizon >= points.fit_from]
    values = chosen[name].to_numpy()
    if np.any(values <= ROUNDING * chosen.gradient.clip(1.0)):
        return None
    sd = chosen.simulated_variance_se.to_numpy() / values if name == "simulated_variance" else None
    return fit_line(np.log(chosen.horizon.to_numpy()), np.log(values), sd)


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Per problem, γ and T: bias relative to the gradient, and variance; per series: exponents in T of the simulated
    variance (with 95 % interval), of the exact variance and bias, in theory and as the stated worst case."""
    parts = []
    for (name, gamma), points in rows.sort_values("gamma", kind="stable").groupby(["problem", "gamma"], sort=False):
        drawn, exact, bias = (fit_exponent(points, c) for c in ("simulated_variance", "variance", "bias"))
        fits = {
            "slope": drawn.slope, "slope_low": drawn.interval[0], "slope_high": drawn.interval[1],
            "theory_slope": THEORY.get((name, gamma)), "stated_slope": STATED.get(gamma),
            "exact_slope": exact.slope, "bias_slope": bias and bias.slope,
        }  # fmt: skip
        parts.append(points[KEPT].assign(**fits))
    return pd.concat(parts).sort_values("problem", key=lambda c: c.map([*PROBLEMS].index), kind="stable")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Three computations agree; γ = 1 is unbiased and γ = 0 is not; the bounds hold; the orders are as derived."""
    of = dict(iter(rows.groupby(["problem", "gamma"])))
    own = pd.concat([of["independent", 1.0], of["branch", 1.0]])
    return [
        _enumeration_claim(rows), _simulation_claim(rows), _bias_claim(own, of["branch", 0.0]), _bounds_claim(rows),
        *(_order_claim(of[name, gamma], name, gamma) for name, gamma in THEORY),
    ]  # fmt: skip


def _enumeration_claim(rows: pd.DataFrame) -> Claim:
    listed = rows.dropna(subset="enumerated_variance")
    far = ((listed.enumerated_variance - listed.variance).abs() / listed.variance.clip(1e-12)).max()
    off = ((listed.enumerated_bias - listed.bias).abs() / listed.gradient.clip(1.0)).max()
    return Claim(
        "the recursion's bias and variance are those of the enumeration of all sequences",
        "docs/theory.md §6",
        f"a relative difference of {ROUNDING:g} or more at any enumerated point",
        f"largest: {far:.1e} of the variance, {off:.1e} of the bias, {len(listed)} points, T ≤ {listed.horizon.max()}",
        bool(far < ROUNDING and off < ROUNDING),
    )


def _simulation_claim(rows: pd.DataFrame) -> Claim:
    away, drawn = rows.mean_errors.max(), rows[rows.simulated_variance_se > 0]
    far = ((drawn.simulated_variance - drawn.variance).abs() / drawn.simulated_variance_se).max()
    return Claim(
        "Monte Carlo mean and variance are the exact ones",
        "docs/theory.md §6",
        f"a coordinate of a mean, or a variance, {ERRORS:g} or more standard errors from the exact one",
        f"farthest: mean {away:.2f}, variance {far:.2f} standard errors; {len(rows)} points of "
        f"{rows.episodes.iloc[0]:,} sequences",
        bool(away < ERRORS and far < ERRORS),
    )


def _bias_claim(own: pd.DataFrame, token: pd.DataFrame) -> Claim:
    """At γ = 1 on the student's own sequences, and at γ = 0."""
    unbiased = (own.enumerated_bias / own.gradient).max()
    *_, last = token.itertuples()
    return Claim(
        "γ = 1 is unbiased for the gradient of the sequence-level reverse KL, γ = 0 is biased (early branch)",
        "docs/theory.md §6 (arXiv 2603.25562)",
        f"bias/gradient of {ROUNDING:g} or more at γ = 1, or of {BIASED} or less at γ = 0 and the largest T",
        f"bias/gradient: at most {unbiased:.1e} at γ = 1 (all sequences, gradient by automatic differentiation); "
        f"{last.bias / last.gradient:.3f} at γ = 0, T = {last.horizon}",
        bool(unbiased < ROUNDING and last.bias / last.gradient > BIASED),
    )


def _bounds_claim(rows: pd.DataFrame) -> Claim:
    stated, derived = rows.second_moment / rows.stated_bound, rows.second_moment / rows.martingale_bound
    own, whole = rows.problem != "stale", rows.gamma == 1.0
    slack, stale = 1 / derived[own & whole].min(), derived[~own].max()
    return Claim(
        f"with the student's own sequences the martingale bound holds, up to a factor {SLACK} at γ = 1; with a stale "
        "student's it breaks, and the stated bound alone is left",
        "arXiv 2603.25562; docs/theory.md §6",
        "second moment/bound above 1 for the stated bound, or for the martingale bound with own sequences; below "
        f"1/{SLACK} there at γ = 1; at most 1 with stale rollouts at every point",
        f"second moment/bound: stated up to {stated.max():.3f}; martingale up to {derived[own].max():.3f} and from "
        f"1/{slack:.1f} at γ = 1, with stale rollouts up to {stale:.3g}",
        bool(max(stated.max(), derived[own].max()) <= 1 + ROUNDING and slack <= SLACK and stale > 1),
    )


def _order_claim(points: pd.DataFrame, name: str, gamma: float) -> Claim:
    exact, drawn = fit_exponent(points, "variance"), fit_exponent(points, "simulated_variance")
    order = THEORY[name, gamma]
    return Claim(
        f"{TITLES[name]}, γ = {gamma:g}: variance grows as T^{order}",
        f"docs/theory.md §6; arXiv 2603.25562 states T^{STATED[gamma]} as the worst case",
        f"an exponent of the exact variance {NEAR} or more from {order}, fitted from T = {points.fit_from.iloc[0]} on",
        f"exponent {exact.slope:.3f} exact; {drawn.slope:.3f}, 95 % interval [{drawn.interval[0]:.3f}, "
        f"{drawn.interval[1]:.3f}] simulated; T = {points.fit_from.iloc[0]}–{points.horizon.max()}",
        abs(exact.slope - order) < NEAR,
    )


def draw(table: pd.DataFrame) -> Figure:
    """A column per problem: variance above, bias relative to the gradient below, both on logarithmic axes."""
    figure = Figure(figsize=(TEXT_WIDTH, 5.0), layout="constrained")
    grid = figure.subplots(2, len(PROBLEMS), sharex=True, height_ratios=[1.45, 1])
    for at, name in enumerate(PROBLEMS):
        points = table[table.problem == name]
        _variance_panel(grid[0, at], points)
        _bias_panel(grid[1, at], points)
        grid[0, at].set_title(TITLES[name])
        grid[1, at].set_xlabel("horizon T (tokens)")
    for axes in grid[0, 1:]:
        axes.sharey(grid[0, 0])
    grid[0, 0].set_ylabel("variance of ĝ (trace of the covariance)")
    grid[1, 0].set_ylabel("bias / gradient")
    handles, labels = grid[0, 1].get_legend_handles_labels()
    figure.legend(handles, [label.split(":")[0] for label in labels], loc="outside upper center", ncols=7,
                  columnspacing=1.0, handlelength=1.6)  # fmt: skip
    note(
        figure, f"lines: exact; marks: {table.episodes.iloc[0]:,} sequences a point, bars ± 1.96 standard errors; "
        "crosses: all sequences enumerated; numbers: fitted exponents",
    )  # fmt: skip
    return figure


def _variance_panel(axes: Axes, table: pd.DataFrame) -> None:
    whole = table[table.gamma == 1.0]
    axes.plot(whole.horizon, whole.stated_bound, label="bounds at γ = 1, stated", **REFERENCE["upper"])
    if (table.problem != "stale").all():
        axes.plot(whole.horizon, whole.martingale_bound, label="martingale", **REFERENCE["lower"])
    for look, (gamma, points) in zip(CASES, table.groupby("gamma"), strict=True):
        fit = next(points.itertuples())
        axes.plot(points.horizon, points.variance, color=look.colour, linewidth=1.0)
        axes.errorbar(
            points.horizon, points.simulated_variance, 1.96 * points.simulated_variance_se, color=look.colour,
            marker=look.mark, linestyle="none", elinewidth=0.9, markersize=3.5,
            label=f"γ = {gamma:g}: {fit.slope:.2f} [{fit.slope_low:.2f}, {fit.slope_high:.2f}]",
        )  # fmt: skip
        axes.plot(points.horizon, points.enumerated_variance, "x", color=look.colour, **CROSS)
    axes.set(xscale="log", yscale="log")
    handles, labels = axes.get_legend_handles_labels()
    kept = [(h, label.replace("γ = ", "")) for h, label in zip(handles, labels, strict=True) if ":" in label]
    axes.legend(*zip(*kept, strict=True), loc="upper left", fontsize=7, title="γ: exponent [95 %]",
                title_fontsize=7, handlelength=0.8, labelspacing=0.25, borderaxespad=0.1,
                frameon=True, framealpha=0.85, edgecolor="none")  # fmt: skip


def _bias_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Exact bias; values that are rounding alone are drawn as zero."""
    for look, (_, points) in zip(CASES, table.groupby("gamma"), strict=True):
        exact, listed = (points[c] / points.gradient for c in ("bias", "enumerated_bias"))
        axes.plot(points.horizon, exact.mask(exact < ROUNDING, 0.0), color=look.colour, marker=look.mark,
                  markersize=3.5, linewidth=1.0)  # fmt: skip
        axes.plot(points.horizon, listed.mask(listed < ROUNDING, 0.0), "x", color=look.colour, **CROSS)
    if (table.problem == "stale").all():
        axes.set_yscale("log")
    else:
        axes.set_ylim(-0.04, 0.7)


EXPERIMENT = figure_of_points(
    "estimator_variance",
    "bias and variance of the return-to-go estimator of the reverse KL: γ from token level to sequence level",
    {
        "smoke": "seconds",
        "cpu": "T up to 1,024, 20,000 sequences a point; under a minute on two cores",
        "paper": "T up to 16,384, 100,000 sequences a point; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

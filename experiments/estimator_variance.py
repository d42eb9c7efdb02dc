"""Bias and variance of the return-to-go estimator of the reverse KL against the horizon (docs/theory.md §6).

Exact at every horizon by a recursion over the states of small sequence problems, at small horizons by enumeration of
all sequences too, and by Monte Carlo with standard errors. Three problems: independent tokens; an early branch, where
the terms of the token-level gradient add up; the same branch with sequences of a stale student, where the scores do.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, note
from nail.sweep.identity import provenance
from nail.theory import estimator
from nail.theory.scaling import LineFit, fit_line

from ._rows import column, select
from ._theory import Point, run_points

NAME = "estimator_variance"
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


def series(size: Size) -> list[list[Point]]:
    """One series of growing T for each problem."""
    rest = {"episodes": size.episodes, "fit_from": size.fit_from}
    return [
        [
            {"problem": name, "horizon": t, "enumerate": int(t <= size.enumerated), **rest, "seed": 10_000 * i + t}
            for t in size.horizons
        ]
        for i, name in enumerate(PROBLEMS)
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
    return {
        "enumerated_bias": float(np.linalg.norm(listed.mean - differentiated)),
        "enumerated_variance": listed.variance,
    }


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


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all points of a preset."""
    provenance()  # once, before threads ask for it together: reading source is not safe to do in two at a time
    return run_points(NAME, out, series(SIZES[preset]), measure)


def fit_exponent(rows: list[Row], name: str) -> LineFit | None:
    """Exponent of a column in T from `fit_from` on; Monte Carlo is weighted by its standard errors. None where the
    column is zero up to rounding."""
    chosen = [row for row in rows if int(row["horizon"]) >= int(row["fit_from"])]
    values = column(chosen, name)
    if np.any(values <= ROUNDING * np.maximum(column(chosen, "gradient"), 1.0)):
        return None
    sd = column(chosen, "simulated_variance_se") / values if name == "simulated_variance" else None
    return fit_line(np.log(column(chosen, "horizon")), np.log(values), sd)


def analyse(rows: list[Row]) -> list[Row]:
    """Per problem, γ and T: bias relative to the gradient, and variance; per series: exponents in T of the simulated
    variance (with 95 % interval), of the exact variance and bias, in theory and as the stated worst case."""
    table = []
    for name in PROBLEMS:
        for gamma in GAMMAS:
            chosen = select(rows, problem=name, gamma=gamma)
            drawn, exact, bias = (fit_exponent(chosen, c) for c in ("simulated_variance", "variance", "bias"))
            fits = {
                "slope": drawn.slope, "slope_low": drawn.interval[0], "slope_high": drawn.interval[1],
                "theory_slope": THEORY.get((name, gamma), ""), "stated_slope": STATED.get(gamma, ""),
                "exact_slope": exact.slope, "bias_slope": bias.slope if bias else "",
            }  # fmt: skip
            table += [{**_drawn_columns(row), **fits} for row in chosen]
    return table


def _drawn_columns(row: Row) -> Row:
    kept = (
        "problem", "gamma", "horizon", "episodes", "gradient", "bias", "enumerated_bias", "variance",
        "enumerated_variance", "simulated_variance", "simulated_variance_se", "stated_bound", "martingale_bound",
    )  # fmt: skip
    return {name: row[name] for name in kept}


def claims(rows: list[Row]) -> list[Claim]:
    """Three computations agree; γ = 1 is unbiased and γ = 0 is not; the bounds hold; the orders are as derived."""
    found = [_enumeration_claim(rows), _simulation_claim(rows), _bias_claim(rows), _bounds_claim(rows)]
    found += [_order_claim(rows, name, gamma) for name, gamma in THEORY]
    own = [fit_exponent(select(rows, problem=name, gamma=1.0), "variance") for name in ("independent", "branch")]
    worst = max(fit.slope for fit in own)
    stale = fit_exponent(select(rows, problem="stale", gamma=1.0), "variance").slope
    found.append(
        Claim(
            "γ = 1, the student's own sequences: the variance is of order T³ at most, and the stated O(T⁴) not reached",
            "arXiv 2603.25562 states O(T⁴); the order T³ is derived in nail/theory/estimator.py",
            f"largest exact exponent {worst:.3f} of two problems; {stale:.3f} with stale rollouts",
            worst <= 3 + NEAR,
        )
    )
    return found


def _enumeration_claim(rows: list[Row]) -> Claim:
    listed = [row for row in rows if row["enumerated_variance"] != ""]
    scale = np.maximum(column(listed, "variance"), 1e-12)
    far = np.max(np.abs(column(listed, "enumerated_variance") - column(listed, "variance")) / scale)
    size = np.maximum(column(listed, "gradient"), 1.0)
    off = np.max(np.abs(column(listed, "enumerated_bias") - column(listed, "bias")) / size)
    return Claim(
        "the recursion's bias and variance are those of the enumeration of all sequences (relative 1e-9)",
        "docs/theory.md §6",
        f"largest relative difference {far:.1e} of the variance, {off:.1e} of the bias, {len(listed)} points, "
        f"T ≤ {int(column(listed, 'horizon').max())}",
        bool(far < ROUNDING and off < ROUNDING),
    )


def _simulation_claim(rows: list[Row]) -> Claim:
    se, away = column(rows, "simulated_variance_se"), column(rows, "mean_errors")
    spread = np.abs(column(rows, "simulated_variance") - column(rows, "variance"))
    far = np.max(spread[se > 0] / se[se > 0])
    return Claim(
        f"Monte Carlo mean and variance are the exact ones (within {ERRORS:g} standard errors at every point)",
        "docs/theory.md §6",
        f"farthest: mean {away.max():.2f}, variance {far:.2f} standard errors; {len(rows)} points of "
        f"{int(rows[0]['episodes']):,} sequences",
        bool(away.max() < ERRORS and far < ERRORS),
    )


def _bias_claim(rows: list[Row]) -> Claim:
    own = [row for row in rows if row["problem"] != "stale"]
    listed = [row for row in select(own, gamma=1.0) if row["enumerated_bias"] != ""]
    unbiased = np.max(column(listed, "enumerated_bias") / column(listed, "gradient"))
    last = max(int(row["horizon"]) for row in rows)
    (row,) = select(rows, problem="branch", gamma=0.0, horizon=last)
    relative = float(row["bias"]) / float(row["gradient"])
    return Claim(
        "γ = 1 is unbiased for the gradient of the sequence-level reverse KL, γ = 0 is biased (early branch)",
        "docs/theory.md §6 (arXiv 2603.25562)",
        f"bias/gradient: at most {unbiased:.1e} at γ = 1 (all sequences, gradient by automatic differentiation); "
        f"{relative:.3f} at γ = 0, T = {last}",
        bool(unbiased < ROUNDING and relative > 0.1),
    )


def _bounds_claim(rows: list[Row]) -> Claim:
    own = [row for row in rows if row["problem"] != "stale"]
    stated = np.max(column(rows, "second_moment") / column(rows, "stated_bound"))
    derived = np.max(column(own, "second_moment") / column(own, "martingale_bound"))
    return Claim(
        "second moments are within the stated bound, and with the student's own sequences within the martingale bound",
        "arXiv 2603.25562; nail/theory/estimator.py",
        f"largest ratio to the bound: stated {stated:.3f}, martingale {derived:.3f}",
        bool(max(stated, derived) <= 1 + ROUNDING),
    )


def _order_claim(rows: list[Row], name: str, gamma: float) -> Claim:
    chosen = select(rows, problem=name, gamma=gamma)
    exact, drawn = fit_exponent(chosen, "variance"), fit_exponent(chosen, "simulated_variance")
    order = THEORY[name, gamma]
    return Claim(
        f"{TITLES[name]}, γ = {gamma:g}: variance grows as T^{order} (exact exponent within {NEAR})",
        f"derived in nail/theory/estimator.py; stated worst case T^{STATED[gamma]}",
        f"exponent {exact.slope:.3f} exact; {drawn.slope:.3f}, 95 % interval [{drawn.interval[0]:.3f}, "
        f"{drawn.interval[1]:.3f}] simulated; T = {chosen[0]['fit_from']}–{chosen[-1]['horizon']}",
        abs(exact.slope - order) < NEAR,
    )


def draw(table: list[Row]) -> Figure:
    """A column per problem: variance above, bias relative to the gradient below, both on logarithmic axes."""
    figure = Figure(figsize=(TEXT_WIDTH, 5.0), layout="constrained")
    grid = figure.subplots(2, len(PROBLEMS), sharex=True, height_ratios=[1.45, 1])
    for at, name in enumerate(PROBLEMS):
        rows = select(table, problem=name)
        _variance_panel(grid[0, at], rows)
        _bias_panel(grid[1, at], rows)
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
        figure, f"lines: exact; marks: {int(table[0]['episodes']):,} sequences a point, bars ± 1.96 standard errors; "
        "crosses: all sequences enumerated; numbers: fitted exponents",
    )  # fmt: skip
    return figure


def _variance_panel(axes: Axes, rows: list[Row]) -> None:
    t = column(select(rows, gamma=0.0), "horizon")
    for gamma, kind in ((1.0, "stated_bound"), (1.0, "martingale_bound")):
        if kind == "martingale_bound" and rows[0]["problem"] == "stale":
            continue
        label, line = ("bounds at γ = 1, stated", "upper") if kind == "stated_bound" else ("martingale", "lower")
        axes.plot(t, column(select(rows, gamma=gamma), kind), label=label, **REFERENCE[line])
    for look, gamma in zip(CASES, GAMMAS, strict=True):
        chosen = select(rows, gamma=gamma)
        simulated, se = column(chosen, "simulated_variance"), column(chosen, "simulated_variance_se")
        slope = float(chosen[0]["slope"])
        axes.plot(t, column(chosen, "variance"), color=look.colour, linewidth=1.0)
        axes.errorbar(
            t, simulated, 1.96 * se, color=look.colour, marker=look.mark, linestyle="none", elinewidth=0.9,
            markersize=3.5, label=f"γ = {gamma:g}: {slope:.2f} [{float(chosen[0]['slope_low']):.2f}, "
            f"{float(chosen[0]['slope_high']):.2f}]",
        )  # fmt: skip
        listed = [row for row in chosen if row["enumerated_variance"] != ""]
        axes.plot(column(listed, "horizon"), column(listed, "enumerated_variance"), "x", color=look.colour,
                  markersize=6.5, markeredgewidth=0.8)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    handles, labels = axes.get_legend_handles_labels()
    kept = [(h, label.replace("γ = ", "")) for h, label in zip(handles, labels, strict=True) if ":" in label]
    axes.legend(*zip(*kept, strict=True), loc="upper left", fontsize=5.8, title="γ: exponent [95 %]",
                title_fontsize=5.8, handlelength=0.8, labelspacing=0.25, borderaxespad=0.1)  # fmt: skip


def _bias_panel(axes: Axes, rows: list[Row]) -> None:
    """Exact bias; values that are rounding alone are drawn as zero."""
    for look, gamma in zip(CASES, GAMMAS, strict=True):
        chosen = select(rows, gamma=gamma)
        t, relative = column(chosen, "horizon"), column(chosen, "bias") / column(chosen, "gradient")
        axes.plot(t, np.where(relative < ROUNDING, 0.0, relative), color=look.colour, marker=look.mark, markersize=3.5,
                  linewidth=1.0)  # fmt: skip
        listed = [row for row in chosen if row["enumerated_bias"] != ""]
        shown = column(listed, "enumerated_bias") / column(listed, "gradient")
        axes.plot(column(listed, "horizon"), np.where(shown < ROUNDING, 0.0, shown), "x", color=look.colour,
                  markersize=6.5, markeredgewidth=0.8)  # fmt: skip
    if rows[0]["problem"] == "stale":
        axes.set_yscale("log")
    else:
        axes.set_ylim(-0.04, 0.7)


EXPERIMENT = Experiment(
    name=NAME,
    summary="bias and variance of the return-to-go estimator of the reverse KL: γ from token level to sequence level",
    cost={
        "smoke": "seconds",
        "cpu": "T up to 1,024, 20,000 sequences a point; under a minute on two cores",
        "paper": "T up to 16,384, 100,000 sequences a point; not timed yet",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
)

"""Unknown corruption: NAILGUN, which needs no η and no ν, against NAIL told the truth, a wrong η or a wrong ν.

docs/theory.md §4.6, on the poison chain: the right actions are uniform, ν is one law for all levels and does not know
them. Two kernels: adversarial (all noise on one action, so that labels of a wrong action reach the right one's share at
η = 1/2), and skewed. With a uniform kernel every told η gives the plurality, so it would compare nothing.

The curve of NAILGUN under the adversarial kernel is exact: R^H of §4.2 with the law of one level. A wrong ν fails below
a critical least probability f. experiments/_unknown_noise.py says why.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Row
from nail.figures.plotting import CASES, REFERENCE, TEXT_WIDTH, look, measured, note
from nail.methods import METHOD
from nail.stats import NORMAL_95

from ._nstar import both_units, coverage_claim, in_unit, log_ratio, measure_n_star, n_label
from ._theory import Point, figure_of_points, seeded
from ._unknown_noise import KERNELS, N_ACTIONS, critical, n_nailgun

TOLD = (0.01, 0.05, 0.5, 0.9)
"""what NAIL (wrong η) believes"""
OVER = max(TOLD)
AWAY = 5.0
"""factor from the critical f beyond which a wrong ν must succeed or fail"""


class Size(NamedTuple):
    """A preset."""

    etas: tuple[float, ...]
    """of the comparison, at `horizon`; those above 1/2 are for NAILGUN alone"""
    horizon: int
    horizons: tuple[int, ...]
    worst: tuple[float, ...]
    """η of n*(H) under the adversarial kernel"""
    floors: tuple[float, ...]
    """f of a wrong ν"""
    mistaken: tuple[float, ...]
    """η under a wrong ν"""
    replicates: int
    budget: int
    delta: float = 0.1


FLOORS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.25)
WORST = (0.1, 0.2, 0.3, 0.4, 0.46)
SIZES = {
    "smoke": Size((0.2, 0.4, 0.55), 3, (2, 4), (0.2, 0.4), (1e-9, 1e-6, 0.25), (0.1,), 40, 500),
    "cpu": Size((*WORST, 0.52, 0.56), 8, (2, 4, 8, 16, 32), WORST, FLOORS, (0.1, 0.2), 400, 6_000),
    "paper": Size((*WORST, 0.52, 0.56), 32, (2, 4, 8, 16, 32), WORST, FLOORS, (0.1, 0.2), 2_000, 100_000),
}


def series(preset: str) -> list[list[Point]]:
    """NAILGUN's n*(H), one series an η; each kernel and learner over η; a wrong ν over f."""
    size = SIZES[preset]

    def point(kind, noise, method, eta, horizon, told_eta, f):
        told = KERNELS[noise] if kind != "floor" else [f, f, 1.0 - 3.0 * f, f]
        return seeded({
            "kind": kind, "instance": "poison-chain", "noise": noise, "method": method, "eta": eta, "horizon": horizon,
            "n_actions": N_ACTIONS, "delta": size.delta, "replicates": size.replicates, "budget": size.budget,
            "kernel": KERNELS[noise], "told_eta": told_eta, "told_kernel": told, "f": f,
        })  # fmt: skip

    found = [[point("horizon", "adversarial", "nailgun", eta, horizon, eta, 0.0) for horizon in size.horizons]
             for eta in reversed(size.worst)]  # fmt: skip
    found += [[point("floor", "adversarial", "nail-wrong-nu", eta, size.horizon, eta, f) for f in size.floors]
              for eta in size.mistaken]  # fmt: skip
    for noise in KERNELS:
        found.append([point("eta", noise, "nailgun", eta, size.horizon, eta, 0.0) for eta in size.etas])
        inside = [eta for eta in size.etas if eta < 0.5]
        found.append([point("eta", noise, "nail-channel", eta, size.horizon, eta, 0.0) for eta in inside])
        found += [[point("eta", noise, "nail-wrong-eta", eta, size.horizon, told, 0.0) for eta in inside]
                  for told in TOLD]  # fmt: skip
    return found


def measure(point: Point) -> list[Row]:
    """n* of a point; for NAILGUN under the adversarial kernel, η < 1/2, also the exact one."""
    (row,) = measure_n_star(point)
    known = point["method"] == "nailgun" and point["noise"] == "adversarial" and point["eta"] < 0.5
    return [{**row, "exact": n_nailgun(point["eta"], point["horizon"], point["delta"]) if known else ""}]


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """n* in both units with its interval (the budget where censored), the mean loss there, NAILGUN's curve."""
    kept = ["kind", "noise", "method", "told_eta", "f", "eta", "horizon", "n_actions", "delta", "replicates"]
    units = ["episodes", "low", "high", "censored", "queries", "queries_low", "queries_high"]
    return both_units(rows)[[*kept, *units, "mean_loss", "exact"]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """NAILGUN up to η near 1/2 and no further, on its curve; what a wrong η or ν costs; what the truth saves."""
    of = dict(iter(rows[(rows.eta < 0.5) & (rows.kind == "eta")].groupby(["noise", "method"])))
    gun = rows[rows.method == "nailgun"]
    told = pd.concat([of[noise, "nail-wrong-eta"] for noise in KERNELS])
    skewed = dict(iter(of["skewed", "nail-wrong-eta"].groupby("told_eta")))
    pairs = {noise: (of[noise, "nail-channel"], of[noise, "nailgun"]) for noise in KERNELS}
    return [
        *(_reached_claim(of[noise, "nailgun"], f"{noise} ν: NAILGUN, told nothing, succeeds at every η < 1/2",
                         "paper, abstract; docs/theory.md §4.6") for noise in KERNELS),
        _beyond_claim(gun[(gun.noise == "adversarial") & (gun.eta > 0.5)]),
        coverage_claim(
            gun[gun.kind == "horizon"], "exact", ("eta", "horizon"),
            "adversarial ν: n* of NAILGUN over H and η is that of R^H with the law of one of its levels",
            "docs/theory.md §4.2, §4.6",
        ),
        _reached_claim(told, "NAIL told the right ν succeeds at every η < 1/2, whatever η' it is told",
                       "docs/theory.md §4.6"),
        _ratio_claim(
            {"skewed": (skewed[OVER], of["skewed", "nail-channel"])},
            f"skewed ν: NAIL told η' = {OVER}, above the true η, needs more episodes than told the true η", more=True,
        ),
        _ratio_claim(
            {"skewed": (skewed[min(TOLD)], of["skewed", "nailgun"])},
            f"skewed ν: NAIL told η' = {min(TOLD)} needs no more episodes than NAILGUN, whose rule is the limit η' → 0",
            more=False,
        ),
        _ratio_claim(pairs, "NAIL told the true η and ν needs no more episodes than NAILGUN", more=False),
        _floor_claim(rows[rows.kind == "floor"]),
    ]  # fmt: skip


def _numbers(points: pd.DataFrame) -> str:
    return ", ".join(
        f"η={p.eta} " + (f"not within {p.allowed}" if p.censored else f"{p.n_star:.0f}") for p in points.itertuples()
    )


def _reached_claim(points: pd.DataFrame, statement: str, source: str) -> Claim:
    keys = ["noise", "told_eta"] if (points.method == "nail-wrong-eta").all() else ["noise", "method"]
    numbers = [f"{noise} ν, {told}: {_numbers(group)}" for (noise, told), group in points.groupby(keys)]
    return Claim(
        statement,
        source,
        "an η < 1/2 of the grid at which the budget does not suffice for success 1 − δ",
        "n* with " + "; ".join(numbers),
        len(points) > 0 and not points.censored.any(),
    )


def _beyond_claim(points: pd.DataFrame) -> Claim:
    losses = ", ".join(f"η={p.eta} {p.mean_loss:.2f}" for p in points.itertuples())
    return Claim(
        "adversarial ν, η > 1/2: NAILGUN fails, being outside its guarantee",
        "docs/theory.md §4.6",
        "an η > 1/2 with a mean loss of at most 1/2 at the end of the budget",
        f"mean loss at the end of the budget: {losses}",
        len(points) > 0 and bool((points.censored == 1).all() and (points.mean_loss > 0.5).all()),
    )


def _ratio_claim(pairs: dict[str, tuple[pd.DataFrame, pd.DataFrame]], statement: str, more: bool) -> Claim:
    """Ratio of n*, the geometric mean over η < 1/2: its whole interval above, or (not `more`) at most, 1."""
    found, holds = [], True
    for noise, (one, other) in pairs.items():
        each, sd = log_ratio(one, other)
        mean, half = each.mean(), NORMAL_95 * np.sqrt((sd**2).sum()) / len(sd)
        low, high = np.exp([mean - half, mean + half])
        holds &= bool(low > 1.0 if more else high <= 1.0)
        found.append(f"{noise} ν {np.exp(mean):.3f} [{low:.3f}, {high:.3f}], {np.exp(each).min():.2f}–"
                     f"{np.exp(each).max():.2f} at single η")  # fmt: skip
    return Claim(
        statement,
        "docs/theory.md §4.6",
        f"a 95 % interval of the ratio of n*, geometric mean over η < 1/2, that is not wholly "
        f"{'above' if more else 'at or below'} 1",
        "ratio: " + "; ".join(found),
        holds,
    )


def _floor_claim(points: pd.DataFrame) -> Claim:
    """Nothing is asked of points nearer to the critical f than `AWAY`, where n* diverges."""
    ratio = points.f / points.eta.map({eta: critical(eta) for eta in points.eta.unique()})
    above, below = points[ratio >= AWAY], points[ratio <= 1 / AWAY]
    at = ", ".join(f"η={eta} {critical(eta):.2g}" for eta in sorted(points.eta.unique()))
    return Claim(
        "a wrong ν fails where the score's drift is negative, below a critical least probability f, and there alone",
        "docs/theory.md §4.6",
        f"an f at least {AWAY:g} times the critical one at which the budget does not suffice, or one at most "
        f"1/{AWAY:g} of it at which it does; no point on either side",
        f"critical f: {at}; within the budget {int((above.censored == 0).sum())} of {len(above)} above, "
        f"{int((below.censored == 0).sum())} of {len(below)} below",
        len(above) > 0 and len(below) > 0 and not above.censored.any() and bool(below.censored.all()),
    )


def draw(table: pd.DataFrame, unit: str = "episodes") -> Figure:
    """n* on a logarithmic axis: two kernels over η; NAILGUN's n*(H) on its curve; a wrong ν over f."""
    figure = Figure(figsize=(TEXT_WIDTH, 5.4), layout="constrained")
    (left, right), (grown, wrong) = figure.subplots(2, 2)
    of = dict(iter(table.groupby("kind")))
    for axes, noise in zip((left, right), KERNELS, strict=True):
        _eta_panel(axes, of["eta"][of["eta"].noise == noise], unit)
        axes.set_title(f"{noise} ν = ({', '.join(f'{x:g}' for x in KERNELS[noise])})")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1.2)
    _horizon_panel(grown, of["horizon"], unit)
    _floor_panel(wrong, of["floor"], unit)
    for axes in (left, right, grown, wrong):
        axes.set_yscale("log")
    for axes in (left, grown):
        axes.set_ylabel(n_label(unit, "success 1 − δ"))
    row = next(of["eta"].itertuples())
    note(
        figure, f"poison chain, A = {row.n_actions}, δ = {row.delta}, H = {row.horizon} (but for the lower left); "
        f"{row.replicates} replicates a point, bands: 95 % intervals;\nopen marks with arrows: beyond the "
        "budget; shaded: outside NAILGUN's guarantee",
    )  # fmt: skip
    return figure


def _eta_panel(axes: Axes, table: pd.DataFrame, unit: str) -> None:
    per = table.horizon.iloc[0] if unit == "queries" else 1
    gun = table[(table.method == "nailgun") & table.exact.notna()]
    axes.plot(gun.eta, gun.exact * per, label="NAILGUN, exact", **REFERENCE["exact"])
    for method in ("nailgun", "nail-channel"):
        measured(axes, look(method), in_unit(table[table.method == method], unit), "eta", label=METHOD[method].label)
    for case, told in zip(("<", "v", "^", ">"), TOLD, strict=True):
        points = table[(table.method == "nail-wrong-eta") & (table.told_eta == told)]
        style = look("nail-wrong-eta")._replace(mark=case, line=":" if told < 0.3 else "-.")
        measured(axes, style, in_unit(points, unit), "eta", hollow=told < 0.3, label=f"NAIL told η' = {told:g}")
    axes.axvspan(0.5, max(0.57, table.eta.max() + 0.01), color="#f2f2f2", zorder=0)
    axes.set_xlabel("corruption rate η")


def _horizon_panel(axes: Axes, table: pd.DataFrame, unit: str) -> None:
    per = table.horizon if unit == "queries" else 1
    for style, (eta, points) in zip(CASES, table.assign(curve=table.exact * per).groupby("eta"), strict=False):
        measured(axes, style._replace(line="none"), in_unit(points, unit), "horizon", label=f"η = {eta:g}")
        axes.plot(points.horizon, points.curve, **{**REFERENCE["exact"], "color": style.colour})
    axes.set_title("adversarial ν, NAILGUN; lines: exact")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("horizon H (steps)")
    axes.legend(ncols=3, fontsize=7, loc="upper left")
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 10)


def _floor_panel(axes: Axes, table: pd.DataFrame, unit: str) -> None:
    for style, (eta, points) in zip(CASES[1:], table.groupby("eta"), strict=False):
        measured(axes, style, in_unit(points.sort_values("f", ascending=False), unit), "f", label=f"η = {eta:g}")
        axes.axvline(critical(eta), color=style.colour, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_title("adversarial ν, NAIL told (f, f, 1−3f, f)")
    axes.set_xlabel("least probability f of the believed ν")
    axes.plot([], [], color="#666666", linewidth=0.8, linestyle=":", label="critical f")
    axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0.17, 0.0))


EXPERIMENT = figure_of_points(
    "theory_unknown_noise",
    "unknown corruption: NAILGUN on its exact curve, and against NAIL told the truth, a wrong η or a wrong ν",
    {
        "smoke": "about 12 seconds on two cores",
        "cpu": "about 70 seconds on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw, units=("episodes", "queries"),
)  # fmt: skip

"""n*(η) at a fixed horizon, on the poison chain: what noise costs a learner that sees only clean trajectories' heads,
and what it costs one that labels its own greedy path.

docs/theory.md §4.1, §4.2 and §5: offline n* grows as q^{−(H−1)} times the labels that a plurality needs; for NAIL the rate
of a deterministic class under uniform noise is 1/κ, κ = 2(√q − √(η/A))².
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import LOOK, REFERENCE, TEXT_WIDTH, measured, note
from nail.methods import METHOD
from nail.theory.bounds import kappa, phased_nail
from nail.theory.exact import n_bc, n_offline

from ._rows import column, select
from ._theory import Point, censored, exact_columns, measure_n_star, run_points

NAME = "theory_noise"
STEEP = ("loglossbc", "opd-f", "opd-r")
FLAT = ("dagger", "nail-f", "nail-r", "nailgun")
REFERENCES = {
    "n_offline": ("lower", "genie: lower bound, offline"),
    "n_bc": ("exact", "LogLossBC, exact"),
    "phased": ("upper", "phased NAIL, upper bound"),
}
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


def series(size: Size) -> list[list[Point]]:
    """One series of growing η for each learner; the known curves at the end."""
    common = {"instance": "poison-chain", "horizon": size.horizon, "n_actions": size.n_actions, "delta": size.delta}
    found = []
    for i, method in enumerate(STEEP + FLAT):
        rest = {"replicates": size.replicates, "seed": 100 + i, "budget": size.budget}
        found.append([{**common, "method": method, "eta": eta, **rest} for eta in size.etas])
    rest = {"replicates": 0, "seed": 0, "budget": 0}
    found.append([{**common, "method": method, "eta": eta, **rest} for method in REFERENCES for eta in size.etas])
    return found


def measure(point: Point) -> list[Row]:
    """One n*, measured or known."""
    known = {"n_offline": n_offline, "n_bc": n_bc, "phased": phased_nail}.get(point["method"])
    if known is None:
        return measure_n_star(point)
    value = known(point["horizon"], point["n_actions"], point["eta"], point["delta"])
    return [{**point, **exact_columns(value)}]


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all points of a preset."""
    return run_points(NAME, out, series(SIZES[preset]), measure, censored)


def analyse(rows: list[Row]) -> list[Row]:
    """n* in episodes with its interval (the budget where censored), and κ."""
    return [
        {
            "method": row["method"],
            "eta": row["eta"],
            "episodes": row["allowed"] if int(row["censored"]) else row["n_star"],
            **{name: row[name] for name in ("low", "high", "censored", "horizon", "n_actions", "delta", "replicates")},
            "kappa": kappa(int(row["n_actions"]), float(row["eta"])),
        }
        for row in rows
    ]


def claims(rows: list[Row]) -> list[Claim]:
    """Agreement with the exact curve, both bounds, the 1/κ law, and who is hurt more by noise."""
    return [_exact_claim(rows), _genie_claim(rows), _phased_claim(rows), *_kappa_claims(rows), _gap_claim(rows)]


def _reached(rows: list[Row], method: str) -> dict[float, Row]:
    return {float(r["eta"]): r for r in select(rows, method=method) if not int(r["censored"])}


def _exact_claim(rows: list[Row]) -> Claim:
    exact, found = _reached(rows, "n_bc"), _reached(rows, "loglossbc")
    ratios = [float(r["n_star"]) / float(exact[eta]["n_star"]) for eta, r in found.items()]
    hits = sum(float(r["low"]) <= float(exact[eta]["n_star"]) <= float(r["high"]) for eta, r in found.items())
    return Claim(
        "the measured n* of LogLossBC agrees with the exact one (most intervals contain it)",
        "docs/theory.md §4.2",
        f"{hits} of {len(found)} intervals contain it; measured/exact from {min(ratios):.3f} to {max(ratios):.3f}",
        hits > len(found) / 2,
    )


def _genie_claim(rows: list[Row]) -> Claim:
    genie, found = _reached(rows, "n_offline"), _reached(rows, "loglossbc")
    ratios = {eta: float(r["n_star"]) / float(genie[eta]["n_star"]) for eta, r in found.items()}
    return Claim(
        "LogLossBC needs at least the genie's number of trajectories at every η (up to its interval)",
        "docs/theory.md §4.1",
        "n*/n_offline: " + ", ".join(f"η={eta:g} {x:.2f}" for eta, x in ratios.items()),
        all(float(r["high"]) >= float(genie[eta]["n_star"]) for eta, r in found.items()),
    )


def _phased_claim(rows: list[Row]) -> Claim:
    phased = _reached(rows, "phased")
    worst = {m: max(float(r["n_star"]) / float(phased[float(r["eta"])]["n_star"]) for r in select(rows, method=m))
             for m in FLAT}  # fmt: skip
    return Claim(
        "DAgger, NAIL and NAILGUN stay below the bound for phased NAIL at every η",
        "docs/theory.md §4.2",
        "largest n*/bound: " + ", ".join(f"{METHOD[m].label} {x:.3f}" for m, x in worst.items()),
        max(worst.values()) < 1,
    )


def _kappa_claims(rows: list[Row]) -> list[Claim]:
    """n*·κ is constant up to a factor if n* is proportional to 1/κ."""
    found = []
    for method in FLAT:
        reached = _reached(rows, method)
        scaled = [float(r["n_star"]) * kappa(int(r["n_actions"]), eta) for eta, r in reached.items()]
        raw = column(reached.values(), "n_star")
        spread = max(scaled) / min(scaled)
        found.append(
            Claim(
                f"n* of {METHOD[method].label} is about 1/κ(η): κ·n* varies by less than a factor {WITHIN:g}",
                "docs/theory.md §5",
                f"κ·n* varies by a factor {spread:.2f} while n* varies by {raw.max() / raw.min():.1f} "
                f"(η = {min(reached):g}–{max(reached):g})",
                spread < WITHIN,
            )
        )
    return found


def _gap_claim(rows: list[Row]) -> Claim:
    offline, greedy = _reached(rows, "loglossbc"), _reached(rows, "nail-f")
    both = sorted(offline.keys() & greedy.keys())
    ratios = [float(offline[e]["n_star"]) / float(greedy[e]["n_star"]) for e in both]
    return Claim(
        "the more noise, the larger the factor between LogLossBC and NAIL-F",
        "docs/theory.md §4.1, §4.2",
        "n*(LogLossBC)/n*(NAIL-F): " + ", ".join(f"η={e:g} {x:.2f}" for e, x in zip(both, ratios, strict=True)),
        bool(np.all(np.diff(ratios) > 0)) and ratios[-1] > 1,
    )


def draw(table: list[Row]) -> Figure:
    """Episodes on a logarithmic axis against η; to the right n*·κ, flat where n* is proportional to 1/κ."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method, (kind, label) in REFERENCES.items():
        rows = select(table, method=method)
        eta, value, scale = (column(rows, c) for c in ("eta", "episodes", "kappa"))
        left.plot(eta, value, label=label, **REFERENCE[kind])
        right.plot(eta, value * scale, **REFERENCE[kind])
    for method in STEEP + FLAT:
        rows = select(table, method=method)
        eta, value, low, high, beyond, scale = (
            column(rows, c) for c in ("eta", "episodes", "low", "high", "censored", "kappa")
        )
        hollow = method == "nailgun"
        measured(left, LOOK[method], eta, value, low, high, beyond, hollow, METHOD[method].label)
        measured(right, LOOK[method], eta, value * scale, low * scale, high * scale, beyond, hollow)
    found = [row for row in table if row["method"] not in REFERENCES]
    left.set_ylim(min(column(found, "low")) / 1.5, max(column(found, "episodes")) * 2)
    left.set_ylabel("episodes n* until P(all H right) ≥ 1 − δ")
    right.set_ylabel("κ·n* (flat if n* ∝ 1/κ)")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_xlabel("corruption rate η")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5, columnspacing=1.2)
    row = found[0]
    note(
        figure, f"poison chain, H = {row['horizon']}, A = {row['n_actions']}, δ = {row['delta']}; {row['replicates']} "
        "replicates a point, bands: 95 % bootstrap intervals; open marks with arrows: beyond the budget",
    )  # fmt: skip
    return figure


EXPERIMENT = Experiment(
    name=NAME,
    summary="n*(η) at fixed H: offline and sampling learners against greedy ones, and the 1/κ law",
    cost={
        "smoke": "about 12 seconds on two cores",
        "cpu": "about 1 minute on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
)

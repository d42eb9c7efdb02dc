"""Is sampling the barrier, or fitting the noisy law? OPD and NAIL at the same labels, with and without the channel.

docs/theory.md §4.9. Two drivers (sampled: OPD-F; greedy: NAIL-F) × two losses (of the noisy law; of the clean law
passed through the known channel). On the poison chain n*(H), judged as everywhere by the learner's most probable
actions; there, under uniform ν, channel-aware NAIL-F has the law of NAIL-F and is one row with it, since the channel
does not change which label is counted most. In modular addition the final full-chain accuracy of trained networks over
chain length m × corruption rate η; the runs without the channel are figure 4's where they have a cell in common.

Why the channel-aware sampler is polynomial and yet slower, a heuristic (conjectured, not tested: the exponent measured
over H = 4..40 is 1.46 to 1.66): its clean estimate at a level with n labels misses the right action with probability of
order n^(−1/2) half of the time, so that rollouts come through H levels only when H·n^(−1/2) is of order 1: of order H²
episodes, against the greedy learner's μH.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, handle, look, measured, note
from nail.stats import NORMAL_95
from nail.sweep.grid import grid
from nail.sweep.points import run_points
from nail.sweep.run import rows_of
from nail.theory.plurality import right_probability
from nail.training.config import TrainConfig

from ._nstar import at_each, both_units, censored, fit_n_star, in_unit, log_ratio, measure_n_star, n_label, of
from ._theory import Point, seeded
from ._training import BASE, RARE, SEEDS, SOLVED, clean_chance, each_seed, late, per_seed, times_to_solve

NAME = "theory_sampling"
LEARNERS = {
    "opd-f": "OPD-F (sampled)",
    "opd-channel": "OPD-F, channel-aware",
    "nail-f": "NAIL-F (greedy)",
    "nail-channel": "NAIL-F, channel-aware",
}
"""name of the count-based row → label; a network is trained by the first row with `channel_aware`"""
AWARE = {"opd-f": "opd-channel", "nail-f": "nail-channel"}
CURVE = "n_greedy"
SOURCE = "docs/theory.md §4.9"
NEAR = 0.1
"""relative distance of a rate from −log q"""
FACTOR = 3.0
"""most episodes of a sampler, relative to the greedy learner's, at which greedy would not be needed"""
BY_CHANCE = (
    "were the learners alike, each of the 5 seeds, which they share, would have them in this order with "
    "probability at most ½, all of them with at most 2⁻⁵ = 1/32"
)


class Size(NamedTuple):
    """A preset of the chain."""

    steep: tuple[int, ...]
    """horizons of OPD-F, tried until the budget does not suffice"""
    flat: tuple[int, ...]
    replicates: int
    budget: int
    n_actions: int = 4
    eta: float = 0.5
    delta: float = 0.1


SIZES = {
    "smoke": Size((2, 3, 4), (2, 3, 4), 40, 300),
    "cpu": Size((4, 6, 8, 10, 12, 14, 16, 18), (4, 6, 8, 12, 16, 24, 32, 40), 200, 30_000),
    "paper": Size(tuple(range(4, 31, 2)), (4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 100), 2_000, 1_000_000),
}
GRID = {"smoke": ((3,), (0.25, 0.5)), "cpu": ((4, 7, 10), (0.25, 0.5)), "paper": ((9, 15, 23, 31), (0.1, 0.2))}
"""preset → chain lengths m, corruption rates η of modular addition"""


def series(preset: str) -> list[list[Point]]:
    """One series of growing H for each learner, and one of the curve that is known."""
    size = SIZES[preset]
    common = {"instance": "poison-chain", "n_actions": size.n_actions, "eta": size.eta, "delta": size.delta}
    rest = {"replicates": size.replicates, "budget": size.budget}
    horizons = {"opd-f": size.steep, "opd-channel": size.flat, "nail-f": size.flat, CURVE: size.flat}
    return [
        [
            seeded({**common, **rest, "method": method, "channel_aware": method in AWARE.values(), "horizon": h})
            for h in at
        ]
        for method, at in horizons.items()
    ]


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Two drivers × two losses × chain lengths × corruption rates × the seeds."""
    lengths, etas = GRID[preset]
    axes = {"method": tuple(AWARE), "channel_aware": (False, True), "m": lengths, "eta": etas}
    return grid(BASE[preset], **axes, seed=SEEDS[preset])


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of the chain (`kind` chain) and of the training runs (`kind` run), with the columns of both."""
    chain = run_points(NAME, out, series(preset), measure_n_star, censored)
    rows = [{"kind": "chain", **row} for row in chain]
    rows += [{"kind": "run", **row} for row in rows_of(runs(preset), out)]
    empty = dict.fromkeys((name for row in rows for name in row), "")
    return [{**empty, **row} for row in rows]


def chain_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the chain."""
    return rows[rows.kind == "chain"]


def cells_of(rows: pd.DataFrame) -> dict[str, dict[tuple[int, float], pd.DataFrame]]:
    """Learner → (m, η) → rows of its runs."""
    trained = rows[rows.kind == "run"].astype({"m": int, "seed": int})
    learner = trained.method.mask(trained.channel_aware, trained.method.map(AWARE))
    return {name: dict(iter(chosen.groupby(["m", "eta"]))) for name, chosen in trained.groupby(learner)}


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """n* in both units with its interval (`kind` chain), each seed's final accuracy with the median (`kind` run)."""
    kept = ["kind", "method", "horizon", "n_actions", "eta", "delta", "replicates", "low", "high", "censored"]
    both = both_units(chain_of(rows))
    parts = [both[[*kept, "episodes", "queries", "queries_low", "queries_high"]]]
    for method, cells in cells_of(rows).items():
        for (m, eta), chosen in cells.items():
            final, p = late(chosen, "full_exact"), int(chosen.p.iloc[0])
            cell = {"method": method, "m": m, "eta": eta, "p": p, "clean_chance": clean_chance(p, m, eta)}
            parts.append(pd.DataFrame({"kind": "run", **cell, "accuracy": final, "median": np.median(final)}))
    return pd.concat(parts, ignore_index=True)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What sampling costs on the chain and in modular addition, with and without a loss that sees the channel."""
    chain, cells = chain_of(rows), cells_of(rows)
    return [*_chain_claims(chain), *_accuracy_claims(cells), _speed_claim(cells)]


def _chain_claims(chain: pd.DataFrame) -> list[Claim]:
    noisy, aware, greedy = (of(chain, method=method) for method in ("opd-f", "opd-channel", "nail-f"))
    rate = -np.log(right_probability(int(noisy.n_actions.iloc[0]), float(noisy.eta.iloc[0])))
    slow, quick = fit_n_star(noisy), fit_n_star(aware)
    ends = slow.exponential.interval if slow else (np.nan, np.nan)
    power = quick.polynomial.interval if quick else (np.nan, np.nan)
    ratio, sd = log_ratio(aware, greedy[greedy.horizon.isin(aware.horizon)])
    most = np.exp(ratio + NORMAL_95 * sd)
    return [
        Claim(
            f"poison chain: n* of OPD-F is exponential in H at rate −log q (within {NEAR:.0%})", "docs/theory.md §4.2",
            "the verdict by AIC is not exponential, or the rate's 95 % interval is not inside −log q·"
            f"[{1 - NEAR:g}, {1 + NEAR:g}], or fewer than 3 points within the budget",
            f"rate {_fitted(slow and slow.exponential)}, −log q = {rate:.3f}, {_aic(slow)}; {len(noisy)} points, "
            f"{int(noisy.censored.sum())} of them beyond the budget",
            bool(slow and slow.verdict == "exponential" and np.abs(np.array(ends) / rate - 1).max() < NEAR),
        ),
        Claim(
            "poison chain: n* of OPD-F, channel-aware, is polynomial in H although it samples", SOURCE,
            "the verdict by AIC is not polynomial (4 or more in favour of n* = μH + c√H or of a power law)",
            f"{_aic(quick)}; n*: {at_each('horizon', aware, aware.n_star)}",
            bool(quick and quick.verdict == "polynomial"),
        ),
        Claim(
            "poison chain: n* of OPD-F, channel-aware, grows faster than H (exponent of a power law above 1)", SOURCE,
            "the exponent's 95 % interval reaches 1 or less",
            f"exponent {_fitted(quick and quick.polynomial)}", bool(power[0] > 1),
        ),
        Claim(
            f"poison chain: OPD-F, channel-aware, needs at most {FACTOR:g} times NAIL-F's n* at every H: greedy is not "
            "needed when the loss sees the channel", SOURCE,
            f"the ratio's 95 % interval reaches above {FACTOR:g} at one H, or a point is beyond the budget",
            f"ratio: {at_each('horizon', aware, np.exp(ratio))}; at the largest H "
            f"[{np.exp(ratio - NORMAL_95 * sd)[-1]:.2f}, {most[-1]:.2f}]",
            bool((most <= FACTOR).all()),
        ),
    ]  # fmt: skip


def _fitted(line) -> str:
    return f"{line.slope:.3f} [{line.interval[0]:.3f}, {line.interval[1]:.3f}]" if line else "not fitted"


def _aic(fit) -> str:
    return f"AIC(exponential) − AIC(the better polynomial law) = {fit.delta_aic:.1f}" if fit else "too few points"


def _accuracy_claims(cells: dict) -> list[Claim]:
    final = {
        method: {cell: late(each, "full_exact") for cell, each in found.items()} for method, found in cells.items()
    }
    p = next(iter(cells["opd-f"].values())).p.iloc[0]
    rare = [cell for cell in final["opd-f"] if clean_chance(p, *cell) < RARE]
    apart = {cell: final["opd-channel"][cell].min() > final["opd-f"][cell].max() for cell in rare}
    solve = {
        "opd-channel": "the loss suffices, greedy rollouts are not needed",
        "nail-channel": "a loss that sees the channel does no harm to a greedy learner",
    }
    below = f"one seed in one cell below {SOLVED} over the last quarter (median of its evaluations)"
    return [
        *(
            Claim(
                f"modular addition: {LEARNERS[method]}, solves every cell (full chain ≥ {SOLVED}, every seed): {why}",
                SOURCE, below, "lowest seed: " + _in_cells({c: f"{x.min():.3g}" for c, x in final[method].items()}),
                all((x >= SOLVED).all() for x in final[method].values()),
            )
            for method, why in solve.items()
        ),
        Claim(
            f"modular addition: where a clean trajectory is rarer than {RARE:g} every seed of OPD-F, channel-aware, "
            "ends above every seed of OPD-F", SOURCE,
            "in one such cell a seed of OPD-F ends (median over the last quarter) at least as high as one of OPD-F, "
            "channel-aware, or there is no such cell; " + BY_CHANCE,
            "; ".join(f"m={m}, η={eta:g}: {per_seed(final['opd-channel'][m, eta])} against "
                      f"{per_seed(final['opd-f'][m, eta])}" for m, eta in rare) or "no such cell",
            bool(rare) and all(apart.values()),
        ),
    ]  # fmt: skip


def _speed_claim(cells: dict) -> Claim:
    """Same loss, two drivers, in the cell with the fewest clean trajectories."""
    p = next(iter(cells["opd-f"].values())).p.iloc[0]
    hardest = min(cells["opd-f"], key=lambda cell: clean_chance(p, *cell))
    sampled, greedy = (times_to_solve(cells[method][hardest]) for method in ("opd-channel", "nail-channel"))
    return Claim(
        "modular addition: when the loss sees the channel greedy rollouts still solve sooner than sampled ones in the "
        "hardest cell (least q^m), every seed before every seed", SOURCE,
        "there a seed of OPD-F, channel-aware, is solved no later than one of NAIL-F, channel-aware; " + BY_CHANCE,
        f"m={hardest[0]}, η={hardest[1]:g}, thousand episodes: greedy {each_seed(greedy)}; "
        f"sampled {each_seed(sampled)}",
        bool(greedy.max() < sampled.min()),
    )  # fmt: skip


def _in_cells(found: dict[tuple[int, float], str]) -> str:
    return "; ".join(f"m={m}, η={eta:g}: {text}" for (m, eta), text in found.items())


def draw(table: pd.DataFrame, unit: str = "episodes") -> Figure:
    """n* against H on the left, final accuracy against m for each η beside it."""
    chain, trained = chain_of(table), table[table.kind == "run"]
    etas = np.unique(trained.eta)
    figure = Figure(figsize=(TEXT_WIDTH, 3.1), layout="constrained")
    left, *panels = figure.subplots(1, 1 + len(etas), width_ratios=[1.5, *[1] * len(etas)])
    _chain_panel(left, in_unit(chain, unit), unit)
    for axes, eta in zip(panels, etas, strict=True):
        _accuracy_panel(axes, trained[trained.eta == eta])
        axes.set_title(f"modular addition, η = {eta:g}")
    panels[0].set_ylabel("final full-chain accuracy")
    entries = [handle(method, label) for method, label in LEARNERS.items()]
    figure.legend(handles=entries, loc="outside upper center", ncols=4, columnspacing=1.2)
    row, run = chain.iloc[0], trained.iloc[0]
    seeds = len(trained) // trained[["method", "m", "eta"]].drop_duplicates().shape[0]
    note(
        figure, f"chain: A = {row.n_actions:g}, η = {row.eta:g}, δ = {row.delta:g}; {row.replicates:g} replicates, "
        "bands: 95 % intervals; open marks with arrows: beyond the budget; NAIL-F, channel-aware,\n"
        f"has NAIL-F's law there; modular addition: p = {run.p:g}; small marks: {seeds} seeds, lines: their medians",
    )  # fmt: skip
    return figure


def _chain_panel(axes: Axes, chain: pd.DataFrame, unit: str) -> None:
    for method in LEARNERS:
        measured(axes, look(method), chain[chain.method == method], "horizon")
    known = chain[chain.method == CURVE]
    axes.plot(known.horizon, known.episodes, **REFERENCE["exact"])
    axes.set_yscale("log")
    axes.set_xlabel("horizon H (steps)")
    axes.set_ylabel(n_label(unit, "success ≥ 1 − δ"))
    axes.set_title("poison chain; thin line: NAIL-F's law")


def _accuracy_panel(axes: Axes, trained: pd.DataFrame) -> None:
    """Chain lengths side by side, the learners of one beside each other."""
    lengths = np.unique(trained.m)
    for i, method in enumerate(LEARNERS):
        style, points = look(method), trained[trained.method == method]
        at = np.searchsorted(lengths, points.m) + 0.17 * (i - 1.5)
        mark = {"color": style.colour, "marker": style.mark}
        axes.plot(at, points.accuracy, linestyle="none", markersize=2.5, alpha=0.6, **mark)
        medians = points.assign(at=at).drop_duplicates("m").sort_values("m")
        axes.plot(medians["at"], medians["median"], linestyle=style.line, linewidth=1.0, markersize=4.5, **mark)
    axes.set_xticks(range(len(lengths)), [f"{m:g}" for m in lengths])
    axes.set_xlabel("chain length m")
    axes.set_ylim(-0.03, 1.05)


EXPERIMENT = Experiment(
    NAME,
    "is sampling the barrier, or fitting the noisy law? OPD and NAIL with and without a loss that sees the channel",
    {
        "smoke": "24 runs of 40 updates and the smallest chains, about 30 seconds on two cores",
        "cpu": "the chain: about 45 seconds on two cores; 60 runs of 2,500 updates of its own, beside 60 of figure 4's",
        "paper": "finer grids, the paper's network; an accelerator; not timed yet",
    },
    compute, analyse, claims, draw, runs, units=("episodes", "queries"), points=series,
)  # fmt: skip

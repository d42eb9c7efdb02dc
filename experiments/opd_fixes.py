"""Local supports and nuclei: which repairs of on-policy distillation learn the clean expert.

docs/post_training.md §1.6: objectives × masses p of the nucleus that rollouts are sampled from, in modular addition at
high noise, from scratch. Beside them LSM without its renormalisation, and two objectives under an expert that echoes
after a mistake. What students' rollouts meet is read by position off the rows (`TrainConfig.diagnose`).
"""

import dataclasses
import math

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nail.figures.experiment import Claim
from nail.figures.plotting import CASES, TEXT_WIDTH, note
from nail.figures.stats import trend_test
from nail.sweep.grid import grid
from nail.training.config import TrainConfig

from ._training import BASE, LEVEL, SEEDS, SOLVED, UNSOLVED, each_seed, figure_of_runs, late, per_seed, times_by

SIZE = {
    "smoke": dataclasses.replace(BASE["smoke"], diagnose=True),
    "cpu": dataclasses.replace(BASE["cpu"], batch=16, steps=4_000, eval_every=400, diagnose=True),
}
"""preset → what its runs have in common (at this size an update of 16 episodes takes a run about as far as one of 64,
in a quarter of the time); runs that start elsewhere than from scratch are another one of these"""
TEACHER = {"smoke": (2, 3), "cpu": (2, 4, 7)}
"""preset → numbers K of LSM"""
ONE_K = {"smoke": 2, "cpu": 4}
"""preset → K without renormalisation, and under the echo"""
MASSES = {"smoke": (1.0, 0.5, 0.0), "cpu": (1.0, 0.9, 0.7, 0.5, 0.0)}
NARROW, WIDE = 0.5, 0.9
"""masses up to which, and from which on, rollouts of a student equal to the noisy law are greedy, and are not"""
LEAST = 1 - 1 / math.e
"""mass that leaves the support at the minimum without renormalisation, where the support holds all of the expert's"""
BY = ["objective", "recovery", "rule_number", "p", "m", "eta"]
SAMPLED, FULL = "sampled token", "full law"
PLACES = ("advantage_mean", "advantage_low", "advantage_negative", "off_support", "repeated")
"""columns by position"""


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Objectives × nuclei × seeds; LSM without renormalisation from sampled rollouts; two objectives with the echo."""
    base, one_k = SIZE[preset], ONE_K[preset]
    sampled = dataclasses.replace(base, method="opd-r-top-p")
    local = dataclasses.replace(base, method="lsm")
    axes = {"rule_number": MASSES[preset], "seed": SEEDS[preset]}
    bare = dataclasses.replace(base, method="lsm-unrenormalised", top_k_teacher=one_k, rule_number=1.0)
    echoed = [dataclasses.replace(start, recovery="echo") for start in (sampled, local)]
    ends = {**axes, "rule_number": (1.0, 0.0)}
    return (
        *grid(sampled, estimator=("mc", "full"), **axes),
        *grid(local, top_k_teacher=TEACHER[preset], **axes),
        *grid(bare, seed=SEEDS[preset]),
        *grid(echoed[0], **ends),
        *grid(dataclasses.replace(echoed[1], top_k_teacher=one_k), **ends),
    )


def prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the objective in words, and the mass off the support and the share of repeated tokens as means over the
    positions (a first token repeats nothing)."""

    def words(row) -> str:
        if row.method == "opd-r-top-p":
            return {"mc": SAMPLED, "full": FULL}[row.estimator]
        return f"{'LSM' if row.method == 'lsm' else 'unrenormalised'}, K = {row.top_k_teacher:g}"

    off, repeats = (np.array([numbers(cell) for cell in rows[name]]) for name in ("off_support", "repeated"))
    objective = [words(row) for row in rows.itertuples()]
    return rows.assign(objective=objective, off=off.mean(1), first_off=off[:, 0], repeats=repeats[:, 1:].mean(1))


def numbers(cell: str) -> Float[np.ndarray, " H"]:
    """A cell of numbers by position."""
    return np.array(cell.split(), float)


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """For each setting the full-chain accuracy of each seed (kind "seed": median over the last quarter), and what its
    rollouts meet at the end by position (kind "position": mean over seeds)."""
    parts = []
    for values, chosen in prepared(rows).groupby(BY, sort=False):
        last = chosen[chosen.step == chosen.step.max()]
        found = [{"kind": "seed", "metric": "full_exact", "value": value} for value in late(chosen, "full_exact")]
        for name in PLACES:
            mean = np.mean([numbers(cell) for cell in last[name]], axis=0)
            found += [{"kind": "position", "metric": name, "position": h + 1, "value": x} for h, x in enumerate(mean)]
        parts.append(pd.DataFrame(found).assign(**dict(zip(BY, values, strict=True)), n_seeds=len(last)))
    return pd.concat(parts, ignore_index=True)[[*BY, "kind", "metric", "position", "value", "n_seeds"]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What docs/post_training.md §1.6 expects, each with its numbers."""
    rows = prepared(rows)
    settings = dict(iter(rows.groupby(["recovery", "objective"])))
    found = []
    for objective in (SAMPLED, FULL):
        found += _nucleus_claims(settings["none", objective], objective)
    local = {objective: part for (recovery, objective), part in settings.items()
             if recovery == "none" and objective.startswith("LSM")}  # fmt: skip
    for objective, part in local.items():
        found.append(_solves(part, objective, 0.0, "docs/post_training.md §1.2"))
    two = local["LSM, K = 2"]
    found += [_does_not_solve(two, "LSM, K = 2", 1.0, "docs/post_training.md §1.2"), _leak_claim(two)]
    found += [_collapse_claim(part, objective) for (_, objective), part in settings.items() if "unren" in objective]
    for (recovery, objective), part in settings.items():
        if recovery == "echo":
            found += _echo_claims(part, objective)
    return found


def _nucleus_claims(rows: pd.DataFrame, objective: str) -> list[Claim]:
    """The prediction of docs/post_training.md §1.3, from both of its sides, and the order between."""
    masses, times = times_by(rows, "rule_number")
    p = trend_test(times, masses, np.random.default_rng(0))
    source = "docs/post_training.md §1.3"
    return [
        _solves(rows, objective, NARROW, source), _does_not_solve(rows, objective, WIDE, source),
        Claim(
            f"{objective}: the wider the nucleus, the later the task is solved (Page's test, masses permuted within "
            f"seeds, p < {LEVEL:g})", source, f"p ≥ {LEVEL:g}",
            f"p = {p:.2g}; thousand episodes per seed: "
            + "; ".join(f"mass {x:g}: {each_seed(column)}" for x, column in zip(masses, times.T, strict=True)),
            p < LEVEL,
        ),
    ]  # fmt: skip


def _accuracies(rows: pd.DataFrame) -> dict[float, Float[np.ndarray, " seeds"]]:
    """Mass of the nucleus → full-chain accuracy per seed over the last quarter."""
    return {mass: late(chosen, "full_exact") for mass, chosen in rows.groupby("rule_number")}


def _measured(accuracies: dict[float, np.ndarray]) -> str:
    return "full-chain accuracy per seed: " + "; ".join(f"mass {x:g}: {per_seed(v)}" for x, v in accuracies.items())


def _solves(rows: pd.DataFrame, objective: str, most: float, source: str) -> Claim:
    accuracies = _accuracies(rows[rows.rule_number <= most])
    return Claim(
        f"{objective}: rollouts from nuclei of mass at most {most:g} solve the task (full chain ≥ {SOLVED}, every "
        "seed)", source, f"one seed below {SOLVED} over the last quarter (median of its evaluations)",
        _measured(accuracies),
        all((values >= SOLVED).all() for values in accuracies.values()),
    )  # fmt: skip


def _does_not_solve(rows: pd.DataFrame, objective: str, least: float, source: str) -> Claim:
    accuracies = _accuracies(rows[rows.rule_number >= least])
    return Claim(
        f"{objective}: rollouts from nuclei of mass {least:g} or more do not solve the task (full chain < {UNSOLVED}, "
        "every seed)", source, f"one seed at {UNSOLVED} or more over the last quarter (median of its evaluations)",
        _measured(accuracies), all((values < UNSOLVED).all() for values in accuracies.values()),
    )  # fmt: skip


def _leak_claim(rows: pd.DataFrame) -> Claim:
    row = next(rows.itertuples())
    own = row.eta * (row.p - 2) / row.p
    mass = late(rows[rows.rule_number == 1.0], "first_off")
    return Claim(
        "LSM, K = 2, sampled rollouts: more mass stays off the support than the expert has there (first position, "
        "every seed)", "docs/post_training.md §1.2",
        f"one seed with a mass of {own:.3g} or less at the first position (median over the last quarter)",
        f"mass per seed: {per_seed(mass)}; the expert's: {own:.3g}", bool((mass > own).all()),
    )  # fmt: skip


def _collapse_claim(rows: pd.DataFrame, objective: str) -> Claim:
    mass = late(rows, "off")
    return Claim(
        f"{objective}: at least {LEAST:.3g} of the mass leaves the support (every seed)", "docs/post_training.md §1.2",
        "one seed with less (mean over positions, median over the last quarter)", f"mass per seed: {per_seed(mass)}",
        bool((mass >= LEAST).all()),
    )  # fmt: skip


def _echo_claims(rows: pd.DataFrame, objective: str) -> list[Claim]:
    """Sampled rollouts learn to repeat, whatever the objective; greedy ones stay where there is nothing to echo."""
    sampled, greedy = (rows[rows.rule_number == mass] for mass in (1.0, 0.0))
    before, after = sampled[sampled.step == 0].repeats.to_numpy(), late(sampled, "repeats")
    mended, accuracy = late(greedy, "repeats"), late(greedy, "full_exact")
    source = "docs/post_training.md §1.4"
    return [
        Claim(
            f"echo, {objective}: under sampled rollouts repetition rises (every seed)", source,
            "one seed whose share of repeated tokens over the last quarter is not above that before training",
            f"share per seed before: {per_seed(before)}; after: {per_seed(after)}", bool((after > before).all()),
        ),
        Claim(
            f"echo, {objective}: greedy rollouts mend it (they solve the task and repeat less, every seed)", source,
            f"one seed with greedy rollouts whose full-chain accuracy over the last quarter is below {SOLVED}, or that "
            "repeats as often as with sampled ones",
            f"share of repeated tokens per seed: {per_seed(mended)}, sampled: {per_seed(after)}; full-chain accuracy: "
            f"{per_seed(accuracy)}", bool(((accuracy >= SOLVED) & (mended < after)).all()),
        ),
    ]  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Accuracy against the nucleus with the predicted threshold; by position what rollouts meet."""
    figure = Figure(figsize=(TEXT_WIDTH, 5.0), layout="constrained")
    (accuracy, advantage), (mass, repeats) = figure.subplots(2, 2)
    none, echo = (table[table.recovery == recovery] for recovery in ("none", "echo"))
    _draw_accuracy(accuracy, none)
    _draw_positions(
        advantage, none[none.objective == SAMPLED], "advantage_mean", "mean of log q − log π (nats)", by="rule_number"
    )
    advantage.set_title(f"{SAMPLED}, by mass of the nucleus")
    wide = none[(none.rule_number == 1) & ~none.objective.isin([SAMPLED, FULL])]
    _draw_positions(mass, wide, "off_support", "mass off the support")
    mass.axhline(LEAST, color="#666666", linewidth=0.9, linestyle=":")
    mass.set_title("sampled rollouts (1 − 1/e dotted)")
    _draw_positions(repeats, echo, "repeated", "share of repeated tokens", by=["objective", "rule_number"])
    repeats.set_title("expert that echoes, by mass of the nucleus")
    row = next(table.itertuples())
    note(
        figure, f"modular addition, p = {row.p}, m = {row.m}, η = {row.eta:g}; {row.n_seeds:g} seeds; accuracy: median "
        "over the last quarter of the budget, lines through medians;\nby position: mean over seeds at the end, each "
        "method's own rollouts",
    )  # fmt: skip
    return figure


def _draw_accuracy(axes: Axes, table: pd.DataFrame) -> None:
    """A line through the medians of each objective, and its seeds; where the noisy law's nucleus stops being greedy."""
    seeds, row = table[table.kind == "seed"], next(table.itertuples())
    crossed = [(o, part) for o, part in seeds.groupby("objective", sort=False) if part.rule_number.nunique() > 1]
    for style, (objective, part) in zip(CASES, crossed, strict=False):
        middle = part.groupby("rule_number").value.median()
        axes.plot(middle.index, middle, color=style.colour, marker=style.mark, label=objective)
        axes.plot(part.rule_number, part.value, ".", color=style.colour, markersize=3, alpha=0.6)
    threshold = 1 - row.eta + row.eta / row.p
    axes.axvline(threshold, color="#666666", linewidth=0.9, linestyle=":")
    axes.annotate(f"1−η+η/p = {threshold:.3f}", (threshold, 1.01), xycoords=("data", "axes fraction"), fontsize=6.5,
                  ha="center")  # fmt: skip
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("mass p of the nucleus (0: greedy, 1: sampled)")
    axes.set_ylabel("full-chain accuracy")
    axes.legend(fontsize=6)


def _draw_positions(
    axes: Axes, table: pd.DataFrame, metric: str, label: str, by: str | list[str] = "objective"
) -> None:
    """A diagnostic against the position, a line for each `by`."""
    parts = list(table[table.metric == metric].groupby(by, sort=False))
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, max(1, len(parts))))
    for (name, part), colour in zip(parts, colours, strict=True):
        words = ", ".join(
            x if isinstance(x, str) else f"mass {x:g}" for x in (name if isinstance(name, tuple) else [name])
        )
        axes.plot(part.position, part.value, color=colour, marker=".", label=words)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("position")
    axes.set_ylabel(label)
    axes.legend(fontsize=6)


EXPERIMENT = figure_of_runs(
    "opd_fixes",
    "local support matching and nucleus rollouts: which repairs of on-policy distillation learn the clean expert",
    {
        "smoke": "51 runs of 40 updates, about a minute on two cores",
        "cpu": "150 runs of 4,000 updates, about 9 minutes on two cores, estimated from a part of them",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

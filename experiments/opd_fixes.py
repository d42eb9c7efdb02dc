"""Local supports and nuclei: which repairs of on-policy distillation learn the clean expert.

docs/post_training.md §1.6: objectives × masses p of the nucleus that rollouts are sampled from, in modular addition at
high noise, from scratch and from the end of an offline run. Beside them LSM without its renormalisation, and two
objectives under an expert that echoes after a mistake. What students' rollouts meet is read by position off the rows
(`TrainConfig.diagnose`).
"""

import dataclasses

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nail.figures.experiment import Claim
from nail.figures.plotting import CASES, TEXT_WIDTH, note
from nail.sweep.grid import grid
from nail.sweep.stages import Runs

from ._fixes_claims import FULL, LEAST, OFFLINE, SAMPLED, SCRATCH, claims_of
from ._training import BASE, SEEDS, figure_of_runs, late

SIZE = {
    "smoke": dataclasses.replace(BASE["smoke"], diagnose=True),
    "cpu": dataclasses.replace(
        BASE["cpu"], p=5, m=6, batch=16, steps=1_000, eval_every=100, n_validation=300, diagnose=True
    ),
}
"""preset → what its runs have in common, first stages too"""
TEACHER = {"smoke": (2, 3), "cpu": (2, 4, 5)}
"""preset → numbers K of LSM"""
ONE_K = {"smoke": 2, "cpu": 4}
"""preset → K without renormalisation, and under the echo"""
MASSES = {"smoke": (1.0, 0.5, 0.0), "cpu": (1.0, 0.9, 0.7, 0.5, 0.0)}
LOCAL = (1.0, 0.5, 0.0)
"""masses of the nucleus for LSM"""
BY = ["begun", "objective", "recovery", "rule_number", "p", "m", "eta"]
PLACES = ("advantage_mean", "advantage_low", "advantage_negative", "off_support", "repeated")
"""columns by position"""


def runs(preset: str) -> Runs:
    """Objectives × nuclei × seeds, fresh and as second stages after LogLossBC of their seed; LSM without
    renormalisation from sampled rollouts; two objectives with the echo."""
    base, one_k, seeds = SIZE[preset], ONE_K[preset], SEEDS[preset]
    sampled = dataclasses.replace(base, method="opd-r-top-p")
    local = dataclasses.replace(base, method="lsm")
    first = dataclasses.replace(base, method="loglossbc")
    crossed = (
        *grid(sampled, estimator=("mc", "full"), rule_number=MASSES[preset], seed=seeds),
        *grid(local, top_k_teacher=TEACHER[preset], rule_number=LOCAL, seed=seeds),
    )
    bare = dataclasses.replace(base, method="lsm-unrenormalised", top_k_teacher=one_k, rule_number=1.0)
    echoed = (dataclasses.replace(sampled, recovery="echo"), dataclasses.replace(local, recovery="echo"))
    ends = {"rule_number": (1.0, 0.0), "seed": seeds}
    return (
        *crossed,
        *((dataclasses.replace(first, seed=config.seed), config) for config in crossed),
        *grid(bare, seed=seeds),
        *grid(echoed[0], **ends),
        *grid(dataclasses.replace(echoed[1], top_k_teacher=one_k), **ends),
    )


def prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows but those of first stages, with what they began with and the objective in words, and the mass off the
    support and the share of repeated tokens as means over the positions (a first token repeats nothing)."""

    def words(row) -> str:
        if row.method == "opd-r-top-p":
            return {"mc": SAMPLED, "full": FULL}[row.estimator]
        return f"{'LSM' if row.method == 'lsm' else 'unrenormalised'}, K = {row.top_k_teacher:g}"

    rows = rows[~rows.run.isin(rows.start)]
    off, repeats = (np.array([numbers(cell) for cell in rows[name]]) for name in ("off_support", "repeated"))
    return rows.assign(
        objective=[words(row) for row in rows.itertuples()], begun=[OFFLINE if run else SCRATCH for run in rows.start],
        off=off.mean(1), first_off=off[:, 0], repeats=repeats[:, 1:].mean(1),
    )  # fmt: skip


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
    return claims_of(prepared(rows))


def draw(table: pd.DataFrame) -> Figure:
    """Accuracy against the nucleus with the predicted threshold, for both starts; by position what rollouts meet."""
    figure = Figure(figsize=(TEXT_WIDTH, 7.2), layout="constrained")
    (scratch, offline), (advantage, negative), (mass, repeats) = figure.subplots(3, 2)
    none, echo = (table[table.recovery == recovery] for recovery in ("none", "echo"))
    for axes, begun in ((scratch, SCRATCH), (offline, OFFLINE)):
        _draw_accuracy(axes, none[none.begun == begun])
        axes.set_title(begun, pad=14)
    scratch.legend(fontsize=7)
    one = none[(none.objective == SAMPLED) & (none.begun == SCRATCH)]
    means, lows, shares = (one[one.metric == name] for name in PLACES[:3])
    _draw_positions(advantage, means, lows, "log q − log π (nats)", by="rule_number")
    advantage.set_title(f"{SAMPLED}, {SCRATCH} (5 % quantile dashed)")
    _draw_positions(negative, shares, None, "share of log q − log π < 0", by="rule_number")
    negative.set_title(f"{SAMPLED}, {SCRATCH}")
    advantage.legend(fontsize=7, loc="lower left")
    off = none[(none.rule_number == 1) & ~none.objective.isin([SAMPLED, FULL]) & (none.metric == "off_support")]
    fresh, staged = (off[off.begun == begun] for begun in (SCRATCH, OFFLINE))
    _draw_positions(mass, fresh, staged, "mass off the support", by="objective")
    mass.axhline(LEAST, color="#666666", linewidth=0.9, linestyle=":")
    mass.set_title(f"sampled rollouts ({OFFLINE} dashed)")
    repeated = echo[echo.metric == "repeated"]
    _draw_positions(repeats, repeated, None, "share of repeated tokens", by=["objective", "rule_number"])
    repeats.set_title(f"expert that echoes, {SCRATCH}")
    for axes in (mass, repeats):
        axes.set_ylim(-0.03, 1.28)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.legend(fontsize=7, loc="upper center", ncols=2)
    row = next(table.itertuples())
    note(
        figure, f"modular addition, p = {row.p}, m = {row.m}, η = {row.eta:g}; {row.n_seeds:g} seeds; accuracy: median "
        "over the last quarter of the budget, a point each seed, lines through\nmedians of seeds; by position: mean "
        "over seeds at the end, each method's own rollouts; mass: of the nucleus; an offline start is the end of "
        "a\nrun of LogLossBC; dotted: 1 − 1/e",
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
    axes.annotate(f"1−η+η/p = {threshold:.3f}", (threshold, 1.01), xycoords=("data", "axes fraction"), fontsize=7,
                  ha="center")  # fmt: skip
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("mass p of the nucleus (0: greedy, 1: sampled)")
    axes.set_ylabel("full-chain accuracy")


def _draw_positions(
    axes: Axes, table: pd.DataFrame, dashed: pd.DataFrame | None, label: str, by: str | list[str]
) -> None:
    """A diagnostic against the position, a line for each `by`; dashed, in the same colours, that of another table."""
    parts = list(table.groupby(by, sort=False))
    others = {} if dashed is None else dict(iter(dashed.groupby(by, sort=False)))
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, max(1, len(parts))))
    for (name, part), colour in zip(parts, colours, strict=True):
        words = ", ".join(
            x if isinstance(x, str) else f"mass {x:g}" for x in (name if isinstance(name, tuple) else [name])
        )
        axes.plot(part.position, part.value, color=colour, marker=".", label=words)
        if name in others:
            axes.plot(others[name].position, others[name].value, color=colour, linestyle="--", linewidth=0.9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("position")
    axes.set_ylabel(label)


EXPERIMENT = figure_of_runs(
    "opd_fixes",
    "local support matching and nucleus rollouts: which repairs of on-policy distillation learn the clean expert",
    {
        "smoke": "90 runs of 40 updates, about a minute on two cores",
        "cpu": "220 runs of 1,000 updates, about 3 minutes on two cores (estimated)",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

"""Self-distillation with privileged teachers: what a new skill costs of the old ones, and what the privilege is worth.

docs/post_training.md §5.5: students that know plain definitions learn negated ones, from the chains of a noisy expert
or from their own network with such a chain in its prompt; and from their own chains given the answer, against the noisy
expert over its rate.
"""

import dataclasses

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import CASES, TEXT_WIDTH, note
from nail.stats import median_interval
from nail.sweep.grid import grid
from nail.sweep.stages import Runs, flat
from nail.training.config import TrainConfig

from ._training import SEEDS, figure_of_runs, late, over_seeds, per_seed

START = TrainConfig(
    task="defclass", method="loglossbc", epsilon=0.0, eta=0.0, slots="demonstration", shown=0.1, width=32, heads=4,
    layers=2, init_std=0.1, lr=3e-3, warmup=50, batch=32, steps=300, eval_every=300, n_validation=200,
)  # fmt: skip
"""a first stage: plain definitions, a tenth of the prompts with a demonstration"""
SIZE = {
    "smoke": dataclasses.replace(START, width=16, heads=2, batch=8, steps=20, eval_every=20, warmup=5, n_validation=20),
    "cpu": START,
}
STAGE = {"smoke": {"steps": 20, "eval_every": 5, "warmup": 5}, "cpu": {"steps": 300, "eval_every": 30, "warmup": 20}}
"""preset → updates of the second stages"""
RATE, RATES = 0.3, {"smoke": (0.0, 0.9), "cpu": (0.0, 0.3, 0.6, 0.9)}
"""rate at which the expert misses a negation: of the demonstrations, and against privileged chains"""
SHARES = {"smoke": (0.1,), "cpu": (0.0, 0.1)}
"""preset → shares of first-stage prompts with an answer in the slot"""
USUAL = 0.1
"""the share of the others"""
ARMS = {"smoke": ("frozen",), "cpu": ("average", "frozen", "live")}
"""preset → teachers with a demonstration"""
TEACHERS = ARMS["cpu"]
KINDS = {"opd-f": "forward", "opd-r": "reverse"}
CHAINS = "privileged chains"
FELL = 0.95
"""old accuracy below which a run has forgotten; a start has 1"""
LEARNT = 0.9
"""new accuracy from which on a run has learnt the new skill"""
SOURCE = "docs/post_training.md §5.5"
LOOKS = {
    "SFT": CASES[0],
    **{f"{kind}, {teacher}": look._replace(line=line) for kind, line in (("forward", "-"), ("reverse", "--"))
       for teacher, look in zip(TEACHERS, CASES[1:], strict=False)},
}  # fmt: skip
BY = ["arm", "share", "eta"]


def runs(preset: str) -> Runs:
    """Chains of two stages: fine-tuning and six arms of self-distillation; experts by rate, own chains by share."""
    base = SIZE[preset]
    new = dataclasses.replace(
        base, shown=0.0, negated=1.0, noise="misread", eta=RATE, old_task="negated=0", lr=1e-3, **STAGE[preset]
    )
    own = dataclasses.replace(new, estimator="full", teacher_sees="demonstration")
    found = []
    for seed in SEEDS[preset]:
        start = dataclasses.replace(base, seed=seed)
        found.append((start, dataclasses.replace(new, seed=seed)))
        arms = [dataclasses.replace(own, method=m, teacher=t, seed=seed) for m in KINDS for t in ARMS[preset]]
        found += [(start, arm) for arm in arms]
        for share in SHARES[preset]:
            told = dataclasses.replace(start, slots="answer", shown=share)
            mine = dataclasses.replace(
                new, slots="answer", teacher="frozen", teacher_sees="answer", noise="uniform", eta=TrainConfig.eta,
                seed=seed,
            )  # fmt: skip
            found.append((told, mine))
            if share == USUAL:
                experts = grid(dataclasses.replace(new, slots="answer", seed=seed), eta=RATES[preset])
                found += [(told, expert) for expert in experts]
    return flat(found)


def prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of second stages with the name of their arm and the share that their first stage was shown."""
    rows = rows.assign(teacher=_filled(rows, "teacher", "expert"), shown=_filled(rows, "shown", 0.0))
    shares = dict(zip(rows.run, rows.shown, strict=True))
    later = rows[_filled(rows, "start", "") != ""]

    def words(row) -> str:
        if row.slots == "answer":
            return "expert" if row.teacher == "expert" else CHAINS
        return "SFT" if row.teacher == "expert" else f"{KINDS[row.method]}, {row.teacher}"

    return later.assign(arm=[words(row) for row in later.itertuples()], share=[shares[start] for start in later.start])


def _filled(rows: pd.DataFrame, name: str, value: object) -> pd.Series:
    """A column that rows leave out at its default."""
    found = rows.get(name, pd.Series(np.nan, rows.index))
    return found.where(found.notna() & (found != ""), value)


def kept_at(sft: pd.DataFrame, new: Float[np.ndarray, " seeds"]) -> Float[np.ndarray, " seeds"]:
    """Per seed, the old accuracy of fine-tuning stopped at its first evaluation with a new accuracy of at least `new`,
    at its end if there is none."""
    reached, kept = over_seeds(sft, "answer_exact"), over_seeds(sft, "old_answer_exact")
    found = []
    for seed, least in zip(reached, new, strict=True):
        hits = reached[seed] >= least
        found.append(kept[seed][hits.idxmax() if hits.any() else reached.index[-1]])
    return np.array(found)


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each setting: means over seeds at each evaluation (kind "curve": new, old accuracy, KL), and of each seed the
    late values (kind "seed": medians over the last quarter) and what SFT kept at equal new accuracy (`stopped`)."""
    rows = prepared(rows)
    sft, parts = rows[rows.arm == "SFT"], []
    for values, chosen in rows.groupby(BY, sort=False):
        names = {"new": "answer_exact", "old": "old_answer_exact", "kl": "old_kl"}
        means = {name: over_seeds(chosen, column).mean(axis=1) for name, column in names.items()}
        curve = pd.DataFrame(means).reset_index().assign(kind="curve")
        ends = {name: late(chosen, column) for name, column in names.items()}
        seeds = pd.DataFrame({"kind": "seed", "seed": sorted(chosen.seed.unique()), **ends})
        if values[0] not in ("expert", CHAINS):
            seeds["stopped"] = kept_at(sft, ends["new"])
        setting = dict(zip(BY, values, strict=True))
        parts += [part.assign(**setting, width=chosen.width.iloc[0]) for part in (curve, seeds)]
    columns = [*BY, "kind", "seed", "episodes", "new", "old", "kl", "stopped", "width"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What docs/post_training.md §5.5 expects, each with its numbers."""
    table = analyse(rows)
    seeds = table[table.kind == "seed"]
    parts = {arm: part for arm, part in seeds.groupby("arm", sort=False)}
    found = [_forgets(parts["SFT"])]
    for arm in (arm for arm in LOOKS if arm in parts and arm != "SFT"):
        found += [_retains(parts[arm], arm), _learns(parts[arm], parts["SFT"], arm)]
    expert, own = parts["expert"], parts[CHAINS]
    return found + [*_against_experts(expert, own[own.share == USUAL]), *_shares(own)]


def _forgets(sft: pd.DataFrame) -> Claim:
    return Claim(
        f"SFT learns the new skill and forgets: new accuracy at least {LEARNT}, old accuracy below {FELL} (every seed)",
        SOURCE,
        "one seed that does not learn it, or that keeps its old accuracy",
        f"new per seed: {per_seed(sft.new)}; old: {per_seed(sft.old)}",
        bool(((sft.new >= LEARNT) & (sft.old < FELL)).all()),
    )  # fmt: skip


def _retains(part: pd.DataFrame, arm: str) -> Claim:
    gain = (part.old - part.stopped).to_numpy()
    return Claim(
        f"self-distillation, {arm}: it keeps more old accuracy than SFT stopped at its new accuracy (every seed)",
        SOURCE,
        "one seed where the stopped SFT keeps as much", f"old per seed: {per_seed(part.old)}; SFT stopped: "
        f"{per_seed(part.stopped)}; at new accuracy: {per_seed(part.new)}; difference {_interval(gain)}",
        bool((gain > 0).all()),
    )  # fmt: skip


def _learns(part: pd.DataFrame, sft: pd.DataFrame, arm: str) -> Claim:
    gain = part.new.to_numpy() - sft.new.to_numpy()
    return Claim(
        f"self-distillation, {arm}: it learns the new skill better than SFT (every seed)", SOURCE,
        "one seed without a higher new accuracy at equal updates",
        f"new per seed: {per_seed(part.new)}; SFT: {per_seed(sft.new)}; difference {_interval(gain)}",
        bool((gain > 0).all()),
    )  # fmt: skip


def _against_experts(expert: pd.DataFrame, own: pd.DataFrame) -> list[Claim]:
    """A clean expert is better than privileged chains, and from some rate on a noisy one is worse."""
    gains = {rate: part.new.to_numpy() - own.new.to_numpy() for rate, part in expert.groupby("eta")}
    best, worst = min(gains), max(gains)
    measured = "; ".join(f"η = {rate:g}: {_interval(gain)}" for rate, gain in gains.items())
    return [
        Claim(
            f"privileged chains are worse than a strong teacher (η = {best:g}, every seed)", SOURCE,
            "one seed where they give as much new accuracy",
            f"expert less privileged chains, {measured}; chains per seed: {per_seed(own.new)}",
            bool((gains[best] > 0).all()),
        ),
        Claim(
            f"privileged chains are better than a weak teacher (η = {worst:g}, every seed): there is a crossover",
            SOURCE, "one seed where the expert gives as much new accuracy",
            f"expert less privileged chains, {measured}",
            bool((gains[worst] < 0).all()),
        ),
    ]  # fmt: skip


def _shares(own: pd.DataFrame) -> list[Claim]:
    """The privilege is worth what the network learnt to make of it."""
    if own.share.nunique() < 2:
        return []
    least, usual = (own[own.share == share].new.to_numpy() for share in (own.share.min(), USUAL))
    return [
        Claim(
            "privileged chains: a first stage without a filled slot makes them worth less (every seed)", SOURCE,
            f"one seed where they give as much new accuracy at share 0 as at {USUAL}",
            f"new per seed at share 0: {per_seed(least)}; at {USUAL}: {per_seed(usual)}", bool((least < usual).all()),
        )
    ]  # fmt: skip


def _interval(values: Float[np.ndarray, " seeds"]) -> str:
    found = median_interval(values)
    return "{:.3g} [{:.3g}, {:.3g}]".format(*found[:3])


def draw(table: pd.DataFrame) -> Figure:
    """Old against new accuracy over time; the same at the end against SFT stopped; new accuracy against the rate."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.0), layout="constrained")
    paths, kept, rates = figure.subplots(1, 3)
    for arm, look in LOOKS.items():
        part = table[table.arm == arm]
        if part.empty:
            continue
        face = "white" if look.line == "--" else look.colour
        style = {"color": look.colour, "marker": look.mark, "markerfacecolor": face, "markeredgewidth": 0.7}
        curve, seeds = part[part.kind == "curve"], part[part.kind == "seed"]
        paths.plot(curve.new, curve.old, linestyle=look.line, markersize=2.6, linewidth=0.8, label=arm, **style)
        if arm != "SFT":
            kept.plot(seeds.new, seeds.old - seeds.stopped, linestyle="none", markersize=3.8, **style)
    _label(paths, "new accuracy (negated)", "old accuracy (plain)", "over time, means of seeds")
    figure.legend(*paths.get_legend_handles_labels(), fontsize=7, loc="outside upper left", ncols=-(-len(LOOKS) // 2),
                  columnspacing=1.2)  # fmt: skip
    kept.axhline(0, color="#666666", linewidth=0.8)
    _label(
        kept, "new accuracy at the end", "old accuracy, less that\nof SFT stopped there", "the end against SFT, by seed"
    )
    _draw_rates(rates, table[(table.kind == "seed") & table.arm.isin(["expert", CHAINS])])
    n = table.seed.nunique()
    note(
        figure, f"definitions in the prompt, negation new in stage two; width {table.width.iloc[0]:g}, {n} seeds; "
        f"SFT and demonstrations: an expert that misses a negation at rate {RATE};\n"
        "right: medians, bands from the lowest to the highest seed, share of prompts with a filled slot in stage one",
    )  # fmt: skip
    return figure


def _draw_rates(axes: Axes, seeds: pd.DataFrame) -> None:
    """Seeds of the expert by its rate with a line through medians; the median of privileged chains by share, in lines
    with bands from the lowest seed to the highest."""
    expert, looks = seeds[seeds.arm == "expert"], list(CASES)
    axes.plot(expert.eta, expert.new, ".", color=looks[0].colour, markersize=3, alpha=0.6)
    middle = expert.groupby("eta").new.median()
    axes.plot(middle.index, middle, color=looks[0].colour, marker=looks[0].mark, label="expert's chains")
    for (share, part), look in zip(seeds[seeds.arm == CHAINS].groupby("share"), looks[1:], strict=False):
        axes.axhline(
            part.new.median(), color=look.colour, linestyle=look.line, label=f"own, told the answer (share {share:g})"
        )
        axes.axhspan(part.new.min(), part.new.max(), color=look.colour, alpha=0.13, linewidth=0)
    _label(axes, "η: rate of missed negations", "new accuracy", "chains that were learned from")
    axes.set_ylim(0, 1.03)
    axes.legend(fontsize=7, loc="lower left")


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=7)


EXPERIMENT = figure_of_runs(
    "self_distillation",
    "self-distillation with privileged teachers: a new skill against the old ones, and own chains against an expert's",
    {
        "smoke": "24 runs of 20 updates, about a minute on two cores",
        "cpu": "80 runs of 300 updates, about 7 minutes on two cores (estimated)",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

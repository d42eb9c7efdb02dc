"""Figure 6: language models that learn from an expert whose answers are sampled at a temperature t.

Paper, figure 6 (docs/paper.md §3): NAIL-β from the forward to the reverse KL at low and at high noise; at t = 1 the
forward-heavy objectives learn fastest and reach the highest accuracy. OPD and LogLossBC stand beside it. `paper` is the
protocol (docs/language_models.md §2) with folders of models given; `cpu` and `smoke` make word problems, an expert and
a student of their own (docs/language_models.md §10).
"""

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim, Experiment
from nail.figures.plotting import TEXT_WIDTH, handle, look, note
from nail.figures.stats import trend_test
from nail.lm.config import LmConfig
from nail.lm.extra import require_extra
from nail.lm.problems import Limits
from nail.methods import METHOD

from ._language import Making, Rows, Scratch, computed, expert_rows, folder, made
from ._training import LEVEL, per_seed

FILES = ("student", "expert", "prompts", "test")
"""what `paper` is given"""
BETAS = {"smoke": (0.0, 0.5, 1.0), "cpu": (0.0, 0.25, 0.5, 0.75, 1.0), "paper": (0.0, 0.25, 0.5, 0.75, 1.0)}
SEEDS = {"smoke": range(2), "cpu": range(3), "paper": range(3)}
TEMPERATURES = {"smoke": (1.0, 4.0), "cpu": (1.0, 1.75), "paper": (1.0, 4.0)}
"""of the expert: low and high noise"""
OTHERS = {"smoke": ("opd-r", "loglossbc"), "cpu": ("opd-f", "opd-r", "loglossbc"),
          "paper": ("opd-f", "opd-r", "loglossbc")}  # fmt: skip
"""methods beside NAIL-β"""
CPU = {
    "steps": 100, "batch": 64, "micro": 8, "new_tokens": 40, "lr": 2e-3, "lora_rank": 0, "kind": "float32",
    "eval_every": 25, "eval_tokens": 40, "eval_batch": 256,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": CPU
    | {"steps": 4, "batch": 4, "micro": 2, "new_tokens": 8, "eval_every": 2, "eval_tokens": 8, "eval_batch": 8},
    "cpu": CPU,
    "paper": {},
}
SCRATCH = {
    "smoke": Scratch(Making(16, 1, 2, 4), Making(16, 1, 2, 2), train=64, test=8),
    "cpu": Scratch(Making(96, 2, 4, 600), Making(64, 2, 4, 200), Limits(32, 5)),
}
RIGHT = 0.95
"""accuracy of its greedy answers that an expert made from scratch is to have"""
WRONG = 0.5
"""share of its greedy accuracy below which the expert's samples go wrong"""


def compute(preset: str, out: Path, **files: Path) -> Rows:
    """Rows of the models' making, of the expert and of all runs; column `part` says which."""
    work = folder(preset, out)
    base, rows = LmConfig(**({name: Path() for name in FILES} | files), **SETTINGS[preset]), []
    if preset in SCRATCH:
        base, rows = made(SCRATCH[preset], base, work)
    configs = runs(preset, base)
    rows += expert_rows(base, TEMPERATURES[preset], work)
    where = {c: work / f"{c.method}-b{c.beta:g}-t{c.expert_temperature:g}-s{c.seed}" for c in configs}
    return rows + [{"part": "run", **row} for row in computed(configs, where)]


def runs(preset: str, base: LmConfig) -> list[LmConfig]:
    """NAIL-β at each β and the methods beside it, at each temperature and seed; runs of one method together."""
    each = [*(("nail-beta", beta) for beta in BETAS[preset]), *((method, base.beta) for method in OTHERS[preset])]
    return [
        dataclasses.replace(base, method=method, beta=beta, expert_temperature=t, seed=seed)
        for method, beta in each for t in TEMPERATURES[preset] for seed in SEEDS[preset]
    ]  # fmt: skip


def of_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs; β is that of NAIL-β, and no number for other methods."""
    chosen = rows[rows.part == "run"]
    return chosen.assign(beta=chosen.beta.where(chosen.method == "nail-beta"))


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of accuracy and cross-entropy at each evaluation (kind "curve"), of the
    accuracy over the last quarter (kind "end"), and the expert's accuracy by temperature, 0: greedy (kind "expert")."""
    keys, parts, table = ["expert_temperature", "method", "beta"], [], of_runs(rows)
    for values, chosen in table.groupby(keys, sort=False, dropna=False):
        where = dict(zip(keys, values, strict=True))
        for metric in ("accuracy", "test_loss"):
            at = chosen.pivot(index="step", columns="seed", values=metric)
            parts.append(_spread(at.to_numpy(), kind="curve", metric=metric, step=at.index, **where))
        parts.append(_spread(final(chosen)[None], kind="end", metric="accuracy", step=[chosen.step.max()], **where))
    expert = rows[rows.part == "expert"]
    shown = expert[["temperature", "accuracy", "accuracy_low", "accuracy_high"]]
    shown = shown.set_axis(["expert_temperature", "mean", "low", "high"], axis=1)
    parts.append(shown.assign(kind="expert", metric="accuracy"))
    first = table.iloc[0]
    return pd.concat(parts, ignore_index=True).assign(batch=first.batch, questions=first.test_questions)


def _spread(at: Float[np.ndarray, "steps seeds"], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**columns, "mean": at.mean(1), "sd": at.std(1, ddof=1), "n_seeds": at.shape[1]})


def final(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, the median accuracy of the evaluations in the last quarter of the updates; rows of one setting."""
    at = rows.pivot(index="step", columns="seed", values="accuracy")
    return at[at.index > 0.75 * at.index[-1]].median().to_numpy()


def start(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, the accuracy before the first update."""
    return rows[rows.step == 0].sort_values("seed").accuracy.to_numpy()


def speed(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, the mean accuracy of all evaluations after the first: the earlier a run learns, the higher."""
    return rows[rows.step > 0].groupby("seed").accuracy.mean().to_numpy()


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What the expert is, what the caption says of t = 1, and what the theory expects at high noise."""
    table = of_runs(rows)
    low, *_, high = sorted(table.expert_temperature.unique())
    at = {t: level for t, level in table.groupby("expert_temperature")}
    by_beta = {t: dict(iter(level.groupby("beta"))) for t, level in at.items()}
    others = {t: dict(iter(level[level.beta.isna()].groupby("method"))) for t, level in at.items()}
    found = _of_expert(rows, high)
    found += [_fastest(by_beta[low], low), _highest(by_beta[low], low)]
    everyone = {**{f"β = {beta:g}": part for beta, part in by_beta[low].items()},
                **{METHOD[name].label: part for name, part in others[low].items()}}  # fmt: skip
    found.append(_improve(everyone, f"t = {low:g}: NAIL at every β, OPD and LogLossBC improve the student"))
    mixtures = {f"β = {beta:g}": part for beta, part in by_beta[high].items()}
    found.append(_improve(mixtures, f"t = {high:g}: NAIL at every β improves the student"))
    ends = {"opd-f": 0.0, "loglossbc": 0.0, "opd-r": 1.0}
    return found + [_ahead(by_beta[high][ends[name]], ends[name], part, name, high)
                    for name, part in others[high].items()]  # fmt: skip


def _of_expert(rows: pd.DataFrame, high: float) -> list[Claim]:
    """What t is chosen by; how right the greedy answers are is claimed of an expert made here."""
    accuracy = rows[rows.part == "expert"].set_index("temperature").accuracy
    greedy, sampled = accuracy[0.0], accuracy[high]
    found = []
    if (rows.part == "expert made").any():
        found.append(Claim(
            f"the expert's greedy answers are right (accuracy ≥ {RIGHT})", "docs/language_models.md §10",
            f"an accuracy below {RIGHT} on the test questions", f"accuracy {greedy:.3g}", bool(greedy >= RIGHT),
        ))  # fmt: skip
    found.append(Claim(
        f"t = {high:g}: the expert's samples go wrong (less than {WRONG} times as often right as its greedy answers)",
        "docs/language_models.md §10", f"samples that are right at least {WRONG} times as often",
        f"accuracy {sampled:.3g} of samples, {greedy:.3g} of greedy answers", bool(sampled < WRONG * greedy),
    ))  # fmt: skip
    return found


def _fastest(by_beta: dict[float, pd.DataFrame], t: float) -> Claim:
    values = np.stack([speed(part) for part in by_beta.values()], axis=1)
    p = trend_test(values, -np.array(list(by_beta)), np.random.default_rng(0))
    return Claim(
        f"t = {t:g}: the more forward the objective, the faster it learns (accuracy, mean over the evaluations after "
        f"the first, falls with β: Page's test, β permuted within seeds, p < {LEVEL:g})",
        "paper, Fig. 6", f"p ≥ {LEVEL:g}",
        f"p = {p:.2g}; per seed " + "; ".join(
            f"β = {beta:g}: {per_seed(column)}" for beta, column in zip(by_beta, values.T, strict=True)),
        p < LEVEL,
    )  # fmt: skip


def _highest(by_beta: dict[float, pd.DataFrame], t: float) -> Claim:
    sides = [np.max([final(part) for beta, part in by_beta.items() if keep(beta)], axis=0)
             for keep in (lambda beta: beta < 0.5, lambda beta: beta > 0.5)]  # fmt: skip
    return Claim(
        f"t = {t:g}: forward-heavy objectives reach the highest accuracy (the best β < ½ above the best β > ½, "
        "every seed)",
        "paper, Fig. 6", "one seed in which no β < ½ is above every β > ½ over the last quarter (median of its "
        "evaluations)",
        f"accuracy per seed: β < ½ {per_seed(sides[0])}; β > ½ {per_seed(sides[1])}",
        bool(np.all(sides[0] > sides[1])),
    )  # fmt: skip


def _improve(parts: dict[str, pd.DataFrame], statement: str) -> Claim:
    gains = {name: final(part) - start(part) for name, part in parts.items()}
    return Claim(
        f"{statement} (accuracy above the start's, every seed)", "docs/language_models.md §10",
        "one seed of one of them that is not above its start over the last quarter (median of its evaluations)",
        "lowest gain: " + "; ".join(f"{name}: {gain.min():.3g}" for name, gain in gains.items()),
        all(gain.min() > 0 for gain in gains.values()),
    )  # fmt: skip


def _ahead(ours: pd.DataFrame, beta: float, theirs: pd.DataFrame, name: str, t: float) -> Claim:
    mine, its = final(ours), final(theirs)
    return Claim(
        f"t = {t:g}: NAIL with β = {beta:g} ends above {METHOD[name].label} (every seed)",
        "docs/theory.md §5, expected",
        "one seed in which it is not above it over the last quarter (median of its evaluations)",
        f"accuracy per seed: NAIL {per_seed(mine)}; {METHOD[name].label} {per_seed(its)}", bool(np.all(mine > its)),
    )  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """A row for each temperature: accuracy and cross-entropy by updates, and accuracy at the end against β."""
    curves = table[table.kind == "curve"]
    levels = sorted(curves.expert_temperature.unique())
    figure = Figure(figsize=(TEXT_WIDTH, 4.4), layout="constrained")
    places = figure.subplots(len(levels), 3, sharex="col", sharey="col", squeeze=False)
    expert = table[table.kind == "expert"].set_index("expert_temperature")["mean"]
    for row, t in zip(places, levels, strict=True):
        for axes, metric in zip(row, ("accuracy", "test_loss"), strict=False):
            _draw_curves(axes, curves[(curves.expert_temperature == t) & (curves.metric == metric)], metric)
        _draw_ends(row[2], table[(table.kind == "end") & (table.expert_temperature == t)])
        for axes in (row[0], row[2]):
            axes.axhline(expert[0.0], color="#222222", linewidth=0.8, linestyle="--")
            axes.axhline(expert[t], color="#222222", linewidth=0.8, linestyle=":")
            axes.set_ylim(-0.03, 1.03)
        row[0].set_title(f"t = {t:g}", loc="left", fontweight="bold")
        row[0].set_ylabel("accuracy")
        row[1].set_ylabel("cross-entropy\n(nats per answer token)")
        row[2].set_ylabel("accuracy, last quarter")
    first = next(curves.itertuples())
    for axes in places[-1, :2]:
        axes.set_xlabel(f"updates of {first.batch:g} prompts")
    places[-1, 2].set_xlabel("β (0: forward, 1: reverse KL)")
    lines, labels = places[0, 0].get_legend_handles_labels()
    methods = [name for name in curves.method.unique() if name != "nail-beta"]
    handles = [*lines, *(handle(name, METHOD[name].label) for name in methods)]
    figure.legend(handles, [*labels, *(METHOD[name].label for name in methods)], loc="outside upper center", ncols=8,
                  columnspacing=1.0, handlelength=1.6)  # fmt: skip
    note(
        figure, f"greedy answers to {first.questions:g} test questions; mean of {first.n_seeds:g} seeds, band and bar: "
        "± 1 standard deviation; last quarter: median of its evaluations;\ndashed: the expert's greedy answers, "
        "dotted: its samples at t",
    )  # fmt: skip
    return figure


def _draw_curves(axes: Axes, points: pd.DataFrame, metric: str) -> None:
    top = 1.0 if metric == "accuracy" else np.inf
    for (method, beta), part in points.groupby(["method", "beta"], sort=False, dropna=False):
        style = look(method)
        colour = _colour(beta) if method == "nail-beta" else style.colour
        line = style.line if method != "nail-beta" else "-"
        low, high = (np.clip(part["mean"] + sign * part.sd, 0, top) for sign in (-1, 1))
        axes.fill_between(part.step, low, high, color=colour, alpha=0.13, linewidth=0)
        mark = {} if method == "nail-beta" else {"marker": style.mark, "markevery": max(1, len(part) // 4)}
        label = f"NAIL β = {beta:g}" if method == "nail-beta" else "_"
        axes.plot(part.step, part["mean"], color=colour, linestyle=line, label=label, **mark)
    axes.set_xlim(left=0)


def _draw_ends(axes: Axes, ends: pd.DataFrame) -> None:
    """NAIL against β; the other methods, which have none, at the right."""
    nail, others = ends[ends.method == "nail-beta"], ends[ends.method != "nail-beta"]
    axes.plot(nail.beta, nail["mean"], color=look("nail-beta").colour, linewidth=1.0, zorder=1)
    for point in nail.itertuples():
        axes.errorbar(point.beta, point.mean, point.sd, color=_colour(point.beta), marker="o", linewidth=1.0)
    for i, point in enumerate(others.itertuples()):
        style = look(point.method)
        axes.errorbar(1.2 + 0.12 * i, point.mean, point.sd, color=style.colour, marker=style.mark, linewidth=1.0)
    axes.set_xticks(nail.beta.to_list(), [f"{beta:g}" for beta in nail.beta])


def _colour(beta: float) -> Any:
    """As in figure 5."""
    return matplotlib.colormaps["viridis"](0.9 * beta)


EXPERIMENT = Experiment(
    "fig6",
    "language models: NAIL-β at two temperatures of the expert, beside OPD and LogLossBC (needs the extra lm)",
    {
        "smoke": "20 runs of 4 updates of models of one layer",
        "cpu": "an expert and a student of two layers from scratch, 48 runs",
        "paper": "48 runs of 6,250 updates of gemma-3-270m-it, an accelerator; --student, --expert, --prompts, --test",
    },
    compute, analyse, claims, draw, given={"paper": FILES}, needs=require_extra,
)  # fmt: skip

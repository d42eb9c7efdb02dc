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

from nail.figures.experiment import Experiment
from nail.figures.plotting import TEXT_WIDTH, handle, look, note
from nail.lm.config import PATHS, LmConfig
from nail.lm.extra import require_extra
from nail.lm.problems import Limits
from nail.methods import METHOD

from ._language import Making, Rows, Scratch, computed, expert_rows, folder, made
from ._language_claims import claims, final, of_runs

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


def compute(preset: str, out: Path, **files: Path) -> Rows:
    """Rows of the models' making, of the expert and of all runs; column `part` says which."""
    from nail.lm.chat import load_tokenizer
    from nail.lm.inputs import folders_of

    base, rows = LmConfig(**({name: Path(f"no-{name}") for name in PATHS} | files), **SETTINGS[preset]), []
    if files:
        for given, name in zip(folders_of(base), ("student", "expert"), strict=True):
            load_tokenizer(given, name)
    work = folder(out, base, SCRATCH.get(preset))
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


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of accuracy and cross-entropy at each evaluation (kind "curve"), of the
    accuracy after the last update (kind "end"), and the expert's accuracy by temperature, 0: greedy (kind "expert")."""
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
        row[2].set_ylabel("accuracy at the end")
    first = next(curves.itertuples())
    for axes in places[-1, :2]:
        axes.set_xlabel(f"updates of {first.batch:g} prompts")
    places[-1, 2].set_xlabel("β (0: forward, 1: reverse KL)")
    lines, labels = places[0, 0].get_legend_handles_labels()
    methods = [name for name in curves.method.unique() if name != "nail-beta"]
    handles = [*lines, *(handle(name, METHOD[name].label) for name in methods)]
    figure.legend(handles, [*labels, *(METHOD[name].label for name in methods)], loc="outside upper center", ncols=8,
                  columnspacing=1.0, handlelength=1.5)  # fmt: skip
    note(
        figure, f"greedy answers to {first.questions:g} test questions; mean of {first.n_seeds:g} seeds, band and bar: "
        "± 1 standard deviation;\ndashed: the expert's greedy answers, dotted: its samples at t",
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
        label = f"{'' if beta else 'NAIL, '}β = {beta:g}" if method == "nail-beta" else "_"
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
        "smoke": "20 runs of 4 updates of models of one layer, a minute on two cores",
        "cpu": "an expert and a student of two layers from scratch, 48 runs of 100 updates, 26 minutes on two cores",
        "paper": "48 runs of 6,250 updates of gemma-3-270m-it, an accelerator; --student, --expert, --prompts, --test",
    },
    compute, analyse, claims, draw, given={"paper": PATHS}, needs=require_extra,
)  # fmt: skip

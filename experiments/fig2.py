"""Figure 2: modular addition at η = 0 and at high noise; who learns the clean expert from noisy labels.

Paper, figure 2 (docs/paper.md §1.3). The presets `smoke` and `cpu` have a shorter chain and a higher η than the paper,
so that the chance of a clean trajectory, q^m with q = 1−η+η/p, is as small, and larger initial weights and learning
rate, so that a small network leaves its plateaus sooner. `laptop` has the paper's p, m and η; only the network and the
budget are smaller, and the rate is larger.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.claims import every, judged
from nail.figures.experiment import Claim
from nail.figures.own import RunGrid, chosen
from nail.figures.plotting import TEXT_WIDTH, curve, handle, note
from nail.training.config import TrainConfig

from ._training import (
    BASE,
    SEEDS,
    SOLVED,
    accuracy_axes,
    does_not_solve,
    each_seed,
    enough_seeds,
    figure_of_runs,
    high_noise,
    label_of,
    late,
    learnable,
    of_seeds,
    per_seed,
    solves,
    tabulate,
    there,
    times_to_solve,
)

ZERO_LOSS = 0.05
"""nats per token"""
STILL = 0.5
"""a loss that in the last quarter of the budget is at most this part of the quarter before still falls"""
ORDER = ("loglossbc", "dagger", "opd-f", "opd-r", "nail-f", "nail-r")
NAIL, OTHERS = ("nail-f", "nail-r"), ("loglossbc", "opd-f", "opd-r")
SLOWER = ("opd-f", "opd-r", "nail-f", "nail-r")
METRICS = ("full_exact", "answer_exact", "val_loss")


SIZES = {
    preset: RunGrid(base, SEEDS[preset], {"method": ORDER, "eta": (0.0, base.eta)}) for preset, base in BASE.items()
}


def runs(size: str | RunGrid) -> tuple[TrainConfig, ...]:
    """Six methods × two noise levels × the seeds."""
    return chosen(SIZES, size).runs()


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (of the sample, n − 1) over seeds of each metric at each evaluation."""
    return tabulate(rows.sort_values("eta", kind="stable"), ["eta", "method", "p", "m"], METRICS, times=False)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The captions' claims, each with its numbers (docs/paper.md §1.3), and what DAgger does.

    Whether a seed has solved the task, or has no loss left, is read off the last quarter of its evaluations.
    """
    can = learnable(rows[rows.eta == 0])
    clean = {method: rows[(rows.eta == 0) & (rows.method == method)] for method in ORDER}
    found = [claim for method in NAIL for claim in _clean_claims(clean[method], label_of(method), can)]
    found += [_plateau_claim(clean["opd-f"], can), *_speed_claims(clean, can)]
    for eta, level in rows[rows.eta > 0].groupby("eta"):
        found += _noisy_claims(level, f"η={eta:g}")
    return found


def _noisy_claims(rows: pd.DataFrame, where: str) -> list[Claim]:
    of = {method: rows[rows.method == method] for method in ORDER}
    both = {**enough_seeds(rows), **learnable(rows)}
    needs = {method: {**there(of[method], label_of(method)), **both} for method in ORDER}
    found = [solves(of[method], where, method, "paper, Fig. 2", needs[method]) for method in NAIL]
    found += [solves(of["dagger"], where, "dagger", "docs/theory.md §5, expected", needs["dagger"])]
    rare = high_noise(rows)
    return found + [
        does_not_solve(of[method], where, method, "paper, Fig. 2", {**needs[method], **rare}) for method in OTHERS
    ]


def _clean_claims(rows: pd.DataFrame, label: str, can: dict[str, bool]) -> list[Claim]:
    source, needs = "paper, Fig. 2", {**there(rows, f"{label} at η = 0"), **enough_seeds(rows), **can}

    def loss() -> tuple[str, bool]:
        found = late(rows, "val_loss")
        return f"loss per seed: {per_seed(found)}", bool(np.all(found < ZERO_LOSS))

    def accuracy() -> tuple[str, bool]:
        found = late(rows, "full_exact")
        return f"full-chain accuracy per seed: {per_seed(found)}", bool(np.all(found >= 0.99))

    return [
        judged(
            f"η=0: {label} drives the clean loss to zero (below {ZERO_LOSS} nats/token, every seed)", source,
            f"one seed with a loss of {ZERO_LOSS} or more over the last quarter (median of its evaluations)",
            needs, loss,
        ),
        judged(
            f"η=0: {label} reaches perfect accuracy (full chain ≥ 0.99, every seed)", source,
            "one seed below 0.99 over the last quarter (median of its evaluations)", needs, accuracy,
        ),
    ]  # fmt: skip


def _plateau_claim(rows: pd.DataFrame, can: dict[str, bool]) -> Claim:
    often = {"four evaluations after the first": rows.episodes.nunique() > 4}

    def measure() -> tuple[str, bool]:
        before, loss = late(rows, "val_loss", 3), late(rows, "val_loss")
        numbers = f"loss per seed over the last quarter: {per_seed(loss)}; over the one before: {per_seed(before)}"
        return numbers, bool(np.all((loss > ZERO_LOSS) & (loss > STILL * before)))

    return judged(
        f"η=0: OPD-F plateaus (over the last quarter its clean loss is above {ZERO_LOSS} and more than {STILL:g} of "
        "what it was over the quarter before, every seed)", "paper, Fig. 2",
        f"one seed whose loss over the last quarter (median of its evaluations) is {ZERO_LOSS} nats/token or less, or "
        f"{STILL:g} or less of what it was over the quarter before",
        {**there(rows, "OPD-F at η = 0"), **enough_seeds(rows), **often, **can}, measure,
    )  # fmt: skip


def _speed_claims(clean: dict[str, pd.DataFrame], can: dict[str, bool]) -> list[Claim]:
    """LogLossBC against the others at η = 0, and against DAgger, which at first does the same."""

    def needs(*methods: str) -> dict[str, bool]:
        runs = {f"runs of {label_of(method)} at η = 0": len(clean[method]) > 0 for method in methods}
        return {**runs, **enough_seeds(clean[methods[0]]), **can}

    def faster() -> tuple[str, bool | None]:
        times = {method: times_to_solve(clean[method]) for method in ("loglossbc", *SLOWER)}
        first, rest = times["loglossbc"], np.concatenate([times[method] for method in SLOWER])
        numbers = "; ".join(f"{label_of(method)} {each_seed(found)}" for method, found in times.items())
        chance = f"; by chance, if methods were alike: at most {(1 + len(SLOWER)) ** -len(first):.2g}"
        ends = first.max(), rest.min()
        return f"thousand episodes per seed: {numbers}{chance}", None if min(ends) == math.inf else ends[0] < ends[1]

    def as_fast() -> tuple[str, bool | None]:
        first, second = times_to_solve(clean["loglossbc"]), times_to_solve(clean["dagger"])
        at = np.unique(clean["dagger"].episodes)
        between = np.diff(at).max()
        near = [_near(sorted(pair), between, at[-1]) for pair in zip(first, second, strict=True)]
        numbers = f"thousand episodes per seed: LogLossBC {each_seed(first)}; DAgger {each_seed(second)}"
        return f"{numbers}; evaluated every {between / 1000:g} thousand", every(*near)

    return [
        judged(
            "η=0: LogLossBC learns faster than OPD and NAIL (every seed of it solves the task before every seed of "
            "OPD-F, OPD-R, NAIL-F and NAIL-R)", "docs/paper.md §1.3, expected",
            f"one seed of LogLossBC that does not reach full chain ≥ {SOLVED} at an earlier evaluation than every seed "
            "of those four (where neither it nor any of them does, this is undecided)",
            needs("loglossbc", *SLOWER), faster,
        ),
        judged(
            "η=0: DAgger is as fast as LogLossBC (in every seed both solve the task at most one evaluation apart)",
            "docs/paper.md §1.3, expected",
            "one seed in which they solve it further apart, or one of them never (a seed in which neither does, or one "
            "only at the last evaluation, decides nothing)",
            needs("loglossbc", "dagger"), as_fast,
        ),
    ]  # fmt: skip


def _near(times: list[float], between: float, budget: float) -> bool | None:
    """Whether the later of two times is at most `between` after the earlier; one beyond the budget is some time after
    it."""
    first, second = times
    if second == math.inf and first + between > budget:
        return None
    return bool(second - first <= between)


def draw(table: pd.DataFrame) -> Figure:
    """Noise levels side by side; clean validation loss above, full-chain accuracy below."""
    row, levels, methods = next(table.itertuples()), table.groupby("eta"), list(table.method.unique())
    figure = Figure(figsize=(TEXT_WIDTH * max(1, len(levels) / 2), 4.7), layout="constrained")
    grid = figure.subplots(2, len(levels), sharex=True, squeeze=False)
    for (loss, accuracy), (eta, level) in zip(grid.T, levels, strict=True):
        q = 1 - eta + eta / row.p
        for method in methods:
            points = level[level.method == method]
            curve(loss, method, points[points.metric == "val_loss"], clip=(1e-5, np.inf))
            curve(accuracy, method, points[points.metric == "full_exact"], clip=(0.0, 1.0))
        loss.set_title(f"η = {eta:g},  $q^m$ = {q**row.m:.2g}")
        if eta == 0:
            loss.set_yscale("log")
            loss.set_ylim(bottom=1e-5)
        else:
            _mark_exact_fit(loss, -math.log(q))
        accuracy_axes(accuracy)
    grid[0, 0].set_ylabel("clean validation loss\n(nats/token)")
    grid[1, 0].set_ylabel("full-chain accuracy")
    handles = [handle(method, label_of(method)) for method in methods]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(6, len(methods)), columnspacing=1.2)
    note(
        figure, f"{of_seeds(row.n_seeds)}; p = {row.p}, m = {row.m}; "
        "$q^m$: chance that an expert's trajectory is clean to its end",
    )  # fmt: skip
    return figure


def _mark_exact_fit(axes: Axes, level: float) -> None:
    """The clean loss of a student that equals the noisy law: −ln q (docs/paper.md §1.2: 0.188 at η=0.2, p=7)."""
    axes.axhline(level, color="#666666", linewidth=0.9, linestyle=":")
    axes.set_ylim(bottom=min(0.0, level - 0.12 * axes.get_ylim()[1]))
    axes.annotate(
        f"−ln q = {level:.3f}: a student equal to the noisy law", (0.02, level), color="#444444",
        xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points", va="top", fontsize=7,
    )  # fmt: skip


EXPERIMENT = figure_of_runs(
    "fig2",
    "modular addition at η = 0 and high noise: clean validation loss and full-chain accuracy",
    {
        "smoke": "36 runs of 40 updates, about 25 seconds on two cores",
        "cpu": "60 runs of 2,500 updates, about 6 minutes on two cores",
        "laptop": "36 runs of 24,000 updates, the paper's p, m and η, about 70 minutes on two cores",
        "paper": "60 runs of 46,875 updates of a 3.15 M-parameter student, an accelerator",
    },
    runs, analyse, claims, draw, SIZES,
)  # fmt: skip

"""What the training figures share: sizes, metrics over seeds, curves and episodes-to-solve as rows of a table."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.claims import judged
from nail.figures.configurations import Speed, work_of
from nail.figures.experiment import Claim, Experiment, load
from nail.figures.own import RunGrid
from nail.figures.plotting import Look
from nail.methods import METHOD
from nail.stats import Median, median_interval
from nail.sweep.run import rows_of
from nail.sweep.stages import Runs
from nail.sweep.table import SOLVED, solved_at
from nail.training.config import TrainConfig

UNSOLVED = 0.5
"""full-chain accuracy below which a run counts as not having solved it"""
LEVEL = 0.01
"""of tests over seeds: a difference is claimed where the p value is below"""
RARE = 0.05
"""chance of a clean trajectory below which learning from the expert's or from sampled trajectories is expected to fail:
in figure 4 two cells of `cpu`, one of `laptop`, four of `paper`"""
FEWEST = 3
"""seeds that a claim about every seed takes: those of the smallest preset"""
SEEDS = {"smoke": range(3), "cpu": range(5), "laptop": range(3), "paper": range(5)}
"""preset → seeds. A seed is the initial weights and the chance of a run; methods and settings share seeds and prompts,
so that tests permute them within a seed"""

PAPER = TrainConfig(precision="bfloat16")
CPU = TrainConfig(
    m=10, eta=0.5, width=64, heads=4, init_std=0.1, lr=1e-3, warmup=100, steps=2_500, eval_every=125, n_validation=500
)
SMOKE = dataclasses.replace(
    CPU, p=3, m=3, width=16, heads=2, batch=16, steps=40, warmup=5, eval_every=10, n_validation=50
)
LAPTOP = dataclasses.replace(CPU, m=31, eta=0.2, batch=32, lr=2.5e-4, steps=24_000, eval_every=750)
"""the paper's p, m and η; at this width a rate of 1e−3 stalls part of the way (docs/laptop.md)"""
BASE = {"smoke": SMOKE, "cpu": CPU, "laptop": LAPTOP, "paper": PAPER}
"""preset → NAIL-F at the preset's high noise; figures vary it, and share the runs that they have in common"""


SECONDS = {"smoke": 25.0, "cpu": 360.0, "laptop": 4200.0}
"""preset → what figure 2 takes on two cores, as its cost says"""


def speed(preset: str) -> Speed | None:
    """How fast figure 2 is at a preset, where that was measured."""
    if preset not in SECONDS:
        return None
    seconds, work = SECONDS[preset], work_of(load("fig2").runs(preset))
    return Speed(work / seconds, f"figure 2 at {preset} takes {seconds:,.0f} seconds")


def figure_of_runs(
    name: str, summary: str, cost: dict[str, str], runs: Callable[[Any], Runs],
    analyse: Callable[[pd.DataFrame], pd.DataFrame], claims: Callable[[pd.DataFrame], list[Claim]],
    draw: Callable[[pd.DataFrame], Figure], sizes: Mapping[str, RunGrid] = MappingProxyType({}),
) -> Experiment:  # fmt: skip
    """A figure whose rows are those of training runs: `runs` gives them for a preset, or for a grid where it has
    `sizes`.

    A tuple among them is a chain of stages (docs/stages.md §6). Rows of a stage name in `start` the run that it goes on
    from, and `nail.sweep.table.chains_in` gives the chain of each row in words.
    """
    return Experiment(
        name, summary, cost, lambda size, out: rows_of(runs(size), out), analyse, claims, draw, runs, sizes=sizes,
        speed=speed if sizes else None,
    )  # fmt: skip


def clean_chance(p: Any, m: Any, eta: Any) -> Any:
    """q^m, q = 1 − η + η/p (docs/theory.md §3.3)."""
    return (1 - eta + eta / p) ** m


def over_seeds(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric by episodes (index) and seed (columns). The rows are one setting's."""
    return rows.pivot(index="episodes", columns="seed", values=metric)


def late(rows: pd.DataFrame, metric: str, quarter: int = 4) -> Float[np.ndarray, " seeds"]:
    """Per seed, the median of a metric over the evaluations in a quarter of the budget, the last one. The rows are one
    setting's."""
    at = over_seeds(rows, metric)
    part = at.index / at.index[-1] * 4
    return at[(part > quarter - 1) & (part <= quarter)].median().to_numpy()


def times_to_solve(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, episodes until it is solved (`nail.sweep.table.solved_at`). The rows are one setting's."""
    return solved_at(rows, "seed").to_numpy()


def times_by(rows: pd.DataFrame, column: str) -> tuple[np.ndarray, Float[np.ndarray, "seeds settings"]]:
    """The values of a column in ascending order, and `times_to_solve` of each."""
    settings, chosen = zip(*rows.groupby(column), strict=True)
    return np.array(settings), np.stack([times_to_solve(each) for each in chosen], axis=1)


def tabulate(
    rows: pd.DataFrame, by: list[str], metrics: Iterable[str] = ("full_exact",), times: bool = True
) -> pd.DataFrame:
    """The table of a figure: for each setting (values of the columns `by`, in order of appearance) a curve over
    episodes of each metric, and its episodes-to-solve."""
    parts = []
    for values, chosen in rows.groupby(by, sort=False):
        found = [curve_rows(chosen, metric) for metric in metrics] + ([solve_rows(chosen)] if times else [])
        parts += [part.assign(**dict(zip(by, values, strict=True))) for part in found]
    columns = [*by, "kind", "metric", "episodes", "mean", "sd", "low", "high", "level", "censored", "n_seeds"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def curve_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row an evaluation: mean and standard deviation (of the sample, n − 1) over seeds."""
    values = over_seeds(rows, metric)
    at = values.to_numpy()
    spread = at.std(1, ddof=1) if at.shape[1] > 1 else np.full(len(at), np.nan)
    numbers = {"mean": at.mean(1), "sd": spread, "n_seeds": at.shape[1]}
    return pd.DataFrame({"kind": "curve", "metric": metric, "episodes": values.index, **numbers})


def solve_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Episodes-to-solve, the budget where `censored`: a row per seed (kind "seed") and one of the median with its
    interval of order statistics (kind "median")."""
    times, budget = times_to_solve(rows), rows.episodes.max()
    middle = median_interval(times)
    found = [{"kind": "seed", "value": time} for time in times]
    found.append({"kind": "median", "n_seeds": len(times), **middle._asdict()})
    table = pd.DataFrame(found).assign(metric="episodes_to_solve")
    never = np.isinf(table.value)
    return table.assign(censored=never.astype(int), episodes=table.value.mask(never, budget))


def per_seed(values: Iterable[float]) -> str:
    """Numbers of the seeds, for a claim."""
    return " ".join(f"{x:.3g}" for x in values)


def enough_seeds(rows: pd.DataFrame) -> dict[str, bool]:
    """The need for seeds of a claim about every seed, of rows of one setting or several."""
    return {f"{FEWEST} seeds": rows.seed.nunique() >= FEWEST}


def learnable(rows: pd.DataFrame) -> dict[str, bool]:
    """The need of a claim about who solves the task: a run of `rows` that does, for each length of the chain and each
    η. Where none does, the budget or the network may be why."""
    solved = solved_cells(rows).values()
    return {f"a run that solves the task (full chain ≥ {SOLVED}), for each m and η": all(solved) and len(solved) > 0}


def solved_cells(rows: pd.DataFrame) -> dict[tuple[float, float], bool]:
    """m, η → whether some run there solves the task."""
    return (rows.full_exact >= SOLVED).groupby([rows.m, rows.eta]).any().to_dict()


def high_noise(rows: pd.DataFrame) -> dict[str, bool]:
    """The need of a claim about high noise, of rows of one task and η."""
    rare = len(rows) > 0 and (clean_chance(rows.p, rows.m, rows.eta) < RARE).all()
    return {f"a chance q^m of a clean trajectory below {RARE:g}": bool(rare)}


def there(rows: pd.DataFrame, what: str) -> dict[str, bool]:
    """The need for rows of something."""
    return {f"runs of {what}": len(rows) > 0}


def label_of(method: str) -> str:
    """The paper's name of a method."""
    return METHOD[method].label


def solves(
    rows: pd.DataFrame, where: str, method: str, source: str, needs: Mapping[str, bool] = MappingProxyType({})
) -> Claim:  # fmt: skip
    """The claim that a method, whose rows of one setting these are, solves its task on every seed."""

    def measure() -> tuple[str, bool]:
        accuracy = late(rows, "full_exact")
        return f"full-chain accuracy per seed: {per_seed(accuracy)}", bool(np.all(accuracy >= SOLVED))

    return judged(
        f"{where}: {METHOD[method].label} solves the task (full chain ≥ {SOLVED}, every seed)", source,
        f"one seed below {SOLVED} over the last quarter (median of its evaluations)", dict(needs), measure,
    )  # fmt: skip


def does_not_solve(
    rows: pd.DataFrame, where: str, method: str, source: str, needs: Mapping[str, bool] = MappingProxyType({})
) -> Claim:  # fmt: skip
    """The claim that it solves it on none."""

    def measure() -> tuple[str, bool]:
        accuracy = late(rows, "full_exact")
        return f"full-chain accuracy per seed: {per_seed(accuracy)}", bool(np.all(accuracy < UNSOLVED))

    return judged(
        f"{where}: {METHOD[method].label} does not solve the task (full chain < {UNSOLVED}, every seed)", source,
        f"one seed at {UNSOLVED} or more over the last quarter (median of its evaluations)", dict(needs), measure,
    )  # fmt: skip


def decides(seeds: int, settings: int, alike: int = 1) -> bool:
    """Whether a test that permutes settings within seeds can reach `LEVEL`: of the settings!^seeds permutations that
    are alike under its hypothesis, `alike` have the statistic of the clearest rows."""
    return settings >= 2 and alike < LEVEL * math.factorial(settings) ** seeds


def decidable(seeds: int, settings: int, alike: int = 1) -> dict[str, bool]:
    """The need of such a test."""
    return {f"seeds and settings solved in the budget, enough for a p value below {LEVEL:g}":
            decides(seeds, settings, alike)}  # fmt: skip


def unsolved_ties(times: Float[np.ndarray, "seeds settings"]) -> int:
    """How many orders of the settings within seeds are alike because the budget ties those that are not solved."""
    return math.prod(math.factorial(int(never)) for never in np.isinf(times).sum(1))


def in_words(found: Median) -> str:
    """A median time with its interval, in thousands, for a claim."""
    return "{} [{}, {}]".format(*(f"{x / 1000:.3g}".replace("inf", "∞") for x in found[:3]))


def each_seed(times: Float[np.ndarray, " seeds"]) -> str:
    """Times of the seeds in thousands, for a claim."""
    return per_seed(times / 1000).replace("inf", "∞")


def of_seeds(n_seeds: float) -> str:
    """What a curve and its band are, for a figure's note."""
    return f"mean of {n_seeds:g} seeds, band: ± 1 standard deviation" if n_seeds > 1 else "one seed"


def interval_note(table: pd.DataFrame) -> str:
    """What the medians of a table are, for a figure's note."""
    row = next(table[table.kind == "median"].itertuples())
    if row.n_seeds == 1:
        return "the time of that seed"
    return f"median of {row.n_seeds:g} seeds, bar: its {100 * row.level:.4g} % interval (order statistics)"


def thousands(axes: Axes, axis: str = "x") -> None:
    """Episodes on an axis in thousands."""
    getattr(axes, f"{axis}axis").set_major_formatter(lambda value, _: f"{value / 1000:g}")


def draw_curves(
    axes: Axes, table: pd.DataFrame, by: str, colour: Callable[[float], Any], label: Callable[[float], str]
) -> None:
    """Full-chain accuracy against training trajectories: a curve and a band (± 1 standard deviation) each `by`."""
    for value, points in table[table.kind == "curve"].groupby(by):
        x, mean, sd = points["episodes"], points["mean"], pd.to_numeric(points["sd"])
        axes.fill_between(
            x, (mean - sd).clip(0, 1), (mean + sd).clip(0, 1), color=colour(value), alpha=0.13, linewidth=0
        )
        axes.plot(x, mean, color=colour(value), label=label(value))
    accuracy_axes(axes)


def accuracy_axes(axes: Axes) -> None:
    """Limits and label of accuracy against training trajectories."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=0)
    axes.set_xlabel("training trajectories (thousands)")
    thousands(axes)


def draw_times(axes: Axes, table: pd.DataFrame, x: str, look: Look, label: str, shift: float = 0.0) -> None:
    """Episodes-to-solve against `x`: a small mark per seed (an open triangle where it never solved), a line through the
    medians, dotted to where they are censored, and their intervals, ending at the budget where they are open."""
    medians, budget = table[table.kind == "median"].sort_values(x), table[table.kind == "seed"].episodes.max()
    at, value = medians[x] + shift, medians.episodes
    axes.vlines(at, medians.low.clip(upper=budget), medians.high.clip(upper=budget), color=look.colour, linewidth=0.8)
    axes.plot(at, value, color=look.colour, linestyle=":", linewidth=0.9)
    axes.plot(
        at, value.where(medians.censored == 0), color=look.colour, linestyle=look.line, label=label, marker=look.mark
    )
    for (never,), seeds in table[table.kind == "seed"].groupby(["censored"]):
        axes.plot(
            seeds[x] + shift, seeds.episodes, marker="^" if never else look.mark, color=look.colour,
            markerfacecolor="white" if never else look.colour, markersize=3.6 if never else 2.6, linestyle="none",
            alpha=0.8,
        )  # fmt: skip
    axes.set_title(f"episodes until accuracy ≥ {SOLVED}")
    axes.set_ylabel("trajectories (thousands)")
    axes.set_ylim(bottom=0)
    thousands(axes, "y")

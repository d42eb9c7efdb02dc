"""Regret against episodes on random (Garnet) MDPs, with a deterministic and a stochastic expert (docs/theory.md §4.5).

The expert answers everywhere, so nothing here is lost for good after a mistake. Deterministic expert: the learner
plays the plurality of its labels. Stochastic (soft-optimal) expert: it plays its fitted law with the known channel
taken out; the loss is then |J(π*) − J(π̂)|, since the value of a law may err either way.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nail.counting.drivers import Setting
from nail.counting.laws import learned_laws
from nail.counting.layered import learned_regret
from nail.envs.instances import garnet
from nail.envs.mdp import regret
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.figures.stats import bootstrap_interval
from nail.methods import METHOD
from nail.theory.bounds import general_bound
from nail.theory.scaling import fit_line

from ._theory import Point, figure_of_points

ORDER = ("loglossbc", "dagger", "opd-f", "opd-r", "nail-f", "nail-r")
EXPERTS = {"optimal": "deterministic expert (optimal)", "soft": "stochastic expert (soft-optimal)"}


class Size(NamedTuple):
    """A preset."""

    instances: int
    replicates: int
    """per instance"""
    stride: int
    """episodes before the first evaluation; later ones at twice, four times, .. that"""
    doublings: int
    horizon: int = 8
    n_states: int = 8
    n_actions: int = 4
    branching: int = 2
    eta: float = 0.5
    temperature: float = 0.05


SIZES = {
    "smoke": Size(3, 2, 4, 4, horizon=3, n_states=4, n_actions=3),
    "cpu": Size(20, 8, 8, 8),
    "paper": Size(100, 20, 16, 10, horizon=100, n_states=20),
}


def series(preset: str) -> list[list[Point]]:
    """One series of instances for each expert and learner."""
    fields = SIZES[preset]._asdict()
    count = fields.pop("instances")
    return [
        [{"expert": expert, "method": method, "instance": i, **fields, "seed": 1000 + i} for i in range(count)]
        for expert in EXPERTS
        for method in ORDER
    ]


def measure(point: Point) -> list[Row]:
    """Mean over replicates of the exact |J(π*) − J(π̂)| of one learner on one instance, at each evaluation."""
    instance = garnet(
        point["instance"], point["horizon"], point["n_states"], point["n_actions"], point["branching"],
        point["expert"], point["temperature"],
    )  # fmt: skip
    points = 2 ** point["doublings"]
    at = 2 ** np.arange(point["doublings"] + 1) - 1
    if point["expert"] == "optimal":
        loss = learned_regret(instance, point["method"], Setting(point["eta"]), point["stride"], points,
                              point["replicates"], point["seed"])[:, at]  # fmt: skip
    else:
        laws = learned_laws(instance, point["method"], point["eta"], point["stride"], points, point["replicates"],
                            point["seed"])[:, at]  # fmt: skip
        loss = np.abs(regret(instance.mdp, laws, instance.expert))
    return [
        {**point, "episodes": int(point["stride"] * (i + 1)), "loss": float(x)}
        for i, x in zip(at, loss.mean(0), strict=True)
    ]


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean loss over instances with its 95 % bootstrap interval at each evaluation, in units of R = 1, and the general
    bound, ε(n) = R·√(H·log|Π|/n)/(1−η) of docs/theory.md §5, Π all deterministic policies: log|Π| = HS·log A."""
    table = pd.concat([_mean_loss(points) for _, points in rows.groupby(["expert", "method"], sort=False)])
    row = next(rows.itertuples())
    size = row.horizon * row.n_states * np.log(row.n_actions)
    limit = np.sqrt(general_bound(row.horizon, size, row.eta, 1.0) / table.episodes)
    same = ["replicates", "horizon", "n_states", "n_actions", "branching", "eta", "temperature"]
    return table.assign(
        bound=limit.where(table.expert == "optimal"), instances=rows.instance.nunique(),
        **{name: getattr(row, name) for name in same},
    )  # fmt: skip


def _mean_loss(points: pd.DataFrame) -> pd.DataFrame:
    """Mean loss of one learner over instances with its interval, at each evaluation."""
    loss = points.pivot(index="instance", columns="episodes", values="loss").loc[points.instance.unique()]
    found = bootstrap_interval(loss.to_numpy(), np.random.default_rng(0))
    numbers = {"episodes": loss.columns, "loss": found.estimate, "low": found.low, "high": found.high}
    return pd.DataFrame({"expert": points.expert.iloc[0], "method": points.method.iloc[0], **numbers})


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Losses fall for both experts, the general bound holds, and offline learning is not ruled out here."""
    table = analyse(rows)
    losses = dict(iter(table.groupby(["expert", "method"])))
    found = [_falling_claim(losses[e, m], EXPERTS[e], METHOD[m].label) for e in EXPERTS for m in ("nail-f", "nail-r")]
    found.append(_bound_claim(table[table.expert == "optimal"]))
    return found + [_offline_claim(losses[e, "loglossbc"], losses[e, "nail-f"], EXPERTS[e]) for e in EXPERTS]


def _falling_claim(points: pd.DataFrame, title: str, label: str) -> Claim:
    seen = points[points.loss > 0]
    slope = fit_line(np.log(seen.episodes.to_numpy()), np.log(seen.loss.to_numpy())).slope
    first, *_, last = points.itertuples()
    return Claim(
        f"{title}: the loss of {label} falls at least as n^(−1/2) (fitted exponent ≤ −0.4)",
        "docs/theory.md §5 (general polynomial bound)",
        f"exponent {slope:.2f}; from {first.loss:.4f} at n = {first.episodes} to {last.loss:.5f} "
        f"[{last.low:.5f}, {last.high:.5f}] at n = {last.episodes}",
        bool(slope <= -0.4),
    )


def _bound_claim(table: pd.DataFrame) -> Claim:
    worst = (table.high / table.bound).groupby(table.method).max()[["nail-f", "nail-r"]]
    return Claim(
        f"{EXPERTS['optimal']}: NAIL stays below the general bound at every n (upper end of its interval)",
        "docs/theory.md §5",
        "largest loss/bound: " + ", ".join(f"{METHOD[m].label} {x:.3f}" for m, x in worst.items()),
        bool(worst.max() < 1),
    )


def _offline_claim(offline: pd.DataFrame, greedy: pd.DataFrame, title: str) -> Claim:
    """An expert that answers everywhere leaves offline learning polynomial: no gap that is exponential in H."""
    both = offline.merge(greedy, on="episodes", suffixes=("", "_greedy"))
    shown = zip(both.iloc[[0, len(both) // 2, -1]].itertuples(), (4, 4, 5), strict=True)
    return Claim(
        f"{title}: where the expert answers everywhere, LogLossBC is within a factor 10 of NAIL-F at every n",
        "docs/theory.md §4.5",
        "loss of LogLossBC / NAIL-F: "
        + ", ".join(f"{at.loss:.{d}f}/{at.loss_greedy:.{d}f} at n = {at.episodes}" for at, d in shown),
        bool((both.loss <= 10 * both.loss_greedy + 1e-3).all()),
    )


SMALLEST = 1e-7
"""lower end of the figure's regrets: what is below it is rounding, or a curve that has left the picture"""


def draw(table: pd.DataFrame) -> Figure:
    """Loss against episodes on logarithmic axes, one panel an expert."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    floor = table.loss[table.loss > 0].min() / 2
    for axes, (expert, title) in zip(panels, EXPERTS.items(), strict=True):
        for method in ORDER:
            points = table[(table.expert == expert) & (table.method == method)]
            shown = points[points.loss > 0].assign(low=points.low.clip(floor))
            measured(axes, look(method), shown, "episodes", "loss", label=METHOD[method].label)
        if points.bound.notna().all():
            axes.plot(points.episodes, points.bound, label="general bound R√(H·log|Π|/n)/(1−η)", **REFERENCE["upper"])
        axes.set_title(title)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("episodes n")
    panels[0].set_ylim(max(floor, SMALLEST), 10)
    panels[0].set_ylabel("regret J(π*) − J(π̂), in units of R")
    panels[1].set_ylabel("|J(π*) − J(π̂)|, in units of R")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1.2)
    row = next(table.itertuples())
    note(
        figure, f"Garnet, H = {row.horizon}, S = {row.n_states}, A = {row.n_actions}, b = {row.branching}, "
        f"uniform noise η = {row.eta}, soft expert τ = {row.temperature}; mean over {row.instances} instances "
        f"× {row.replicates} replicates,\nbands: 95 % bootstrap intervals over instances",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_garnet",
    "regret against episodes on random MDPs, deterministic and stochastic expert, with the general bound",
    {
        "smoke": "about 25 seconds on two cores",
        "cpu": "about 1.5 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

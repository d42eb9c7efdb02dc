"""Regret against episodes on random (Garnet) MDPs, with a deterministic and with a stochastic expert (docs/theory.md §4.5).

The expert answers everywhere, so nothing here is lost for good after a mistake. Deterministic expert: the learner
plays the plurality of its labels. Stochastic (soft-optimal) expert: it plays its fitted law with the known channel
taken out; the loss is then |J(π*) − J(π̂)|, since the value of a law may err either way.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from nail.counting.drivers import Setting
from nail.counting.laws import learned_laws
from nail.counting.layered import learned_regret
from nail.envs.instances import garnet
from nail.envs.mdp import regret
from nail.figures.experiment import Claim, Experiment, Row
from nail.figures.plotting import LOOK, REFERENCE, TEXT_WIDTH, measured, note
from nail.figures.stats import Interval, bootstrap_interval
from nail.methods import METHOD
from nail.theory.bounds import general_bound
from nail.theory.scaling import fit_line

from ._rows import column, select
from ._theory import Point, run_points

NAME = "theory_garnet"
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


def series(size: Size) -> list[list[Point]]:
    """One series of instances for each expert and learner."""
    fields = size._asdict()
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


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all instances of a preset."""
    return run_points(NAME, out, series(SIZES[preset]), measure)


def over_instances(rows: list[Row], expert: str, method: str) -> tuple[np.ndarray, Interval]:
    """Evaluations (episodes), and mean loss over instances with its 95 % bootstrap interval."""
    chosen = select(rows, expert=expert, method=method)
    episodes = np.unique(column(chosen, "episodes"))
    loss = column(chosen, "loss").reshape(-1, len(episodes))
    return episodes, bootstrap_interval(loss, np.random.default_rng(0))


def bound(row: Row, episodes: np.ndarray) -> np.ndarray:
    """ε(n) = R·√(H·log|Π|/n)/(1−η) of docs/theory.md §5 with R = 1, Π all deterministic policies: log|Π| = HS·log A."""
    horizon, n_states, n_actions = (int(row[k]) for k in ("horizon", "n_states", "n_actions"))
    size = horizon * n_states * np.log(n_actions)
    return np.sqrt(general_bound(horizon, size, float(row["eta"]), 1.0) / episodes)


def analyse(rows: list[Row]) -> list[Row]:
    """Mean loss over instances with its interval, in units of R = 1, and the general bound."""
    table = []
    for expert in EXPERTS:
        for method in ORDER:
            episodes, loss = over_instances(rows, expert, method)
            limits = bound(rows[0], episodes) if expert == "optimal" else np.full(len(episodes), np.nan)
            for n, mean, low, high, limit in zip(episodes, *loss, limits, strict=True):
                table.append(
                    {
                        "expert": expert, "method": method, "episodes": int(n), "loss": mean, "low": low, "high": high,
                        "bound": limit, "instances": len({r["instance"] for r in rows}),
                        **{k: rows[0][k] for k in
                           ("replicates", "horizon", "n_states", "n_actions", "branching", "eta", "temperature")},
                    }
                )  # fmt: skip
    return table


def claims(rows: list[Row]) -> list[Claim]:
    """Losses fall for both experts, the general bound holds, and offline learning is not ruled out here."""
    found = []
    for expert, title in EXPERTS.items():
        for method in ("nail-f", "nail-r"):
            found.append(_falling_claim(rows, expert, title, method))
    found.append(_bound_claim(rows))
    return [*found, *(_offline_claim(rows, expert, title) for expert, title in EXPERTS.items())]


def _falling_claim(rows: list[Row], expert: str, title: str, method: str) -> Claim:
    episodes, loss = over_instances(rows, expert, method)
    seen = loss.estimate > 0
    slope = fit_line(np.log(episodes[seen]), np.log(loss.estimate[seen])).slope
    return Claim(
        f"{title}: the loss of {METHOD[method].label} falls at least as n^(−1/2) (fitted exponent ≤ −0.4)",
        "docs/theory.md §5 (general polynomial bound)",
        f"exponent {slope:.2f}; from {loss.estimate[0]:.4f} at n = {episodes[0]:.0f} to {loss.estimate[-1]:.5f} "
        f"[{loss.low[-1]:.5f}, {loss.high[-1]:.5f}] at n = {episodes[-1]:.0f}",
        bool(slope <= -0.4),
    )


def _bound_claim(rows: list[Row]) -> Claim:
    worst = {}
    for method in ("nail-f", "nail-r"):
        episodes, loss = over_instances(rows, "optimal", method)
        worst[method] = float(np.max(loss.high / bound(rows[0], episodes)))
    return Claim(
        f"{EXPERTS['optimal']}: NAIL stays below the general bound at every n (upper end of its interval)",
        "docs/theory.md §5",
        "largest loss/bound: " + ", ".join(f"{METHOD[m].label} {x:.3f}" for m, x in worst.items()),
        max(worst.values()) < 1,
    )


def _offline_claim(rows: list[Row], expert: str, title: str) -> Claim:
    """An expert that answers everywhere leaves offline learning polynomial: no gap that is exponential in H."""
    episodes, offline = over_instances(rows, expert, "loglossbc")
    _, greedy = over_instances(rows, expert, "nail-f")
    half = len(episodes) // 2
    return Claim(
        f"{title}: where the expert answers everywhere, LogLossBC is within a factor 10 of NAIL-F at every n",
        "docs/theory.md §4.5",
        f"loss of LogLossBC / NAIL-F: {offline.estimate[0]:.4f}/{greedy.estimate[0]:.4f} at n = {episodes[0]:.0f}, "
        f"{offline.estimate[half]:.4f}/{greedy.estimate[half]:.4f} at n = {episodes[half]:.0f}, "
        f"{offline.estimate[-1]:.5f}/{greedy.estimate[-1]:.5f} at n = {episodes[-1]:.0f}",
        bool(np.all(offline.estimate <= 10 * greedy.estimate + 1e-3)),
    )


SMALLEST = 1e-7
"""lower end of the figure's regrets: what is below it is rounding, or a curve that has left the picture"""


def draw(table: list[Row]) -> Figure:
    """Loss against episodes on logarithmic axes, one panel an expert."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    kept = [float(row["loss"]) for row in table if float(row["loss"]) > 0]
    floor = min(kept) / 2
    for axes, (expert, title) in zip(panels, EXPERTS.items(), strict=True):
        for method in ORDER:
            rows = select(table, expert=expert, method=method)
            n, mean, low, high = (column(rows, c) for c in ("episodes", "loss", "low", "high"))
            shown = mean > 0
            measured(axes, LOOK[method], n[shown], mean[shown], np.maximum(low, floor)[shown], high[shown],
                     label=METHOD[method].label)  # fmt: skip
        limit = column(rows, "bound")
        if np.isfinite(limit).all():
            axes.plot(n, limit, label="general bound R√(H·log|Π|/n)/(1−η)", **REFERENCE["upper"])
        axes.set_title(title)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("episodes n")
    panels[0].set_ylim(max(floor, SMALLEST), 10)
    panels[0].set_ylabel("regret J(π*) − J(π̂), in units of R")
    panels[1].set_ylabel("|J(π*) − J(π̂)|, in units of R")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1.2)
    row = table[0]
    note(
        figure, f"Garnet, H = {row['horizon']}, S = {row['n_states']}, A = {row['n_actions']}, b = {row['branching']}, "
        f"uniform noise η = {row['eta']}, soft expert τ = {row['temperature']}; mean over {row['instances']} instances "
        f"× {row['replicates']} replicates,\nbands: 95 % bootstrap intervals over instances",
    )  # fmt: skip
    return figure


EXPERIMENT = Experiment(
    name=NAME,
    summary="regret against episodes on random MDPs, deterministic and stochastic expert, with the general bound",
    cost={
        "smoke": "about 25 seconds on two cores",
        "cpu": "about 1.5 minutes on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
)

"""What the theory figures share: points as the rows of a figure, n* and the known curves as rows, fits, a simulator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from nail.counting.drivers import Setting
from nail.counting.nstar import NStar, n_star
from nail.envs.mdp import TabularMDP
from nail.figures.experiment import Claim, Experiment, Row
from nail.sweep.points import run_points
from nail.theory.bounds import phased_nail
from nail.theory.exact import n_bc, n_offline
from nail.theory.scaling import Scaling, fit_scaling

Point = dict[str, Any]
NORMAL_95 = 1.959964
"""half width of a two-sided 95 % interval in standard deviations"""
EXPONENTIAL = ("loglossbc", "opd-f", "opd-r")
"""learners whose episodes follow the noisy expert or are sampled from a law fitted to it"""
POLYNOMIAL = ("dagger", "nail-f", "nail-r", "nailgun")
"""learners whose episodes are greedy in the end"""
KNOWN = {"n_offline": n_offline, "n_bc": n_bc, "phased": phased_nail}
"""curves that are known beside the measured n*: name → function of (H, A, η, δ)"""


def figure_of_points(
    name: str, summary: str, cost: dict[str, str], series: Callable[[str], list[list[Point]]],
    measure: Callable[[Point], list[Row]], analyse: Callable[[pd.DataFrame], pd.DataFrame],
    claims: Callable[[pd.DataFrame], list[Claim]], draw: Callable[[pd.DataFrame], Figure],
    stop: Callable[[list[Row]], bool] = lambda rows: False,
) -> Experiment:  # fmt: skip
    """A figure whose rows are those of points, measured series by series: `series` gives them for a preset."""
    return Experiment(
        name, summary, cost, lambda preset, out: run_points(name, out, series(preset), measure, stop), analyse, claims,
        draw,
    )  # fmt: skip


def measure_n_star(point: Point) -> list[Row]:
    """n* of `point` as one row: of a curve of `KNOWN`, or measured (instance, method, horizon, n_actions, eta, delta,
    replicates, seed, budget; and what the learner is told, where that matters)."""
    if known := KNOWN.get(point["method"]):
        value = known(point["horizon"], point["n_actions"], point["eta"], point["delta"])
        return [{**point, **exact_columns(value)}]
    told = {name: point[name] for name in ("kernel", "told_eta", "told_kernel") if name in point}
    setting = Setting(**{k: np.asarray(v) if isinstance(v, list) else v for k, v in told.items()})
    found = n_star(
        point["instance"], point["method"], point["horizon"], point["n_actions"], point["eta"], point["delta"],
        point["replicates"], point["seed"], point["budget"], setting,
    )  # fmt: skip
    return [{**point, **n_star_columns(found)}]


def n_star_columns(found: NStar) -> Row:
    """The columns of a measured n*: episodes and expert queries with their intervals, infinite where censored."""
    return {
        "n_star": np.inf if found.censored else found.value,
        "low": found.interval[0],
        "high": found.interval[1],
        "queries": np.inf if found.censored else found.queries,
        "queries_low": found.query_interval[0],
        "queries_high": found.query_interval[1],
        "censored": int(found.censored),
        "allowed": found.budget,
        "resolution": found.resolution,
        "mean_loss": found.mean_loss,
    }


def exact_columns(value: float) -> Row:
    """The same columns for a number that is known, not measured."""
    keys = ("n_star", "low", "high", "queries", "queries_low", "queries_high", "censored", "allowed", "resolution")
    return {**dict.fromkeys(keys, ""), "n_star": value, "low": value, "high": value, "censored": 0, "mean_loss": ""}


def censored(rows: list[Row]) -> bool:
    """Whether the budget did not suffice at any of these points (rows as text)."""
    return any(int(row["censored"]) for row in rows)


def reached(rows: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The points within the budget, of those with the `wanted` values."""
    return rows[(rows.censored == 0) & (rows[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def with_known(rows: pd.DataFrame, on: str) -> pd.DataFrame:
    """The measured points with the known curves at the same value of the column `on` beside them, as columns."""
    curves = {name: rows[rows.method == name].set_index(on).n_star for name in KNOWN}
    measured = rows[~rows.method.isin(KNOWN)]
    return measured.assign(**{name: measured[on].map(curve) for name, curve in curves.items()})


def episodes(rows: pd.DataFrame) -> pd.Series:
    """n*, or the budget where it did not suffice."""
    return rows.n_star.where(rows.censored == 0, rows.allowed)


def log_sd(rows: pd.DataFrame) -> Float[np.ndarray, " n"]:
    """Standard deviations of log n* that the bootstrap intervals imply, at least half the grid's resolution."""
    value, high = rows.n_star, rows.high.where(np.isfinite(rows.high))
    width = (np.log(high / rows.low) / 2).fillna(np.log(value / rows.low))
    return np.maximum(width / NORMAL_95, 0.5 * rows.resolution / value).to_numpy()


def fit_n_star(rows: pd.DataFrame) -> Scaling | None:
    """Exponential and polynomial fits of n*(H) over the points that are not censored; None for fewer than 3."""
    kept = reached(rows)
    if len(kept) < 3:
        return None
    return fit_scaling(kept.horizon.to_numpy(float), kept.n_star.to_numpy(float), log_sd(kept))


def simulate(
    mdp: TabularMDP, policy: Float[np.ndarray, "H S A"], episodes: int, rng: np.random.Generator
) -> Float[np.ndarray, " episodes"]:
    """Total reward of independent episodes of a policy, by Monte Carlo: s_1 ~ ρ, a_h ~ π_h(·|s_h), s_{h+1} ~ P_h."""

    def draw(laws):
        return np.minimum((rng.random(len(laws))[:, None] >= laws.cumsum(-1)).sum(-1), laws.shape[-1] - 1)

    state = draw(np.broadcast_to(mdp.rho, (episodes, mdp.n_states)))
    total = np.zeros(episodes)
    for h in range(mdp.horizon):
        action = draw(policy[h][state])
        total += mdp.r[h][state, action]
        state = draw(mdp.P[h][state, action])
    return total

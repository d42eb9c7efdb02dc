"""What the theory figures share: points that are measured once and kept, n* as a row, fits, a policy simulator."""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from nail.counting.drivers import Setting
from nail.counting.nstar import NStar, n_star
from nail.envs.mdp import TabularMDP
from nail.figures.experiment import Row
from nail.sweep.identity import provenance
from nail.sweep.store import Damaged, read_csv, to_csv, write_text
from nail.theory.scaling import Scaling, fit_scaling
from nail.training.config import content_hash

from ._rows import column

Point = dict[str, Any]
NORMAL_95 = 1.959964
"""half width of a two-sided 95 % interval in standard deviations"""


def run_points(
    name: str,
    out: Path,
    series: Sequence[Sequence[Point]],
    measure: Callable[[Point], list[Row]],
    stop: Callable[[list[Row]], bool] = lambda rows: False,
) -> list[Row]:
    """Rows of all points, in order; each point is measured once and kept in OUT/runs/HASH/rows.csv.

    A series is measured point by point until `stop` says so of a point's rows (the next ones would only be costlier);
    series run side by side, one on each local device. A killed figure goes on after its last finished point. Rows of
    one point share their keys; provenance is added to each.
    """
    provenance()  # worked out once, here: it reads the source, which two threads must not do at once
    todo = sum(not _path(name, out, point).exists() for points in series for point in points)
    devices: SimpleQueue = SimpleQueue()
    for device in jax.local_devices():
        devices.put(device)
    killed = threading.Event()
    bar = tqdm(total=sum(map(len, series)), unit="point", dynamic_ncols=True, desc=name, disable=not todo)

    def run(points: Sequence[Point]) -> list[Row]:
        device, rows = devices.get(), []
        try:
            with jax.default_device(device):
                for i, point in enumerate(points):
                    if killed.is_set():
                        break
                    found = _stored(name, out, point, measure)
                    rows += found
                    bar.update(1)
                    if stop(found):
                        bar.update(len(points) - i - 1)
                        break
        finally:
            devices.put(device)
        return rows

    with bar, ThreadPoolExecutor(max_workers=jax.local_device_count()) as pool:
        jobs = [pool.submit(run, points) for points in series]
        try:
            return [row for job in jobs for row in job.result()]
        except BaseException:
            killed.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _path(name: str, out: Path, point: Point) -> Path:
    return out / "runs" / content_hash({"figure": name, **point}) / "rows.csv"


def _stored(name: str, out: Path, point: Point, measure: Callable[[Point], list[Row]]) -> list[Row]:
    """Rows of a point as text values: read back, or measured and written."""
    path = _path(name, out, point)
    if path.exists():
        try:
            return read_csv(path)
        except Damaged as damage:
            print(f"nail: {damage}; its point is computed again", file=sys.stderr)
    write_text(path, to_csv([{**row, **provenance()} for row in measure(point)]))
    return read_csv(path)


def measure_n_star(point: Point) -> list[Row]:
    """n* of `point` (instance, method, horizon, n_actions, eta, delta, replicates, seed, budget; and what the learner
    is told, where that matters) as one row."""
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
    """Whether the budget did not suffice at any of these points."""
    return any(int(row["censored"]) for row in rows)


def log_sd(rows: Sequence[Row]) -> Float[np.ndarray, " n"]:
    """Standard deviations of log n* that the bootstrap intervals imply, at least half the grid's resolution."""
    value, low, high = column(rows, "n_star"), column(rows, "low"), column(rows, "high")
    width = np.where(np.isfinite(high), np.log(np.where(np.isfinite(high), high, value) / low) / 2, np.log(value / low))
    return np.maximum(width / NORMAL_95, 0.5 * column(rows, "resolution") / value)


def fit_n_star(rows: Sequence[Row]) -> Scaling | None:
    """Exponential and polynomial fits of n*(H) over the points that are not censored; None for fewer than 3."""
    kept = [row for row in rows if not int(row["censored"])]
    if len(kept) < 3:
        return None
    return fit_scaling(column(kept, "horizon"), column(kept, "n_star"), log_sd(kept))


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

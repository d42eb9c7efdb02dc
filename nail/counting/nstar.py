"""n*: the smallest number of episodes after which a learner is good enough in mean over replicates.

Episodes are doubled until the mean loss reaches its target, every octave being read at evenly spaced checkpoints, and
the octave that contains the crossing is bisected. All numbers of episodes share their random numbers (common random
numbers), so the curve that is bisected is one curve, and the replicates are resampled whole for the interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nail.checks import require, require_known
from nail.counting import levels as levels
from nail.counting import paths as trie
from nail.counting.layered import learned_regret
from nail.counting.learners import EXPERT, Setting
from nail.envs.instances import Instance

POINTS = 256
"""checkpoints an octave: n* is exact up to 2·POINTS episodes and to 1/POINTS of its value beyond"""
AHEAD = 64
"""checkpoints that are simulated before the curve is looked at again, a divisor of POINTS"""
TRIE_POINTS, TRIE_AHEAD = 16, 4
"""the same two of the best-path search"""
HOPELESS = 6.0
"""standard errors of the mean loss above its target, at which no resample of the replicates reaches the target"""
TRIE_DRAW = 256
"""episodes that are drawn together for the best-path search"""
TRIE_BYTES = 2**30
"""largest data set of the best-path search"""
Octaves = Iterator[tuple[Int[np.ndarray, " T"], Float[np.ndarray, "R T"]]]


@dataclass(frozen=True)
class NStar:
    """`value` episodes with a bootstrap interval over replicates; None and an interval that ends in infinity where the
    budget did not suffice (`censored`)."""

    value: int | None
    interval: tuple[float, float]
    queries: int | None
    """expert queries: one label a step, on policy and offline alike, so episodes × H"""
    query_interval: tuple[float, float]
    censored: bool
    budget: int
    """episodes that were allowed"""
    resolution: int
    """distance of the checkpoints at `value`, episodes; 1 is exact"""
    mean_loss: float
    """mean loss (regret, or 1 − success) at `value`, at the budget if censored"""


def _bisect(good: Bool[np.ndarray, "... T"], ends: list[int]) -> Int[np.ndarray, "..."]:
    """Index of the crossing of each curve: the first octave end that is good, then bisection in its octave; T if none
    is good. `ends` are the indices of the octave ends."""
    flat = good.reshape(-1, good.shape[-1])
    found = np.full(len(flat), good.shape[-1])
    for i, curve in enumerate(flat):
        hits = [e for e in range(len(ends)) if curve[ends[e]]]
        if not hits:
            continue
        above, below = ends[hits[0]], ends[hits[0] - 1] if hits[0] else -1
        while above - below > 1:
            middle = (above + below) // 2
            above, below = (middle, below) if curve[middle] else (above, middle)
        found[i] = above
    return found.reshape(good.shape[:-1])


def crossing(
    octaves: Octaves, target: float, horizon: int, budget: int, rng: np.random.Generator,
    level: float = 0.95, resamples: int = 400,
) -> NStar:  # fmt: skip
    """n* of a loss curve per replicate: the smallest checkpoint with mean loss <= `target`.

    `octaves` yields (checkpoints (T,), losses (R, T)), one octave after the other; it is read until every resample
    has crossed, or up to `budget` episodes. The interval is the percentile bootstrap over replicates.
    """
    episodes, losses, ends, shares = np.zeros(0, int), [], [], None
    for checkpoints, loss in octaves:
        keep = checkpoints <= budget
        if keep.any():
            episodes = np.concatenate([episodes, checkpoints[keep]])
            if shares is None:
                runs = len(loss)
                shares = rng.multinomial(runs, np.full(runs, 1.0 / runs), resamples) / runs
                shares = np.concatenate([np.full((1, runs), 1.0 / runs), shares])
            losses.append(shares @ loss[:, keep].astype(float))
            ends.append(len(episodes) - 1)
        if losses and ((losses[-1][:, -1] <= target + 1e-12).all() or not keep.all()):
            break
    curves = np.concatenate(losses, axis=1)
    at = _bisect(curves <= target + 1e-12, ends)
    reached = np.append(episodes.astype(float), np.inf)[at]
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = (float(x) for x in np.quantile(reached[1:], tails, method="inverted_cdf"))
    censored = not np.isfinite(reached[0])
    low = float(budget) if censored else low
    high = np.inf if censored else high
    value = None if censored else int(reached[0])
    last = min(at[0], len(episodes) - 1)
    return NStar(
        value, (low, high), None if censored else value * horizon, (low * horizon, high * horizon), censored, budget,
        int(episodes[last] - episodes[last - 1]) if last else 1, float(curves[0, last]),
    )  # fmt: skip


def _strides(first: int) -> Iterator[tuple[int, int]]:
    """(episodes before, stride) of octaves of `first` checkpoints each: 0..first, first..2·first, ..4·first, ..."""
    before, stride = 0, 1
    while True:
        yield before, stride
        before += first * stride
        stride = before // first


def level_octaves(
    method: str, horizon: int, n_actions: int, setting: Setting, replicates: int, seed: int, budget: int
) -> Octaves:
    """1 − success of a learner that decides level by level, from n = 0 on, in parts of an octave."""
    row, setting = levels.learner(method), levels.complete(setting, n_actions)
    state = levels.begin(horizon, n_actions, replicates, seed)
    yield np.array([0]), 1.0 - np.asarray(levels.advance(row, state, setting, 0, AHEAD)[1][:, :1], float)
    for octave, stride in _strides(POINTS):
        for before in range(octave, octave + POINTS * stride, AHEAD * stride):
            if before >= budget:
                return
            state, success = levels.advance(row, state, setting, stride, AHEAD)
            yield before + stride * np.arange(1, AHEAD + 1), 1.0 - np.asarray(success, float)


def trie_octaves(
    horizon: int, n_actions: int, setting: Setting, replicates: int, seed: int, budget: int, target: float
) -> Octaves:
    """1 − success of LogLossBC on the hidden path, in parts of an octave; of a part whose end is hopelessly above the
    target, only the end (bisection looks inside no other)."""
    actions = np.zeros((replicates, 0, horizon), np.uint8)
    for octave, stride in _strides(TRIE_POINTS):
        for before in range(octave, octave + TRIE_POINTS * stride, TRIE_AHEAD * stride):
            if before >= budget:
                return
            checkpoints = before + stride * np.arange(1, TRIE_AHEAD + 1)
            drawn = [actions]
            for first in range(actions.shape[1], checkpoints[-1], TRIE_DRAW):
                new, right = trie.expert_paths(horizon, n_actions, setting, replicates, seed, TRIE_DRAW, first + 1)
                drawn.append(new)
            actions = np.concatenate(drawn, axis=1)
            end = 1.0 - trie.success(actions[:, : checkpoints[-1]], right, n_actions, setting.eta)
            if end.mean() - HOPELESS * end.std() / np.sqrt(replicates) > target:
                yield checkpoints[-1:], end[:, None]
                continue
            inside = [1.0 - trie.success(actions[:, :n], right, n_actions, setting.eta) for n in checkpoints[:-1]]
            yield checkpoints, np.stack([*inside, end], axis=1)


INSTANCES = ("poison-chain", "hidden-path")


def n_star(
    instance: str, method: str, horizon: int, n_actions: int, eta: float, delta: float,
    replicates: int = 2000, seed: int = 0, max_episodes: int = 100_000, setting: Setting | None = None,
) -> NStar:  # fmt: skip
    """Smallest number of episodes after which the learner finds all H right actions with probability >= 1−δ.

    On these instances (R = J(π*) = 1, deterministic expert) that is mean regret <= δ. The probability is over
    replicates and secrets. `setting` holds the other numbers (kernel, what a learner is told, β, decay); its η is
    replaced by `eta`. For LogLossBC on the hidden path the budget is also held to `TRIE_BYTES` of trajectories.
    Raises `BadInput` for an unknown instance or method, bad H, A, η, δ outside (0, 1), replicates or max_episodes < 1.
    """
    require_known("instance", instance, INSTANCES)
    require(0.0 < delta < 1.0, "delta", delta, "in (0, 1)")
    require(max_episodes >= 1, "max_episodes", max_episodes, "at least 1")
    require(replicates >= 1, "replicates", replicates, "at least 1")
    setting = (setting or Setting())._replace(eta=eta)
    if instance == "hidden-path" and levels.learner(method).driver is EXPERT:
        levels.begin(horizon, n_actions, 1, 0)
        budget = max(1, min(max_episodes, TRIE_BYTES // (replicates * horizon)))
        octaves = trie_octaves(horizon, n_actions, setting, replicates, seed, budget, delta)
    else:
        budget = max_episodes
        octaves = level_octaves(method, horizon, n_actions, setting, replicates, seed, budget)
    return crossing(octaves, delta, horizon, budget, np.random.default_rng(seed))


def n_star_mdp(
    instance: Instance, method: str, eps: float, setting: Setting, replicates: int = 200, seed: int = 0,
    max_episodes: int = 4096, candidates: Float[np.ndarray, "N H S A"] | None = None,
) -> NStar:  # fmt: skip
    """Smallest number of episodes after which mean exact regret is <= ε on any finite MDP (read at 32 checkpoints an
    octave). Raises `BadInput` for ε <= 0, max_episodes < 1, and as `learned_regret`."""
    require(eps > 0, "eps", eps, "positive")
    require(max_episodes >= 1, "max_episodes", max_episodes, "at least 1")

    def octaves() -> Octaves:
        for before, stride in _strides(32):
            if before >= max_episodes:
                return
            points = before // stride + 32
            loss = learned_regret(instance, method, setting, stride, points, replicates, seed, candidates)
            yield before + stride * np.arange(1, 33), loss[:, -32:]

    return crossing(octaves(), eps, instance.mdp.horizon, max_episodes, np.random.default_rng(seed))

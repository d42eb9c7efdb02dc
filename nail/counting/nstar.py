"""n*: the smallest number of episodes after which a learner is good enough in mean over replicates.

Episodes are doubled until the mean loss reaches its target, every octave being read at evenly spaced checkpoints, and
the octave that contains the crossing is bisected. All numbers of episodes share their random numbers (common random
numbers), so the curve that is bisected is one curve, and the replicates are resampled whole for the interval.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from nail.checks import require, require_known
from nail.counting import INSTANCES, levels, paths
from nail.counting.drivers import EXPERT, Setting, complete
from nail.counting.layered import exact_regret, greedy, simulation
from nail.counting.learners import learner
from nail.envs.instances import Instance
from nail.envs.play import check_once
from nail.envs.tasks import TASKS
from nail.methods import METHOD

POINTS = 256
"""checkpoints an octave: n* is exact up to 2·POINTS episodes and to 1/POINTS of its value beyond"""
AHEAD = 64
"""checkpoints that are simulated before the curve is looked at again, a divisor of POINTS"""
PATHS_POINTS, PATHS_AHEAD = 16, 4
"""the same two of the best-path search"""
HOPELESS = 6.0
"""standard errors of the mean loss above its target, at which no resample of the replicates reaches the target"""
PATHS_DRAW = 256
"""episodes that are drawn together for the best-path search"""
PATHS_BYTES = 2**30
"""largest data set of the best-path search"""
MDP_CELLS, MDP_ENTRIES = 2**26, 2**27
"""largest replicates × H × S × A on any other instance, and instances × entries of a transition table"""
MDP_POINTS = 32
"""checkpoints an octave on any other instance"""
Factory = Callable[[int], Instance]
Octaves = Iterator[tuple[Int[np.ndarray, " T"], Float[np.ndarray, "R T"]]]
Watch = Callable[[int, float], None]
"""is told the episodes so far and the mean loss after them"""


@dataclass(frozen=True)
class NStar:
    """`value` episodes with a bootstrap interval over replicates; None and an interval that ends in infinity where the
    budget did not suffice (`censored`)."""

    value: int | None
    interval: tuple[float, float]
    queries: int | None
    """expert queries: one a step, on policy and offline alike, so episodes × H; two where the oracle is "labels and
    probabilities", a label and a probability each counting as one"""
    query_interval: tuple[float, float]
    oracle: str
    """what the expert answers a query with: see `oracle`"""
    censored: bool
    budget: int
    """episodes that were allowed"""
    resolution: int
    """distance of the checkpoints at `value`, episodes; 1 is exact"""
    mean_loss: float
    """mean loss (regret, or 1 − success) at `value`, at the budget if censored"""


def oracle(method: str) -> str:
    """What the learner reads of the noisy expert at each step: "labels" (a sampled action), "probabilities" (that of
    one action, exact: the reverse KL's score function) or "labels and probabilities" (NAIL-β). Different oracles: their
    numbers of queries do not compare. Raises `BadInput` as `learner`. Source: docs/theory.md §2."""
    if learner(method).query is None:
        return "labels"
    return "probabilities" if METHOD.find(method).beta == 1 else "labels and probabilities"


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
    level: float = 0.95, resamples: int = 400, oracle: str = "labels", watch: Watch = lambda episodes, loss: None,
) -> NStar:  # fmt: skip
    """n* of a loss curve per replicate: the smallest checkpoint with mean loss <= `target`.

    `octaves` yields (checkpoints (T,), losses (R, T)), one octave after the other; it is read until every resample
    has crossed, or up to `budget` episodes; `watch` is told of each. The interval is the percentile bootstrap over
    replicates.
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
            watch(int(episodes[-1]), float(losses[-1][0, -1]))
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
    asked = horizon * (2 if oracle == "labels and probabilities" else 1)
    return NStar(
        value, (low, high), None if censored else value * asked, (low * asked, high * asked), oracle, censored,
        budget, int(episodes[last] - episodes[last - 1]) if last else 1, float(curves[0, last]),
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
    row, setting = learner(method, by_level=True), complete(setting, n_actions)
    state = levels.begin(horizon, n_actions, replicates, seed)
    yield np.array([0]), 1.0 - np.asarray(levels.advance(row, state, setting, 0, AHEAD)[1][:, :1], float)
    for octave, stride in _strides(POINTS):
        for before in range(octave, octave + POINTS * stride, AHEAD * stride):
            if before >= budget:
                return
            state, success = levels.advance(row, state, setting, stride, AHEAD)
            yield before + stride * np.arange(1, AHEAD + 1), 1.0 - np.asarray(success, float)


def path_octaves(
    horizon: int, n_actions: int, setting: Setting, replicates: int, seed: int, budget: int, target: float
) -> Octaves:
    """1 − success of LogLossBC on the hidden path, in parts of an octave; of a part whose end is hopelessly above the
    target, only the end (bisection looks inside no other)."""
    actions = np.zeros((replicates, 0, horizon), np.uint8)
    for octave, stride in _strides(PATHS_POINTS):
        for before in range(octave, octave + PATHS_POINTS * stride, PATHS_AHEAD * stride):
            if before >= budget:
                return
            checkpoints = before + stride * np.arange(1, PATHS_AHEAD + 1)
            drawn = [actions]
            for first in range(actions.shape[1], checkpoints[-1], PATHS_DRAW):
                new, right = paths.expert_paths(horizon, n_actions, setting, replicates, seed, PATHS_DRAW, first + 1)
                drawn.append(new)
            actions = np.concatenate(drawn, axis=1)
            end = 1.0 - paths.success(actions[:, : checkpoints[-1]], right, n_actions, setting.eta)
            if end.mean() - HOPELESS * end.std() / np.sqrt(replicates) > target:
                yield checkpoints[-1:], end[:, None]
                continue
            inside = [1.0 - paths.success(actions[:, :n], right, n_actions, setting.eta) for n in checkpoints[:-1]]
            yield checkpoints, np.stack([*inside, end], axis=1)


def instance_octaves(
    drawn: list[Instance], method: str, setting: Setting, replicates: int, seed: int, budget: int,
    candidates: Float[np.ndarray, "N H S A"] | None = None, pool: bool = False,
) -> Octaves:  # fmt: skip
    """Exact regret of each replicate on one instance, or the mean over replicates on each of several instances; with
    `pool`, of all replicates of all instances alike."""
    each = replicates // len(drawn)
    runs = [simulation(greedy, one, method, setting, each, seed, candidates, i * each) for i, one in enumerate(drawn)]
    for before, stride in _strides(MDP_POINTS):
        if before >= budget:
            return
        losses = [exact_regret(one, run(stride, MDP_POINTS)) for one, run in zip(drawn, runs, strict=True)]
        if len(drawn) > 1 and not pool:
            losses = [loss.mean(0, keepdims=True) for loss in losses]
        yield before + stride * np.arange(1, MDP_POINTS + 1), np.concatenate(losses)


def draw(instance: str | Instance | Factory, seed: int, count: int, replicates: int) -> list[Instance]:
    """The instance itself, or one for each of seed, seed+1, .. from a function or the tabular task of that name.

    Raises `BadInput` for an unknown name, what is or gives no `Instance`, different horizons, a bad count.
    """
    if isinstance(instance, str):
        tabular = {name: partial(row.instance, row.options()) for name, row in TASKS.items() if row.instance}
        require_known("instance", instance, tabular)
        check_once(TASKS[instance])
        instance = tabular[instance]
    drawn = [instance]
    if callable(instance):
        require(1 <= count <= replicates, "instances", count, f"in 1..replicates = {replicates}")
        drawn = [instance(seed)]
        entries = count * drawn[0].mdp.P.size if isinstance(drawn[0], Instance) else 0
        require(entries <= MDP_ENTRIES, "instances × entries of P", entries, f"at most {MDP_ENTRIES}")
        drawn += [instance(seed + i) for i in range(1, count)]
    for one in drawn:
        require(isinstance(one, Instance), "instance", one, "a name, an Instance or a function seed → Instance")
    same = all(one.mdp.horizon == drawn[0].mdp.horizon for one in drawn)
    require(same, "horizons", "different ones", "the same for all seeds")
    return drawn


def n_star(
    instance: str | Instance | Factory, method: str, horizon: int | None = None, n_actions: int | None = None,
    eta: float = 0.5, delta: float = 0.1, replicates: int = 2000, seed: int = 0, max_episodes: int = 100_000,
    setting: Setting | None = None, instances: int = 20, candidates: Float[np.ndarray, "N H S A"] | None = None,
    watch: Watch = lambda episodes, loss: None,
) -> NStar:  # fmt: skip
    """Smallest number of episodes after which the learner's regret J(π*) − J(π̂) is <= δ in mean over replicates.

    `instance` is one of

    - "poison-chain" or "hidden-path", with `horizon` and `n_actions`: each replicate has its own secret, and regret is
      1 − the probability of all H right actions. LogLossBC on the hidden path is held to `PATHS_BYTES` of trajectories;
    - an `Instance`: any finite MDP, with its own kernel ν unless `setting` has one. Regret is exact;
    - a function seed → `Instance`, called with seed, seed+1, ..: `instances` of them, with replicates // instances
      replicates each; the bootstrap then resamples instances, not replicates;
    - the name of another tabular task ("garnet", or one of `nail.add_instance`): that function at the task's default
      options.

    Ties go to the lowest action, so on one fixed instance whose right action is 0 a learner is right before it has seen
    anything. Draw the right actions at random, as the two names do, and as a function of the seed can:

    >>> from nail.envs.instances import garnet
    >>> n_star(lambda seed: garnet(seed, 4, 6, 3, 2), "nail-f", eta=0.3, delta=0.02, replicates=200).value
    31

    `setting` holds the other numbers (kernel, what a learner is told, β, decay); its η is replaced by `eta`.
    `candidates` is the finite class of nail-class, and `watch` hears how far the search is. Raises `BadInput` for an
    unknown instance or method, a method that counts cannot stand for, H or A where the instance has its own, laws that
    are no laws, η outside [0, 1), δ <= 0 (or >= 1 on the two names), replicates, instances or max_episodes < 1.
    Source: docs/theory.md §4.1, §4.2, §5.
    """
    require(max_episodes >= 1, "max_episodes", max_episodes, "at least 1")
    require(replicates >= 1, "replicates", replicates, "at least 1")
    setting, budget = (setting or Setting())._replace(eta=eta), max_episodes
    if instance in INSTANCES:
        require(0.0 < delta < 1.0, "delta", delta, "in (0, 1)")
        require(horizon is not None and n_actions is not None, "horizon, n_actions", (horizon, n_actions), "given")
        if instance == "hidden-path" and learner(method, by_level=True).driver is EXPERT:
            levels.begin(horizon, n_actions, 1, 0)
            require(replicates * horizon * PATHS_DRAW <= PATHS_BYTES, "replicates × H", replicates * horizon,
                    f"at most {PATHS_BYTES // PATHS_DRAW} where whole trajectories are kept")  # fmt: skip
            budget = max(1, min(max_episodes, PATHS_BYTES // (replicates * horizon)))
            octaves = path_octaves(horizon, n_actions, setting, replicates, seed, budget, delta)
        else:
            octaves = level_octaves(method, horizon, n_actions, setting, replicates, seed, budget)
    else:
        require(delta > 0.0, "delta", delta, "positive")
        require(horizon is None and n_actions is None, "horizon, n_actions", (horizon, n_actions), "the instance's own")
        drawn = draw(instance, seed, instances, replicates)
        cells = replicates * drawn[0].mdp.r.size
        require(cells <= MDP_CELLS, "replicates × H × S × A", cells, f"at most {MDP_CELLS}")
        horizon = drawn[0].mdp.horizon
        octaves = instance_octaves(drawn, method, setting, replicates, seed, budget, candidates)
    return crossing(octaves, delta, horizon, budget, np.random.default_rng(seed), oracle=oracle(method), watch=watch)

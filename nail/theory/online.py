"""Exact law of greedy on-policy learners on the poison chain (docs/theory.md §4.2), level by level, in float64.

A level gets one label an episode while the levels before it are right. Before each label it *looks*: is the plurality
of the labels so far right? A right look lets the episode through to the next level. So a level that is visited N times
passes on N' = N − W of its visits, W the number of wrong looks, and with

    R[n, n'] = P(N' = n' and the plurality of all n labels is right | N = n),   success(n) = (e_n)ᵀ R^H 1.

One level serves every H and every n. It is exact where labels fall into two classes (A = 2, or all noise on one wrong
action): a dynamic programme over lead (right − wrong labels) and W. Else it is simulated, once, in many replicates.

Ties. "uniform": split afresh at each look. "lowest": to the lowest action, the right action being uniform, so that the
preference at a level is the same at each look; the rule of the simulated learners (nail/counting). μ is the same.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nail.checks import require, require_known
from nail.theory.plurality import (
    MAX_LABELS,
    check_setting,
    labels_until_sure,
    overlap,
    plurality_right,
    right_probability,
)  # fmt: skip

TIES = ("uniform", "lowest")
"""how a plurality breaks ties: afresh at each look, or to the lowest action"""
TAIL = 1e-13
"""probability of leads and of wrong looks beyond what the dynamic programme keeps"""
REPLICATES, LEAST, SEEN = 20_000, 100, 20
"""replicates of a simulated level unless told otherwise; the fewest; failing ones from which their spread is trusted"""
MAX_CELLS, MAX_DRAWS, MAX_WORK = 5 * 10**7, 2 * 10**9, 5 * 10**9
"""largest number of table entries (labels × wrong looks, or replicates × labels), of replicates × labels × actions, and
of entries that the dynamic programme updates, or that H levels one after the other read: about a minute"""


@dataclass(frozen=True)
class Level:
    """What one level does with n = 0..labels visits."""

    law: Float[np.ndarray, "n1 W1"]
    """P(W = w and the plurality of all n labels is right), indexed [n, w]: exact, or a share of simulated replicates"""
    wrong: Int[np.ndarray, "n1 replicates"] | None = None
    """W of each simulated replicate after n labels; None: the level is exact"""
    right: Float[np.ndarray, "n1 replicates"] | None = None
    """probability that its plurality of n labels is right: 0, 1 or, in a uniform split, 1/number of tied actions"""
    weight: Float[np.ndarray, " replicates"] | None = None
    """of each replicate, where the mean of its last W is known: then theirs is that; None: equal weights"""

    @property
    def labels(self) -> int:
        """The largest number of visits."""
        return len(self.law) - 1


def level_table(
    n_actions: int, eta: float, labels: int, law: Float[np.ndarray, " A"] | None = None, ties: str = "lowest",
    replicates: int = 0, seed: int = 0,
) -> Level:  # fmt: skip
    """One level for up to `labels` episodes.

    `law` (A,) is the law of a label, the right action first; None: uniform noise, 1 − η + η/A and η/A. With labels of
    at most two actions the level is exact and `replicates` is ignored; else it is simulated. Raises `BadInput` for
    A < 2, η outside [0, 1), labels < 0, a law that is no law, unknown ties, no replicates where they are needed, or a
    table that is too large. Source: docs/theory.md §4.2, §4.6.
    """
    check_setting(1, n_actions, eta)
    require(0 <= labels < MAX_CELLS, "labels", labels, f"at least 0 and below {MAX_CELLS:,}")
    require(n_actions <= 10**6, "n_actions", n_actions, "at most 1,000,000")
    require_known("ties", ties, TIES)
    known = False
    if law is None:
        q = right_probability(n_actions, eta)
        law = np.append(q, np.full(n_actions - 1, eta / n_actions))
        known = labels <= MAX_LABELS
    law = np.asarray(law, float)
    fine = law.shape == (n_actions,) and bool((law >= 0).all()) and abs(law.sum() - 1) < 1e-9 and law[0] > 0
    require(fine, "law", law, f"a law of {n_actions} actions whose first one has positive probability")
    if (law[1:] > 0).sum() <= 1:
        return _exact_level(n_actions, float(law[0]), labels, ties)
    require(replicates >= 1, "replicates", replicates, "at least 1 where labels fall on more than two actions")
    cells = replicates * max(labels + 1, n_actions)
    require(cells <= MAX_CELLS, "replicates × (labels, actions)", cells, f"at most {MAX_CELLS:,}")
    mean = float((1.0 - plurality_right(n_actions, eta, labels)[:labels]).sum()) if known else None
    return _simulated_level(law, labels, ties, replicates, np.random.default_rng(seed), mean)


def _exact_level(n_actions: int, q: float, labels: int, ties: str) -> Level:
    """The dynamic programme over (lead, W): at each look add to W where the plurality is wrong, then a label.

    With ties to the lowest action it runs once for each order of the right, the noisy and the other actions."""
    if ties == "uniform":
        return Level(two_class_table(q, labels, 1.0 / n_actions, 0.5))
    first = 1.0 / n_actions
    cases = ((first, 1.0, 1.0), (0.5 - first, 0.0, 1.0), (0.5, 0.0, 0.0))
    tables = [
        (weight, two_class_table(q, labels, at_start, at_tie)) for weight, at_start, at_tie in cases if weight > 0
    ]
    return Level(sum(weight * table for weight, table in tables))


def _caps(q: float, labels: int) -> tuple[int, int]:
    """Leads and numbers of wrong looks that have to be kept: beyond them mass is below `TAIL`, or cannot be."""
    if q == 1.0:
        return 1, min(labels, 1)
    if q <= 0.5:
        return labels + 1, labels
    lead = math.ceil(math.log(TAIL) / math.log((1.0 - q) / q)) + 1
    decay = -0.5 * math.log(4.0 * q * (1.0 - q))
    looks = math.ceil(-math.log(TAIL * -math.expm1(-decay)) / decay)
    return min(lead, labels + 1), min(looks, labels)


def two_class_table(q: float, labels: int, at_start: float, at_tie: float) -> Float[np.ndarray, "n1 W1"]:
    """P(W = w, plurality right) after n labels, [n, w], where a label is right with probability q > 0 and else always
    the same wrong action: a `Level.law`.

    `at_start` and `at_tie` are the chances that a look is right before the first label and at a lead of zero. A lead
    that leaves the table upwards stays right (mass `TAIL`), one that leaves it downwards is dropped. Raises `BadInput`
    for a table that is too large. Source: docs/theory.md §4.2, §4.6.
    """
    lead, looks = _caps(q, labels)
    cells, work = (labels + 1) * (looks + 1), (labels + 1) * (2 * lead + 1) * (looks + 1)
    require(cells <= MAX_CELLS and work <= MAX_WORK, "n", labels, f"small enough that the exact table has at most "
            f"{MAX_CELLS:,} entries and takes {MAX_WORK:,} updates (here {cells:,} and {work:,})")  # fmt: skip
    table = np.zeros((labels + 1, looks + 1))
    if q == 1.0:
        table[:, 0], table[1:, 1:] = at_start, 1.0 - at_start
        return table
    now = np.zeros((2 * lead + 1, looks + 1))
    now[lead, 0], table[0, 0] = 1.0, at_start
    for n in range(1, labels + 1):
        wide, chance = min(n, looks) + 1, at_tie if n > 1 else at_start
        before = now[: lead + 1, :wide].copy()
        now[: lead + 1, 1:wide] = before[:, :-1]
        now[: lead + 1, 0] = 0.0
        now[lead, :wide] += chance * (before[lead] - now[lead, :wide])
        top = now[-1, :wide] * q
        down = (1.0 - q) * now[1:, :wide]
        now[1:, :wide] = q * now[:-1, :wide]
        now[0, :wide] = 0.0
        now[-1, :wide] += top
        now[:-1, :wide] += down
        table[n, :wide] = now[lead + 1 :, :wide].sum(0) + at_tie * now[lead, :wide]
    return table


def _simulated_level(
    law: Float[np.ndarray, " A"], labels: int, ties: str, replicates: int, rng: np.random.Generator,
    mean: float | None,
) -> Level:  # fmt: skip
    """Replicates of one level, all at once, label by label. Where the `mean` of W after all labels is known it is a
    control variate: the replicates' weights are tilted until theirs is that, and n*, about μH, no longer errs by H
    times the error of μ."""
    n_actions = len(law)
    counts = np.zeros((n_actions, replicates), np.int32)
    order = rng.random((n_actions, replicates)).argsort(0) if ties == "lowest" else None
    wrong = np.zeros((labels + 1, replicates), np.int32)
    right = np.empty((labels + 1, replicates), np.float32)
    places, cumulative = np.arange(replicates), np.cumsum(law)[:-1]
    for n in range(labels + 1):
        best = counts.max(0)
        tied = counts == best
        if order is not None:
            right[n] = np.where(tied, order, n_actions).argmin(0) == 0
        else:
            right[n] = tied[0] / tied.sum(0)
        if n < labels:
            wrong[n + 1] = wrong[n] + (right[n] <= rng.random(replicates))
            counts[(rng.random(replicates)[:, None] >= cumulative).sum(1), places] += 1
    last = wrong[-1] - wrong[-1].mean()
    weight = np.full(replicates, 1.0 / replicates)
    if mean is not None and last.any():
        weight *= 1.0 + (mean - wrong[-1].mean()) / last.var() * last
    size = int(wrong.max()) + 1
    shares = [np.bincount(w, r * weight, size) for w, r in zip(wrong, right, strict=True)]
    return Level(np.stack(shares), wrong, right, None if mean is None else weight)


def _passed_on(level: Level) -> tuple[Int[np.ndarray, "n1 W1"], Float[np.ndarray, "n1 W1"]]:
    """Visits n − w that a level passes on, [n, w], and the level's law where there are such."""
    left = np.arange(level.labels + 1)[:, None] - np.arange(level.law.shape[1])
    return np.maximum(left, 0), level.law * (left >= 0)


def _values(level: Level, horizon: int) -> Float[np.ndarray, "H1 n1"]:
    """R^h 1 for h = 0..H."""
    work = max(horizon * level.law.size, horizon * (level.labels + 1) * MAX_WORK // MAX_CELLS)
    require(work <= MAX_WORK, "horizon", horizon, f"small enough for {level.labels} labels")
    on, law = _passed_on(level)
    values = np.ones((horizon + 1, level.labels + 1))
    for h in range(horizon):
        values[h + 1] = (law * values[h][on]).sum(1)
    return values


def success_curve(level: Level, horizons: list[int] | Int[np.ndarray, " k"]) -> Float[np.ndarray, "k n1"]:
    """P(all H levels right after n episodes), n = 0..labels, for each H: (e_n)ᵀ R^H 1.

    Raises `BadInput` for H < 1. Source: docs/theory.md §4.2.
    """
    require(min(horizons) >= 1, "horizon", min(horizons), "at least 1")
    return _values(level, int(max(horizons)))[np.asarray(horizons)]


def success_error(level: Level, horizon: int, n: int) -> float:
    """Standard error of the success probability after n episodes; 0 where the level is exact.

    By the delta method: replicate i moves (e_n)ᵀ R^H 1 by Σ_m 1{right_i(m)}·worth[m, W_i(m)]/replicates, but for a
    constant, with worth[m, w] = Σ_h U_h[m]·V_{H−h−1}[m − w], U_h = (e_n)ᵀ R^h and V_h = R^h 1; less what
    W after all labels explains of it, where that is a control variate. Where fewer than `SEEN` replicates fail their
    own spread says little: then it is at least √(max(1 − success, 1/replicates)/replicates) (docs/theory.md §4.2).
    Raises `BadInput` for H < 1 or n outside 0..labels.
    """
    require(horizon >= 1, "horizon", horizon, "at least 1")
    require(0 <= n <= level.labels, "n", n, f"in 0..{level.labels}")
    if level.wrong is None:
        return 0.0
    on, law = _passed_on(level)
    values, arriving = _values(level, horizon), np.zeros(level.labels + 1)
    arriving[n], worth = 1.0, np.zeros(level.law.shape)
    for left in range(horizon - 1, -1, -1):
        worth += arriving[:, None] * values[left][on]
        arriving = np.bincount(on.ravel(), (arriving[:, None] * law).ravel(), minlength=level.labels + 1)
    each = sum(right * row[wrong] for right, row, wrong in zip(level.right, worth, level.wrong, strict=True))
    last = level.wrong[-1] - level.wrong[-1].mean()
    if level.weight is not None and last.any():
        each -= (each @ last) / (last @ last) * last
    replicates = level.right.shape[1]
    failing = max(1.0 - values[horizon][n], 1.0 / replicates)
    error = float(np.linalg.norm(each - each.mean()) / math.sqrt(max(replicates - 2, 1) * replicates))
    return error if failing * replicates >= SEEN else max(error, math.sqrt(failing / replicates))


def n_star_online(level: Level, horizon: int, delta: float) -> int | float:
    """min{n : success(n) >= 1 − δ} episodes; infinite if the level's `labels` do not suffice (docs/theory.md §4.2).

    The first crossing: success was not seen to fall in n while the right action is the likeliest label. Raises
    `BadInput` for H < 1 or δ outside (0, 1).
    """
    check_setting(delta=delta)
    good = success_curve(level, [horizon])[0] >= 1.0 - delta
    return int(np.argmax(good)) if good.any() else math.inf


def most_replicates(n_actions: int, labels: int) -> int:
    """Largest number of replicates of a level with so many labels that fits into memory and takes about a minute."""
    return min(MAX_DRAWS // (n_actions * (labels + 1)), MAX_CELLS // max(labels + 1, n_actions))


def online_success(
    horizon: int, n_actions: int, eta: float, n: int, ties: str = "lowest", replicates: int | None = None,
    seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """`value` = P(a greedy learner of the chain is right at all H levels after n episodes), uniform noise, and its
    standard error `stderr` where the level is simulated (A > 2; docs/theory.md §4.2).

    Without `replicates` there are `REPLICATES`, or as many as fit. Raises `BadInput` as `level_table` does, for H < 1
    and for fewer than `LEAST` replicates.
    """
    if replicates is None:
        replicates = min(REPLICATES, max(LEAST, most_replicates(n_actions, n)))
    require(replicates >= LEAST, "replicates", replicates, f"at least {LEAST}")
    level = level_table(n_actions, eta, n, ties=ties, replicates=replicates, seed=seed)
    value = float(np.clip(success_curve(level, [horizon])[0, n], 0.0, 1.0))
    return {"value": value} if level.wrong is None else {"value": value, "stderr": success_error(level, horizon, n)}


def episodes_per_level(n_actions: int, eta: float) -> float:
    """μ(A, η) = Σ_{k>=0} (1 − M_A(k)): episodes that one more level costs a greedy learner in mean, to 1e-6.

    Uniform noise. For A = 2 it is 1/(2(1−η)²): the lead is a walk of drift 1 − η, which is at zero 1/(1−η) times and
    below zero η/(2(1−η)²) times in mean. Raises `BadInput` for A < 2, η outside [0, 1), or (A > 2) η so near 1 that a
    plurality needs more than `MAX_LABELS` labels. Source: docs/theory.md §4.2.
    """
    check_setting(1, n_actions, eta)
    if n_actions == 2:
        return 0.5 / (1.0 - eta) ** 2
    labels = labels_until_sure(n_actions, eta, 5e-7 * (1.0 - overlap(n_actions, eta)))
    return float((1.0 - plurality_right(n_actions, eta, labels)).sum())


def level_moments(level: Level) -> tuple[float, float]:
    """Mean μ and standard deviation σ of the wrong looks of one level among its `labels` visits, episodes.

    With enough labels these are those of one level's cost, and n*(H) = μH + z_{1−δ}·σ√H + O(1) (docs/theory.md §4.2).
    """
    if level.wrong is not None:
        w, mass = level.wrong[-1], np.ones(level.wrong.shape[1]) if level.weight is None else level.weight
    else:
        w, mass = np.arange(level.law.shape[1]), level.law[-1]
    mass = mass / mass.sum()
    mean = float(mass @ w)
    return mean, float(math.sqrt(mass @ (w - mean) ** 2))

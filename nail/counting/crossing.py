"""n* of a curve of mean loss against episodes, and its interval.

The interval inverts a test at each checkpoint. Its ends are those of the mean loss's own interval there: Clopper and
Pearson's where a run's loss is right or wrong (never below its level), else Student's (its level for normal losses;
runs are instances or replicates); of shares in [0, 1], one an instance, Chernoff's (never below its level: shares of a
few hard instances are far from normal). n* is above the checkpoints before the first at which "mean loss <= target" is
not rejected, and at most the one after the last at which "mean loss > target" is not. Where the mean loss falls in n
each of the two is wrong only if one test of half the error is, whatever the noise along the curve.

So the level of an interval over few instances is that of Student's for their losses: of 95 %, those over 2, 3, 5 and 20
Garnet instances hold the value of all (300 or 400) in 95 % or more (δ = 0.005 to 0.1). Where a few hard instances make
up the mean loss it is less: 70 % at 3 and 84 % at 20 for losses e^(−λn) with λ of a gamma law of shape 4, at a mean of
0.03.

Statements about several points at once need intervals of a higher level each (Bonferroni). A measurement has those of
1 − 0.05/k for each power of two k up to `TOGETHER`, all of the same curve: nothing is measured again when a grid grows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from nail.checks import require

LEVEL = 0.95
"""of the interval"""
TOGETHER = 2**17
"""largest number of points whose intervals can hold at once"""
ROUNDING = 1e-12
"""of the target: a mean loss that is above it by less is at it"""
SETTLED, FAR, LEAST = 1.25, 8, 512
"""a search ends at this multiple of the last checkpoint whose loss may be above the target, or at this one of the first
octave end whose mean loss is not, but then not before so many episodes"""
Losses = Float[np.ndarray, "R T"] | Bool[np.ndarray, "R T"]
Octaves = Iterator[tuple[Int[np.ndarray, " T"], Losses]]
Watch = Callable[[int, float], None]
"""is told the episodes so far and the mean loss after them"""


@dataclass(frozen=True)
class NStar:
    """`value` episodes with its 95 % interval; None where the budget did not suffice (`censored`)."""

    value: int | None
    interval: tuple[float, float]
    """over replicates, or over instances where there are several; its upper end is infinite where the budget, or `FAR`
    times as many episodes, did not bring it down, and where the runs are too few for any"""
    queries: int | float | None
    """expert queries: one a step, on policy and offline alike, so episodes × H; two where the oracle is "labels and
    probabilities", a label and a probability each counting as one. Of a learner with a state of its own: the mean over
    replicates of its answers in the first `value` episodes, those off the path included"""
    query_interval: tuple[float, float]
    oracle: str
    """what the expert answers a query with: see `oracle`"""
    censored: bool
    budget: int
    """episodes that were allowed"""
    resolution: int
    """distance of the checkpoints at `value`, episodes; 1 is exact"""
    mean_loss: float
    """mean loss (regret, or 1 − success, or the share of runs beyond ε) at `value`, at the budget if censored"""
    wider: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    """intervals of level 1 − 0.05/k, k = 2, 4, .., `TOGETHER`: those of k points hold at once with 95 %"""


def _bisect(good: Bool[np.ndarray, " T"], ends: list[int]) -> int:
    """Index of the crossing: the first octave end that is good, then bisection in its octave; T if none is good.
    `ends` are the indices of the octave ends."""
    hits = [e for e in range(len(ends)) if good[ends[e]]]
    if not hits:
        return len(good)
    above, below = ends[hits[0]], ends[hits[0] - 1] if hits[0] else -1
    while above - below > 1:
        middle = (above + below) // 2
        above, below = (middle, below) if good[middle] else (above, middle)
    return above


class Part(NamedTuple):
    """What some checkpoints say of the mean loss."""

    episodes: Int[np.ndarray, " T"]
    mean: Float[np.ndarray, " T"]
    too_high: Float[np.ndarray, " T"]
    """P value of "mean loss <= target": small where the losses are too high for it"""
    too_low: Float[np.ndarray, " T"]
    """P value of "mean loss > target" """


def _p_values(
    mean: Float[np.ndarray, " T"], spread: Float[np.ndarray, " T"] | None, runs: int, most: float
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """P values of "mean loss <= most" and of "mean loss > most".

    Without `spread`, of right or wrong runs: binomial tails (Clopper and Pearson). Else Student's, of losses with this
    standard deviation over runs; those of one run are 1.
    """
    if spread is None:
        wrong, share = np.rint(mean * runs), min(most, 1.0)
        at_least = special.betainc(np.maximum(wrong, 1), runs - np.maximum(wrong, 1) + 1, share)
        at_most = special.betaincc(wrong + 1, np.maximum(runs - wrong, 1), share)
        return np.where(wrong > 0, at_least, 1.0), np.where(wrong < runs, at_most, 1.0)
    if runs == 1:
        return np.ones_like(mean), np.ones_like(mean)
    above = mean - most
    t = np.divide(above, spread / np.sqrt(runs), where=spread > 0, out=np.where(above > 0, np.inf, -np.inf))
    return special.stdtr(runs - 1, -t), special.stdtr(runs - 1, t)


def _p_values_of_shares(
    mean: Float[np.ndarray, " T"], runs: int, most: float
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """`_p_values` of losses in [0, 1] whatever their law: e^(−runs·kl(mean, most)) on the side where the mean is, kl of
    two Bernoulli laws in nats (Hoeffding 1963, Theorem 1)."""
    share = min(most, 1.0)
    kl = special.rel_entr(mean, share) + special.rel_entr(1.0 - mean, 1.0 - share)
    chance = np.exp(-runs * kl)
    return np.where(mean > share, chance, 1.0), np.where(mean < share, chance, 1.0)


def _read(episodes: Int[np.ndarray, " T"], losses: Losses, most: float, shares: bool) -> Part:
    runs, mean = len(losses), losses.mean(0, dtype=float)
    if shares and losses.dtype != bool:
        return Part(episodes, mean, *_p_values_of_shares(mean, runs, most))
    right_or_wrong = losses.dtype == bool
    spread = None if right_or_wrong else losses.std(0, ddof=1, dtype=float) if runs > 1 else np.zeros_like(mean)
    return Part(episodes, mean, *_p_values(mean, spread, runs, most))


class Search:
    """When to stop reading for an interval of one level: as soon as it has settled, or cannot any more."""

    def __init__(self, level: float, settles: bool):
        """`settles`: whether runs without any loss would show that the mean loss is at most the target."""
        self.level, self.settles, self.last, self.ended = level, settles, -1, False

    def hear(self, part: Part, reached: float) -> bool:
        """Whether the search has ended with this part, or before; `reached` is the first octave end within the
        target."""
        at, still = part.episodes, _still(part, self.level)
        self.last = max(self.last, int(at[still].max(initial=-1)))
        settled = not still[-1] and at[-1] >= SETTLED * self.last
        in_vain = np.isfinite(reached) and not self.settles
        self.ended |= bool(settled or in_vain or at[-1] >= max(FAR * reached, LEAST))
        return self.ended


def _still(part: Part, level: float) -> Bool[np.ndarray, " T"]:
    """Where "mean loss > target" is not rejected."""
    return part.too_low > (1.0 - level) / 2


def _ends(part: Part, level: float) -> tuple[float, float]:
    """The interval of n* (this module's head)."""
    may, still = np.flatnonzero(part.too_high >= (1.0 - level) / 2), np.flatnonzero(_still(part, level))
    first, last = may[0] if len(may) else len(part.mean), still[-1] if len(still) else -1
    low = part.episodes[first - 1] + 1 if first else 0
    return float(low), float(np.append(part.episodes, np.inf)[last + 1])


def level_of(points: int) -> float:
    """Level of the interval of one of `points` points that are to hold at once: 1 − 0.05/k, k the next power of two."""
    require(1 <= points <= TOGETHER, "points", points, f"in 1..{TOGETHER}")
    return 1.0 - (1.0 - LEVEL) / 2 ** (points - 1).bit_length()


def crossing(
    octaves: Octaves, target: float, horizon: int, budget: int, oracle: str = "labels",
    watch: Watch = lambda episodes, loss: None, points: int = 1, shares: bool = False,
) -> NStar:  # fmt: skip
    """n* of a loss curve per run: the smallest checkpoint with mean loss <= `target`, and its interval.

    `octaves` yields (checkpoints (T,), losses (R, T)), one octave or part of one after the other; boolean losses are
    right (False) or wrong, and with `shares` others lie in [0, 1]. It is read until the interval has settled, or up to
    `budget` episodes; `watch` is told of each part. With `points` it is read on until the interval for so many points
    at once (`NStar.wider`) has settled too; the other numbers do not depend on that. Raises `BadInput` for points
    outside 1..`TOGETHER`.
    """
    most, parts, ends, reached, known, searches = target * (1.0 + ROUNDING), [], [], np.inf, None, []
    for checkpoints, losses in octaves:
        keep = checkpoints <= budget
        if keep.any():
            if not searches:
                nothing = _read(np.zeros(1, int), np.zeros_like(losses[:, :1]), most, shares)
                levels = dict.fromkeys((LEVEL, level_of(points)))
                searches = [Search(level, not _still(nothing, level)[0]) for level in levels]
            parts.append(_read(checkpoints[keep], losses[:, keep], most, shares))
            at, mean = parts[-1][:2]
            ends.append(len(at) + (ends[-1] if ends else -1))
            watch(int(at[-1]), float(mean[-1]))
            reached = min(reached, float(at[-1])) if mean[-1] <= most else reached
            ended = [search.hear(parts[-1], reached) for search in searches]
            known = len(parts) if ended[0] and known is None else known
            if all(ended):
                break
        if not keep.all():
            break
    curve, whole = (Part(*map(np.concatenate, zip(*read, strict=True))) for read in (parts[:known], parts))
    at = _bisect(curve.mean <= most, ends[:known])
    censored = at == len(curve.mean)
    value, last = None if censored else int(curve.episodes[at]), min(at, len(curve.mean) - 1)
    found = [_ends(curve, LEVEL), *(_ends(whole, level_of(2**j)) for j in range(1, TOGETHER.bit_length()))]
    (low, high), *wider = [(min(low, float(budget)), np.inf if censored else high) for low, high in found]
    asked = horizon * (2 if oracle == "labels and probabilities" else 1)
    return NStar(
        value, (low, high), None if censored else value * asked, (low * asked, high * asked), oracle, censored,
        budget, int(curve.episodes[last] - curve.episodes[last - 1]) if last else 1, float(curve.mean[last]),
        tuple(wider),
    )  # fmt: skip

"""n* of a curve of mean loss against episodes, and its interval.

The interval inverts a test at each checkpoint. Its ends are those of the mean loss's own interval there: Clopper and
Pearson's where a run's loss is right or wrong (never below its level), else Student's (its level for normal losses;
runs are instances or replicates). n* is above the checkpoints before the first at which "mean loss <= target" is not
rejected, and at most the one after the last at which "mean loss > target" is not. Where the mean loss falls in n each
of the two is wrong only if one test of half the error is, whatever the noise along the curve.

So the level of an interval over few instances is that of Student's for their losses: of 95 %, those over 2, 3, 5 and 20
Garnet instances hold the value of all (300 or 400) in 95 % or more (δ = 0.005 to 0.1). Where a few hard instances make
up the mean loss it is less: 70 % at 3 and 84 % at 20 for losses e^(−λn) with λ of a gamma law of shape 4, at a mean of
0.03.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nail.stats import Interval, mean_interval, proportion_interval

LEVEL = 0.95
"""of the interval"""
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
    """mean loss (regret, or 1 − success) at `value`, at the budget if censored"""


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


def _band(losses: Losses) -> Interval:
    """Interval of the mean loss at each checkpoint; of one run's losses, if they are not right or wrong, there is none:
    then it is from −∞ to ∞."""
    if losses.dtype == bool:
        return proportion_interval(losses.sum(0), len(losses), LEVEL)
    if len(losses) == 1:
        return Interval(losses[0], np.full(losses.shape[1], -np.inf), np.full(losses.shape[1], np.inf))
    return mean_interval(losses.astype(float), LEVEL)


def _can_settle(losses: Losses, most: float) -> bool:
    """Whether so many runs without any loss would show that the mean loss is at most `most`."""
    return bool(_band(np.zeros_like(losses[:, :1])).high[0] <= most)


def _ends(episodes: Int[np.ndarray, " T"], band: Interval, most: float) -> tuple[float, float]:
    """The interval of n* (this module's head) from that of the mean loss at each checkpoint."""
    may, still = np.flatnonzero(band.low <= most), np.flatnonzero(band.high > most)
    first, last = may[0] if len(may) else len(episodes), still[-1] if len(still) else -1
    low = episodes[first - 1] + 1 if first else 0
    return float(low), float(np.append(episodes, np.inf)[last + 1])


def crossing(
    octaves: Octaves, target: float, horizon: int, budget: int, oracle: str = "labels",
    watch: Watch = lambda episodes, loss: None,
) -> NStar:  # fmt: skip
    """n* of a loss curve per run: the smallest checkpoint with mean loss <= `target`, and its interval.

    `octaves` yields (checkpoints (T,), losses (R, T)), one octave or part of one after the other; boolean losses are
    right (False) or wrong. It is read until the interval has settled, or up to `budget` episodes; `watch` is told of
    each part.
    """
    most, parts, ends, reached = target * (1.0 + ROUNDING), [], [], np.inf
    for checkpoints, losses in octaves:
        keep = checkpoints <= budget
        if keep.any():
            parts.append((checkpoints[keep], *_band(losses[:, keep])))
            at, mean, _, high = parts[-1]
            ends.append(len(at) + (ends[-1] if ends else -1))
            watch(int(at[-1]), float(mean[-1]))
            reached = min(reached, at[-1]) if mean[-1] <= most else reached
            last = max(n[h > most].max(initial=-1) for n, *_, h in parts)
            settled = high[-1] <= most and at[-1] >= SETTLED * last
            in_vain = np.isfinite(reached) and not _can_settle(losses, most)
            if settled or in_vain or at[-1] >= max(FAR * reached, LEAST):
                break
        if not keep.all():
            break
    episodes, *band = (np.concatenate(part) for part in zip(*parts, strict=True))
    at = _bisect(band[0] <= most, ends)
    low, high = _ends(episodes, Interval(*band), most)
    censored = at == len(episodes)
    value, last = None if censored else int(episodes[at]), min(at, len(episodes) - 1)
    low, high = min(low, float(budget)), np.inf if censored else high
    asked = horizon * (2 if oracle == "labels and probabilities" else 1)
    return NStar(
        value, (low, high), None if censored else value * asked, (low * asked, high * asked), oracle, censored,
        budget, int(episodes[last] - episodes[last - 1]) if last else 1, float(band[0][last]),
    )  # fmt: skip

"""Steerability: do a student's labels move as the definitions say? (docs/token_tasks.md §3.5). Labels are numbers
0..K−1, another number (−1) is no class; items are independent, and randomness is an explicit numpy Generator."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy import stats

from nail.checks import require
from nail.figures.stats import Interval


class Labels(NamedTuple):
    """Of n items: the right labels before and after a perturbation of the definitions, and the student's."""

    right: Integer[np.ndarray, " n"]
    right_after: Integer[np.ndarray, " n"]
    given: Integer[np.ndarray, " n"]
    given_after: Integer[np.ndarray, " n"]


def shifts(before: Integer[np.ndarray, " n"], after: Integer[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "n K"]:
    """1[label after = c] − 1[label before = c] for each item and class."""
    kinds = np.arange(classes)
    return (after[:, None] == kinds).astype(int) - (before[:, None] == kinds)


def steerability(labels: Labels, classes: int) -> float:
    """Spearman's ρ of expected and observed shifts over all items and classes, ties sharing their ranks; 0 where one of
    them is constant.

    Raises `BadInput` for no items, arrays of different lengths, a right label outside 0..K−1. Source:
    docs/token_tasks.md §3.5.
    """
    _check(labels, classes)
    return _correlation(*_shifts(labels, classes))


def steerability_interval(
    labels: Labels, classes: int, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """`steerability` between the (1±level)/2 quantiles over resampled items, all classes of an item together.

    Raises `BadInput` as `steerability`, for fewer than 2 items, a level outside (0, 1), resamples < 1.
    """
    _check(labels, classes)
    n = len(labels.right)
    require(n >= 2, "number of items", n, "at least 2")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    require(resamples >= 1, "resamples", resamples, "at least 1")
    expected, observed = _shifts(labels, classes)
    drawn = [_correlation(expected[pick], observed[pick]) for pick in rng.integers(n, size=(resamples, n))]
    return Interval(_correlation(expected, observed), *np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))


def follow_rate(labels: Labels) -> float:
    """P(given after = right after | the right label moves); NaN where it never moves."""
    return _share(labels.given_after == labels.right_after, labels.right_after != labels.right)


def false_flips(labels: Labels) -> float:
    """P(given after ≠ given before | the right label stays); NaN where it always moves."""
    return _share(labels.given_after != labels.given, labels.right_after == labels.right)


def over_selection(
    right: Integer[np.ndarray, " n"], given: Integer[np.ndarray, " n"], majority: int = 0
) -> float:  # fmt: skip
    """P(given = majority | right ≠ majority); NaN where the right label is always the majority's."""
    return _share(given == majority, right != majority)


def _check(labels: Labels, classes: int) -> None:
    lengths = sorted({len(part) for part in labels})
    require(lengths[0] >= 1 and len(lengths) == 1, "numbers of labels", lengths, "one number of at least 1")
    for part in (labels.right, labels.right_after):
        require(((part >= 0) & (part < classes)).all(), "a right label", part, f"in 0..{classes - 1}")


def _shifts(labels: Labels, classes: int) -> tuple[np.ndarray, np.ndarray]:
    return (
        shifts(labels.right, labels.right_after, classes), shifts(labels.given, labels.given_after, classes)
    )  # fmt: skip


def _correlation(expected: Int[np.ndarray, "n K"], observed: Int[np.ndarray, "n K"]) -> float:
    """Spearman's ρ with 0 for constants: Pearson's of average ranks."""
    first, second = (stats.rankdata(part) for part in (expected, observed))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _share(hit: np.ndarray, among: np.ndarray) -> Float[np.ndarray, ""] | float:
    return float(hit[among].mean()) if among.any() else float("nan")

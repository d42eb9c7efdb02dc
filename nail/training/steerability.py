"""Steerability: do a student's labels move as the definitions say? (docs/token_tasks.md §3.5). Labels are numbers
0..K−1, another number (−1) is no class; items are independent, and randomness is an explicit numpy Generator."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Integer

from nail.checks import require
from nail.stats import Interval

LEAST = 80
"""items of an interval"""


class Labels(NamedTuple):
    """Of n items: the right labels before and after a perturbation of the definitions, and the student's."""

    right: Integer[np.ndarray | Array, "*runs n"]
    right_after: Integer[np.ndarray | Array, "*runs n"]
    given: Integer[np.ndarray | Array, "*runs n"]
    given_after: Integer[np.ndarray | Array, "*runs n"]


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
    return float(_spearman(_tables(labels, classes).sum(0)))


def steerability_interval(
    labels: Labels, classes: int, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """`steerability` between the (1±level)/2 quantiles over resampled items, all classes of an item together.

    Percentiles: of 95 % they hold the value in 93–96 % of samples of 512 items, of which 20, 60 or 95 % follow, in 92 %
    at worst with 80, and in half of them with 20. Raises `BadInput` as `steerability`, for fewer than `LEAST` items, a
    level outside (0, 1), resamples < 1.
    """
    _check(labels, classes)
    n = len(labels.right)
    require(n >= LEAST, "number of items", n, f"at least {LEAST}")
    require(0.0 < level < 1.0, "level", level, "in (0, 1)")
    require(resamples >= 1, "resamples", resamples, "at least 1")
    tables = _tables(labels, classes)
    picked = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    times = np.bincount(picked.ravel(), minlength=resamples * n).reshape(resamples, n)
    drawn = _spearman((times @ tables.reshape(n, -1)).reshape(resamples, 3, 3))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(_spearman(tables.sum(0))), float(low), float(high))


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


def _tables(labels: Labels, classes: int) -> Int[np.ndarray, "n 3 3"]:
    """Of each item the number of classes with each pair of shifts (expected + 1, observed + 1)."""
    expected = shifts(labels.right, labels.right_after, classes)
    observed = shifts(labels.given, labels.given_after, classes)
    pairs = (3 * (expected + 1) + observed + 1)[:, :, None] == np.arange(9)
    return pairs.sum(1).reshape(-1, 3, 3)


def _spearman(table: Integer[np.ndarray, "*draws 3 3"]) -> Float[np.ndarray, "*draws"] | np.float64:
    """Pearson's correlation of average ranks, of which there are three each way: 0 where one of them alone occurs.

    Ranks less their mean: Σ of the counts below + (own count − total)/2.
    """
    total = table.sum((-1, -2))[..., None]
    rows, columns = table.sum(-1), table.sum(-2)
    x, y = (np.cumsum(counts, -1) - counts / 2 - total / 2 for counts in (rows, columns))
    covered = np.einsum("...ij,...i,...j->...", table, x, y)
    spread = (rows * x**2).sum(-1) * (columns * y**2).sum(-1)
    return covered / np.sqrt(np.where(spread > 0, spread, np.inf))


def _share(hit: np.ndarray, among: np.ndarray) -> Float[np.ndarray, ""] | float:
    return float(hit[among].mean()) if among.any() else float("nan")

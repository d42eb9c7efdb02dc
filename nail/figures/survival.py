"""Times until something happens, where for some runs it never did: Kaplan and Meier's estimate, by SciPy."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from nail.checks import require


class Solved(NamedTuple):
    """When a run first solved its task, in episodes; `episodes` is its budget where it never did (`censored`)."""

    episodes: float
    censored: bool


class Median(NamedTuple):
    """Median time with its interval; infinite where fewer than half of the runs solved: above the budget."""

    value: float
    low: float
    high: float


def median(times: Sequence[Solved]) -> Median:
    """Median of censored times: the first t at which Kaplan and Meier's survival function Ŝ(t) is ≤ 1/2.

    The interval is where the pointwise 95 % log–log interval of Ŝ crosses 1/2 (Greenwood's variance), infinite above
    where it does not. Raises `BadInput` for no times.
    """
    require(len(times) > 0, "number of times", len(times), "at least 1")
    seen = [t.episodes for t in times if not t.censored]
    if not seen:
        return Median(math.inf, min(t.episodes for t in times), math.inf)
    data = stats.CensoredData(uncensored=seen, right=[t.episodes for t in times if t.censored])
    survival = stats.ecdf(data).sf
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        interval = survival.confidence_interval(0.95, method="log-log")
    at = survival.quantiles
    low, high = interval.low.probabilities, interval.high.probabilities
    return Median(_first(at, survival.probabilities), _first(at, low, 0.0), _first(at, high, 1.0))


def _first(times: np.ndarray, survival: np.ndarray, undefined: float = 0.0) -> float:
    """The first time at which a survival curve is at most 1/2; where Ŝ = 0 its interval is not defined: all of it."""
    below = np.flatnonzero(np.where(np.isnan(survival), undefined, survival) <= 0.5 + 1e-12)
    return float(times[below[0]]) if len(below) else math.inf

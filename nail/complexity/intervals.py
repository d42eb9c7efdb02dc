"""Intervals of the rows of an n* grid: for several points at once, in labels, on a logarithmic scale.

A row has its 95 % interval in the columns `low` and `high` (episodes), and those of higher levels in `wider`, a text
(`write_wider`). Intervals of k points of level 1 − 0.05/k each hold at once with probability 95 % or more (Bonferroni).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import stdtrit

from nail.checks import require
from nail.counting.columns import UNITS
from nail.stats import NORMAL_95

MANY = 1e9
"""runs where their number is not in a row"""
LEAST = 0.5
"""what the lower end 0 of an interval counts as on a logarithmic scale"""


def write_wider(wider: Iterable[tuple[float, float]]) -> str:
    """`NStar.wider` as one text, "low:high low:high …": intervals of level 1 − 0.05/k for k = 2, 4, 8, …"""
    return " ".join(f"{low:.0f}:{high:.0f}" for low, high in wider)


def _read_wider(text: Any, points: int) -> tuple[float, float]:
    ends = text.split() if isinstance(text, str) else []
    at = (points - 1).bit_length() - 1
    require(at < len(ends), "points of one series", points, f"at most {2 ** len(ends)}")
    low, high = ends[at].split(":")
    return float(low), float(high)


def at_once(rows: pd.DataFrame, unit: str = "episodes", points: int | None = None) -> pd.DataFrame:
    """Columns `n`, `low` and `high` of n* in this unit, intervals that hold at all rows at once with 95 % or more, or
    at so many `points`, of which the rows are a part that may depend on what was measured.

    Labels: an episode asks for at most H (twice that where the oracle is "labels and probabilities"), so that between
    two numbers of episodes lie at most so many times their difference, and exactly that where every step is asked for.
    Where not every step is, the 95 % interval in labels has the error of a mean in it, half of the 5 %
    (`nail.counting.own.Answers`). A row does not have its standard error; it is at most what lies between `queries` and
    an end, and all of that is widened by the ratio of Student's quantiles: never too narrow, and too wide by the part
    that is due to n*. Raises `BadInput` for rows without `wider`, where there are several.
    """
    points = len(rows) if points is None else points
    if points == 1:
        ends = rows[list(UNITS[unit][1:])].to_numpy(float)
    else:
        require("wider" in rows, "columns", list(rows.columns), "those of an n* grid, with 'wider'")
        ends = _labels(rows, points) if unit == "labels" else _episodes(rows, np.full(len(rows), points))
    value = rows[UNITS[unit][0]].to_numpy(float)
    return pd.DataFrame({"n": value, "low": ends[:, 0], "high": ends[:, 1]}, index=rows.index)


def _episodes(rows: pd.DataFrame, points: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Intervals of each row that hold at so many points at once."""
    found = [_read_wider(text, int(count)) for text, count in zip(rows["wider"], points, strict=True)]
    return np.array(found, float).reshape(-1, 2)


def _labels(rows: pd.DataFrame, points: int) -> Float[np.ndarray, "n 2"]:
    """Intervals in labels that hold at so many points at once (`at_once`)."""
    most = rows["H"].to_numpy(float) * np.where(rows["oracle"] == "labels and probabilities", 2, 1)
    names = ("low", "high", "queries", "queries_low", "queries_high")
    low, high, value, least, largest = (rows[name].to_numpy(float) for name in names)
    always = (least == most * low) & (largest == most * high)
    ends = _episodes(rows, np.where(always, 1, 2) * points)
    runs = _runs(rows)
    error = 0.05 / 2 ** (points - 1).bit_length()
    more = np.where(always, 0.0, stdtrit(runs - 1, 1 - error / 4) / stdtrit(runs - 1, 1 - 0.05 / 4) - 1)
    down = most * (low - ends[:, 0]) + more * (np.fmin(value, most * low) - least)
    upper, known = np.full(len(rows), np.inf), np.isfinite(np.stack([ends[:, 1], high, largest, value])).all(0)
    most, more, value, largest, up = (
        each[known] for each in (most, more, value, largest, ends[:, 1] - np.where(known, high, 0.0))
    )
    upper[known] = np.fmin(largest + more * (largest - value) + most * up, most * ends[known, 1])
    return np.column_stack([np.maximum(least - down, 0.0), upper])


def _runs(rows: pd.DataFrame) -> Float[np.ndarray, " n"]:
    """Runs behind the interval of each row: replicates, or instances where there are several; endless if unsaid."""

    def column(name):
        return rows[name].to_numpy(float) if name in rows else np.full(len(rows), np.nan)

    instances, replicates = column("instances"), column("replicates")
    runs = np.where(instances > 1, instances, replicates)
    return np.where(np.isnan(runs), MANY, np.maximum(runs, 2.0))


def log_sd(rows: pd.DataFrame, unit: str = "episodes") -> Float[np.ndarray, " n"]:
    """Standard deviations of log n* that the 95 % intervals imply, at least half the grid's resolution; that of a
    censored point is the median of the others'."""
    value, low, high = (rows[column].to_numpy(float) for column in UNITS[unit])
    value, low, high = (np.where(np.isfinite(x), np.maximum(x, LEAST), np.nan) for x in (value, low, high))
    width = np.log(high / low) / 2
    width = np.where(np.isnan(width), np.log(value / low), width)
    episodes = np.maximum(rows["n_star"].to_numpy(float), LEAST)
    sd = np.maximum(width / NORMAL_95, 0.5 * rows["resolution"].to_numpy(float) / episodes)
    known = ~np.isnan(sd)
    return np.where(known, sd, np.median(sd[known]) if known.any() else np.nan)


def log_budget(rows: pd.DataFrame, unit: str = "episodes") -> Float[np.ndarray, " n"]:
    """log of what a censored n* is above: the episodes that were allowed (`allowed`, where a search was held to less
    than `max_episodes`), or the lower end of its interval in labels."""
    if unit == "labels":
        return np.log(rows["queries_low"].astype(float).clip(lower=LEAST)).to_numpy(float)
    return np.log(rows["allowed" if "allowed" in rows else "max_episodes"].astype(float)).to_numpy(float)

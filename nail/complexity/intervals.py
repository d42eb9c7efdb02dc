"""Intervals of the rows of an n* grid: for several points at once, in labels, on a logarithmic scale.

A row has its 95 % interval in the columns `low` and `high` (episodes), and those of higher levels in `wider`, a text
(`write_wider`). Intervals of k points of level 1 − 0.05/k each hold at once with probability 95 % or more (Bonferroni).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from nail.checks import require
from nail.stats import NORMAL_95

UNITS = {"episodes": ("n_star", "low", "high"), "labels": ("queries", "queries_low", "queries_high")}
"""what n* is counted in → columns of its value and of its 95 % interval"""
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
    Raises `BadInput` for rows without `wider`, where there are several.
    """
    points = len(rows) if points is None else points
    if points == 1:
        ends = rows[["low", "high"]].to_numpy(float)
    else:
        require("wider" in rows, "columns", list(rows.columns), "those of an n* grid, with 'wider'")
        ends = np.array([_read_wider(text, points) for text in rows["wider"]], float).reshape(-1, 2)
    if unit == "labels":
        asked = rows["H"].to_numpy(float) * np.where(rows["oracle"] == "labels and probabilities", 2, 1)
        down, up = rows["low"].to_numpy(float) - ends[:, 0], np.full(len(rows), np.inf)
        bounded = np.isfinite(ends[:, 1])
        up[bounded] = (ends[:, 1] - rows["high"].to_numpy(float))[bounded]
        low = np.maximum(rows["queries_low"].to_numpy(float) - asked * down, 0.0)
        ends = np.column_stack([low, rows["queries_high"].to_numpy(float) + asked * up])
    value = rows[UNITS[unit][0]].to_numpy(float)
    return pd.DataFrame({"n": value, "low": ends[:, 0], "high": ends[:, 1]}, index=rows.index)


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

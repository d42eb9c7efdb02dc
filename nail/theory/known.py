"""Exact n*(H, A, η, δ) of learners of the poison chain and the hidden path under uniform noise (docs/theory.md §4.2).

What a measured n* is drawn beside: LogLossBC on the chain, and greedy learners from the law of one level.
"""

from functools import lru_cache

import numpy as np

from nail.theory.exact import n_bc
from nail.theory.online import Level, episodes_per_level, level_moments, level_table, n_star_online

LEVELS = 20_000
"""simulated levels behind the curve of the greedy learner for A > 2"""
LABELS = 256
"""labels of a level at first; a look is wrong after that many with probability below 2e-4 up to η = 0.8"""


@lru_cache
def _level(n_actions: int, eta: float, labels: int) -> Level:
    return level_table(n_actions, eta, labels, ties="lowest", replicates=LEVELS)


def n_greedy(horizon: int, n_actions: int, eta: float, delta: float) -> int | float:
    """n* of NAIL-F (docs/theory.md §4.2, ties to the lowest action): exact for A = 2, else from `LEVELS` simulated
    levels."""
    labels, found = LABELS, np.inf
    while not np.isfinite(found):
        found = n_star_online(_level(n_actions, eta, labels), horizon, delta)
        labels *= 2
    return found


def level_spread(n_actions: int, eta: float) -> float:
    """σ of one level's cost, episodes (docs/theory.md §4.2): n* = μH + z_{1−δ}·σ√H + O(1) for greedy learners."""
    return level_moments(_level(n_actions, eta, LABELS))[1]


def n_levels(horizon: int, n_actions: int, eta: float, delta: float) -> float:
    """μH, the mean number of episodes that H levels cost a greedy learner one after the other, exact."""
    return horizon * episodes_per_level(n_actions, eta)


EXACT = {
    ("poison-chain", "loglossbc"): n_bc,
    **{(place, name): n_greedy for place in ("poison-chain", "hidden-path") for name in ("nail-f", "nailgun")},
}
"""(instance, method) → n* of (H, A, η, δ), where it is known under uniform noise; both learners are greedy and decide
alike there"""

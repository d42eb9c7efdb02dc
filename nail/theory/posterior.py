"""The full posterior over the A^H secrets of the hidden path (docs/theory.md §4.7), for small trees, in float64.

An episode ends in a leaf of the tree; leaves and secrets are numbered in base A, first action first. Under the uniform
prior the mode of the posterior is the best guess at the whole secret that an offline learner can make: its success
given the data is the posterior mass of that mode. How often each leaf was reached is a sufficient statistic.
"""

import itertools
import math

import numpy as np
from jaxtyping import Float, Integer, Real
from scipy import special

from nail.checks import MAX_TREE, require
from nail.theory.plurality import check_setting

MAX_DATA_SETS = 2**16
"""largest number of data sets (how often each leaf was reached) that are enumerated"""


def paths(horizon: int, n_actions: int) -> Integer[np.ndarray, "paths H"]:
    """All A^H paths in the order of their numbers. Raises `BadInput` for H < 1, A < 2, more than `MAX_TREE` paths."""
    check_setting(horizon, n_actions)
    require(n_actions**horizon <= MAX_TREE, "number of paths A^H", n_actions**horizon, f"at most {MAX_TREE}")
    return np.arange(n_actions**horizon)[:, None] // n_actions ** np.arange(horizon)[::-1] % n_actions


def leaf_laws(horizon: int, n_actions: int, right: float) -> Float[np.ndarray, "paths leaves"]:
    """P(an episode of the noisy expert ends in a leaf | secret): right^l·(1−right)/(A−1)·A^{−(H−l−1)} for a leaf that
    leaves the secret path after l right steps, right^H for the secret itself.

    On the path a label is right with probability `right` and else uniform over the wrong actions; off it uniform. That
    is right = 1 − η + η/A for uniform ν, and 1 − η for a kernel that never hits the clean action; so the latter at η is
    the former at ηA/(A−1). Raises `BadInput` as `paths`, and for `right` outside (0, 1).
    """
    require(0.0 < right < 1.0, "right", right, "in (0, 1)")
    every = paths(horizon, n_actions)
    kept = np.cumprod(every[:, None] == every[None], axis=-1).sum(-1)
    off = (1.0 - right) / (n_actions - 1) * float(n_actions) ** -(horizon - kept - 1.0)
    return right**kept * np.where(kept == horizon, 1.0, off)


def log_posterior(
    reached: Integer[np.ndarray, "R leaves"], laws: Float[np.ndarray, "paths leaves"]
) -> Float[np.ndarray, "R paths"]:
    """log P(secret | data), uniform prior, from how often each leaf was reached; normalised over paths, nats."""
    score = reached @ np.log(laws).T
    return score - special.logsumexp(score, axis=1, keepdims=True)


def data_sets(leaves: int, n: int) -> int:
    """Number of ways in which n episodes can fall on so many leaves."""
    return math.comb(n + leaves - 1, n)


def bayes_success(laws: Float[np.ndarray, "paths leaves"], n: int) -> float:
    """P(the mode of the posterior is the secret) after n episodes = (1/A^H) Σ_data max_secret P(data | secret), from
    all data sets: no offline learner does better in mean over secrets.

    Raises `BadInput` for n < 0 or more than `MAX_DATA_SETS` data sets. Source: docs/theory.md §4.7.
    """
    n_paths, leaves = laws.shape
    require(n >= 0, "n", n, "at least 0")
    require(data_sets(leaves, n) <= MAX_DATA_SETS, "number of data sets", data_sets(leaves, n),
            f"at most {MAX_DATA_SETS}")  # fmt: skip
    fallen = np.array(list(itertools.combinations_with_replacement(range(leaves), n)), int)
    reached = reached_leaves(fallen.reshape(data_sets(leaves, n), n), leaves)
    ways = special.gammaln(n + 1) - special.gammaln(reached + 1).sum(1)
    return float(np.exp(ways + (reached @ np.log(laws).T).max(1)).sum() / n_paths)


def reached_leaves(fallen: Integer[np.ndarray, "R n"], leaves: int) -> Integer[np.ndarray, "R leaves"]:
    """How often each leaf was reached, from the leaf of every episode."""
    rows = np.arange(len(fallen))[:, None]
    return np.bincount((rows * leaves + fallen).ravel(), minlength=len(fallen) * leaves).reshape(-1, leaves)


def prefix_plurality(reached: Integer[np.ndarray, "R leaves"], n_actions: int) -> Integer[np.ndarray, " R"]:
    """The path that takes, from the root down, the action taken most often at the prefix; ties to the lowest.

    This is LogLossBC on the poison chain: its success is `exact.bc_exact` (docs/theory.md §4.2)."""
    node, every = np.zeros(len(reached), int), np.arange(len(reached))
    below = reached.shape[1] // n_actions
    while below:
        taken = reached.reshape(len(reached), -1, n_actions, below).sum(-1)[every, node]
        node, below = node * n_actions + taken.argmax(-1), below // n_actions
    return node


def step_modes(mass: Real[np.ndarray, "R leaves"], n_actions: int) -> Integer[np.ndarray, " R"]:
    """The path of the most probable action of each step on its own, whatever the prefix; ties to the lowest. Of the
    counts of leaves it is a plurality that ignores prefixes, of a posterior over paths the modes of its margins."""
    found, below = np.zeros(len(mass), int), mass.shape[1] // n_actions
    while below:
        margin = mass.reshape(len(mass), -1, n_actions, below).sum((1, 3))
        found, below = found * n_actions + margin.argmax(-1), below // n_actions
    return found

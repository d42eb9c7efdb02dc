"""Bayes weights of two laws of a label: the exact law of a hard layer of docs/theory.md §5."""

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, rel_entr

from nail.checks import require

SPREAD = 9.0
"""standard deviations of the number of 1-labels beyond which nothing is summed (mass below 1e-15)"""


def binary_kl(p: float, q: float) -> float:
    """KL(Bernoulli(p) ‖ Bernoulli(q)) = p·log(p/q) + (1−p)·log((1−p)/(1−q)), nats."""
    return float(rel_entr(p, q) + rel_entr(1.0 - p, 1.0 - q))


def wrong_weight(right: float, wrong: float, size: int, n: int) -> Float[np.ndarray, "2 n"]:
    """E w_i and E w_i² for i = 0..n−1, w_i the posterior mass of the wrong laws after i labels.

    Labels are Bernoulli(`right`); of the `size` = N equally likely laws one is that and N−1 are Bernoulli(`wrong`):
    w_i = 1/(1 + e^Z), Z = k·log(right/wrong) + (i−k)·log((1−right)/(1−wrong)) − log(N−1), k ~ Bin(i, right). Exact sums
    over k. Raises `BadInput` for probabilities outside (0, 1), N < 2, n < 1. Source: docs/theory.md §5.
    """
    for name, p in (("right", right), ("wrong", wrong)):
        require(0.0 < p < 1.0, name, p, "in (0, 1)")
    require(size >= 2, "size", size, "at least 2")
    require(n >= 1, "n", n, "at least 1")
    i = np.arange(n)[:, None]
    half = int(np.ceil(SPREAD * np.sqrt(n * right * (1.0 - right)) + SPREAD))
    k = np.floor(i * right).astype(int) + np.arange(-half, half + 1)
    mass = stats.binom.pmf(k, i, right)
    odds = k * np.log(right / wrong) + (i - k) * np.log((1.0 - right) / (1.0 - wrong)) - np.log(size - 1)
    weight = expit(-odds)
    return np.stack([(mass * weight).sum(1), (mass * weight**2).sum(1)])


def spacing(eta: float, centred: bool, size: int, n: int, c: float) -> tuple[float, float]:
    """(b, b + g): the chance of action 1 under the right and the wrong clean law, so far apart that n labels through
    uniform noise of rate η on two actions are worth c·log N nats: n·KL(right ‖ wrong) = c·log N, N = `size`.

    `centred`: b = (1−g)/2, both near 1/2; else b = 0. g <= 1 is the farthest. Raises `BadInput` for η outside (0, 1),
    N < 2, n < 1, c <= 0. Source: docs/theory.md §5.
    """
    require(0.0 < eta < 1.0, "eta", eta, "in (0, 1)")
    require(size >= 2 and n >= 1, "size, n", (size, n), "at least 2 and 1")
    require(c > 0, "c", c, "positive")

    def pair(gap):
        base = (1.0 - gap) / 2.0 if centred else 0.0
        return base, base + gap

    def lacking(gap):
        return n * binary_kl(*((1.0 - eta) * x + eta / 2.0 for x in pair(gap))) - c * np.log(size)

    return pair(brentq(lacking, 0.0, 1.0, xtol=1e-14) if lacking(1.0) > 0 else 1.0)

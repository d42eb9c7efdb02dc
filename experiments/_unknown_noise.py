"""What is known of n* on the poison chain under a kernel that is not uniform (docs/theory.md §4.6).

The curve of NAILGUN is R^H of §4.2 with the law of one level of this instance: the right action uniform, ties to the
lowest, labels (1−η)·right + ην. Where the right action is the noisy one, labels are always right, so a quarter of the
levels are free, and the rest are §4.6's worst case.

A wrong ν: told (f, f, 1−3f, f) while the noise is on action 1, NAIL scores a label of a by w(ν_a) = log(1 +
(1−η)/(ην_a)). Where action 2 is right the drift of its score against action 1's is (1−η)·w(1−3f) − η·w(f): negative for
every f below a critical one. Told a smaller probability for the noise's action, a learner takes its labels for the more
certain, so NAIL fails at any η > 0 if f is small enough, and only there.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq

from nail.theory.online import Level, n_star_online

KERNELS = {"adversarial": [0.0, 1.0, 0.0, 0.0], "skewed": [0.05, 0.6, 0.25, 0.1]}
N_ACTIONS = 4
LEVELS = 20_000
"""simulated levels behind the curve of NAILGUN"""


@lru_cache(maxsize=4)
def level(noise: str, eta: float, labels: int) -> Level:
    """`LEVELS` simulated levels of the chain under a kernel: right action uniform, plurality, ties to the lowest."""
    rng, kernel = np.random.default_rng(0), np.cumsum(KERNELS[noise])[:-1, None]
    secret, every = rng.integers(0, N_ACTIONS, LEVELS), np.arange(LEVELS)
    counts, wrong = np.zeros((N_ACTIONS, LEVELS), np.int32), np.zeros(LEVELS, int)
    law = np.zeros((labels + 1, labels + 1))
    for n in range(labels + 1):
        right = counts.argmax(0) == secret
        law[n] = np.bincount(wrong[right], minlength=labels + 1) / LEVELS
        wrong += ~right
        noisy = (rng.random(LEVELS) >= kernel).sum(0)
        counts[np.where(rng.random(LEVELS) < eta, noisy, secret), every] += 1
    return Level(law[:, : wrong.max() + 1])


def n_nailgun(noise: str, eta: float, horizon: int, delta: float) -> float:
    """n* of NAILGUN by R^H of docs/theory.md §4.2 with the level of this instance."""
    labels, found = 128, math.inf
    while not math.isfinite(found):
        found = n_star_online(level(noise, eta, labels), horizon, delta)
        labels *= 2
    return found


def drift(eta: float, f: float) -> float:
    """Mean gain in score of the right action 2 on the noise's action 1 by a label, told (f, f, 1−3f, f); nats."""

    def weight(x: float) -> float:
        return math.log1p((1.0 - eta) / (eta * x))

    return (1.0 - eta) * weight(1.0 - 3.0 * f) - eta * weight(f)


def critical(eta: float) -> float:
    """The f at which `drift` is zero."""
    return math.exp(brentq(lambda log_f: drift(eta, math.exp(log_f)), -200.0, math.log(0.25)))

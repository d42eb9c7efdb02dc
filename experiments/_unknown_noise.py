"""What is known of n* on the poison chain under a kernel that is not uniform (docs/theory.md §4.6).

The curve of NAILGUN is R^H of §4.2 with the law of one level of this instance: all noise on action 1, the right action
uniform, ties to the lowest. So labels are of two actions at most and the law is exact, a mixture of walks of the lead:
right action 0 is right before the first label and wins ties, 2 and 3 are neither, each with labels right with
probability 1−η; right action 1 is wrong before the first label (0 is lower), and then every label is right.

A wrong ν: told (f, f, 1−3f, f) while the noise is on action 1, NAIL scores a label of a by w(ν_a) = log(1 +
(1−η)/(ην_a)). Where action 2 is right the drift of its score against action 1's is (1−η)·w(1−3f) − η·w(f): negative for
every f below a critical one. Told a smaller probability for the noise's action, a learner takes its labels for the more
certain, so NAIL fails at any η > 0 if f is small enough, and only there.
"""

import math
from functools import lru_cache

from scipy.optimize import brentq

from nail.theory.online import Level, n_star_online, two_class_table

KERNELS = {"adversarial": [0.0, 1.0, 0.0, 0.0], "skewed": [0.05, 0.6, 0.25, 0.1]}
N_ACTIONS = 4


@lru_cache(maxsize=4)
def level(eta: float, labels: int) -> Level:
    """One level of the chain under the adversarial kernel for NAILGUN: right action uniform, ties to the lowest."""
    right, clean = 1.0 - eta, two_class_table(1.0, labels, 0.0, 0.0)
    law = 0.25 * two_class_table(right, labels, 1.0, 1.0) + 0.5 * two_class_table(right, labels, 0.0, 0.0)
    law[:, : clean.shape[1]] += 0.25 * clean
    return Level(law)


def n_nailgun(eta: float, horizon: int, delta: float) -> float:
    """n* of NAILGUN under the adversarial kernel, η < 1/2: R^H of docs/theory.md §4.2 with `level`."""
    labels, found = 128, math.inf
    while not math.isfinite(found):
        found = n_star_online(level(eta, labels), horizon, delta)
        labels += labels // 2
    return found


def drift(eta: float, f: float) -> float:
    """Mean gain in score of the right action 2 on the noise's action 1 by a label, told (f, f, 1−3f, f); nats."""

    def weight(x: float) -> float:
        return math.log1p((1.0 - eta) / (eta * x))

    return (1.0 - eta) * weight(1.0 - 3.0 * f) - eta * weight(f)


def critical(eta: float) -> float:
    """The f at which `drift` is zero."""
    return math.exp(brentq(lambda log_f: drift(eta, math.exp(log_f)), -200.0, math.log(0.25)))

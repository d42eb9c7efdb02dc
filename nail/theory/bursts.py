"""Labels of the poison chain that are wrong in bursts, or at a rate of their own at each level: how long a trajectory
stays clean, and the exact n* of LogLossBC (docs/theory.md §1.1), in float64.

Trajectories are independent, and the labels of a trajectory enter LogLossBC at a level only if all before it were
right. So of the trajectories that have come so far each is right once more with the same probability q_h = S(h)/S(h−1),
S the survival curve, and the programme of §4.2 holds with q_h in the place of q.
"""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from nail.checks import require
from nail.envs.noises import check_burst
from nail.theory.exact import smallest
from nail.theory.plurality import binomial_head, binomial_rows, check_setting, labels_until_sure, vote_table


def burst_steps(n_actions: int, eta: float, rho: float, share: float | None = None) -> Float[np.ndarray, "2 2"]:
    """M[c, d] = P(the label is right, the next coin is d | the coin is c), coins 0 clean and 1 corrupted: S(h) =
    (1−η, η)·M^h·1. A corrupted label is right with probability `share` = ν(right), 1/A if not given.

    Raises `BadInput` for A < 2, η outside [0, 1), ρ as `check_burst`, a share outside [0, 1]. Source: docs/theory.md
    §1.1.
    """
    check_setting(1, n_actions, eta)
    check_burst(eta, rho)
    share = 1.0 / n_actions if share is None else share
    require(0.0 <= share <= 1.0, "share", share, "in [0, 1]")
    enter = eta * (1.0 - rho) / (1.0 - eta)
    return np.array([[1.0 - enter, enter], [(1.0 - rho) * share, rho * share]])


def burst_survival(
    horizon: int, n_actions: int, eta: float, rho: float, share: float | None = None
) -> Float[np.ndarray, " H"]:
    """S(h), h = 1..H: the probability that the first h labels of a trajectory are all right.

    Raises `BadInput` for H < 1 and as `burst_steps`. Source: docs/theory.md §1.1.
    """
    check_setting(horizon)
    steps, alive = burst_steps(n_actions, eta, rho, share), np.array([1.0 - eta, eta])
    found = np.empty(horizon)
    for h in range(horizon):
        alive = alive @ steps
        found[h] = alive.sum()
    return found


def burst_rate(n_actions: int, eta: float, rho: float, share: float | None = None) -> float:
    """−log λ: how fast S(h) falls a step in the end, λ the larger eigenvalue of `burst_steps`; −log q at ρ = η, ∞ where
    no second label is ever right.

    Raises `BadInput` as `burst_steps`. Source: docs/theory.md §1.1.
    """
    steps = burst_steps(n_actions, eta, rho, share)
    half, product = np.trace(steps) / 2, np.linalg.det(steps)
    largest = float(half + np.sqrt(max(half**2 - product, 0.0)))
    return -math.log(largest) if largest > 0 else math.inf


def burst_rates(horizon: int, n_actions: int, eta: float, rho: float) -> Float[np.ndarray, " H"]:
    """η_h, h = 1..H, at which memoryless uniform noise would leave a trajectory clean as long as bursts do: 1 − η_h +
    η_h/A = S(h)/S(h−1). Raises `BadInput` as `burst_survival`. Source: docs/theory.md §1.1."""
    alive = np.append(1.0, burst_survival(horizon, n_actions, eta, rho))
    return np.clip((1.0 - alive[1:] / alive[:-1]) * n_actions / (n_actions - 1), 0.0, 1.0 - 1e-15)


@lru_cache(maxsize=64)
def _tables(n_actions: int, rate: float, labels: int) -> tuple[np.ndarray, np.ndarray]:
    return vote_table(n_actions, rate, labels), binomial_rows(labels, 1.0 - rate + rate / n_actions)


def bc_by_level(n_actions: int, rates: Float[np.ndarray, " H"], n: int, tolerance: float = 1e-10) -> float:
    """P(LogLossBC finds all H right actions of the poison chain from n trajectories), where a label at level h that all
    before it were right has the rate η_h = `rates`[h−1] of uniform noise: a profile by position, or `burst_rates`.

    It is `nail.theory.exact.bc_exact` where all rates are equal. Raises `BadInput` as that does. Source: docs/theory.md
    §1.1, §4.2.
    """
    rates = np.asarray(rates, float)
    require(rates.ndim == 1 and len(rates) >= 1, "shape of rates", rates.shape, "(H,) with H at least 1")
    check_setting(len(rates), n_actions, float(rates.max()), n=n)
    require(bool((rates >= 0).all()), "rates", rates, "in [0, 1)")
    labels = max(labels_until_sure(n_actions, rate, tolerance / len(rates)) for rate in rates.tolist())
    alive = np.cumprod(1.0 - rates + rates / n_actions)
    free = right = binomial_head(n, 1.0, labels)
    failure = 0.0
    for h, rate in enumerate(rates.tolist()):
        vote, thin = _tables(n_actions, round(rate, 14), labels)
        failure += right @ (1.0 - vote.sum(1))
        after = binomial_head(n, alive[h], labels)
        right, free = right @ vote + np.maximum(after - free @ thin, 0.0), after
    return float(np.clip(1.0 - failure, 0.0, 1.0))


def n_bc_by_level(n_actions: int, rates: Float[np.ndarray, " H"], delta: float) -> int:
    """min{n : `bc_by_level` >= 1−δ} trajectories (docs/theory.md §1.1, §4.2)."""
    check_setting(delta=delta)
    tolerance = min(1e-10, delta * 1e-4)
    return smallest(lambda n: bc_by_level(n_actions, rates, n, tolerance) >= 1.0 - delta)

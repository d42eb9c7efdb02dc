"""The plurality of noisy labels: the probability that it is right, exactly (docs/theory.md §4.1), in float64.

Everything rests on one table. Let j labels fall on the right action and r on the A−1
wrong ones, uniformly among them. The plurality, ties broken uniformly, is right with probability

    T(j, r) = E[1{max ≤ j} / (1 + #{wrong actions with j labels})],

which does not depend on η. With f_j(x) = Σ_{i<j} x^i/i! the generating function of one wrong action below j labels,
T(j, r) = r!/(A−1)^r · [x^r] (1/A) Σ_{i<A} f_{j+1}(x)^i f_j(x)^{A−1−i}: the coefficient is read off by a discrete
Fourier transform after tilting x to a Poisson law whose mean is near r, so that no digits cancel.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Integer
from scipy import special

from nail.checks import require

MAX_LABELS = 4096
"""largest number of labels for which the plurality is tabulated"""
MAX_WORK = 4 * 10**9
"""largest number of multiplications that a table takes: about a minute"""
BLOCK = 2.5
"""half width, in Poisson standard deviations, of the block of r that shares one tilt: keeps T to about 1e-12"""


def check_setting(
    horizon: int = 1, n_actions: int = 2, eta: float = 0.0, delta: float = 0.5, n: int = 0, error: float = 0.0,
    recovery: int | None = None,
) -> None:  # fmt: skip
    """Raise `BadInput` unless H >= 1, A >= 2, η in [0, 1), δ in (0, 1), n >= 0, ε in [0, 1], u >= 1 or None."""
    require(horizon >= 1, "horizon", horizon, "at least 1")
    require(n_actions >= 2, "n_actions", n_actions, "at least 2")
    require(0.0 <= eta < 1.0, "eta", eta, "in [0, 1)")
    require(0.0 < delta < 1.0, "delta", delta, "in (0, 1)")
    require(n >= 0, "n", n, "at least 0")
    require(0.0 <= error <= 1.0, "error", error, "in [0, 1]")
    require(recovery is None or recovery >= 1, "recovery", recovery, "at least 1 (or None)")


def right_probability(n_actions: int, eta: float) -> float:
    """q = 1 − η + η/A: the probability that a label is the clean action under uniform noise (docs/theory.md §3.3)."""
    check_setting(1, n_actions, eta)
    return 1.0 - eta + eta / n_actions


def survival(horizon: int, n_actions: int, eta: float) -> float:
    """q^H: the probability that a trajectory is still clean after H steps; deterministic expert, uniform noise.

    Raises `BadInput` outside H >= 0, A >= 2, η in [0, 1). Source: docs/theory.md §3.3.
    """
    require(horizon >= 0, "horizon", horizon, "at least 0")
    return right_probability(n_actions, eta) ** horizon


def survival_by_position(rates: Float[np.ndarray, " H"], share: float) -> float:
    """Π_h (1 − η_h + η_h·ν): the probability that a trajectory is still clean after H steps of a deterministic expert
    whose corruption rate differs from step to step; the kernel gives the right action the probability ν = `share`.

    Raises `BadInput` outside η_h in [0, 1), ν in [0, 1]. Source: docs/token_tasks.md §1.
    """
    rates = np.asarray(rates, float)
    require(((rates >= 0) & (rates < 1)).all(), "rates", rates, "in [0, 1)")
    require(0 <= share <= 1, "share", share, "in [0, 1]")
    return float(np.prod(1.0 - rates * (1.0 - share)))


def overlap(n_actions: int, eta: float) -> float:
    """ρ = 1 − (√q − √(η/A))²: a given wrong action catches up with the right one within k labels with
    probability at most ρ^k (Chernoff's bound at its best exponent; uniform noise)."""
    q = right_probability(n_actions, eta)
    return 1.0 - (np.sqrt(q) - np.sqrt(eta / n_actions)) ** 2


def labels_until_sure(n_actions: int, eta: float, tolerance: float) -> int:
    """K = ⌈log((A−1)/tolerance) / −log ρ⌉: beyond K labels the plurality is wrong with probability < tolerance.

    Raises `BadInput` if K exceeds `MAX_LABELS` (η too near 1 for the exact tables).
    """
    rho = overlap(n_actions, eta)
    least = 1 if rho <= 0 else np.ceil(np.log((n_actions - 1) / tolerance) / -np.log(rho)) if rho < 1 else np.inf
    labels = int(min(least, 1e18))
    require(
        labels <= MAX_LABELS, f"eta (with {n_actions} actions)", eta,
        f"small enough that {MAX_LABELS} labels settle a plurality to {tolerance:g} (here it takes {labels})",
    )  # fmt: skip
    return max(labels, 1)


def _poisson(k: Integer[np.ndarray, " n"], mean: float) -> Float[np.ndarray, " n"]:
    """Poisson probabilities e^−λ λ^k/k! (here and below scipy.special alone: scipy.stats takes a second to load)."""
    return np.exp(special.xlogy(k, mean) - special.gammaln(k + 1) - mean)


def _block_shape(n_actions: int, lowest: int, highest: int, rows: int) -> tuple[float, float, int, int]:
    """Of a block of `_split_block`: its middle, the tilt's rate, the transform's size, the counts that are summed."""
    middle = max((lowest + highest) / 2, 0.5)
    rate = middle / (n_actions - 1)
    size = int(2 * np.ceil(BLOCK * np.sqrt(middle) + 10 * np.sqrt(middle) + 40))
    return middle, rate, size, int(min(rows, np.ceil(rate + 12 * np.sqrt(rate) + 40)))


def _split_block(n_actions: int, lowest: int, highest: int, rows: int) -> Float[np.ndarray, "rows block"]:
    """T(j, r) for j < `rows` and r in lowest..highest, by one Poisson tilt of mean near the middle of the block."""
    middle, rate, size, support = _block_shape(n_actions, lowest, highest, rows)
    pmf = _poisson(np.arange(support), rate)
    turns = np.exp(-2j * np.pi * (np.outer(np.arange(support), np.arange(size // 2 + 1)) % size) / size)
    upto = np.cumsum(pmf[:, None] * turns, axis=0)
    below = np.concatenate([np.zeros_like(upto[:1]), upto[:-1]])
    total, power = np.ones_like(upto), np.ones_like(upto)
    for _ in range(n_actions - 1):
        power = power * upto
        total = total * below + power
    r = np.arange(lowest, highest + 1)
    weight = np.fft.irfft(total / n_actions, n=size, axis=1)[:, r % size]
    split = np.ones((rows, len(r)))
    split[:support] = np.clip(weight / _poisson(r, middle)[None, :], 0.0, 1.0)
    return split


@lru_cache(maxsize=8)
def tie_split(n_actions: int, labels: int) -> Float[np.ndarray, "rows rows"]:
    """T[j, r] for 0 <= j, r <= `labels`: the module's docstring. Accurate to about 1e-12; read-only, cached.

    Raises `BadInput` if A < 2, if `labels` is outside 0..`MAX_LABELS`, or if A is too large for so many labels.
    """
    check_setting(1, n_actions)
    require(0 <= labels <= MAX_LABELS, "labels", labels, f"in 0..{MAX_LABELS}")
    rows = labels + 1
    blocks, lowest, work = [], 0, 0
    while lowest <= labels:
        highest = min(labels, int(lowest + 4 + 2 * BLOCK * np.sqrt(lowest)))
        blocks.append((lowest, highest))
        *_, size, support = _block_shape(n_actions, lowest, highest, rows)
        work += (n_actions - 1) * (size // 2 + 1) * support
        lowest = highest + 1
    require(work <= MAX_WORK, "the number of actions", n_actions, f"small enough that the exact table of {labels} "
            f"labels takes at most {MAX_WORK:.0e} multiplications (here {work:.1e})")  # fmt: skip
    table = np.empty((rows, rows))
    for lowest, highest in blocks:
        table[:, lowest : highest + 1] = _split_block(n_actions, lowest, highest, rows)
    table[np.tril_indices(rows, -1)] = 1.0
    table.setflags(write=False)
    return table


def binomial_rows(labels: int, p: float) -> Float[np.ndarray, "rows rows"]:
    """B[m, j] = Bin(j; m, p) for 0 <= j, m <= `labels` (0 for j > m)."""
    m = np.arange(labels + 1)[:, None]
    j = np.arange(labels + 1)[None, :]
    fits = j <= m
    rest = np.where(fits, m - j, 0)
    log = special.gammaln(m + 1) - special.gammaln(j + 1) - special.gammaln(rest + 1)
    return np.where(fits, np.exp(log + special.xlogy(j, p) + special.xlog1py(rest, -p)), 0.0)


def binomial_head(n: int, p: float, labels: int) -> Float[np.ndarray, " rows"]:
    """Bin(k; n, p) for k = 0..`labels`; n may be as large as 1e300 (the logarithm is summed over k, not over n)."""
    k = np.arange(labels + 1)
    if n == 0:
        return (k == 0).astype(float)
    steps = np.log1p(-np.minimum(k[:-1] / n, 1.0), where=k[:-1] < n, out=np.full(labels, -np.inf))
    choose = np.concatenate([[0.0], np.cumsum(steps)]) - special.gammaln(k + 1)
    rest = np.maximum(n - k.astype(float), 0.0)
    return np.exp(choose + special.xlogy(k, n * p) + special.xlog1py(rest, -p))


@lru_cache(maxsize=8)
def vote_table(n_actions: int, eta: float, labels: int) -> Float[np.ndarray, "rows rows"]:
    """W[m, j] = P(plurality right, j right labels | m labels) = Bin(j; m, q)·T(j, m−j), for j, m <= `labels`."""
    m = np.arange(labels + 1)[:, None]
    j = np.arange(labels + 1)[None, :]
    split = tie_split(n_actions, labels)[j, np.maximum(m - j, 0)]
    vote = binomial_rows(labels, right_probability(n_actions, eta)) * split
    vote.setflags(write=False)
    return vote


def plurality_right(n_actions: int, eta: float, labels: int) -> Float[np.ndarray, " rows"]:
    """M_A(k) for k = 0..`labels`: the probability that the plurality of k labels is the clean action.

    A label is right with probability q and each wrong action has η/A; ties are broken uniformly; M_A(0) = 1/A. Also
    M_A(k) = (1/A) Σ_{labels} max_a P(labels | a): the plurality is the Bayes rule, so M_A never decreases. Accurate to
    1e-10. Raises `BadInput` for A < 2, η outside [0, 1), `labels` outside 0..`MAX_LABELS`. Source: docs/theory.md §4.1.
    """
    check_setting(1, n_actions, eta)
    require(0 <= labels <= MAX_LABELS, "labels", labels, f"in 0..{MAX_LABELS}")
    return vote_table(n_actions, float(eta), labels).sum(1)

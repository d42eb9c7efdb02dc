"""Closed forms and exact dynamic programmes of the instances of docs/theory.md §4, in float64.

What a plurality of noisy labels is worth is in nail/theory/plurality.py and can be had from here too.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import special

from nail.checks import require
from nail.theory.plurality import (
    binomial_head,
    binomial_rows,
    check_setting,
    labels_until_sure,
    plurality_right,
    right_probability,
    survival,
    vote_table,
)


def genie_success(horizon: int, n_actions: int, eta: float, n: int, tolerance: float = 1e-12) -> float:
    """G(n) = Σ_k Bin(k; n, q^{H−1})·M_A(k): no offline learner of the hidden path does better in mean over
    secrets, not even one told a*_{1:H−1}.

    Uniform noise, expert uniform off its path. Returns a probability with absolute error at most
    `tolerance` + 1e-12, for any n. Raises `BadInput` for bad H, A, η, for n < 0, and for η so near 1 that the
    plurality needs more than `MAX_LABELS` labels. Source: docs/theory.md §4.1.
    """
    check_setting(horizon, n_actions, eta, n=n)
    labels = labels_until_sure(n_actions, eta, tolerance)
    wrong = 1.0 - plurality_right(n_actions, eta, labels)
    return float(1.0 - binomial_head(n, survival(horizon - 1, n_actions, eta), labels) @ wrong)


def smallest(good: Callable[[int], bool], least: int = 0) -> int:
    """The smallest integer n >= `least` with good(n), for a predicate that stays true once it is: doubling,
    bisection."""
    if good(least):
        return least
    below, above = least, max(2 * least, 1)
    while not good(above):
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if good(middle) else (middle, above)
    return above


def n_offline(horizon: int, n_actions: int, eta: float, delta: float) -> int:
    """min{n : G(n) >= 1−δ} trajectories: a lower bound for every offline learner of the hidden path, ~ k_δ·q^{−(H−1)}.

    Exact up to 2^53 episodes and to 16 digits beyond. Raises `BadInput` as `genie_success`, and for δ outside
    (0, 1). Source: docs/theory.md §4.1.
    """
    check_setting(horizon, n_actions, eta, delta)
    return smallest(lambda n: genie_success(horizon, n_actions, eta, n, min(1e-12, delta * 1e-6)) >= 1.0 - delta)


def bc_exact(horizon: int, n_actions: int, eta: float, n: int, tolerance: float = 1e-10) -> float:
    """P(LogLossBC finds all H right actions of the poison chain from n noisy trajectories).

    With n_1 = n and n_{h+1} = the right labels at level h, f_h(m) = P(n_h = m, levels before h right) obeys f_{h+1} =
    f_h W + P(n_h > K, n_{h+1} = ·), W of `vote_table`, and success = 1 − Σ_h Σ_{m<=K} f_h(m)·(1 − M_A(m)). Above K
    labels the plurality counts as right, which errs by at most `tolerance` over all levels; the mass that crosses K is
    Bin(·; n, q^h) less what was below already, so the cost is O(H·K²) for any n. Uniform noise, expert uniform off
    path, ties broken uniformly. Raises `BadInput` as `genie_success`. Source: docs/theory.md §4.2.
    """
    check_setting(horizon, n_actions, eta, n=n)
    require(0.0 < tolerance < 1.0, "tolerance", tolerance, "in (0, 1)")
    q = right_probability(n_actions, eta)
    labels = labels_until_sure(n_actions, eta, tolerance / horizon)
    vote, thin = vote_table(n_actions, float(eta), labels), binomial_rows(labels, q)
    wrong = 1.0 - vote.sum(1)
    free = binomial_head(n, 1.0, labels)
    right, failure = free, free @ wrong
    for level in range(1, horizon):
        at_level = binomial_head(n, q**level, labels)
        right = right @ vote + np.maximum(at_level - free @ thin, 0.0)
        free = at_level
        failure += right @ wrong
    return float(np.clip(1.0 - failure, 0.0, 1.0))


def n_bc(horizon: int, n_actions: int, eta: float, delta: float) -> int:
    """min{n : `bc_exact` >= 1−δ}: the trajectories that LogLossBC needs on the poison chain (docs/theory.md §4.2)."""
    check_setting(horizon, n_actions, eta, delta)
    tolerance = min(1e-10, delta * 1e-4)
    return smallest(lambda n: bc_exact(horizon, n_actions, eta, n, tolerance) >= 1.0 - delta)


def compounding_cost(horizon: int, error: float, recovery: int | None = None) -> float:
    """Expected cost over T = `horizon` steps of a policy that errs with probability ε = `error` at on-path states.

    A step costs 1 from the mistake on, until the path is regained `recovery` steps after the mistake was made (u >= 1;
    None: never). With c_t the probability of being on path before step t, c_t = (1−ε) c_{t−1} + ε c_{t−u}, c_1 = 1, and
    the cost is Σ_t (1 − (1−ε) c_t); without recovery that is Σ_t (1 − (1−ε)^t) <= εT², with recovery at most uεT.
    Raises `BadInput` for T < 1, ε outside [0, 1], u < 1. Source: docs/theory.md §4.3.
    """
    check_setting(horizon, error=error, recovery=recovery)
    on_path = np.ones(horizon)
    for t in range(1, horizon):
        back = 0.0 if recovery is None or t < recovery else error * on_path[t - recovery]
        on_path[t] = (1.0 - error) * on_path[t - 1] + back
    return float(np.sum(1.0 - (1.0 - error) * on_path))


def lrt_error(
    horizon: int, c: float, eta: float, n: int,
    noise: Literal["uniform", "dominated"] = "uniform", domination: float = 1.0,
) -> float:  # fmt: skip
    """Mean error of the likelihood-ratio test of θ = 0 against θ = 1 from n episodes of the rare-action instance.

    Labels are Bernoulli(p_θ) at all nH steps, p_θ = (1−η)Δ(1+θ) + η ν(1), Δ = c/H, with ν(1) = 1/2
    (`uniform`) or C·Δ (`dominated`). Error = ½(P_0(choose 1) + P_1(choose 0)) = ½ Σ_k min(Bin(k; nH, p_0),
    Bin(k; nH, p_1)); equal priors, so a tie costs the same either way. Raises `BadInput` unless H >= 1, 0 <
    c <= H/2, η in [0, 1), n >= 0, 1 <= C <= H/c. Source: docs/theory.md §4.4.
    """
    check_setting(horizon, 2, eta, n=n)
    p0, p1 = rare_label_probabilities(horizon, c, eta, noise, domination)
    trials = n * horizon
    if trials == 0 or p1 == 1.0:
        return float(0.5 * p0**trials)
    other = np.log1p(-p0) - np.log1p(-p1)
    cut = trials * other / (np.log(p1 / p0) + other)
    least = max(1.0, float(np.ceil(cut * (1.0 - 1e-12))))
    above, below = special.betainc(least, trials - least + 1, p0), special.betaincc(least, trials - least + 1, p1)
    return float(0.5 * (above + below))


def rare_label_probabilities(
    horizon: int, c: float, eta: float, noise: Literal["uniform", "dominated"] = "uniform", domination: float = 1.0
) -> tuple[float, float]:
    """(p_0, p_1): the probability of label 1 under θ = 0 and 1, as in `lrt_error`; raises as it does."""
    require(0.0 < c <= horizon / 2, "c", c, f"in (0, H/2 = {horizon / 2}]")
    require(noise in ("uniform", "dominated"), "noise", noise, "'uniform' or 'dominated'")
    require(1.0 <= domination <= horizon / c, "domination", domination, f"in [1, H/c = {horizon / c}]")
    rare = c / horizon
    kernel = 0.5 if noise == "uniform" else domination * rare
    p0, p1 = ((1.0 - eta) * rare * (1 + theta) + eta * kernel for theta in (0, 1))
    return float(p0), float(p1)


def ever_played(horizon: int, rate: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """1 − (1−rate)^H: the probability that action 1 is ever played by a policy that plays it with this rate at every
    step. On the rare-action instance J is `sign` times that (docs/theory.md §4.4)."""
    return -np.expm1(horizon * np.log1p(-np.minimum(rate, 1.0 - 1e-16)))


def two_point_regret(horizon: int, c: float, error: float) -> float:
    """(J-gap)·error: what no learner's mean positive regret is below at the worst sign and θ.

    With J_θ = `ever_played` of π_θ, G = J_1 − J_0, and Ĵ that of the policy that the learner makes of its labels
    (randomised or not): for sign − and θ = 0 the positive part of regret, sign·(J_θ − Ĵ), is (Ĵ − J_0)₊, for sign + and
    θ = 1 it is (J_1 − Ĵ)₊, and the two add up to at least G whatever Ĵ. So their means add up to at least
    Σ_labels min(P_0, P_1)·G = 2·G·error, error that of the likelihood-ratio test (`lrt_error`), and the larger is at
    least G·error. The policy of maximum likelihood has Ĵ = J_0 or J_1: its worst mean is G times the larger of the
    test's two errors, at most twice the bound. With one sign alone nothing follows: always playing 1 has Ĵ = 1 and, for
    sign 1, no regret. Nor does it for the mean of signed regret, unless Ĵ lies in [J_0, J_1]: an unbiased Ĵ has none.
    Raises `BadInput` for bad H or c. Source: docs/theory.md §4.4.
    """
    low, high = ever_played(horizon, np.array(rare_label_probabilities(horizon, c, 0.0)))
    return float((high - low) * error)

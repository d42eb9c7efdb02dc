"""Closed forms against enumeration and simulation-free identities."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.theory import bounds, exact, plurality


def brute_plurality(n_actions, eta, k):
    q, total = exact.right_probability(n_actions, eta), 0.0
    for labels in itertools.product(range(n_actions), repeat=k):
        counts = np.bincount(np.array(labels, int), minlength=n_actions)
        if counts[0] == counts.max():
            p = q ** counts[0] * (eta / n_actions) ** (k - counts[0])
            total += p / (counts == counts.max()).sum()
    return total


@pytest.mark.parametrize(("n_actions", "eta"), [(2, 0.8), (3, 0.6), (4, 0.0), (5, 0.9)])
def test_plurality_equals_enumeration(n_actions, eta):
    most = 5 if n_actions == 5 else 6
    found = exact.plurality_right(n_actions, eta, most)
    expected = [brute_plurality(n_actions, eta, k) for k in range(most + 1)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0] == pytest.approx(1 / n_actions)


def test_plurality_for_thousands_of_labels():
    k = np.arange(1501)
    two = stats.binom.sf(k // 2, k, 0.6) + np.where(k % 2 == 0, 0.5 * stats.binom.pmf(k // 2, k, 0.6), 0)
    np.testing.assert_allclose(exact.plurality_right(2, 0.8, 1500), two, atol=1e-10)
    five = exact.plurality_right(5, 0.9, 2000)
    assert np.diff(five).min() > -1e-10
    assert five[-1] > 0.999


def multinomial_split(n_actions, j, r):
    """T(j, r) by adding one wrong action after the other (positive terms only)."""
    state = {(0, r): 1.0}
    for left in range(n_actions - 1, 0, -1):
        new = {}
        for (ties, rest), p in state.items():
            for i in range(min(j, rest) + 1):
                key = (ties + (i == j), rest - i)
                new[key] = new.get(key, 0.0) + p * stats.binom.pmf(i, rest, 1 / left)
        state = new
    return sum(p / (ties + 1) for (ties, rest), p in state.items() if rest == 0)


@pytest.mark.parametrize(("n_actions", "j", "r"), [(3, 10, 15), (4, 12, 30), (6, 7, 20)])
def test_tie_split_equals_the_sequential_multinomial(n_actions, j, r):
    assert plurality.tie_split(n_actions, 64)[j, r] == pytest.approx(multinomial_split(n_actions, j, r), abs=1e-11)


def test_binomial_head_for_any_number_of_episodes():
    for n, p in ((0, 0.3), (7, 0.3), (500, 0.01), (10**6, 3e-6)):
        np.testing.assert_allclose(
            exact.binomial_head(n, p, 20), stats.binom.pmf(np.arange(21), n, p), rtol=1e-9, atol=1e-300
        )
    np.testing.assert_allclose(exact.binomial_head(10**22, 5e-22, 20), stats.poisson.pmf(np.arange(21), 5.0), rtol=1e-9)


def slow_genie(horizon, n_actions, eta, n):
    k = np.arange(n + 1)
    weights = stats.binom.pmf(k, n, exact.survival(horizon - 1, n_actions, eta))
    return weights @ exact.plurality_right(n_actions, eta, n)


def test_genie_success_and_its_inverse():
    for n in (0, 3, 40, 400):
        assert exact.genie_success(5, 3, 0.5, n) == pytest.approx(slow_genie(5, 3, 0.5, n), abs=1e-11)
    for horizon in (1, 6, 40):
        n = exact.n_offline(horizon, 4, 0.4, 0.1)
        if n < 2**50:
            assert exact.genie_success(horizon, 4, 0.4, n) >= 0.9 > exact.genie_success(horizon, 4, 0.4, n - 1)
    ratio = exact.n_offline(41, 4, 0.4, 0.1) / exact.n_offline(40, 4, 0.4, 0.1)
    assert ratio == pytest.approx(1 / exact.right_probability(4, 0.4), rel=1e-6)


def slow_bc(horizon, n_actions, eta, n):
    """The dynamic programme of docs/theory.md §4.2 over every count, no truncation."""
    q = exact.right_probability(n_actions, eta)
    mass = np.zeros(n + 1)
    mass[n] = 1.0
    for _ in range(horizon):
        new = np.zeros(n + 1)
        for m in np.flatnonzero(mass):
            for j in range(m + 1):
                new[j] += mass[m] * stats.binom.pmf(j, m, q) * multinomial_split(n_actions, j, m - j)
        mass = new
    return mass.sum()


@pytest.mark.parametrize(("horizon", "n_actions", "eta", "n"), [(1, 3, 0.5, 9), (3, 3, 0.6, 12), (2, 2, 0.7, 15)])
def test_bc_exact_equals_the_plain_dynamic_programme(horizon, n_actions, eta, n):
    assert exact.bc_exact(horizon, n_actions, eta, n) == pytest.approx(slow_bc(horizon, n_actions, eta, n), abs=1e-9)


def test_bc_exact_beyond_the_table_and_at_its_ends():
    assert exact.bc_exact(4, 3, 0.5, 0) == pytest.approx(3.0**-4)
    assert exact.bc_exact(6, 3, 0.0, 1) == pytest.approx(1.0)
    loose, tight = (exact.bc_exact(12, 5, 0.5, 3000, t) for t in (1e-6, 1e-12))
    assert loose == pytest.approx(tight, abs=1e-6)
    assert exact.bc_exact(1, 5, 0.5, 40) == pytest.approx(exact.plurality_right(5, 0.5, 40)[-1], abs=1e-9)
    assert exact.bc_exact(20, 5, 0.5, 10**5) < exact.genie_success(20, 5, 0.5, 10**5)
    n = exact.n_bc(8, 5, 0.5, 0.1)
    assert exact.bc_exact(8, 5, 0.5, n) >= 0.9 > exact.bc_exact(8, 5, 0.5, n - 1)
    assert n >= exact.n_offline(8, 5, 0.5, 0.1)


def test_rare_action_test_error():
    for noise, eta, n in (("uniform", 0.3, 4), ("dominated", 0.3, 4), ("uniform", 0.0, 2)):
        p0, p1 = exact.rare_label_probabilities(10, 1.0, eta, noise, 2.0)
        k = np.arange(10 * n + 1)
        expected = 0.5 * np.minimum(stats.binom.pmf(k, 10 * n, p0), stats.binom.pmf(k, 10 * n, p1)).sum()
        assert exact.lrt_error(10, 1.0, eta, n, noise, 2.0) == pytest.approx(expected, abs=1e-12)
    assert exact.lrt_error(10, 1.0, 0.3, 0) == 0.5
    rare, twice = (stats.poisson.pmf(np.arange(100), mean) for mean in (10, 20))
    for horizon in (10**11, 10**14):
        limit = exact.lrt_error(horizon, 1.0, 0.0, 10)
        assert limit == pytest.approx(0.5 * np.minimum(rare, twice).sum(), rel=1e-9)

    def needed(horizon, noise):
        return exact.smallest(lambda n: exact.lrt_error(horizon, 1.0, 0.5, n, noise, 2.0) <= 0.05)

    assert needed(400, "uniform") / needed(100, "uniform") == pytest.approx(4.0, rel=0.2)
    assert needed(400, "dominated") / needed(100, "dominated") == pytest.approx(1.0, rel=0.1)


def test_compounding_cost():
    steps = np.arange(1, 31)
    assert exact.compounding_cost(30, 0.02) == pytest.approx((1 - 0.98**steps).sum(), abs=1e-12)
    assert exact.compounding_cost(30, 0.02, 1) == pytest.approx(0.6, abs=1e-12)
    for recovery in (None, 1, 4, 100):
        cost = exact.compounding_cost(30, 0.02, recovery)
        assert cost <= bounds.compounding_bound(30, 0.02, recovery) + 1e-12
        assert cost <= exact.compounding_cost(30, 0.02) + 1e-12


def test_bounds_are_the_formulas():
    assert bounds.phased_nail(10, 5, 0.5, 0.1) == 10 * int(np.ceil(2 * np.log(1000) / 0.25))
    assert 1 - exact.plurality_right(5, 0.5, bounds.phased_labels(10, 5, 0.5, 0.1))[-1] < 0.1 / 10
    assert bounds.general_bound(10, math.log(8), 0.5, 0.1, 2.0) == pytest.approx(10 * math.log(8) * 4 / (0.5 * 0.01))
    eps = bounds.mean_regret_bound(10, math.log(8), 0.5, 700, 2.0)
    assert bounds.general_bound(10, math.log(8), 0.5, eps, 2.0) == pytest.approx(700)
    assert bounds.tv_budget(math.log(8), 0.5) == pytest.approx(2 * math.log(8))
    assert bounds.kappa(5, 0.0) == pytest.approx(2.0)
    q, w = np.full(4, 0.1), np.full(4, 0.1)
    q[0] = w[1] = 0.7
    assert bounds.kappa(4, 0.4) == pytest.approx(((np.sqrt(q) - np.sqrt(w)) ** 2).sum())
    assert bounds.hellinger_constant(0.0, 5.0) == pytest.approx(1.0)
    assert bounds.rare_action_episodes(200, 1.0, 0.5, 0.1) == pytest.approx(400 * np.log(10))


@pytest.mark.parametrize(
    "call",
    [
        lambda: exact.survival(3, 1, 0.5),
        lambda: exact.survival(3, 2, 1.0),
        lambda: exact.genie_success(0, 2, 0.5, 1),
        lambda: exact.genie_success(3, 2, 0.5, -1),
        lambda: exact.genie_success(3, 2, 0.99, 1),
        lambda: exact.n_offline(3, 2, 0.5, 0.0),
        lambda: exact.n_bc(3, 2, 0.5, 1.0),
        lambda: exact.bc_exact(3, 2, -0.1, 5),
        lambda: exact.lrt_error(4, 3.0, 0.5, 1),
        lambda: exact.compounding_cost(0, 0.1),
        lambda: exact.compounding_cost(4, 1.1),
        lambda: exact.compounding_cost(4, 0.1, 0),
        lambda: bounds.phased_nail(3, 2, 0.5, 2.0),
        lambda: bounds.hellinger_constant(0.5, 0.5),
        lambda: bounds.general_bound(3, 1.0, 0.5, 0.0),
        lambda: bounds.mean_regret_bound(3, 1.0, 0.5, 0),
        lambda: bounds.tv_budget(-1.0, 0.5),
    ],
)
def test_bad_input(call):
    with pytest.raises(BadInput):
        call()

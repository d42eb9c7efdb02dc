"""The law of greedy learners, level by level: against enumeration, the simulated learners, and itself."""

import itertools
import math

import numpy as np
import pytest

from nail.checks import BadInput
from nail.counting import levels
from nail.counting.drivers import Setting, complete
from nail.counting.learners import learner
from nail.theory import online
from nail.theory.online import episodes_per_level, level_moments, level_table, n_star_online, success_curve
from nail.theory.plurality import plurality_right


def look(counts, order):
    """[(right?, probability)] of one look: order of preference, or None for a fresh uniform split."""
    tied = np.flatnonzero(counts == counts.max())
    if order is not None:
        return [(bool(min(tied, key=order.__getitem__) == 0), 1.0)]
    return [(True, (0 in tied) / len(tied)), (False, 1 - (0 in tied) / len(tied))]


def enumerated(law, horizon, n, orders):
    """P(all levels right) by walking through all looks and labels, episode by episode. `orders`: one a level."""

    def play(level, counts, left, after):
        """Labels of this level, one for each of `left` visits; then the next level with its right looks."""
        if left == 0:
            ends = look(counts, orders[level])
            return sum(p * (1.0 if level + 1 == horizon else play(level + 1, np.zeros(len(law), int), after, 0))
                       for right, p in ends if right and p > 0)  # fmt: skip
        total = 0.0
        for right, p in look(counts, orders[level]):
            for action in np.flatnonzero(law):
                if p > 0:
                    new = counts + (np.arange(len(law)) == action)
                    total += p * law[action] * play(level, new, left - 1, after + right)
        return total

    return play(0, np.zeros(len(law), int), n, 0)


@pytest.mark.parametrize("ties", ["uniform", "lowest"])
@pytest.mark.parametrize(("law", "horizon", "n"), [
    ((0.7, 0.3), 1, 6), ((0.7, 0.3), 2, 5), ((0.45, 0.55), 3, 4), ((0.6, 0.4, 0.0), 2, 4), ((1.0, 0.0), 3, 2),
])  # fmt: skip
def test_two_classes_of_labels_equal_enumeration(law, horizon, n, ties):
    one = [None] if ties == "uniform" else list(itertools.permutations(range(len(law))))
    all_orders = list(itertools.product(one, repeat=horizon))
    expected = np.mean([enumerated(np.array(law), horizon, n, orders) for orders in all_orders])
    level = level_table(len(law), 0.0, 8, np.array(law), ties)
    assert success_curve(level, [horizon])[0, n] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("ties", "controlled"), [("uniform", True), ("lowest", True), ("lowest", False)])
def test_a_simulated_level_has_the_exact_law_and_its_standard_error(ties, controlled):
    """At A = 2, with and without the control variate: (estimate − exact)/stderr over 300 seeds, mean within 5/√300,
    mean square within 5·√(2/300) of 1; error probability about 1e-6 each. Three actions: 5 standard errors of the
    enumeration."""
    exact = level_table(2, 0.5, 12, ties=ties)
    success, mean = success_curve(exact, [4])[0, 12], (1 - plurality_right(2, 0.5, 12)[:12]).sum()
    z, errors = [], []
    for seed in range(300):
        level = online._simulated_level(
            np.array([0.75, 0.25]), 12, ties, 1000, np.random.default_rng(seed), float(mean) if controlled else None
        )
        errors.append(online.success_error(level, 4, 12))
        z.append((success_curve(level, [4])[0, 12] - success) / errors[-1])
        assert not controlled or level_moments(level)[0] == pytest.approx(mean)
    assert abs(np.mean(z)) < 5 / math.sqrt(300)
    assert abs(np.mean(np.square(z)) - 1) < 5 * math.sqrt(2 / 300)
    law, orders = np.array([0.6, 0.2, 0.2]), [None] if ties == "uniform" else list(itertools.permutations(range(3)))
    expected = np.mean([enumerated(law, 2, 3, pair) for pair in itertools.product(orders, repeat=2)])
    three = online.online_success(2, 3, 0.6, 3, ties, 20_000)
    assert abs(three["value"] - expected) < 5 * three["stderr"]
    assert 0 < three["stderr"] < 0.01


@pytest.mark.parametrize(("n_actions", "horizon"), [(2, 6), (4, 6)])
def test_the_simulated_learner_has_this_law(n_actions, horizon):
    """NAIL-F in 3,000 replicates at 8 checkpoints: 5 joint standard errors, error probability 5e-6."""
    setting, replicates = complete(Setting(0.5), n_actions), 3000
    state = levels.begin(horizon, n_actions, replicates, 5)
    found = np.asarray(levels.advance(learner("nail-f", by_level=True), state, setting, 6, 8)[1]).mean(0)
    level = level_table(n_actions, 0.5, 48, replicates=20_000)
    for n, share in zip(range(6, 49, 6), found, strict=True):
        expected = success_curve(level, [horizon])[0, n]
        error = math.hypot(math.sqrt(expected * (1 - expected) / replicates), online.success_error(level, horizon, n))
        assert abs(share - expected) < 5 * error
    assert found[0] < 0.5 < 0.9 < found[-1]


def test_mu_and_the_moments_of_a_level():
    """μ is the same for both rules, the spread is not; the sum of docs/theory.md §4.2 by its definition."""
    for n_actions, eta, mu in ((4, 0.5, 2.7207), (7, 0.2, 1.3042), (2, 0.5, 2.0), (3, 0.0, 2 / 3)):
        assert episodes_per_level(n_actions, eta) == pytest.approx(mu, abs=5e-5)
        right = plurality_right(n_actions, eta, 400)
        assert episodes_per_level(n_actions, eta) == pytest.approx((1 - right).sum(), abs=1e-6)
    fresh, fixed = (level_moments(level_table(2, 0.5, 300, ties=ties)) for ties in ("uniform", "lowest"))
    assert fresh == pytest.approx((2.0, 3.0), abs=1e-9)
    assert fixed == pytest.approx((2.0, math.sqrt(10)), abs=1e-9)


def test_success_grows_with_n_and_n_star_is_its_inverse():
    for ties in ("uniform", "lowest"):
        level = level_table(2, 0.6, 120, ties=ties)
        curves = success_curve(level, [1, 3, 9])
        assert np.diff(curves).min() > -1e-12
        assert (np.diff(curves, axis=0) < 0).all()
        np.testing.assert_allclose(curves[:, 0], [0.5, 0.5**3, 0.5**9])
        n = n_star_online(level, 9, 0.1)
        assert curves[2, n - 1] < 0.9 <= curves[2, n]
        assert math.isinf(n_star_online(level, 9, 1e-12))
        np.testing.assert_allclose(curves[0], plurality_right(2, 0.6, 120), atol=1e-12)


def test_truncation_loses_nothing(monkeypatch):
    """Against a table that keeps all leads and all numbers of wrong looks."""
    kept = online.two_class_table(0.9, 150, 0.5, 0.5)
    monkeypatch.setattr(online, "_caps", lambda q, labels: (labels + 1, labels))
    full = online.two_class_table(0.9, 150, 0.5, 0.5)
    assert kept.shape[1] < full.shape[1]
    np.testing.assert_allclose(kept, full[:, : kept.shape[1]], atol=1e-12)
    assert full[:, kept.shape[1] :].sum() < 1e-10


@pytest.mark.parametrize(("call", "name"), [
    (lambda: level_table(1, 0.5, 3), "n_actions"),
    (lambda: level_table(2, 1.0, 3), "eta"),
    (lambda: level_table(2, 0.5, -1), "labels"),
    (lambda: level_table(2, 0.5, 3, ties="low"), "unknown ties"),
    (lambda: level_table(3, 0.5, 3), "replicates"),
    (lambda: level_table(3, 0.5, 10**5, replicates=10**5), "replicates"),
    (lambda: level_table(2, 0.5, 3, law=np.array([0.5, 0.6])), "law"),
    (lambda: level_table(2, 0.5, 3, law=np.array([0.0, 1.0])), "law"),
    (lambda: level_table(2, 0.999, 10**5), "n"),
    (lambda: success_curve(level_table(2, 0.5, 3), [0]), "horizon"),
    (lambda: success_curve(level_table(2, 0.5, 3), [10**9]), "horizon"),
    (lambda: n_star_online(level_table(2, 0.5, 3), 2, 0.0), "delta"),
    (lambda: online.success_error(level_table(2, 0.5, 3), 2, 4), "n"),
    (lambda: episodes_per_level(3, 0.999), "eta"),
])  # fmt: skip
def test_bad_input_names_the_parameter(call, name):
    with pytest.raises(BadInput, match=rf"^{name}\b"):
        call()

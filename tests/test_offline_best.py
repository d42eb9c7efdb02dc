"""The posterior over paths, learners beside it, the law of a level of unknown noise, regret of the rare action: each
against enumeration."""

import itertools
import math

import numpy as np
import pytest
from nail_experiments import _offline, _unknown_noise
from nail_experiments._rare_action import regrets
from scipy.stats import binom

from nail.checks import BadInput
from nail.counting.paths import best_path
from nail.envs.instances import hidden_path, rare_action
from nail.envs.mdp import value
from nail.theory import exact, posterior

PLACE = np.array([2, 1])


def every_data_set(n):
    """All ordered data sets of n episodes of the tree with A = 2, H = 2: actions, how often each leaf was reached."""
    fallen = np.array(list(itertools.product(range(4), repeat=n)), int)
    return posterior.paths(2, 2)[fallen].astype(np.uint8), fallen


@pytest.mark.parametrize(("n_actions", "eta"), [(2, 0.5), (3, 0.7)])
def test_leaf_laws_are_the_instance_s(n_actions, eta):
    horizon, every = 3, posterior.paths(3, n_actions)
    laws = posterior.leaf_laws(horizon, n_actions, exact.right_probability(n_actions, eta))
    for number in (0, 1, len(every) - 2):
        noisy, prefix, law = hidden_path(horizon, n_actions, every[number]).noisy(eta), np.zeros(len(every), int), 1.0
        for h in range(horizon):
            law = law * noisy[h, prefix, every[:, h]]
            prefix = prefix * n_actions + every[:, h]
        np.testing.assert_allclose(laws[number], law, rtol=1e-12)


def test_a_kernel_that_never_hits_the_clean_action():
    """On the path (1−η)·right + η·(another action); uniform off it: at η as uniform noise at ηA/(A−1)."""
    eta, n_actions = 0.4, 3
    laws = posterior.leaf_laws(2, n_actions, 1 - eta)
    np.testing.assert_allclose(laws, posterior.leaf_laws(2, n_actions, exact.right_probability(3, eta * 3 / 2)))
    np.testing.assert_allclose(laws[4].reshape(3, 3), [[0.2 / 3] * 3, [0.6 * 0.2, 0.6 * 0.6, 0.6 * 0.2], [0.2 / 3] * 3])


@pytest.mark.parametrize("n", [0, 1, 4])
def test_bayes_rule_by_brute_force_and_loglossbc_is_it(n):
    """All 4^n data sets; secrets uniform. LogLossBC breaks ties its own way, which costs nothing in mean."""
    eta = 0.6
    laws = posterior.leaf_laws(2, 2, exact.right_probability(2, eta))
    actions, fallen = every_data_set(n)
    likelihood = laws[:, fallen].prod(-1)
    assert posterior.bayes_success(laws, n) == pytest.approx(likelihood.max(0).sum() / 4, abs=1e-12)
    reached = posterior.reached_leaves(fallen, 4)
    np.testing.assert_allclose(
        np.exp(posterior.log_posterior(reached, laws)), (likelihood / likelihood.sum(0)).T, atol=1e-12
    )
    every = np.arange(len(fallen))
    if n:
        chosen = best_path(actions, 2, eta) @ PLACE
        assert likelihood[chosen, every].sum() / 4 == pytest.approx(likelihood.max(0).sum() / 4, abs=1e-12)
    prefix = posterior.prefix_plurality(reached, 2)
    assert likelihood[prefix, every].sum() / 4 == pytest.approx(exact.bc_exact(2, 2, eta, n), abs=1e-9)


def test_modes_of_steps():
    rng = np.random.default_rng(0)
    mass = rng.random((5, 27))
    every = posterior.paths(3, 3)
    for row, found in zip(mass, posterior.step_modes(mass, 3), strict=True):
        best = [np.argmax([row[every[:, h] == a].sum() for a in range(3)]) for h in range(3)]
        assert list(every[found]) == best


def test_simulated_episodes_follow_the_law():
    """5 standard errors at 9 leaves: error probability 5e-6."""
    secret = np.broadcast_to([1, 2], (400, 2))
    actions = _offline.simulate(secret, 3, 0.6, 50, np.random.default_rng(0))
    share = posterior.reached_leaves((actions @ [3, 1]).reshape(1, -1), 9)[0] / 20_000
    law = posterior.leaf_laws(2, 3, 0.6)[5]
    assert np.all(np.abs(share - law) < 5 * np.sqrt(law * (1 - law) / 20_000))


@pytest.mark.parametrize("eta", [0.1, 0.4])
def test_law_of_a_level_against_all_label_sequences(eta):
    """Right action uniform, all noise on action 1, ties to the lowest: all 4^n sequences of labels."""
    n, law = 5, np.zeros((6, 6))
    for secret, *labels in itertools.product(range(4), repeat=n + 1):
        label = (1 - eta) * np.eye(4)[secret] + eta * np.eye(4)[1]
        looks = [np.bincount(labels[:k], minlength=4).argmax() == secret for k in range(n + 1)]
        for k in range(n + 1):
            law[k, k - sum(looks[:k])] += looks[k] * label[labels].prod() / 4
    np.testing.assert_allclose(_unknown_noise.level(eta, n).law, law, atol=1e-12)


def test_critical_probability_of_a_wrong_kernel():
    for eta in (0.1, 0.3):
        f = _unknown_noise.critical(eta)
        assert _unknown_noise.drift(eta, 0.9 * f) < 0 < _unknown_noise.drift(eta, 1.1 * f)
    assert _unknown_noise.drift(0.2, 0.25) == pytest.approx(0.6 * math.log(17))


def test_values_of_the_rare_action_are_the_dynamic_programme_s():
    for sign in (1, -1):
        instance = rare_action(6, 1.5, 1, sign=sign)
        assert value(instance.mdp, instance.expert) == pytest.approx(
            sign * exact.ever_played(6, np.array([0.5]))[0], abs=1e-12
        )
        always = np.broadcast_to([0.0, 1.0], instance.expert.shape)
        assert value(instance.mdp, always) == pytest.approx(sign, abs=1e-12)


def test_two_point_bound_holds_for_any_learner_and_is_attained():
    """Learners that play anything at each number k of 1-labels; maximum likelihood attains it in mean over (−, θ = 0)
    and (+, θ = 1), and is within twice of it at the worst."""
    horizon, c, eta, n = 4, 1.0, 0.3, 3
    laws = np.stack([binom.pmf(np.arange(13), 12, p) for p in exact.rare_label_probabilities(horizon, c, eta)])
    bound = exact.two_point_regret(horizon, c, exact.lrt_error(horizon, c, eta, n))
    clean = exact.ever_played(horizon, np.array([0.25, 0.5]))[:, None]
    rng = np.random.default_rng(0)
    most_likely = clean[(laws[1] > laws[0]).astype(int), 0]
    for played in (*rng.random((200, 13)), np.full(13, clean.mean()), most_likely):
        lost = [(laws * np.maximum(sign * (clean - played), 0)).sum(1) for sign in (1, -1)]
        pair = lost[0][1], lost[1][0]
        assert np.max(pair) >= np.mean(pair) >= bound - 1e-12
    assert np.mean(pair) == pytest.approx(bound, abs=1e-12)
    assert np.max(lost) <= 2 * bound
    found = {row["sign"]: row["positive"] for row in regrets(
        horizon, c, n, *exact.rare_label_probabilities(horizon, c, eta), eta) if row["learner"] == "ml"}  # fmt: skip
    assert found == pytest.approx({1: lost[0].max(), -1: lost[1].max()})


def test_bad_input():
    laws = posterior.leaf_laws(3, 2, 0.7)
    for call in (
        lambda: posterior.paths(11, 2),
        lambda: posterior.leaf_laws(3, 2, 1.0),
        lambda: posterior.leaf_laws(0, 2, 0.5),
        lambda: posterior.bayes_success(laws, -1),
        lambda: posterior.bayes_success(laws, 60),
        lambda: exact.two_point_regret(4, 3.0, 0.1),
    ):
        with pytest.raises(BadInput):
            call()

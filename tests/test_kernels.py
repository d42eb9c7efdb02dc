"""Noise kernels by name against exact laws: on tables, and by level, where the secret differs by replicate."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import nail
from nail.checks import BadInput
from nail.complexity.kernels import kernel_text, level_kernel, with_kernel
from nail.complexity.points import largest_return, least_right
from nail.counting import paths
from nail.counting.drivers import Setting, complete, exit_laws, world
from nail.counting.nstar import level_octaves, n_star
from nail.envs.instances import cliff, garnet, hidden_path, poison_chain, rare_action
from nail.envs.mdp import make_mdp, optimal_policy, q_values
from nail.policies.softmax_table import deterministic
from nail.theory.exact import right_probability

KERNELS = ("never-right", "worst")
SECRETS = [np.array(secret) for secret in itertools.product(range(3), repeat=2)]


def by_level(kernel, secret, eta=0.4, n_actions=3):
    setting = complete(Setting(eta, level_kernel(kernel, n_actions)), n_actions)
    return world("truth", setting, deterministic(jnp.asarray(secret), n_actions))


@pytest.mark.parametrize("kernel", ["uniform", *KERNELS, "0.2,0.7,0.1"])
def test_labels_by_level_are_those_of_the_chain_as_a_table(kernel):
    """At on-path states, whatever the secret; so is q."""
    for secret in SECRETS:
        chain = with_kernel(poison_chain(2, 3, secret), kernel)
        noisy = np.asarray(by_level(kernel, secret).noisy)
        np.testing.assert_allclose(noisy, chain.noisy(0.4)[:, 0], rtol=1e-6)
        right = noisy[np.arange(2), secret]
        assert right.min() == pytest.approx(least_right(chain, 0.4), rel=1e-6)
        if kernel in KERNELS:
            np.testing.assert_allclose(right, 0.6, rtol=1e-6)
        if kernel == "worst":
            assert ((noisy > 0).sum(1) == 2).all()
            np.testing.assert_array_equal(noisy.argmin(1) == 0, False)


def outcomes(noisy, secret):
    """(right labels' levels and labels seen, probability) of one episode of the expert on the chain, by enumeration."""
    found = []
    for first in range(3):
        if first != secret[0]:
            found.append(((first, None), noisy[0, first]))
        else:
            found += [((first, second), noisy[0, first] * noisy[1, second]) for second in range(3)]
    return [(labels, p) for labels, p in found if p > 0]


def exact_success(kernel, n):
    """P(LogLossBC is right at both levels after n episodes), uniform secret, ties to the lowest action."""
    total = 0.0
    for secret in SECRETS:
        each = outcomes(np.asarray(by_level(kernel, secret).noisy, float), secret)
        for episodes in itertools.product(each, repeat=n):
            counts = np.zeros((2, 3))
            for labels, _ in episodes:
                for h, label in enumerate(labels):
                    if label is not None:
                        counts[h, label] += 1
            if (counts.argmax(1) == secret).all():
                total += np.prod([p for _, p in episodes])
    return total / len(SECRETS)


@pytest.mark.parametrize("kernel", KERNELS)
def test_loglossbc_on_the_chain_has_the_exact_law(kernel):
    """H = 2, A = 3, η = 0.4, after 1, .., 5 episodes: 8,000 replicates, 5 standard errors, error probability below
    1e-5; the uniform kernel's law is farther away than that."""
    octaves = level_octaves("loglossbc", 2, 3, Setting(0.4, level_kernel(kernel, 3)), 8_000, 0, 8)
    _, (checkpoints, failed) = next(octaves), next(octaves)
    assert list(checkpoints[:5]) == [1, 2, 3, 4, 5]
    found, expected = 1 - failed.mean(0)[:4], np.array([exact_success(kernel, n) for n in range(1, 5)])
    error = 5 * np.sqrt(expected * (1 - expected) / 8_000)
    assert (np.abs(found - expected) < error).all()
    assert np.abs(exact_success("uniform", 4) - expected[3]) > error[3]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_first_wrong_label_is_at_a_geometric_level(kernel):
    """Π (1−η)^(h−1)·η, and none with (1−η)^H."""
    exits, wrong = exit_laws(by_level(kernel, np.array([0, 2])))
    np.testing.assert_allclose(exits, [0.4, 0.24, 0.36], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(wrong).sum(1), 1.0, rtol=1e-6)


def test_noise_that_is_never_right_is_uniform_noise_on_the_hidden_path():
    """docs/theory.md §4.7: of rate ηA/(A−1), with which a label is right with probability 1 − η."""
    setting = Setting(0.3, level_kernel("never-right", 4))
    uniform = paths.as_uniform(setting, 4)
    assert right_probability(4, float(uniform.eta)) == pytest.approx(0.7)
    few = {"delta": 0.3, "replicates": 50, "max_episodes": 60}
    one = n_star("hidden-path", "loglossbc", 2, 4, setting=setting, **few)
    assert one == n_star("hidden-path", "loglossbc", 2, 4, eta=0.4, **few)
    with pytest.raises(BadInput, match="uniform or never-right"):
        paths.as_uniform(Setting(0.3, level_kernel("worst", 4)), 4)
    for other in (setting._replace(burst=0.3), setting._replace(eta=np.array([0.1, 0.3]))):
        with pytest.raises(BadInput, match="Huber's with one η"):
            n_star("hidden-path", "loglossbc", 2, 4, setting=other, **few)


@pytest.mark.parametrize("method", ["halving", "stagger"])
def test_learners_with_a_state_are_not_told_a_kernel_that_follows_the_right_actions(method):
    """By name it is uniform noise with the same chance of a right label, 0.6, and they are told so; a table is
    taken too, and so are grids (test_n_star_grid.py)."""
    few = {"delta": 0.2, "replicates": 40, "max_episodes": 200}
    setting = Setting(0.4, level_kernel("never-right", 3))
    found = n_star("poison-chain", method, 2, 3, setting=setting, **few)
    assert found == n_star("poison-chain", method, 2, 3, eta=0.6, **few)
    table = with_kernel(poison_chain(2, 3, SECRETS[5]), "never-right")
    assert n_star(table, method, eta=0.4, **few).value > 0


def test_a_kernel_that_follows_the_right_actions_is_refused_where_it_would_be_told(tables):
    nail.add_method(nail.Method("mine", "Mine", "student", score=lambda counts: counts.labels, told="eta"))
    for method in ("nail-channel", "nail-wrong-eta", "mine"):
        with pytest.raises(BadInput, match="method must be one that is not told ν, where ν follows π"):
            n_star("poison-chain", method, 2, 3, setting=Setting(0.4, level_kernel("worst", 3)))


def test_kernels_of_tables_follow_the_expert_and_q():
    drawn = garnet(3, 3, 4, 3, 2)
    never, worst = (with_kernel(drawn, kernel).kernel for kernel in KERNELS)
    np.testing.assert_array_equal(never[drawn.expert == 1], 0)
    np.testing.assert_array_equal(never[drawn.expert == 0], 0.5)
    np.testing.assert_array_equal(worst, garnet(3, 3, 4, 3, 2, noise="adversarial").kernel)
    q = q_values(drawn.mdp, optimal_policy(drawn.mdp))
    np.testing.assert_allclose((worst * q).sum(-1), q.min(-1))
    off_path = with_kernel(hidden_path(2, 3), "never-right").kernel[1, 2]
    np.testing.assert_allclose(off_path, 1 / 3)
    with pytest.raises(BadInput, match="plays all actions"):
        with_kernel(garnet(0, 2, 2, 2, 2, expert="soft"), "never-right")


def test_what_a_bound_may_ask_of_an_instance():
    assert least_right(cliff(3, 4), 0.4) == pytest.approx(1 - 0.4 * 3 / 4)
    assert np.isnan(least_right(rare_action(4, 1.0, 1), 0.4))
    assert largest_return(cliff(3, 4).mdp) == 3
    assert largest_return(poison_chain(3, 2).mdp) == 1
    P = np.array([[[0.5, 0.5]] * 2, [[0.0, 1.0]] * 2])
    lucky = make_mdp(P, np.array([[1.0, 0.0], [5.0, 0.0]]), np.array([1.0, 0.0]), 2)
    assert largest_return(lucky) == 6  # by luck: the mean is 4


def test_a_kernel_as_text():
    assert kernel_text("0.25 0.5,0.25") == kernel_text((0.25, 0.5, 0.25)) == "0.25,0.5,0.25"
    assert kernel_text(None) == "own"
    for bad in ("", "never", "0.5,x", "0.5,0.6", "nan,1"):
        with pytest.raises(BadInput):
            kernel_text(bad)

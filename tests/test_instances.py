"""The instances' MDPs against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nail.checks import BadInput
from nail.envs import instances, mdp
from nail.policies.softmax_table import SoftmaxTable, add_labels, frequencies, plurality
from nail.theory import exact


@pytest.mark.parametrize("build", [instances.poison_chain, instances.hidden_path])
def test_a_noisy_expert_survives_with_probability_q_to_the_h(build):
    secret = np.array([2, 0, 1, 1])
    instance = build(4, 3, secret)
    noisy = instance.noisy(0.4)
    q = exact.right_probability(3, 0.4)
    assert mdp.value(instance.mdp, instance.expert) == pytest.approx(1.0)
    assert mdp.value(instance.mdp, noisy) == pytest.approx(exact.survival(4, 3, 0.4), abs=1e-12)
    on_path = mdp.occupancy(instance.mdp, noisy) * (instance.expert.max(-1) == 1.0)
    np.testing.assert_allclose(on_path.sum(1), q ** np.arange(4), atol=1e-12)
    assert mdp.value(instance.mdp, mdp.optimal_policy(instance.mdp)) == pytest.approx(1.0)


@pytest.mark.parametrize("recovery", [None, 1, 2, 5])
@pytest.mark.parametrize("error", [0.0, 0.03, 0.4])
def test_cliff_regret_is_the_compounding_cost(recovery, error):
    cliff = instances.cliff(12, 3, recovery)
    regret = mdp.regret(cliff.mdp, instances.erring(cliff, error), cliff.expert)
    assert regret == pytest.approx(exact.compounding_cost(12, error, recovery), abs=1e-12)


def test_rare_action_value_and_domination():
    for theta in (0, 1):
        rare = instances.rare_action(10, 2.0, theta, "dominated", 3.0)
        assert mdp.value(rare.mdp, rare.expert) == pytest.approx(1 - (1 - 0.2 * (1 + theta)) ** 10)
        assert np.all(rare.kernel <= 3.0 * rare.expert[0, 0] + 1e-12)
        p = exact.rare_label_probabilities(10, 2.0, 0.3, "dominated", 3.0)[theta]
        assert rare.noisy(0.3)[0, 0, 1] == pytest.approx(p, abs=1e-12)


def test_garnet_is_a_function_of_its_seed_with_the_asked_branching():
    one, same, other = (instances.garnet(s, 4, 6, 3, 2) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.mdp.P, same.mdp.P)
    assert not np.allclose(one.mdp.P, other.mdp.P)
    assert ((one.mdp.P > 0).sum(-1) == 2).all()
    assert 0 < mdp.value(one.mdp, one.expert) < 1
    soft = instances.garnet(1, 4, 6, 3, 2, expert="soft", temperature=0.2)
    assert (soft.expert > 0).all()
    assert mdp.regret(one.mdp, soft.expert, one.expert) > 0
    worst = instances.garnet(1, 4, 6, 3, 2, noise="adversarial")
    assert mdp.value(one.mdp, worst.noisy(0.4)) < mdp.value(one.mdp, one.noisy(0.4))


def test_noise_goes_through_the_channel_in_float64():
    chain = instances.poison_chain(2, 4)
    law = chain.noisy(0.1)
    assert law.dtype == np.float64
    np.testing.assert_allclose(law, 0.9 * chain.expert + 0.025, atol=1e-15)


def test_bad_instances_are_refused():
    for call in (
        lambda: instances.poison_chain(0, 2),
        lambda: instances.poison_chain(3, 1),
        lambda: instances.hidden_path(3, 2, np.array([0, 2, 1])),
        lambda: instances.hidden_path(30, 2),
        lambda: instances.cliff(3, 2, 0),
        lambda: instances.rare_action(4, 3.0, 0),
        lambda: instances.rare_action(4, 1.0, 0, "dominated", 0.5),
        lambda: instances.garnet(0, 3, 4, 2, 5),
        lambda: instances.poison_chain(2, 2).noisy(1.0),
    ):
        with pytest.raises(BadInput):
            call()


def test_count_tables_and_softmax_tables():
    counts = jnp.array([[0, 0, 0], [2, 2, 1], [0, 1, 3]])
    assert plurality(counts).tolist() == [0, 0, 2]
    drawn = jax.jit(jax.vmap(lambda key: plurality(counts, key)))(jax.random.split(jax.random.key(0), 3000))
    shares = np.stack([np.mean(drawn == a, axis=0) for a in range(3)], axis=1)
    # 6 standard errors of 3,000 draws: error probability < 1e-7
    np.testing.assert_allclose(shares, [[1 / 3] * 3, [0.5, 0.5, 0.0], [0, 0, 1]], atol=0.06)
    np.testing.assert_allclose(frequencies(counts)[:2], [[1 / 3] * 3, [0.4, 0.4, 0.2]], rtol=1e-6)
    added = add_labels(counts, jnp.array([2, 0, 1]), jnp.array([1, 1, 0]))
    assert added.tolist() == [[0, 0, 1], [3, 2, 1], [0, 1, 3]]
    table = SoftmaxTable(2, 3, 4)
    params = table.init(jax.random.key(1), 1.0)
    states = jnp.array([[2, 0], [1, 1]])
    parallel = table.forward(params, None, states)[0]
    for h in range(2):
        stepped, _ = table.step(params, None, h, states[:, h])
        np.testing.assert_array_equal(stepped, parallel[:, h])
        np.testing.assert_array_equal(stepped[0], params[h, states[0, h]])

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.noise import Huber, Temperature, sample, uniform_kernel

CLEAN = np.array([0.0, 0.1, 0.0, 0.6, 0.3])
TABLE = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1.0]])

CHANNELS = {
    "uniform": Huber(0.3, uniform_kernel(5)),
    "uniform over a set": Huber(0.3, uniform_kernel(5, (0, 2))),
    "table": Huber(0.5, TABLE),
    "temperature": Temperature(4.0),
    "clean": Huber(0.0, uniform_kernel(5)),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_samples_and_probabilities_agree(name):
    """Chi-square goodness of fit at a fixed seed; each of the 10 tables fails by chance with probability 1e−6."""
    n = 40_000
    probs = CHANNELS[name].probs(jnp.stack([jnp.array(CLEAN)] * 2))
    labels = sample(jnp.broadcast_to(probs, (n, 2, 5)), jax.random.uniform(jax.random.key(0), (n, 2)))
    for state in range(2):
        expected = np.asarray(probs[state], float) * n
        seen = np.bincount(np.asarray(labels[:, state]), minlength=5)
        possible = expected > 0
        assert seen[~possible].sum() == 0
        statistic = ((seen - expected)[possible] ** 2 / expected[possible]).sum()
        assert statistic <= stats.chi2.isf(1e-6, max(possible.sum() - 1, 1))


def test_huber_by_hand():
    law = Huber(0.3, uniform_kernel(5, (0, 2))).probs(jnp.array(CLEAN))
    np.testing.assert_allclose(law, [0.15, 0.07, 0.15, 0.42, 0.21], atol=1e-7)


def test_a_table_of_noise_is_indexed_by_state():
    laws = Huber(0.5, TABLE).probs(jnp.stack([jnp.array(CLEAN)] * 2))
    np.testing.assert_allclose(laws[0], 0.5 * CLEAN + 0.5 * TABLE[0], atol=1e-7)
    np.testing.assert_allclose(laws[1], 0.5 * CLEAN + 0.5 * TABLE[1], atol=1e-7)


def test_temperature_by_hand():
    law = Temperature(2.0).probs(jnp.array([0.0, 0.2, 0.8]))
    np.testing.assert_allclose(law, [0.0, 1 / 3, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(Temperature(1.0).probs(jnp.array(CLEAN)), CLEAN, atol=1e-7)


def test_channels_are_traced():
    """A grid of corruption rates is one vmap."""
    etas = jnp.array([0.0, 0.25, 0.5])
    laws = jax.vmap(lambda eta: Huber(eta, uniform_kernel(5)).probs(jnp.array(CLEAN)))(etas)
    for eta, law in zip(etas, laws, strict=True):
        np.testing.assert_allclose(law, Huber(float(eta), uniform_kernel(5)).probs(jnp.array(CLEAN)), atol=1e-7)


@pytest.mark.parametrize(("u", "action"), [(0.0, 1), (0.0999, 1), (0.1001, 3), (0.6999, 3), (0.7001, 4), (1.0, 4)])
def test_sample_is_the_inverse_distribution_function(u, action):
    assert int(sample(jnp.array(CLEAN), jnp.float32(u))) == action


@pytest.mark.parametrize("over", [(), (5,), (-1, 2)])
def test_bad_supports_are_refused(over):
    with pytest.raises(BadInput, match="over must be"):
        uniform_kernel(5, over)

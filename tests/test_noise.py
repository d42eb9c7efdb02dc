import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nail.checks import BadInput
from nail.noise import ByPrompt, Channel, Huber, Temperature, Within, at, over, sample, uniform_kernel

CLEAN = np.array([0.0, 0.1, 0.0, 0.6, 0.3])
TABLE = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1.0]])

CHANNELS = {
    "uniform": Huber(0.3, uniform_kernel(5)),
    "uniform over a set": Huber(0.3, uniform_kernel(5, (0, 2))),
    "table": Huber(0.5, TABLE),
    "temperature": Temperature(4.0),
    "by state": Huber(np.array([0.3, 0.0]), uniform_kernel(5)),
    "within": Within(0.3, np.array([0.0, 1, 1, 0, 1])),
    "clean": Huber(0.0, uniform_kernel(5)),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_samples_and_probabilities_agree(name):
    """Chi-square goodness of fit at a fixed seed; each of the 14 tables fails by chance with probability 1e−6."""
    n = 40_000
    probs = CHANNELS[name].probs(jnp.stack([jnp.array(CLEAN)] * 2))
    labels = sample(jnp.broadcast_to(probs, (n, 2, 5)), jax.random.bits(jax.random.key(0), (n, 2)))
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


def test_a_rate_by_position_by_hand():
    """Three positions: the channel of one is that of all there, whatever is in front; a number stays a number."""
    laws, kernel = jnp.broadcast_to(jnp.array(CLEAN, jnp.float32), (2, 3, 5)), jnp.eye(5)[:3]
    for channel in (Huber(np.array([0.5, 0.0, 0.2]), kernel), Huber(np.array([0.5, 0.0, 0.2]), kernel[0])):
        noisy = channel.probs(laws)
        np.testing.assert_allclose(noisy[0, 0], 0.5 * CLEAN + [0.5, 0, 0, 0, 0], atol=1e-7)
        np.testing.assert_allclose(noisy[1, 1], CLEAN, atol=1e-7)
        last = [0.0, 0, 0.2, 0, 0] if channel.kernel.ndim == 2 else [0.2, 0, 0, 0, 0]
        np.testing.assert_allclose(noisy[1, 2], 0.8 * CLEAN + last, atol=1e-7)
        for h in range(3):
            np.testing.assert_allclose(at(channel, jnp.int32(h)).probs(laws[:, h]), noisy[:, h], atol=1e-7)
    flat = Huber(0.3, uniform_kernel(5))
    assert at(flat, 2) == flat
    assert at(Temperature(2.0), 1) == over(Temperature(2.0), None) == Temperature(2.0)


def test_mass_is_mixed_within_a_set_by_hand():
    law = Within(0.5, np.array([0.0, 1, 1, 0, 1])).probs(jnp.array(CLEAN))
    np.testing.assert_allclose(law, [0, 0.05 + 0.2 / 3, 0.2 / 3, 0.6, 0.15 + 0.2 / 3], atol=1e-7)
    np.testing.assert_allclose(Within(0.5, np.ones(5)).probs(jnp.array(CLEAN)), Huber(0.5, np.full(5, 0.2)).probs(
        jnp.array(CLEAN)), atol=1e-7)  # fmt: skip
    outside = jnp.array([1.0, 0, 0, 0, 0])
    np.testing.assert_array_equal(Within(0.5, np.array([0.0, 1, 1, 0, 1])).probs(outside), outside)


def test_a_channel_by_prompt_is_bound_to_a_batch():
    """Prompt x has the rate x/10 at its second position, and the kernel 1[x]."""
    noise = ByPrompt(lambda x: Huber(jnp.array([0.0, 1.0]) * x / 10, jnp.broadcast_to(jnp.eye(5)[x], (2, 5))))
    prompts, laws = jnp.array([2, 4, 0]), jnp.broadcast_to(jnp.array(CLEAN, jnp.float32), (3, 2, 5))
    bound = over(noise, prompts)
    assert isinstance(bound, Channel)
    assert not isinstance(noise, Channel)
    noisy = np.asarray(bound.probs(laws))
    np.testing.assert_allclose(noisy[:, 0], laws[:, 0], atol=1e-7)
    for i, x in enumerate((2, 4, 0)):
        np.testing.assert_allclose(noisy[i, 1], (1 - x / 10) * CLEAN + x / 10 * np.eye(5)[x], atol=1e-7)
    np.testing.assert_allclose(at(bound, 1).probs(laws[:, 1]), noisy[:, 1], atol=1e-7)
    assert over(bound, prompts) is bound


def test_channels_are_traced():
    """A grid of corruption rates is one vmap."""
    etas = jnp.array([0.0, 0.25, 0.5])
    laws = jax.vmap(lambda eta: Huber(eta, uniform_kernel(5)).probs(jnp.array(CLEAN)))(etas)
    for eta, law in zip(etas, laws, strict=True):
        np.testing.assert_allclose(law, Huber(float(eta), uniform_kernel(5)).probs(jnp.array(CLEAN)), atol=1e-7)


@pytest.mark.parametrize("over", [(), (5,), (-1, 2)])
def test_bad_supports_are_refused(over):
    with pytest.raises(BadInput, match="over must be"):
        uniform_kernel(5, over)

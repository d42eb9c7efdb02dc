import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nail.noise import Huber, uniform_kernel
from nail.training import losses

LOGITS = jnp.array([0.3, -1.2, 0.8, 0.1])
T = jnp.array([0.1, 0.55, 0.05, 0.3])
BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]


def logp_of(logits):
    return jax.nn.log_softmax(logits)


def expected_gradient(mc):
    """Mean over y ~ t and a ~ sg(p), by enumeration, of the Monte Carlo loss's gradient in the logits."""
    y, a = jnp.divmod(jnp.arange(16), 4)
    gradients = jax.vmap(jax.grad(lambda z, y, a: mc(logp_of(z), y, a)), (None, 0, 0))(LOGITS, y, a)
    return (T[y] * jnp.exp(logp_of(LOGITS))[a]) @ gradients


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("mc", "full"), [(losses.mixed_mc, losses.mixed_full), (losses.jsd_mc, losses.jsd_full)])
def test_monte_carlo_gradients_have_the_full_gradient_as_mean(mc, full, beta, traced):
    def both(beta):
        exact = jax.grad(lambda z: full(logp_of(z), T, beta))(LOGITS)
        return expected_gradient(lambda lp, y, a: mc(lp, T, y, a, beta)), exact

    got, exact = jax.jit(both)(jnp.float32(beta)) if traced else jax.jit(lambda: both(beta))()
    np.testing.assert_allclose(got, exact, atol=1e-6)
    assert jnp.abs(exact).max() > 1e-2


def test_kl_by_hand():
    """p = (3/4, 1/4), t = (1/2, 1/2): KL(t‖p) = ½ ln(4/3), KL(p‖t) = ¾ ln 3 − ln 2."""
    logp, t = jnp.log(jnp.array([0.75, 0.25])), jnp.array([0.5, 0.5])
    assert float(losses.forward_full(logp, t)) == pytest.approx(0.5 * np.log(4 / 3), abs=1e-6)
    assert float(losses.reverse_full(logp, t)) == pytest.approx(0.75 * np.log(3) - np.log(2), abs=1e-6)
    mixed = float(losses.mixed_full(logp, t, 0.25))
    assert mixed == pytest.approx(0.75 * 0.5 * np.log(4 / 3) + 0.25 * (0.75 * np.log(3) - np.log(2)), abs=1e-6)


def test_jsd_by_hand():
    """t = (1, 0), p = (0, 1), β = 1/4: M = (1/4, 3/4), JSD = ¼ ln 4 + ¾ ln(4/3); swapped directions differ."""
    logp, t = jnp.log(jnp.array([1e-30, 1.0])), jnp.array([1.0, 0.0])
    expected = 0.25 * np.log(4) + 0.75 * np.log(4 / 3)
    assert float(losses.jsd_full(logp, t, 0.25)) == pytest.approx(expected, abs=1e-5)
    p, t = np.array([0.75, 0.25]), np.array([0.1, 0.9])
    middle = 0.2 * t + 0.8 * p
    expected = 0.2 * np.sum(t * np.log(t / middle)) + 0.8 * np.sum(p * np.log(p / middle))
    assert float(losses.jsd_full(jnp.log(jnp.array(p)), jnp.array(t), 0.2)) == pytest.approx(expected, abs=1e-6)


def test_jsd_has_the_kl_limits():
    """JSD/β → KL(t‖p) as β → 0 and JSD/(1−β) → KL(p‖t) as β → 1 (docs/theory.md §2)."""
    logp, small = logp_of(LOGITS), 1e-3
    forward, reverse = losses.forward_full(logp, T), losses.reverse_full(logp, T)
    assert float(losses.jsd_full(logp, T, small) / small) == pytest.approx(float(forward), rel=1e-2)
    assert float(losses.jsd_full(logp, T, 1 - small) / small) == pytest.approx(float(reverse), rel=1e-2)
    assert float(forward) != pytest.approx(float(reverse), rel=0.03)


@pytest.mark.parametrize("full", [losses.mixed_full, losses.jsd_full])
@pytest.mark.parametrize("beta", BETAS)
def test_every_divergence_vanishes_at_the_expert(full, beta):
    assert float(full(jnp.log(T), T, beta)) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(jax.grad(lambda z: full(logp_of(z), T, beta))(jnp.log(T)), 0, atol=1e-6)


def test_reverse_floors_the_expert():
    """An action of expert probability 0 costs log p − log 1e−10 (docs/paper.md §1.2: −23.03)."""
    t = jnp.array([1.0, 0.0])
    logp = jnp.log(jnp.array([0.5, 0.5]))
    got = float(losses.reverse_mc(logp, t, jnp.int32(1)))
    assert got == pytest.approx(np.log(0.5) + 23.0259, abs=1e-3)
    assert np.isfinite(jax.grad(lambda z: losses.reverse_full(logp_of(z), t))(jnp.zeros(2))).all()


def test_forward_takes_an_expert_with_zeros():
    t = jnp.array([0.0, 1.0, 0.0, 0.0])
    assert float(losses.forward_full(logp_of(LOGITS), t)) == pytest.approx(-float(logp_of(LOGITS)[1]), abs=1e-6)
    assert np.isfinite(jax.grad(lambda z: losses.jsd_full(logp_of(z), t, 0.5))(LOGITS)).all()


def test_channel_aware_student_is_compared_through_the_channel():
    """A student that is the clean law has zero loss against the noisy law, and only through the channel."""
    channel = Huber(0.4, uniform_kernel(4))
    clean = jnp.array([0.7, 0.1, 0.1, 0.1])
    noisy = channel.probs(clean)
    assert float(losses.forward_full(losses.through_channel(jnp.log(clean), channel), noisy)) == pytest.approx(
        0, abs=1e-6
    )
    assert float(losses.forward_full(jnp.log(clean), noisy)) > 0.01

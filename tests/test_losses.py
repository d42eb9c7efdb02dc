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


def expected(mc, of=lambda loss: jax.grad(lambda z: loss(logp_of(z))), temperature=1.0):
    """Mean over y ~ t and a ~ q = softmax(z/T), by enumeration, of a Monte Carlo loss's gradient in the logits."""
    y, a = jnp.divmod(jnp.arange(16), 4)
    logq = logp_of(LOGITS / temperature)
    found = jax.vmap(lambda y, a: of(lambda lp: mc(lp, T, y, a, logq))(LOGITS))(y, a)
    return (T[y] * jnp.exp(logq)[a]) @ found


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("mc", "full"), [(losses.mixed_mc, losses.mixed_full), (losses.jsd_mc, losses.jsd_full)])
def test_monte_carlo_gradients_have_the_full_gradient_as_mean(mc, full, beta, traced):
    """Also where the action is that of a rollout at another temperature."""

    def all_of(beta):
        exact = jax.grad(lambda z: full(logp_of(z), T, beta))(LOGITS)
        return [expected(lambda *a: mc(*a, beta), temperature=t) for t in (0.3, 1.0, 2.0)], exact

    got, exact = jax.jit(all_of)(jnp.float32(beta)) if traced else jax.jit(lambda: all_of(beta))()
    for mean in got:
        np.testing.assert_allclose(mean, exact, atol=2e-6)
    assert jnp.abs(exact).max() > 1e-2


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_the_mean_value_of_the_sampled_reverse_kl_is_the_kl(temperature):
    """Whatever temperature drew the action: 1.048 nats here; unweighted, 1.82 at T = 0.3 and 0.68 at T = 2."""
    value = expected(lambda lp, t, y, a, logq: losses.reverse_mc(lp, t, a, logq),
                     lambda loss: lambda z: loss(logp_of(z)), temperature)  # fmt: skip
    p, t = np.exp(np.asarray(logp_of(LOGITS), float)), np.asarray(T, float)
    assert float(value) == pytest.approx(np.sum(p * np.log(p / t)), rel=1e-5)


NEAR_ENDS = [1e-7, 1e-6, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-6]
LAWS = {
    "two": (LOGITS, T),
    "sharp": (8 * LOGITS, T),
    "a token that the expert never plays": (LOGITS, jnp.array([0.0, 0.65, 0.05, 0.3])),
}


@pytest.mark.parametrize("laws", LAWS)
def test_jsd_is_right_to_rounding_near_its_ends(laws):
    """Value and gradient in float32 against formulas in float64: the gradient in p is (1−β)·log(p/M). And the means of
    the sampled form, by enumeration. β is the number that 32 bits hold."""
    logits, t = LAWS[laws]
    y, a = jnp.divmod(jnp.arange(16), 4)

    @jax.jit
    def found(beta):
        full = jax.value_and_grad(lambda z: losses.jsd_full(logp_of(z), t, beta))(logits)

        def sampled(y, a):
            logq = logp_of(logits)
            return jax.value_and_grad(lambda z: losses.jsd_mc(logp_of(z), t, y, a, logq, beta))(logits)

        chance = t[y] * jnp.exp(logp_of(logits))[a]
        return full, jax.tree.map(lambda x: chance @ x, jax.vmap(sampled)(y, a))

    for beta in np.float32(NEAR_ENDS):
        z, q, b = (np.asarray(x, float) for x in (logits, t, beta))
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        m, inside = b * q + (1 - b) * p, q > 0
        value = b * np.sum(q[inside] * np.log(q / m, where=inside, out=np.zeros(4))[inside])
        value += (1 - b) * np.sum(p * np.log(p / m))
        slope = (1 - b) * np.log(p / m)
        gradient = p * (slope - p @ slope)
        for got in found(beta):
            assert float(got[0]) == pytest.approx(value, rel=1e-5)
            np.testing.assert_allclose(got[1], gradient, atol=1e-5 * np.abs(gradient).max())


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
    got = float(losses.reverse_mc(logp, t, jnp.int32(1), logp))
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

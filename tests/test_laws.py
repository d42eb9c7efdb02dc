"""The laws of docs/theory.md §3 as properties of the channel, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nail.envs.instances import poison_chain
from nail.envs.mdp import occupancy
from nail.noise import Huber
from nail.theory import bounds, exact

settings.register_profile("laws", settings.get_profile("nail"), max_examples=60)
settings.load_profile("laws")

ETA = st.floats(0.0, 0.99)


@st.composite
def laws(draw, count, most=6):
    """`count` probability vectors of one length, entries down to 0."""
    size = draw(st.integers(2, most))
    rows = []
    for _ in range(count):
        weights = np.array(draw(st.lists(st.integers(0, 1000), min_size=size, max_size=size)), float) ** 3
        weights[draw(st.integers(0, size - 1))] += 1.0
        rows.append(weights / weights.sum())
    return rows


@jax.jit
def corrupted(channel, law):
    return channel.probs(law)


def through(channel, law):
    with jax.enable_x64(True):
        return np.asarray(corrupted(channel, law))


def squared_hellinger(p, q):
    return ((np.sqrt(p) - np.sqrt(q)) ** 2).sum()


@given(laws(3), ETA)
def test_noise_contracts_total_variation_exactly(rows, eta):
    """docs/theory.md §3.1: TV(π_η, π'_η) = (1−η)·TV(π, π')."""
    p, q, kernel = rows
    channel = Huber(eta, kernel)
    noisy = np.abs(through(channel, p) - through(channel, q)).sum() / 2
    np.testing.assert_allclose(noisy, (1 - eta) * np.abs(p - q).sum() / 2, atol=1e-14)


@given(laws(3), ETA)
def test_hellinger_survives_dominated_noise(rows, eta):
    """docs/theory.md §3.2 with the smallest C such that ν <= C·q, and with a larger one."""
    p, q, kernel = rows
    q = 0.999 * q + 0.001 / len(q)
    domination = max(1.0, float((kernel / q).max()))
    channel = Huber(eta, kernel)
    noisy, clean = squared_hellinger(through(channel, p), through(channel, q)), squared_hellinger(p, q)
    assert noisy >= bounds.hellinger_constant(eta, domination) * clean * (1 - 1e-9) - 1e-14
    assert bounds.hellinger_constant(eta, 2 * domination) <= bounds.hellinger_constant(eta, domination)


def test_hellinger_constant_is_needed_and_fails_without_domination():
    """A larger constant, (1−η)/(…) without the square, is violated somewhere; undominated noise has no constant."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(3000):
        p, q = rng.dirichlet([0.3, 0.3], 2)
        eta, domination = rng.uniform(0.3, 0.9), float(max(1.0, (0.5 / q).max()))
        noisy = squared_hellinger((1 - eta) * p + eta / 2, (1 - eta) * q + eta / 2)
        larger = np.sqrt(bounds.hellinger_constant(eta, domination))
        worst = max(worst, larger * squared_hellinger(p, q) / noisy)
    assert worst > 1.0
    for gap in (1e-2, 1e-3, 1e-4):
        p, q = np.array([1 - gap, gap]), np.array([1.0, 0.0])
        channel = Huber(0.3, np.full(2, 0.5))
        noisy = squared_hellinger(through(channel, p), through(channel, q))
        leading = 0.7**2 * gap**2 * (1 / (2 * 0.3) + 1 / (4 - 2 * 0.3))
        assert noisy == pytest.approx(leading, rel=2 * gap)
        assert squared_hellinger(p, q) == pytest.approx(gap, rel=gap)


@given(st.integers(1, 8), st.integers(2, 5), ETA)
def test_survival(horizon, n_actions, eta):
    """docs/theory.md §3.3: a trajectory of the noisy expert is clean after H steps with probability q^H."""
    chain = poison_chain(9, n_actions)
    clean = occupancy(chain.mdp, chain.noisy(eta))[horizon, 0]
    np.testing.assert_allclose(clean, exact.survival(horizon, n_actions, eta), atol=1e-12)


@jax.jit
def gradients(logits, t):
    """∇KL(t‖p), ∇KL(p‖t) and the scores ∇log p(a), of p = softmax(logits)."""

    def forward(z):
        return jnp.sum(t * (jnp.log(t) - jax.nn.log_softmax(z)))

    def reverse(z):
        return jnp.sum(jax.nn.softmax(z) * (jax.nn.log_softmax(z) - jnp.log(t)))

    return jax.grad(forward)(logits), jax.grad(reverse)(logits), jax.jacobian(jax.nn.log_softmax)(logits)


@settings(max_examples=15)
@given(laws(2, most=3), st.floats(0.01, 0.99))
def test_score_function_gradients_have_the_exact_gradients_as_their_mean(rows, eta):
    """docs/theory.md §3.4 by hand.

    Over a ~ p the mean of −log(t/p)·∇log p is ∇KL(p‖t); over y ~ t that of −∇log p is ∇KL(t‖p).
    """
    with jax.enable_x64(True):
        p, t = (jnp.asarray(0.99 * row + 0.01 / len(row)) for row in rows)
        t = Huber(eta, jnp.full(len(p), 1.0 / len(p))).probs(t)
        forward, reverse, score = gradients(jnp.log(p), t)
        p, t, score = (np.asarray(x) for x in (p, t, score))
        np.testing.assert_allclose(forward, -t @ score, atol=1e-10)
        np.testing.assert_allclose(reverse, -(p * (np.log(t) - np.log(p))) @ score, atol=1e-10)


def test_survival_of_the_paper():
    assert exact.survival(31, 7, 0.2) == pytest.approx(0.0029, abs=5e-5)
    assert exact.survival(10, 7, 0.5) == pytest.approx(0.0037, abs=5e-5)

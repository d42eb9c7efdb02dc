"""Objectives on the expert's K most likely tokens, one state in float64 (docs/post_training.md §1.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nail.rules import TOP_P, rollout_law, top_p, top_p_law
from nail.training import losses

A, P, ETA = 8, 7, 0.5
LOGITS = np.array([0.3, -1.2, 0.8, 0.1, -0.4, 0.0, 1.1, -0.7])
T = np.array([0.02, 0.25, 0.13, 0.3, 0.05, 0.1, 0.08, 0.07])
TOP = {1: [3], 2: [3, 1], 4: [3, 1, 2, 5], 7: [3, 1, 2, 5, 6, 7, 4], 8: list(range(8))}
"""K → the K most likely tokens of T"""
NOISY = np.append(np.full(P, ETA / P), 0.0) + (1 - ETA) * np.eye(A)[5]
"""the noisy law of modular addition where 5 is right"""
LOCAL = {
    "renormalised": losses.local_renormalised,
    "unrenormalised": losses.local_unrenormalised,
    "tail": losses.local_tail_full,
}


def exactly(compute, *arguments):
    """A computation in float64, compiled."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(compute)(*map(jnp.asarray, arguments)))


def local(support, k, t=T):
    """log p → the loss on a support."""
    return lambda lp: LOCAL[support](lp, jnp.asarray(t), k)


def kl(lp):
    return losses.reverse_full(lp, jnp.asarray(T))


def slope(loss):
    """The gradient in the logits of a loss of log-probabilities."""
    return jax.grad(lambda z: loss(jax.nn.log_softmax(z)))


def law(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def within(k):
    return np.isin(np.arange(A), TOP[k])


def descended(loss, start):
    """The law at the end of gradient descent on the logits."""

    def run(z):
        z = jax.lax.fori_loop(0, 20_000, lambda _, z: z - 2.0 * slope(loss)(z), z)
        return jax.nn.softmax(z), slope(loss)(z)

    p, left = exactly(run, start)
    assert np.abs(left).max() < 1e-9
    return p


@pytest.mark.parametrize("k", TOP)
def test_values_and_gradients_are_the_closed_forms(k):
    """LSM: p̂_v(log(p̂_v/t̂_v) − ℓ) on S and 0 off it. The other two have p_v(s_v − Σ p·s), s_v = log(p_v/t_v) + 1 on S
    and, off it, 0 without renormalisation and log(p_v/t_v) with the tail."""
    p, inside = law(LOGITS), within(k)
    given, expert = (np.where(inside, x, 0) / x[inside].sum() for x in (p, T))
    ratio, far = np.log(np.where(inside, given, 1) / np.where(inside, expert, 1)), np.log(p / T)
    whole, tail = np.where(inside, far + 1, 0), np.where(inside, far + 1, far)
    expected = {
        "renormalised": (given @ ratio, given * (ratio - given @ ratio)),
        "unrenormalised": ((p * far)[inside].sum(), p * (whole - p @ whole)),
        "tail": (p @ far, p * (tail - p @ tail)),
    }
    for support, (value, gradient) in expected.items():
        loss = local(support, k)
        assert exactly(lambda z, loss=loss: loss(jax.nn.log_softmax(z)), LOGITS) == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(exactly(slope(loss), LOGITS), gradient, atol=1e-12)


def test_one_token_never_learns_and_all_tokens_are_the_reverse_kl():
    """K = 1: the gradient is 0 at any logits; K = A: it is that of KL(p‖t), for all three forms."""
    for z in (LOGITS, 5 * LOGITS, -LOGITS):
        np.testing.assert_allclose(exactly(slope(local("renormalised", 1)), z), 0, atol=1e-15)
        reverse = exactly(slope(kl), z)
        assert np.abs(reverse).max() > 0.1
        for support in LOCAL:
            np.testing.assert_allclose(exactly(slope(local(support, A)), z), reverse, atol=1e-6)


@pytest.mark.parametrize("k", [2, 4, 7])
@pytest.mark.parametrize("t", [T, NOISY])
def test_lsm_from_uniform_logits_ends_at_the_closed_form(k, t):
    """Off S no logit moves and on S their mean stays: p(S) = t(S)/(t(S) + (A−K)·G), G the geometric mean of t on S."""
    s = np.argsort(-t, kind="stable")[:k]
    p = descended(local("renormalised", k, t), np.zeros(A))
    share = t[s].sum() / (t[s].sum() + (A - k) * np.exp(np.log(t[s]).mean()))
    np.testing.assert_allclose(p[s], share * t[s] / t[s].sum(), atol=1e-6)
    np.testing.assert_allclose(np.delete(p, s), (1 - share) / (A - k), atol=1e-6)


def test_lsm_of_two_tokens_is_right_when_greedy_and_worse_when_sampled():
    """p(S) = 2cosh(g/2)/(2cosh(g/2) + A − 2), g the logit of the top token's share; 0.35 and 0.31 < 0.571 here."""
    p = descended(local("renormalised", 2, NOISY), np.zeros(A))
    share = NOISY[5] / (NOISY[5] + NOISY[0])
    cosh = 2 * np.cosh(np.log(share / (1 - share)) / 2)
    assert share == pytest.approx(0.889, abs=5e-4)
    assert p[[0, 5]].sum() == pytest.approx(cosh / (cosh + A - 2), abs=1e-6)
    assert p[[0, 5]].sum() == pytest.approx(0.35, abs=5e-3)
    assert p[5] == pytest.approx(0.31, abs=5e-3)
    assert p.argmax() == 5


def test_mass_off_the_support_costs_nothing():
    """Logits off S raised by 3 leave LSM's value as it is, and raise the reverse KL's."""
    raised = np.where(within(2), LOGITS, LOGITS + 3)

    def value(loss):
        return [exactly(lambda z: loss(jax.nn.log_softmax(z)), z) for z in (LOGITS, raised)]

    before, after = value(local("renormalised", 2))
    assert after == pytest.approx(before, abs=1e-12)
    before, after = value(kl)
    assert after > before + 0.3


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_without_renormalisation_the_minimiser_is_the_expert_over_e(k):
    """p = t/e on S, so that 1 − t(S)/e ≥ 0.632 leaves S; the value there is −t(S)/e."""
    loss, s = local("unrenormalised", k), TOP[k]
    p = descended(loss, LOGITS)
    np.testing.assert_allclose(p[s], T[s] / np.e, atol=1e-6)
    assert exactly(loss, np.log(p)) == pytest.approx(-T[s].sum() / np.e, abs=1e-6)
    assert 1 - p[s].sum() > 0.632


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_the_tail_corrected_minimiser_is_not_the_expert(k):
    """p ∝ t·exp(−1[v∈S]): the sampled tail lacks the term that makes the summed part's gradient whole."""
    p, expected = descended(local("tail", k), LOGITS), T * np.where(within(k), np.exp(-1), 1)
    np.testing.assert_allclose(p, expected / expected.sum(), atol=1e-6)
    assert np.abs(p - T).max() > 0.03


def mean_slope(weights, loss):
    """Σ_y weights(y)·gradient of loss(log p, y): the mean over the sampled token by enumeration."""

    def mean(weights):
        return weights @ jax.vmap(lambda y: slope(lambda lp: loss(lp, y))(jnp.asarray(LOGITS)))(jnp.arange(A))

    return exactly(mean, weights)


@pytest.mark.parametrize("k", TOP)
def test_the_tail_corrected_gradient_has_that_of_kl_plus_the_mass_on_the_support_as_mean(k):
    """And its value that of KL(p‖t). At K = A the mass is 1 and the gradient is KL's own."""

    def tail(lp, y):
        return losses.local_tail_mc(lp, jnp.asarray(T), k, y, lp)

    p, inside = law(LOGITS), within(k)
    got = mean_slope(p, tail)
    np.testing.assert_allclose(
        got, exactly(slope(lambda lp: kl(lp) + jnp.sum(jnp.exp(lp), where=inside)), LOGITS), atol=1e-12
    )
    np.testing.assert_allclose(got, exactly(slope(local("tail", k)), LOGITS), atol=1e-12)
    values = exactly(lambda lp: jax.vmap(lambda y: tail(lp, y))(jnp.arange(A)), np.log(p))
    assert p @ values == pytest.approx(p @ np.log(p / T), abs=1e-12)


def test_a_sampled_token_of_a_nucleus_has_the_terms_inside_as_mean():
    """Σ_{a∈N} ∇p(a)·log(p(a)/t(a)), N = {6, 2, 0} (docs/post_training.md §1.3); of the tail-corrected form, those of
    them that are off S (K = 2: S = {3, 1}) beside the terms on S. Of p itself the token has ∇KL."""
    p, k = law(LOGITS), 2
    drawn = np.exp(exactly(lambda z: top_p_law(z, 0.6), LOGITS))
    logq, inside = jnp.asarray(exactly(lambda z: rollout_law(TOP_P, z, 1.0, 0.6), LOGITS)), drawn > 0
    np.testing.assert_array_equal(np.flatnonzero(inside), [0, 2, 6])
    np.testing.assert_allclose(drawn, np.where(inside, p, 0) / p[inside].sum(), atol=1e-12)
    jacobian, terms = np.diag(p) - np.outer(p, p), np.where(inside, np.log(p / T), 0)

    def sampled(lp, y, logq=logq):
        return losses.reverse_mc(lp, jnp.asarray(T), y, logq)

    def tail(lp, y):
        return losses.local_tail_mc(lp, jnp.asarray(T), k, y, logq)

    whole = mean_slope(p, lambda lp, y: sampled(lp, y, lp))
    np.testing.assert_allclose(whole, exactly(slope(kl), LOGITS), atol=1e-12)
    found = mean_slope(drawn, sampled)
    np.testing.assert_allclose(found, jacobian @ terms, atol=1e-12)
    assert np.abs(found - whole).max() > 0.05
    expected = exactly(slope(local("unrenormalised", k)), LOGITS) + jacobian @ np.where(within(k), 0, terms)
    np.testing.assert_allclose(mean_slope(drawn, tail), expected, atol=1e-12)


def test_the_lowest_token_comes_first_in_a_tie():
    """Tokens 0..4 and 6 tie behind 5, and "=" (7) is last: S grows in the order 5, 0, 1, 2, 3, 4, 6, 7."""
    order = [5, 0, 1, 2, 3, 4, 6, 7]
    for t in (NOISY, NOISY.astype(np.float32)):
        for k in range(1, A + 2):
            inside = exactly(lambda t, k=k: losses.teacher_support(t, k), t)
            np.testing.assert_array_equal(np.flatnonzero(inside), sorted(order[:k]))


@pytest.mark.parametrize("eta", [0.2, 0.5])
def test_a_nucleus_of_the_noisy_law_is_greedy_up_to_the_chance_of_a_right_label(eta):
    """At the noisy law top-p plays the mode alone iff p ≤ 1 − η + η/A, A residues: 0.829 and 0.571 at A = 7."""
    threshold = 1 - eta + eta / P
    assert threshold == pytest.approx({0.2: 0.829, 0.5: 0.571}[eta], abs=5e-4)
    noisy = jnp.log(jnp.asarray(eta / P + (1 - eta) * np.eye(P)[5], jnp.float32))
    gumbel = jax.random.gumbel(jax.random.key(0), (4_000, P))
    play = jax.jit(lambda p: top_p(jnp.broadcast_to(noisy, gumbel.shape), gumbel, p))
    assert set(np.unique(play(threshold - 1e-5))) == {5}
    assert set(np.unique(play(threshold + 1e-5))) == {0, 5}

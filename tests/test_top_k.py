"""Forward KL on the expert's K most likely tokens, one state in float64 (docs/post_training.md §1.7)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import UNOPTIMISED, finished
from test_local_support import LOGITS, NOISY, TOP, A, T, exactly, law, slope, within

from nail.training import losses
from nail.training.config import TrainConfig

FORWARD = {
    "renormalised": losses.top_renormalised,
    "unrenormalised": losses.top_unrenormalised,
    "tail": losses.top_tail,
}


def on(support, k, t=T):
    """log p → the loss on a support."""
    return lambda lp: FORWARD[support](lp, jnp.asarray(t), k)


def descended(loss, steps=20_000):
    """The law after gradient descent on the logits, from uniform ones."""
    return exactly(
        lambda z: jax.nn.softmax(jax.lax.fori_loop(0, steps, lambda _, z: z - 2.0 * slope(loss)(z), z)), np.zeros(A)
    )


@pytest.mark.parametrize("k", TOP)
def test_values_and_gradients_are_the_closed_forms(k):
    """Gradients in the logits: t(S)·p − t·1[S], p̂ − t̂ on S, and with the tail p − t on S, p·(1 − t(rest)/p(rest)) off
    it. The form with a tail is Σ −t log p over S and the rest as one token, but for the entropy of these masses."""
    p, inside = law(LOGITS), within(k)
    given, expert = (np.where(inside, x, 0) / x[inside].sum() for x in (p, T))
    rest, left = T[~inside].sum(), p[~inside].sum()
    summed, entropy = (T * np.log(T / p))[inside].sum(), 0.0 if k == A else rest * np.log(rest)
    cross = -(T * np.log(p))[inside].sum() - (0.0 if k == A else (1 - T[inside].sum()) * np.log(1 - p[inside].sum()))
    factor = 0.0 if k == A else 1 - rest / left
    expected = {
        "renormalised": ((expert * np.log(np.where(inside, expert / np.where(inside, given, 1), 1))).sum(),
                         given - expert),
        "unrenormalised": (summed, T[inside].sum() * p - np.where(inside, T, 0)),
        "tail": (cross + (T * np.log(T))[inside].sum() + entropy, np.where(inside, p - T, p * factor)),
    }  # fmt: skip
    for support, (value, gradient) in expected.items():
        loss = on(support, k)
        got, found = exactly(lambda z, loss=loss: (loss(jax.nn.log_softmax(z)), slope(loss)(z)), LOGITS)
        assert got == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(found, gradient, atol=1e-12)
        if k == A:
            whole = exactly(slope(lambda lp: losses.forward_full(lp, jnp.asarray(T))), LOGITS)
            np.testing.assert_allclose(found, whole, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("t", [T, NOISY])
def test_what_is_learned_with_and_without_a_tail(k, t):
    """With it p = t on S, and the rest of the mass stays off S: the noise is kept. Without it no mass stays off S, and
    K = 1 ends at the expert's mode alone (as 1/steps: 1e−3 here). Renormalised, K = 1 learns nothing."""
    s = np.argsort(-t, kind="stable")[:k]
    p = descended(on("tail", k, t))
    np.testing.assert_allclose(p[s], t[s], atol=1e-6)
    np.testing.assert_allclose(np.delete(p, s), (1 - t[s].sum()) / (A - k), atol=1e-6)
    p = descended(on("unrenormalised", k, t))
    np.testing.assert_allclose(p[s], t[s] / t[s].sum(), atol=2e-3)
    assert np.delete(p, s).sum() < 2e-3 < 0.2 < 1 - t[s].sum()
    p = descended(on("renormalised", k, t), steps=2_000)
    np.testing.assert_allclose(p[s] / p[s].sum(), t[s] / t[s].sum(), atol=1e-6)
    if k == 1:
        np.testing.assert_allclose(p, 1 / A, atol=1e-12)


def test_the_tail_of_a_sure_expert_and_a_sure_student_is_finite():
    """t(S) = 1, and log p(rest) = −200 in float32: no NaN, no infinity, and the gradient pushes mass off S."""
    for t, up in ((jnp.eye(A)[3], 0), (jnp.asarray(T, jnp.float32), 1)):
        value, found = jax.value_and_grad(lambda z, t=t: losses.top_tail(jax.nn.log_softmax(z), t, 1))(
            200 * jnp.eye(A)[3]
        )
        assert np.isfinite(value)
        assert float(found[3]) == pytest.approx(0.7 * up, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "solved"), [("opd-f-top-k", 1.0), ("opd-f-top-k-tail", 0.0)])
def test_sampled_rollouts_are_greedy_ones_without_a_tail_and_the_noisy_experts_with_it(method, solved):
    """K = 1 on the poison chain, where a noisy chain is clean with probability 0.625^20 = 8e−5."""
    config = TrainConfig(
        task="poison-chain", H=20, A=4, eta=0.5, lr=0.05, warmup=0, batch=8, steps=300, eval_every=300, n_validation=1,
        method=method, top_k_teacher=1,
    )  # fmt: skip
    rows = finished(config, TrainConfig(**{**vars(config), "seed": 1}), options=UNOPTIMISED)[1]
    np.testing.assert_array_equal(rows[-1].evaluation.full_exact, solved)

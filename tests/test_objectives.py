"""What the fields of a method's row and of a configuration make of the objective of an update."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import UNOPTIMISED, finished
from test_learner import CONFIG, flat, free, golden, seen  # noqa: F401  (a fixture)

import nail
from nail.checks import BadInput
from nail.method_checks import check_method
from nail.methods import TOP_P, Method
from nail.training.config import TrainConfig
from nail.training.train import make_train
from nail.training.update import first_played, objective

TABLE = TrainConfig(task="poison-chain", A=3, H=4, batch=8, steps=12, lr=0.1, warmup=0, eval_every=6, n_validation=4)


def table(**changes):
    """Last state and rows of a run on the poison chain."""
    return finished(dataclasses.replace(TABLE, **changes), options=UNOPTIMISED)


def assert_same_runs(first, second):
    """Two finished runs have the same parameters and losses, up to rounding."""
    np.testing.assert_allclose(flat(first[0].params, 0), flat(second[0].params, 0), atol=1e-5)
    for row, other in zip(first[1], second[1], strict=True):
        np.testing.assert_allclose(row.train_loss[0], other.train_loss[0], rtol=1e-4)


def test_sampled_top_p_at_mass_1_is_opd_r():
    sampled, narrower = (table(method="opd-r-top-p", rule_number=p) for p in (1.0, 0.5))
    assert_same_runs(sampled, table(method="opd-r"))
    assert np.abs(flat(sampled[0].params, 0) - flat(narrower[0].params, 0)).max() > 1e-2


def test_a_support_of_all_tokens_is_the_full_reverse_kl():
    """The default K = 4 where A = 3, against the full form of OPD-R with the same rollouts."""
    full = table(method="opd-r-top-p", estimator="full")
    for method in ("lsm", "lsm-tail", "lsm-unrenormalised"):
        assert_same_runs(table(method=method), full)


def test_only_the_tail_reads_the_estimator(seen):  # noqa: F811
    """Losses on one batch, `mc` against `full`, K = 2 of 4."""
    for method, differs in (("lsm", False), ("lsm-unrenormalised", False), ("lsm-tail", True)):
        found = []
        for estimator in ("mc", "full"):
            setup, numbers, channel = free(method=method, top_k_teacher=2, estimator=estimator)
            loss = jax.jit(lambda *a, s=setup, n=numbers, c=channel: objective(s, c, n, *a, jax.random.key(0)))
            found.append(float(loss(*seen)))
        assert (found[0] != pytest.approx(found[1], rel=1e-4)) == differs


def test_first_times_by_hand():
    """Tokens 1 and 3; each has a first time of its own."""
    actions = jnp.array([[1, 1, 3, 3], [0, 2, 0, 2], [3, 0, 1, 3]])
    expected = [[True, False, True, False], [False] * 4, [True, False, True, False]]
    np.testing.assert_array_equal(first_played(actions, (1, 3)), expected)
    np.testing.assert_array_equal(first_played(actions, (2,))[:, 1], [False, True, False])


@pytest.mark.parametrize("method", ["loglossbc", "nail-f", "opd-r", "lsm"])
def test_masked_positions_have_no_gradient_and_the_mean_is_over_the_others(method, seen):  # noqa: F811
    """At a student that is free at each prefix: the masked objective's gradient is the whole one's, off the mask, times
    positions over positions left."""
    found = {}
    for mask in ("", "0 2"):
        setup, numbers, channel = free(method=method, mask_first=mask)

        @jax.jit
        def of(logits, visited, s=setup, n=numbers, c=channel):
            return jax.value_and_grad(lambda z: objective(s, c, n, z, visited, jax.random.key(2)))(logits)

        found[mask] = of(*seen)
    masked = np.asarray(first_played(seen[1].actions, (0, 2)))
    assert 0 < masked.sum() < masked.size
    (_, whole), (loss, gradient) = found[""], found["0 2"]
    np.testing.assert_array_equal(gradient[masked], 0)
    np.testing.assert_allclose(gradient[~masked], whole[~masked] * masked.size / (~masked).sum(), rtol=1e-5, atol=1e-7)
    if method == "loglossbc":
        logp = jax.nn.log_softmax(seen[0])
        each = -np.take_along_axis(np.asarray(logp), np.asarray(seen[1].labels)[..., None], -1)[..., 0]
        assert float(loss) == pytest.approx(each[~masked].mean(), rel=1e-5)


def test_an_episode_that_is_masked_whole_costs_nothing():
    """H = 1 and every token masked: loss 0, parameters as they were, no NaN."""
    state, rows = table(H=1, mask_first="0 1 2", method="nail-f")
    np.testing.assert_array_equal(state.params, 0)
    assert float(rows[-1].train_loss[0]) == 0


@pytest.mark.parametrize("method", ["lsm", "lsm-tail", "lsm-unrenormalised", "opd-r-top-p"])
def test_training_a_table_by_each_row(method):
    """Finite losses and parameters that move; LSM with K = 1 leaves every logit where it was."""
    state, rows = table(method=method)
    assert np.abs(state.params).max() > 0.1
    assert np.isfinite(rows[-1].train_loss).all()
    if method == "lsm":
        state, rows = table(method=method, top_k_teacher=1)
        np.testing.assert_array_equal(state.params, 0)
        assert float(rows[-1].train_loss[0]) == 0


def test_training_with_an_echoing_expert():
    """The golden run of LSM, but for the expert after a mistake."""
    config = dataclasses.replace(CONFIG, method="lsm", recovery="echo", top_k_teacher=2)
    state, rows = finished(config, options=UNOPTIMISED)
    assert np.isfinite(rows[-1].train_loss).all()
    assert np.abs(flat(state.params, 0) - flat(golden("lsm")[0].params, 0)).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"support": "tail"}, "top_k_teacher of the method mine must be an integer from 1 on, got None"),
        ({"support": "tail", "top_k_teacher": 0}, "of the method mine must be an integer from 1 on, got 0"),
        ({"top_k_teacher": 4}, "top_k_teacher of the method mine must be None where the support is all tokens, got 4"),
        ({"support": "tail", "top_k_teacher": 4, "beta": 0.5}, "beta of the method mine must be 0 or 1"),
        ({"support": "tail", "top_k_teacher": 4, "divergence": "jsd"}, "divergence of the method mine must be kl"),
        ({"support": "half"}, "support of the method mine must be one of all, renormalised, tail, unrenormalised"),
    ],
)  # fmt: skip
def test_a_row_with_a_support_that_does_not_fit_is_refused(fields, sentence):
    row = Method("mine", "mine", "student", **{"beta": 1.0, "rule": TOP_P, **fields})
    with pytest.raises(BadInput, match=sentence):
        check_method(row)


def test_k_above_the_actions_of_a_task_from_outside_is_refused_before_anything_is_compiled(tables):
    """The options of such a task do not say how many actions it has; its environment does."""
    from nail.envs.modadd import make_modadd

    nail.add_task("parity", "running parity of 6 bits", lambda o, seed, n: make_modadd(2, 6, "none", seed, n))
    with pytest.raises(BadInput, match=r"top_k_teacher must be an integer in 1..A = 3, got 4"):
        make_train(TrainConfig(task="parity", method="lsm", top_k_teacher=4))
    with pytest.raises(BadInput, match=r"mask_first must be different tokens in 0..2 with blanks between, got '3'"):
        make_train(TrainConfig(task="parity", mask_first="3"))


def test_a_fresh_token_serves_the_tail_of_a_greedy_row(tables, seen):  # noqa: F811
    """A row with an auxiliary token: its tail is sampled from the student, and depends on the key of the loss."""
    nail.add_method(Method("nail-tail", "NAIL, tail", "student", beta=1.0, support="tail", top_k_teacher=2))
    setup, numbers, channel = free(method="nail-tail")
    losses = jax.jit(jax.vmap(lambda key: objective(setup, channel, numbers, *seen, key)))
    assert float(jnp.std(losses(jax.random.split(jax.random.key(3), 4)))) > 1e-3

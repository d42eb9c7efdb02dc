"""A loss of the user's own: what it computes, where it is used, and what is refused (docs/loss.md)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_learner import free, seen  # noqa: F401  (a fixture)
from test_objectives import TABLE, assert_same_runs, table

import nail
from nail.checks import BadInput
from nail.lm.config import lm_methods, unread
from nail.method_checks import check_method
from nail.methods import METHOD, TOP_P
from nail.training.config import group_key, run_id
from nail.training.problem import make_setup
from nail.training.ranges import check
from nail.training.update import objective


def hellinger(logp, law, label):
    """Σ(√p − √t)²."""
    return jnp.sum((jnp.exp(logp / 2) - jnp.sqrt(law)) ** 2)


def log_loss(logp, law, label):
    """−log p(y)."""
    return -logp[label]


def add(name, loss, driver="student", **fields):
    nail.add_method(nail.Method(name, name, driver, loss=loss, **fields))


def of(batch, **config):
    """(value, gradient in the logits) of the objective on a batch."""
    setup, numbers, channel = free(**config)
    key = jax.random.key(2)
    return jax.jit(lambda z, v: jax.value_and_grad(lambda z: objective(setup, channel, numbers, z, v, key))(z))(*batch)


def test_hellinger_by_hand(tables, seen):  # noqa: F811
    """2 − 2·Σ√(pt), and −√(pt) + p·Σ√(pt) in the logits, both a mean over batch and positions, in float64."""
    add("mine", hellinger)
    value, gradient = of(seen, method="mine")
    z, t = (np.asarray(x, float) for x in (seen[0], seen[1].laws))
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    root = np.sqrt(p * t)
    assert float(value) == pytest.approx((2 - 2 * root.sum(-1)).mean(), rel=1e-5)
    expected = (p * root.sum(-1, keepdims=True) - root) / z[..., 0].size
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("mask", ["", "0 2"])
@pytest.mark.parametrize("aware", [False, True])
def test_the_log_loss_as_a_loss_of_its_own_is_nail_f(aware, mask, tables, seen):  # noqa: F811
    """On labels (mc), and in mean over them (full, up to the entropy of t), also behind the channel and masked."""
    add("mine", log_loss)
    common = {"channel_aware": aware, "mask_first": mask}
    for estimator in ("mc", "full"):
        mine, theirs = (of(seen, method=name, estimator=estimator, **common) for name in ("mine", "nail-f"))
        np.testing.assert_allclose(mine[1], theirs[1], atol=1e-6)
        if estimator == "mc":
            np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-6)
        else:
            assert float(mine[0]) > float(theirs[0]) + 0.1


@pytest.mark.parametrize(
    ("other", "driver", "fields", "config"),
    [
        ("dagger", "mixture", {"aggregate": True}, {"dagger_rounds": 3}),
        ("opd-top-p", "student", {"temperature": 1.0, "rule": TOP_P}, {"rule_number": 0.7, "teacher": "average"}),
    ],
)
def test_runs_with_a_mixture_or_a_rule_and_a_teacher(other, driver, fields, config, tables):
    """The log loss as a loss of its own gives the runs of the row that has it."""
    add("mine", log_loss, driver, **fields)
    assert_same_runs(table(method="mine", **config), table(method=other, **config))


def test_behaviour_cloning_by_reverse_kl_is_its_loss_on_the_experts_chains(tables):
    """Whole runs, with the estimator full: against the formula as a loss of its own. (Its mc form has the full one's
    gradient as mean: tests/test_learner.py.)"""
    add("mine", lambda logp, law, label: jnp.exp(logp) @ (logp - jnp.log(law)), "expert")
    assert_same_runs(table(method="bc-r", estimator="full"), table(method="mine"))


def test_a_loss_is_part_of_a_runs_identity(tables):
    """Its number, its code, and what it reads; and runs with another loss have another program."""

    def power(a):
        return lambda logp, law, label: jnp.sum(jnp.abs(jnp.exp(logp) - law) ** a)

    def ids():
        config = dataclasses.replace(TABLE, method="mine")
        return run_id(config), group_key(config)

    found = []
    for loss in (power(2), power(2), power(3), hellinger, log_loss):
        add("mine", loss)
        found.append(ids())
    assert found[0] == found[1]
    assert len(set(found)) == len({run for run, _ in found}) == len({group for _, group in found}) == 4


calls = iter(range(100))
BROKEN = {
    "a shape": (lambda p, t, y: p, r"returns must be a number, got float32\[3\]"),
    "two values": (lambda p, t, y: (p[y], y), "returns must be a number, got float32"),
    "a type": (lambda p, t, y: y, r"returns must be a number, got int32\[\]"),
    "arguments": (lambda p, t: p[0], "tracing it raised TypeError"),
    "the number of actions": (lambda p, t, y: p @ jnp.ones(4), "tracing it raised TypeError"),
    "a branch": (lambda p, t, y: p[0] if p[0] < p[1] else p[1], "tracing it raised TracerBoolConversionError"),
    "no gradient": (
        lambda p, t, y: jax.lax.while_loop(lambda x: x < 0, lambda x: x + 1, p[0]),
        "gradient .* it raised ValueError",
    ),
    "chance": (lambda p, t, y: p[y] * np.random.default_rng().random(), "traced twice it is two programs"),
    "a counter": (lambda p, t, y: p[y] * next(calls), "traced twice it is two programs"),
    "an effect": (
        lambda p, t, y: (jax.debug.print("{}", p), p[y])[1],
        "got one with the effect",
    ),
    "the student": (lambda p, t, y: t[y], "a function of the student's log-probabilities, got one that does not"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_loss_that_is_none_is_one_sentence_before_anything_is_kept(what, tables, tmp_path):
    loss, sentence = BROKEN[what]
    add("mine", loss)
    with pytest.raises(BadInput, match=sentence) as error:
        nail.run([dataclasses.replace(TABLE, method=name) for name in ("nail-f", "mine")], tmp_path / "out")
    assert "loss of the method mine" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "asked").exists()


def test_options_that_a_loss_does_not_read_are_refused(tables):
    """full is read where the label is; it would be mc's program where it is not."""
    add("mine", hellinger)
    add("labelled", log_loss)
    for fields, sentence in (
        ({"beta": 0.1}, "beta must be left out: mine has a loss of its own, got 0.1"),
        ({"top_k_teacher": 2}, "top_k_teacher must be left out: mine has no support of K tokens"),
        ({"estimator": "full"}, "estimator must be left out: the loss of mine reads no label"),
    ):
        with pytest.raises(BadInput, match=sentence):
            make_setup(check(dataclasses.replace(TABLE, method="mine", **fields)))
    make_setup(check(dataclasses.replace(TABLE, method="labelled", estimator="full")))


@pytest.mark.parametrize(
    "fields",
    [{"divergence": "jsd"}, {"beta": 1.0}, {"action": "rollout"}, {"decides": "plurality"}, {"loss": 3},
     {"support": "tail", "top_k_teacher": 2}, {"reward": "centred", "group": 4, "temperature": 1.0}],
)  # fmt: skip
def test_a_row_has_one_objective(fields):
    name = next(iter(fields))
    with pytest.raises(BadInput, match=f"{name} of the method mine must be"):
        check_method(nail.Method("mine", "mine", "student", **{"loss": hellinger, **fields}))


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("mine", "loss of the count-based learner mine must be None, got hellinger"),
        ("bc-r", "beta of the count-based learner bc-r must be 0 where the expert drives"),
        ("opd-f-top-k", "support of the count-based learner opd-f-top-k must be all"),
    ],
)
def test_counts_and_language_models_refuse_what_they_cannot_stand_for(method, sentence, tables):
    add("mine", hellinger)
    with pytest.raises(BadInput, match=sentence):
        nail.n_star("poison-chain", method, horizon=2, n_actions=3, eta=0.3, delta=0.1)
    assert method not in lm_methods()
    assert unread(METHOD["mine"]) == "loss hellinger"

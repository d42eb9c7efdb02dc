"""The rollout rule that ships with the methods, and what each method is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nail.checks import BadInput
from nail.cli.main import main
from nail.counting.drivers import Setting
from nail.counting.learners import learner_of
from nail.counting.rows import level_methods
from nail.envs.instances import Instance
from nail.figures.experiment import Claim, Experiment
from nail.methods import METHOD, Method, require_trained
from nail.noise import Huber
from nail.rules import Rule, top_p


def test_a_nucleus_is_the_smallest_set_of_its_mass_and_its_ends_are_greedy_and_sampled():
    """Logits on a grid, so that there are ties; 6 standard errors of 20,000 draws: error probability below 1e-8."""
    grid, noise = jax.random.split(jax.random.key(0))
    logits = jnp.round(2 * jax.random.normal(grid, (500, 7))) / 2
    gumbel = jax.random.gumbel(noise, logits.shape)
    rule = jax.jit(top_p)
    for p in (-1.0, 0.0):
        np.testing.assert_array_equal(rule(logits, gumbel, p), jnp.argmax(logits, -1))
    for p in (1.0, 2.0):
        np.testing.assert_array_equal(rule(logits, gumbel, p), jnp.argmax(logits + gumbel, -1))
    law = np.array([0.1, 0.3, 0.2, 0.3, 0.1])
    many = jax.random.gumbel(noise, (20_000, 5))
    for p, kept in ((0.29, [1]), (0.31, [1, 3]), (0.59, [1, 3]), (0.61, [1, 2, 3]), (0.85, [0, 1, 2, 3])):
        shares = np.bincount(rule(jnp.broadcast_to(jnp.log(law), many.shape), many, p), minlength=5) / len(many)
        inside = np.isin(np.arange(5), kept) * law / law[kept].sum()
        np.testing.assert_allclose(shares, inside, atol=6 * np.sqrt(0.25 / len(many)))
        assert not shares[inside == 0].any()


def test_a_nucleus_of_mass_1_keeps_tokens_below_rounding():
    """The mass above the last tokens rounds to 1 in float32; sampled is sampled all the same."""
    logits, gumbel = jnp.array([30.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 40.0])
    assert [int(top_p(logits, gumbel, p)) for p in (0.0, 0.999, 1.0)] == [0, 0, 2]


@pytest.mark.parametrize("command", ["train --method", "bench --methods", "sweep grid --vary"])
def test_a_method_of_counts_is_said_to_be_one(command, tmp_path, capsys):
    for row in METHOD.values():
        if row.trains:
            require_trained(row.name)
            continue
        given = f"method={row.name}" if "grid" in command else row.name
        assert main([*command.split(), given, "--out", str(tmp_path / "out")]) == 2
        assert f"nail n-star --method {row.name}" in capsys.readouterr().err
        learner_of(row)
    with pytest.raises(BadInput, match="unknown method 'nailgum'"):
        require_trained("nailgum")


def test_the_methods_that_count_are_those_that_a_learner_is_made_of():
    made = []
    for name, row in METHOD.items():
        try:
            learner_of(row)
        except BadInput:
            continue
        made.append(name)
    assert set(made) - {"nail-class"} == set(level_methods())


@pytest.mark.parametrize("kind", [Method, Rule, Claim, Experiment, Setting, Instance, Huber])
def test_help_says_what_the_fields_are(kind):
    """Not "Alias for field number 7": the text that stands below a field, or its type."""
    texts = [getattr(kind, field).__doc__ for field in kind._fields]
    assert not [text for text in texts if not text or text.startswith("Alias for")]
    if kind is Method:
        assert "reverse KL" in Method.beta.__doc__
        assert "\n    " not in Method.told.__doc__
    if kind is Claim:
        assert Claim.holds.__doc__ == "bool | None"

"""Negated criteria of `defclass`, and the expert that misses a NOT, against a reader in plain Python."""

import hashlib
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defining import SMALL, prompts, vector, words, world
from programs import UNOPTIMISED, finished
from readers import (
    DEFCLASS_TOKENS,
    NAMES,
    USUAL,
    chains,
    defclass_chain,
    defclass_law,
    defclass_misreader,
    defclass_negated,
    defclass_prompt,
)
from scipy import stats

import nail
from nail.envs.defclass import PRIOR, answer, canonical, make_defclass, met, negation
from nail.noise import at, over
from nail.training.config import TrainConfig, run_id


def test_a_negated_definition_by_hand():
    """The item has c1, so that "NOT c1" is not met; without c1 it is."""
    env = make_defclass(1.0, 0.3, 0, 5, 1.0)
    for item, right in (
        ("a2 b3 c1 d1", "n1 a0 N n2 a2 Y n3 c1 N n4 d0 N n2"),
        ("a1 b3 c0 d1", "n1 a0 N n2 a2 N n3 c1 Y n4 d0 N n3"),
    ):
        prompt = f"n1 a0 n4 d0 n2 a2 n3 c1 NOT {item}".split()
        tokens = jnp.array([DEFCLASS_TOKENS.index(word) for word in prompt])
        assert words(env.clean_actions(tokens)) == right.split() == defclass_chain(prompt)
        assert NAMES[int(answer(tokens))] == right.split()[-1]
        assert np.asarray(negation(tokens)).tolist() == [False, False, True, False]


def test_without_negation_nothing_is_new():
    """Prompts, chains and laws of ε = 0.3 as they were before there was an option `negated`, by their hash, and ids."""
    env, digest = make_defclass(0.3, 0.3, 5, 50), hashlib.sha256()
    for stream in (env.train_context, env.validation_context):
        shown = jax.jit(jax.vmap(stream))(jnp.arange(3_000, dtype=jnp.uint32))
        digest.update(np.asarray(shown).tobytes())
    clean = jax.jit(jax.vmap(env.clean_actions))(shown)
    laws = jax.jit(jax.vmap(lambda p, a: env.laws(p, env.observations(p, a))))(shown, clean)
    digest.update(np.asarray(clean).tobytes() + np.asarray(laws).tobytes())
    assert digest.hexdigest()[:16] == "efd08d3263055301"
    plain = TrainConfig(task="defclass")
    assert run_id(plain) == "e3556f03f4b2"
    assert "negated" not in plain.columns()
    assert run_id(TrainConfig(task="defclass", negated=0.5)) != run_id(plain)


@pytest.mark.parametrize(("epsilon", "negated"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.4)])
def test_one_definition_alone_is_met(epsilon, negated):
    """1,500 prompts of each stream: chains are the reader's, who fails unless the item meets one definition; the item
    has no criterion, or two of which one is negated; the share of NOT, the classes, and at canonical definitions the
    negated name have their laws (binomial, chi-square; each errs at 1e−6)."""
    for which in ("train", "validation"):
        shown = prompts(epsilon, which, 1_500, negated=negated)
        clean = np.asarray(jax.jit(jax.vmap(make_defclass(1.0, 0.3, 0, 5).clean_actions))(shown))
        said, has_not, negated_names = np.asarray(jax.vmap(met)(shown)).sum(1), 0, []
        assert (said == 1).all()
        for prompt, chain in zip(shown, clean, strict=True):
            read = words(prompt)
            assert words(chain) == defclass_chain(read)
            meaning, item = defclass_prompt(read)
            name, kind = defclass_negated(read)
            assert [value[0] for value in item] == list("abcd")
            assert len(set(meaning.values())) == 4
            has_not += name is not None
            if name is not None:
                negated_names.append(name)
                assert sum(found in item for found in meaning.values()) == (
                    0 if chain[-1] == 16 + NAMES.index(name) else 2
                )
                assert meaning[name] == kind
        assert has_not == 1_500 if negated == 1 else stats.binomtest(has_not, 1_500, negated).pvalue > 1e-6
        labels = np.bincount(np.asarray(jax.vmap(answer)(shown)), minlength=4)
        assert stats.chisquare(labels, np.array(PRIOR) * 1_500).pvalue > 1e-6
        if epsilon == 0:
            assert stats.chisquare([negated_names.count(name) for name in NAMES]).pvalue > 1e-6
            assert np.asarray(jax.vmap(canonical)(shown)).all()


def test_negated_validation_prompts_are_never_trained_on():
    """ε = 0: of each name last one of six orders is held out; the sides are disjoint, and each prompt knows its own."""
    train, held = ({tuple(p) for p in prompts(0.0, w, 10_000, negated=0.7)} for w in ("train", "validation"))
    assert not train & held
    env = make_defclass(0.0, 0.3, 0, 5, 0.7)
    told = jax.jit(jax.vmap(env.held_out))
    assert np.asarray(told(jnp.array(sorted(held)))).all()
    assert not np.asarray(told(jnp.array(sorted(train)))).any()
    with_not = [sum(24 in p for p in side) for side in (held, train)]
    assert 0.12 < with_not[0] / sum(with_not) < 0.24


def _wandering(shown, rng, env):
    """Clean chains, and such with mistakes of every kind."""
    clean = np.asarray(jax.jit(jax.vmap(env.clean_actions))(shown))
    likely = np.where(rng.random(clean.shape) < 0.3, rng.permuted(clean, axis=1), clean)
    exchanged = clean.copy()
    exchanged[:, 1:12:3] = rng.permuted(clean[:, 1:12:3], axis=1)
    return clean, rng.integers(26, size=clean.shape), likely, exchanged


def test_the_expert_is_the_readers_at_every_prefix():
    """Step by step and at once; a negated criterion is read as such under whatever name it stands."""
    env, shown = make_defclass(0.7, 0.3, 0, 5, 0.7), prompts(0.7, negated=0.7)[:30]

    @jax.jit
    @jax.vmap
    def both(prompt, chain):
        step = lambda state, token: (env.advance(state, token), env.law(state))  # noqa: E731
        laws = jax.lax.scan(step, env.start(prompt), chain)[1]
        return laws, env.laws(prompt, env.observations(prompt, chain))

    for chain in _wandering(shown, np.random.default_rng(0), env):
        laws, at_once = map(np.asarray, both(shown, jnp.asarray(chain)))
        np.testing.assert_array_equal(laws, at_once)
        for e in range(30):
            for h in range(13):
                told = defclass_law(words(shown[e]), words(chain[e][:h]))
                np.testing.assert_allclose(at_once[e, h], vector(told), atol=1e-6)


def test_the_misreader_is_the_readers_at_every_prefix():
    """At once and position by position, on chains with mistakes, at prompts with a NOT and without."""
    setup, channel = world("misread", epsilon=0.5, eta=0.6, negated=0.7)
    env, shown = setup.env, prompts(0.5, negated=0.7)[:30]
    moved = 0
    for chain in _wandering(shown, np.random.default_rng(1), env):
        laws = jax.jit(jax.vmap(lambda p, a: env.laws(p, env.observations(p, a))))(shown, jnp.asarray(chain))
        bound = over(channel, shown)
        noisy = np.asarray(bound.probs(laws))
        moved += (np.abs(noisy - np.asarray(laws)) > 0.5).sum()
        for h in range(13):
            np.testing.assert_allclose(at(bound, jnp.int32(h)).probs(laws[:, h]), noisy[:, h], atol=1e-7)
            for e in range(30):
                told = defclass_misreader(words(shown[e]), words(chain[e][:h]), Fraction(3, 5))
                np.testing.assert_allclose(noisy[e, h], vector(told), atol=1e-6)
    assert moved > 30


def test_the_misreaders_trajectories_have_the_closed_forms_by_enumeration():
    """Where two criteria are in the item a chain is right with 1−η, and its answer with 1−η/2; elsewhere always. The
    mode of the one mark is wrong for η > 1/2."""
    eta, seen = Fraction(3, 5), set()
    for prompt in prompts(0.5, negated=0.7)[:60]:
        read = words(prompt)
        found = chains(lambda prefix, read=read: defclass_misreader(read, prefix, eta), 13)
        right = tuple(defclass_chain(read))
        two = defclass_negated(read)[1] in defclass_prompt(read)[1]
        assert found[right] == (1 - eta if two else 1)
        assert sum(share for chain, share in found.items() if chain[-1] == right[-1]) == (1 - eta / 2 if two else 1)
        greedy = right
        if two:
            place = 3 * NAMES.index(defclass_negated(read)[0]) + 2
            greedy = max(found, key=lambda chain, place=place: sum(found[c] for c in found if c[place] == chain[place]))
            assert (greedy[place], right[place]) == ("Y", "N")
        assert sum(found[chain] for chain in found if chain[:12] == greedy[:12]) == (eta if two else 1)
        seen.add((two, "NOT" in read, defclass_prompt(read)[0] == USUAL))
    assert seen == {(two, there, usual) for two in (0, 1) for there in (0, 1) for usual in (0, 1) if there or not two}


def test_check_task_plays_it():
    for negated in (0.5, 1.0):
        assert nail.check_task("defclass", epsilon=0.5, negated=negated).negated == negated


@pytest.mark.slow
def test_a_student_trains_on_it():
    """Six updates by labels of the misreader: finite numbers."""
    config = TrainConfig(task="defclass", epsilon=0.5, negated=0.5, noise="misread", method="nail-f", eta=0.6, **SMALL)
    assert np.isfinite(finished(config, options=UNOPTIMISED)[1][-1].train_loss).all()

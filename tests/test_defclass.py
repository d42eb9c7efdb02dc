"""Classification by definitions against a reader in plain Python (tests/readers.py)."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defining import HELD, SMALL, prompts, vector, words, world
from programs import finished, one
from readers import (
    DEFCLASS_TOKENS,
    NAMES,
    USUAL,
    chains,
    defclass_chain,
    defclass_law,
    defclass_prompt,
    defclass_teacher,
)
from scipy import stats

import nail
from nail.envs.defclass import NAME, ORDERS, PRIOR, answer, answered, canonical, make_defclass
from nail.envs.steering import right_answer
from nail.noise import at, over, sample
from nail.theory.plurality import survival_by_position
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_setup, numbers_of
from nail.training.rollout import draw, rollout
from nail.training.update import aggregate, buffer_shape, collect, objective


def test_a_chain_by_hand():
    prompt = "n3 c1 n1 a0 n4 d0 n2 a2 | a2 b3 c0 d1".split()
    right = "n1 a0 N n2 a2 Y n3 c1 N n4 d0 N n2".split()
    tokens = jnp.array([DEFCLASS_TOKENS.index(word) for word in prompt])
    env = make_defclass(1.0, 0.3, 0, 5)
    assert words(env.clean_actions(tokens)) == right == defclass_chain(prompt)
    assert (int(answer(tokens)), int(answered(env.clean_actions(tokens)))) == (1, 1)
    assert int(answered(jnp.zeros(13, jnp.int32))) == -1
    assert (bool(canonical(tokens)), len(DEFCLASS_TOKENS)) == (False, 26)


@pytest.mark.parametrize("which", ["train", "validation"])
def test_prompts_are_well_formed_and_chains_the_readers(which):
    """One criterion alone is in the item; the 12 criteria and no held-out one define; chains are the reader's."""
    env, shown = make_defclass(0.5, 0.3, 0, 5), prompts(0.5, which, 500)
    chain = np.asarray(jax.jit(jax.vmap(env.clean_actions))(shown))
    usual, seen = 0, set()
    for prompt, clean in zip(shown, chain, strict=True):
        meaning, item = defclass_prompt(words(prompt))
        assert words(clean) == defclass_chain(words(prompt))
        assert sorted(meaning) == NAMES
        assert len(set(meaning.values())) == 4
        assert not set(meaning.values()) & set(HELD)
        assert [word[0] for word in item] == list("abcd")
        usual, seen = usual + (meaning == USUAL), seen | set(meaning.values())
    assert len(seen) == 12
    assert stats.binomtest(usual, 500, 0.5).pvalue > 1e-6


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 1.0])
def test_classes_have_their_prior_and_definitions_their_share(epsilon):
    """4,000 prompts: chi-square tests of the classes, the orders of the names and an item's values, a binomial test of
    ε; each errs at 1e−6."""
    shown = prompts(epsilon)
    labels = np.asarray(jax.jit(jax.vmap(answer))(shown))
    assert stats.chisquare(np.bincount(labels, minlength=4), np.array(PRIOR) * 4_000).pvalue > 1e-6
    other = int((~np.asarray(jax.jit(jax.vmap(canonical))(shown))).sum())
    assert other == 0 if epsilon == 0 else stats.binomtest(other, 4_000, epsilon * (1 - 1 / 11_880)).pvalue > 1e-6
    place = (shown[:, None, 0:8:2] - NAME == ORDERS[None]).all(-1)
    assert stats.chisquare(place.sum(0)).pvalue > 1e-6
    if epsilon == 0:
        free = shown[labels != 3][:, -1]  # the fourth attribute is not the answer's: 3 values are left
        assert stats.chisquare(np.bincount(free - 12, minlength=4)[1:]).pvalue > 1e-6


def test_validation_prompts_are_never_trained_on():
    """At ε = 0, where all 216 of the 2,592 prompts that are held out come up, and most of the others do: the two are
    disjoint, and each prompt is told to be of its side."""
    train, held = ({tuple(p) for p in prompts(0.0, which, 10_000)} for which in ("train", "validation"))
    assert not train & held
    assert len(held) == 216
    assert 1_500 < len(train) <= 2_592 - 216
    env = make_defclass(0.0, 0.3, 0, 5)
    told = jax.jit(jax.vmap(env.held_out))
    assert np.asarray(told(jnp.array(sorted(held)))).all()
    assert not np.asarray(told(jnp.array(sorted(train)))).any()
    again = prompts(0.0, "train", 100, seed=1)
    assert (again != prompts(0.0)[:100]).any()


def test_the_expert_is_the_readers_at_every_prefix():
    """Clean chains, chains of any tokens, and such with a few mistakes; step by step and at once."""
    env, rng, shown = make_defclass(0.5, 0.3, 0, 5), np.random.default_rng(0), prompts(0.5)[:60]
    clean = np.asarray(jax.jit(jax.vmap(env.clean_actions))(shown))
    wild = rng.integers(26, size=clean.shape)
    likely = np.where(rng.random(clean.shape) < 0.3, rng.permuted(clean, axis=1), clean)

    @jax.jit
    @jax.vmap
    def both(prompt, chain):
        step = lambda state, token: (env.advance(state, token), env.law(state))  # noqa: E731
        laws = jax.lax.scan(step, env.start(prompt), chain)[1]
        return laws, env.laws(prompt, env.observations(prompt, chain))

    several = clean.copy()
    several[:, 0:12:3], several[:, 2:12:3] = rng.integers(16, 19, (60, 4)), rng.integers(20, 22, (60, 4))
    for chain in (clean, wild, likely, several):
        laws, at_once = map(np.asarray, both(shown, jnp.asarray(chain)))
        np.testing.assert_array_equal(laws, at_once)
        for e in range(60):
            for h in range(13):
                told = defclass_law(words(shown[e]), words(chain[e][:h]))
                np.testing.assert_allclose(at_once[e, h], vector(told), atol=1e-6)


def test_the_teacher_is_the_readers_at_every_prefix():
    """At once and position by position, on chains with mistakes; half of the prompts are canonical."""
    setup, channel = world(epsilon=0.5, eta=0.1, eta_new=0.6)
    env, rng, shown = setup.env, np.random.default_rng(1), prompts(0.5)[:40]
    clean = np.asarray(jax.jit(jax.vmap(env.clean_actions))(shown))
    chain = np.where(rng.random(clean.shape) < 0.2, rng.permuted(clean, axis=1), clean)
    laws = jax.jit(jax.vmap(lambda p, a: env.laws(p, env.observations(p, a))))(shown, chain)
    bound = over(channel, shown)
    noisy, step = np.asarray(bound.probs(laws)), jax.jit(lambda h, law: at(bound, h).probs(law))
    for h in range(13):
        np.testing.assert_allclose(step(jnp.int32(h), laws[:, h]), noisy[:, h], atol=1e-7)
        for e in range(40):
            told = defclass_teacher(words(shown[e]), words(chain[e][:h]), Fraction(1, 10), Fraction(3, 5))
            np.testing.assert_allclose(noisy[e, h], vector(told), atol=1e-6)


@pytest.mark.parametrize("eta_new", [0.3, 0.6])
def test_the_mode_of_a_new_definition_is_right_below_one_half_and_wrong_above(eta_new):
    setup, channel = world(epsilon=1.0, eta_new=eta_new)
    shown = prompts(1.0)[:200]

    @jax.jit
    def chains_and_modes(shown):
        clean = jax.vmap(setup.env.clean_actions)(shown)
        seen = jax.vmap(setup.env.observations)(shown, clean)
        return clean, over(channel, shown).probs(jax.vmap(setup.env.laws)(shown, seen)).argmax(-1)

    clean, mode = map(np.asarray, chains_and_modes(shown))
    moved = clean[:, 1:12:3] != [0, 4, 8, 12]
    np.testing.assert_array_equal(mode[:, 1:12:3] == clean[:, 1:12:3], ~moved | (eta_new < 0.5))
    rest = [h for h in range(13) if h % 3 != 1 or h == 12]
    np.testing.assert_array_equal(mode[:, rest], clean[:, rest])


def test_the_teachers_trajectories_have_the_closed_forms_by_enumeration():
    """Every chain of the teacher at 60 new definitions, in exact fractions: how often all is right, and the answer."""
    eta_new, shown = Fraction(3, 5), prompts(1.0)[:60]
    told = np.asarray(jax.jit(jax.vmap(right_answer, in_axes=(0, None)))(shown, 0.6))
    kinds = set()
    for prompt, closed in zip(shown, told, strict=True):
        read = words(prompt)
        found = chains(lambda prefix, read=read: defclass_teacher(read, prefix, Fraction(1, 10), eta_new), 13)
        assert sum(found.values()) == 1
        right, meaning = tuple(defclass_chain(read)), defclass_prompt(read)[0]
        assert found[right] == (1 - eta_new) ** sum(meaning[name] != USUAL[name] for name in NAMES)
        chance = float(sum(share for chain, share in found.items() if chain[-1] == right[-1]))
        assert closed == pytest.approx(chance, abs=1e-6)
        kinds.add(round(chance, 6))
    assert len(kinds) >= 6
    env, usual = make_defclass(0.0, 0.6, 0, 5), list(words(prompts(0.0)[0]))
    right = tuple(defclass_chain(usual))
    found = chains(
        lambda prefix: defclass_teacher(usual, prefix, Fraction(1, 10), eta_new), 13, lambda p: p == right[: len(p)]
    )
    rates = env.teacher(jnp.asarray(prompts(0.0)[0]), 0.1).eta
    assert float(found[right]) == pytest.approx((1 - 0.1 + 0.1 / 22) ** 13, rel=1e-12)
    assert survival_by_position(np.asarray(rates), 1 / 22) == pytest.approx(float(found[right]), rel=1e-6)


@pytest.mark.parametrize("parallel", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rollouts_of_the_teacher_are_right_as_often_as_they_should_be(parallel):
    """20,000 rollouts at new definitions: the mean of the closed form, z-test of a sum of independent indicators at
    1e−6; and at canonical ones a clean chain with (1−η+η/22)^13, binomial at 1e−6. Labels are what was played."""
    n = 20_000
    setup, channel = world(epsilon=1.0, eta=0.1, eta_new=0.6)
    env = setup.env

    @jax.jit
    def roll(shown, key):
        bound, draws = over(channel, shown), draw(key, len(shown), env, False, False)
        rolled = rollout(env, setup.policy, None, shown, driver="expert", draws=draws, expert=setup.expert,
                         channel=bound, parallel=parallel)  # fmt: skip
        labels = sample(bound.probs(setup.expert.laws(shown, rolled.observations)), draws.label)
        return rolled.actions, labels, jax.vmap(env.clean_actions)(shown)

    shown = prompts(1.0, "train", n)
    actions, labels, clean = map(np.asarray, roll(shown, jax.random.key(3)))
    np.testing.assert_array_equal(actions, labels)
    chance = np.asarray(jax.jit(jax.vmap(right_answer, in_axes=(0, None)))(shown, 0.6), float)
    z = ((actions[:, -1] == clean[:, -1]).sum() - chance.sum()) / np.sqrt((chance * (1 - chance)).sum())
    assert 2 * stats.norm.sf(abs(z)) > 1e-6
    actions, _, clean = map(np.asarray, roll(prompts(0.0, "train", n), jax.random.key(4)))
    still = int((actions == clean).all(1).sum())
    assert stats.binomtest(still, n, (1 - 0.1 + 0.1 / 22) ** 13).pvalue > 1e-6


def test_a_learner_reads_the_law_of_its_own_prompts():
    """Collected, and drawn again from DAgger's data: laws, and a loss through the channel, are those of the teacher of
    the very prompts, of which half are canonical."""
    config = TrainConfig(task="defclass", noise="canonical", epsilon=0.5, eta=0.1, eta_new=0.6, method="dagger",
                         channel_aware=True, estimator="full", dagger_decay=1.0, **SMALL)  # fmt: skip
    setup, numbers = make_setup(config), one(numbers_of((config,)))
    channel = make_channel(setup, numbers)

    class Free:
        def init(self, key): ...

        def forward(self, params, contexts, observations, known=None):
            return params, known

    @jax.jit
    def next_of(buffer, step):
        params = setup.policy.init(jax.random.key(0))
        new = collect(setup, channel, numbers, params, step, jax.random.fold_in(jax.random.key(1), step))
        buffer, again = aggregate(setup, channel, buffer, new, step, jax.random.key(9))
        logits = jnp.log(jax.vmap(setup.env.laws)(again.contexts, again.observations) + 1e-12)
        free = setup._replace(policy=Free())
        return buffer, [new, again], objective(free, channel, numbers, logits, again, jax.random.key(1))

    buffer, found = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), buffer_shape(setup)), []
    for step in range(3):
        buffer, both, loss = next_of(buffer, jnp.int32(step))
        found += jax.device_get(both)
        assert float(loss) == pytest.approx(0, abs=1e-5)
    usual = 0
    for visited in found:
        for prompt, seen, laws in zip(visited.contexts, visited.observations, visited.laws, strict=True):
            read, chain = words(prompt), words(seen[1:])
            usual += defclass_prompt(read)[0] == USUAL
            for h in range(13):
                told = defclass_teacher(read, chain[:h], Fraction(1, 10), Fraction(3, 5))
                np.testing.assert_allclose(laws[h], vector(told), atol=1e-6)
    assert 10 < usual < 38


def test_check_task_plays_it():
    env = nail.check_task("defclass", epsilon=0.5)
    assert (env.prompt_length, env.horizon, env.n_actions) == (13, 13, 26)


@pytest.mark.slow
def test_a_student_learns_something_of_definitions():
    """ε = 1, clean chains, 400 updates of 64 by two blocks: the clean loss falls below 0.7 nats a token from 3.2, which
    takes names, marks and a part of the criteria."""
    config = TrainConfig(
        task="defclass", epsilon=1.0, eta=0.0, method="loglossbc", width=32, heads=4, layers=2, batch=64, steps=400,
        eval_every=400, warmup=20, lr=3e-3, n_validation=200, init_std=0.1,
    )  # fmt: skip
    first, last = finished(config)[1]
    assert float(first.evaluation.val_loss[0]) > 2.5
    assert float(last.evaluation.val_loss[0]) < 0.7

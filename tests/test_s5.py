"""Composition of permutations against a reader in plain Python (tests/readers.py)."""

import dataclasses
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import UNOPTIMISED, finished, one
from readers import S5_TOKENS, chains, every_permutation, s5_chain, s5_law, s5_noisy
from scipy import stats

import nail
from nail.envs.s5 import EQUALS, make_s5
from nail.noise import at, over, sample
from nail.theory.plurality import survival, survival_by_position
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_setup, numbers_of
from nail.training.rollout import draw, rollout

LAWS = {"digits": "distributional", "key": "semantic-key"}
SMALL = dict(width=16, heads=2, batch=8, steps=6, eval_every=3, warmup=2, lr=1e-3, n_validation=5)


def words(tokens):
    return [S5_TOKENS[token] for token in np.asarray(tokens).tolist()]


def vector(law):
    return np.array([float(law.get(word, 0)) for word in S5_TOKENS])


def prompts(env, which, n):
    return np.asarray(jax.jit(jax.vmap(getattr(env, f"{which}_context")))(jnp.arange(n, dtype=jnp.uint32)))


def world(eta, noise, **options):
    config = TrainConfig(task="s5", eta=eta, noise=noise, **SMALL, **options)
    setup = make_setup(config)
    return setup, make_channel(setup, one(numbers_of((config,))))


def test_a_chain_by_hand():
    """run_k[i] = run_{k−1}[σ_k[i]]: σ_1 = 2 3 1 5 4, σ_2 = 5 1 2 4 3 compose to 4 2 3 5 1."""
    env = make_s5(2, "none", 0, 5)
    prompt = jnp.array([0, 4, 5, 3, 7, 6, 1, 0, 7, 3, 4, 6, 5, 1])
    assert words(env.clean_actions(prompt)) == list("(23154)(42351)")
    assert words(prompt) == list("(23154)(51243)")
    assert s5_chain(words(prompt)) == list("(23154)(42351)")


@pytest.mark.parametrize("m", [1, 2, 6])
def test_prompts_are_permutations_and_chains_those_of_the_reader(m):
    env = make_s5(m, "none", 3, 40)
    shown = prompts(env, "train", 100)
    chain = np.asarray(jax.jit(jax.vmap(env.clean_actions))(shown))
    for prompt, clean in zip(shown, chain, strict=True):
        for start in range(0, 7 * m, 7):
            assert sorted(words(prompt[start : start + 7])) == sorted("(12345)")
            assert words(prompt[[start, start + 6]]) == ["(", ")"]
        assert words(clean) == s5_chain(words(prompt))
    assert (env.prompt_length, env.horizon) == (7 * m, 7 * m)


def test_one_permutation_has_120_prompts_of_which_12_are_held_out():
    env = make_s5(1, "none", 0, 5_000)
    train, held = prompts(env, "train", 108), prompts(env, "validation", env.n_validation)
    assert env.n_validation == 12
    seen = {tuple(words(prompt)[1:6]) for prompt in np.concatenate([train, held])}
    assert seen == {tuple(symbols) for symbols in every_permutation()}
    np.testing.assert_array_equal(jax.jit(env.train_context)(jnp.uint32(108)), train[0])


def test_two_permutations_never_train_on_a_validation_prompt():
    env = make_s5(2, "none", 0, 200)
    train, held = ({tuple(p) for p in prompts(env, which, n)} for which, n in (("train", 14_200), ("validation", 200)))
    assert (len(train), len(held), len(train & held), len(train | held)) == (14_200, 200, 0, 120**2)


@pytest.mark.parametrize("recovery", ["none", "follow"])
def test_the_expert_is_the_readers_at_every_prefix(recovery):
    """Chains of all tokens, of digits, and of one mistake each, for three permutations; step by step and at once."""
    env, rng = make_s5(3, recovery, 1, 20), np.random.default_rng(0)
    shown = prompts(env, "train", 40)
    clean = np.asarray(jax.jit(jax.vmap(env.clean_actions))(shown))
    wild = rng.integers(8, size=clean.shape)
    digits = np.where(clean >= 3, rng.integers(3, 8, clean.shape), clean)
    slip = np.where(np.arange(21) == rng.integers(21, size=(40, 1)), wild, clean)

    @jax.jit
    @jax.vmap
    def both(prompt, chain):
        def step(state, token):
            return env.advance(state, token), (env.law(state), env.lost(state))

        laws, lost = jax.lax.scan(step, env.start(prompt), chain)[1]
        seen = env.observations(prompt, chain)
        return laws, lost, env.laws(prompt, seen), env.poisoned(prompt, seen)

    sometimes = False
    for chain in (clean, wild, digits, slip):
        laws, lost, at_once, poisoned = map(np.asarray, both(shown, jnp.asarray(chain)))
        np.testing.assert_array_equal(laws, at_once)
        np.testing.assert_array_equal(lost, poisoned)
        sometimes |= poisoned.any()
        for e, h in itertools.product(range(40), range(21)):
            told = s5_law(words(shown[e]), words(chain[e][:h]), recovery)
            np.testing.assert_allclose(at_once[e, h], vector(told), atol=1e-6)
    assert sometimes == (recovery == "none")


@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("recovery", ["none", "follow"])
def test_the_noisy_expert_is_the_readers_at_every_prefix(kind, recovery):
    """At once and position by position, on chains of random digits and on the clean chain."""
    setup, channel = world(0.4, LAWS[kind], m=3, recovery=recovery)
    env, rng = setup.env, np.random.default_rng(1)
    shown = prompts(env, "train", 20)
    clean = np.asarray(jax.jit(jax.vmap(env.clean_actions))(shown))
    chain = np.where((clean >= 3) & (rng.random(clean.shape) < 0.2), rng.integers(3, 8, clean.shape), clean)
    seen = np.concatenate([np.full((20, 1), EQUALS), chain[:, :-1]], axis=1)
    laws = jax.jit(jax.vmap(env.laws))(shown, seen)
    noisy, step = np.asarray(over(channel, shown).probs(laws)), jax.jit(lambda h, law: at(channel, h).probs(law))
    for h in range(21):
        np.testing.assert_allclose(step(jnp.int32(h), laws[:, h]), noisy[:, h], atol=1e-7)
        for e in range(20):
            told = s5_noisy(words(shown[e]), words(chain[e][:h]), recovery, Fraction(2, 5), kind)
            np.testing.assert_allclose(noisy[e, h], vector(told), atol=1e-6)


def test_uniform_noise_of_the_oracle_is_the_distributional_law():
    """They differ where the law is not on the digits alone."""
    (setup, uniform), (_, within) = world(0.4, "uniform", m=2), world(0.4, "distributional", m=2)
    env, shown = setup.env, prompts(setup.env, "train", 5)
    laws = jax.jit(jax.vmap(lambda prompt: env.laws(prompt, env.observations(prompt, env.clean_actions(prompt)))))(
        shown
    )
    np.testing.assert_allclose(uniform.probs(laws), within.probs(laws), atol=1e-7)
    law = jnp.array([0.5, 0.0, 0.0, 0.3, 0.2, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(within.probs(law), [0.5, 0, 0, 0.22, 0.16, 0.04, 0.04, 0.04], atol=1e-7)
    np.testing.assert_allclose(at(uniform, 1).probs(law), [0.3, 0, 0, 0.26, 0.2, 0.08, 0.08, 0.08], atol=1e-7)


@pytest.mark.parametrize("recovery", ["none", "follow"])
@pytest.mark.parametrize("kind", LAWS)
def test_a_clean_trajectory_has_the_closed_form_by_enumeration(kind, recovery):
    """All chains of the noisy expert of two permutations, in exact fractions; η = 2/5."""
    eta, prompt = Fraction(2, 5), list("(23154)(51243)")
    right = tuple(s5_chain(prompt))
    on_path = chains(lambda prefix: s5_noisy(prompt, prefix, recovery, eta, kind), 14, lambda p: p == right[: len(p)])
    steps = 2 * 5 if kind == "digits" else 2
    assert on_path == {right: (1 - Fraction(4, 5) * eta) ** steps}
    assert float(on_path[right]) == pytest.approx(survival(steps, 5, 0.4), rel=1e-12)
    env = make_s5(2, recovery, 0, 5)
    profile = env.noise_profile if kind == "digits" else env.key_profile
    assert survival_by_position(0.4 * profile, 1 / 5) == pytest.approx(float(on_path[right]), rel=1e-6)


def test_every_trajectory_of_one_permutation_by_enumeration():
    """Key law, m = 1, random suffix: a wrong first digit makes the other four uniform. P(right last digit | wrong
    key) = 1/5, and 1 if the expert follows: the block is then right but for its key."""
    eta, prompt = Fraction(1, 2), list("(23154)")
    right = s5_chain(prompt)
    law = {r: chains(lambda prefix, r=r: s5_noisy(prompt, prefix, r, eta, "key"), 7) for r in ("none", "follow")}
    for recovery, found in law.items():
        assert sum(found.values()) == 1
        wrong = sum(chance for chain, chance in found.items() if chain[1] != right[1])
        assert wrong == Fraction(4, 5) * eta
        last = sum(chance for chain, chance in found.items() if chain[1] != right[1] and chain[5] == right[5])
        assert last / wrong == {"none": Fraction(1, 5), "follow": 1}[recovery]


@pytest.mark.parametrize(
    ("noise", "recovery", "steps"),
    [("distributional", "follow", 5), ("semantic-key", "follow", 1), ("semantic-key", "none", 1)],
)
@pytest.mark.parametrize("parallel", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rollouts_of_the_noisy_expert_stay_clean_as_often_as_they_should(noise, recovery, steps, parallel):
    """20,000 rollouts of two permutations: after each block (1−0.8η)^{5k} or (1−0.8η)^k; each of the 12 binomial
    tests errs at 1e−6. What was played is what the law at the rollout's own prefixes gives for the same numbers."""
    n, eta = 20_000, 0.3
    setup, channel = world(eta, noise, m=2, recovery=recovery)
    env, shown = setup.env, jnp.asarray(prompts(setup.env, "train", n))

    @jax.jit
    def roll(shown, key):
        draws = draw(key, n, env, False, False)
        rolled = rollout(env, setup.policy, None, shown, driver="expert", draws=draws, expert=setup.expert,
                         channel=over(channel, shown), parallel=parallel)  # fmt: skip
        laws = over(channel, shown).probs(setup.expert.laws(shown, rolled.observations))
        return rolled.actions, jax.vmap(env.clean_actions)(shown), sample(laws, draws.label)

    actions, clean, labels = map(np.asarray, roll(shown, jax.random.key(2)))
    np.testing.assert_array_equal(labels, actions)
    for k in (1, 2):
        still = int((actions[:, : 7 * k] == clean[:, : 7 * k]).all(1).sum())
        assert stats.binomtest(still, n, (1 - 0.8 * eta) ** (steps * k)).pvalue > 1e-6


def test_the_answer_is_the_last_block():
    env = make_s5(2, "none", 0, 5)
    prompt = jnp.asarray(prompts(env, "train", 1)[0])
    clean = jax.jit(env.clean_actions)(prompt)
    first, last = (clean.at[h].set(EQUALS) for h in (1, 9))
    score = jax.jit(env.score)
    scores = [score(prompt, chain) for chain in (clean, first, last)]
    assert [(bool(s.full_exact), bool(s.answer_exact)) for s in scores] == [(True, True), (False, True), (False, False)]
    assert [float(s.position_exact.sum()) for s in scores] == [14, 13, 13]


def test_check_task_plays_it():
    for options in ({"m": 1}, {"m": 2, "recovery": "none"}):
        assert nail.check_task("s5", **options).horizon == 7 * options["m"]


DEFCLASS = dict(task="defclass", epsilon=0.5, eta=0.1, channel_aware=True)
DRIVERS = [
    *((method, dict(task="s5", m=2, recovery="none", eta=0.4, noise=noise))
      for method, noise in (("loglossbc", LAWS["digits"]), ("dagger", LAWS["key"]), ("opd-r", LAWS["digits"]))),
    *((method, dict(DEFCLASS, noise=noise))
      for method, noise in (("loglossbc", "canonical"), ("dagger", "uniform"), ("opd-r", "canonical"))),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fields"), DRIVERS, ids=lambda part: part if isinstance(part, str) else part["task"]
)
def test_both_decoders_train_a_transformer_alike(method, fields):
    """Six updates of each driver, here and on definitions (with a student that knows the channel): the same losses."""
    config = TrainConfig(method=method, **fields, **SMALL)
    one_by_one, at_once = (
        finished(dataclasses.replace(config, decode=way), options=UNOPTIMISED)[1][-1]
        for way in ("sequential", "parallel")
    )
    assert np.isfinite(one_by_one.train_loss).all()
    np.testing.assert_allclose(at_once.train_loss[0], one_by_one.train_loss[0], rtol=1e-5)
    np.testing.assert_allclose(at_once.evaluation.val_loss[0], one_by_one.evaluation.val_loss[0], rtol=1e-5)
    assert one_by_one.evaluation.position_accuracy.shape[-1] == {"s5": 14, "defclass": 13}[config.task]


@pytest.mark.parametrize("method", ["nail-f", "nail-r"])
def test_a_student_that_knows_the_channel_has_no_loss_at_the_clean_law(method):
    """Through a channel that differs from position to position, the whole objective vanishes at the clean law."""
    from nail.training.update import Visited, objective

    config = TrainConfig(task="s5", m=2, noise="semantic-key", method=method, eta=0.4, estimator="full",
                         channel_aware=True, **SMALL)  # fmt: skip
    setup, numbers = make_setup(config), one(numbers_of((config,)))
    channel = make_channel(setup, numbers)
    shown = jnp.asarray(prompts(setup.env, "train", 8))
    chain = jax.jit(jax.vmap(setup.env.clean_actions))(shown)
    seen = jax.jit(jax.vmap(setup.env.observations))(shown, chain)
    clean = jax.jit(setup.expert.laws)(shown, seen)
    visited = Visited(shown, seen, chain, over(channel, shown).probs(clean), chain)

    class Free:
        def forward(self, params, contexts, observations, known=None):
            return params, known

    def loss(setup):
        return float(jax.jit(lambda: objective(setup, channel, numbers, 30 * clean, visited, jax.random.key(0)))())

    blind = setup._replace(config=dataclasses.replace(config, channel_aware=False), policy=Free())
    assert loss(setup._replace(policy=Free())) == pytest.approx(0, abs=1e-5)
    assert loss(blind) > 0.03


@pytest.mark.slow
def test_a_student_learns_to_copy_one_permutation():
    """m = 1 under key noise of 0.5, 600 updates of 32: the clean loss of held-out prompts falls below 0.3 nats a token
    from 2.1, and their chains are right."""
    config = TrainConfig(task="s5", m=1, noise="semantic-key", recovery="none", eta=0.5, method="nail-f", width=32,
                         heads=4, batch=32, steps=600, eval_every=600, warmup=20, lr=3e-3, n_validation=12,
                         init_std=0.1)  # fmt: skip
    first, last = finished(config)[1]
    assert float(first.evaluation.val_loss[0]) > 1.8
    assert float(last.evaluation.val_loss[0]) < 0.3
    assert float(last.evaluation.full_exact[0]) > 0.9

"""Draws by 32-bit words: how many of the 2^32 words draw what, exactly, however rare it is (nail/noise.py)."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nail.counting.drivers import Setting, complete, exit_laws, world
from nail.noise import gumbel, sample, uniform
from nail.policies.softmax_table import deterministic
from nail.training.config import TrainConfig
from nail.training.problem import make_environment
from nail.training.rollout import choose, draw

WORDS = 2**32


def words_below(drawn, shape):
    """How many words w have `drawn(w)`, which holds for all words below some number; by bisection."""
    low, high = np.zeros(shape, np.int64), np.full(shape, WORDS)
    for _ in range(33):
        middle = (low + high) // 2
        holds = np.asarray(drawn(np.minimum(middle, WORDS - 1).astype(np.uint32))) & (middle < WORDS)
        low, high = np.where(holds, middle + 1, low), np.where(holds, high, np.minimum(middle, high))
    return low


def laws(rng):
    """By their number of actions: rare ones first, last and between, ties, zeros, a sum that rounding has moved."""
    yield [[1.0]]
    yield [[1, 0], [0, 1], [0.5, 0.5], [1e-7, 1], [1, 1e-7], [1e-8, 1], [1, 1e-8], [1e-9, 1], [1 - 2**-24, 2**-24]]
    yield [[0, 0, 1, 0], [0.3, 1e-8, 0, 0.7], [0, 1e-12, 1, 0], [0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0.1, 0.1, 0.1, 0.72]]
    yield [np.full(7, 1 / 7), *rng.dirichlet(np.full(7, 0.03), 8), *rng.dirichlet(np.ones(7), 8)]
    yield [np.full(1023, 1 / 1023), [*np.full(1022, 1e-10), 1], rng.dirichlet(np.full(1023, 0.1))]


@pytest.mark.parametrize("kind", [jnp.float32, jnp.bfloat16])
def test_the_words_of_labels_a_to_b_are_off_by_less_than_one(kind):
    """For all a <= b at once, against the stored law in fractions; no word draws what has no probability."""
    draw_one = jax.jit(lambda law, words: sample(law[..., None, :], words))
    for table in laws(np.random.default_rng(0)):
        law = jnp.asarray(np.array(table), kind)
        ups = words_below(lambda words, law=law: np.asarray(draw_one(law, words)) <= np.arange(law.shape[1]), law.shape)
        assert (ups[:, -1] == WORDS).all()
        for row, found in zip(np.asarray(law, np.float32).tolist(), ups, strict=True):
            sums = list(itertools.accumulate(map(Fraction, row)))
            off = [0, *(float(int(n) - WORDS * s / sums[-1]) for n, s in zip(found, sums, strict=True))]
            assert max(off) - min(off) < 1
            assert not np.diff(found, prepend=0)[np.array(row) == 0].any()


@pytest.mark.parametrize("rare", [1e-7, 1e-8])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_rare_action_is_drawn_as_often_as_it_should_be(rare, place):
    """1e−7 within 0.25 %, 1e−8 within 2.4 %: one word of 429 and of 43, wherever the action stands."""
    law = np.insert(np.array([0.25, 0.25, 0.3, 0.2], np.float32), place, rare)
    ups = words_below(lambda words: np.asarray(sample(jnp.asarray(law), jnp.asarray(words))) <= np.arange(5), 5)
    assert abs(np.diff(ups, prepend=0)[place] - rare * WORDS) < 1


@pytest.mark.parametrize("mass", [0.03, 0.01])
def test_the_tail_of_a_large_vocabulary_is_drawn(mass):
    """262,144 tokens, of which all but one share `mass`: 2,000 draws by a key, binomial test at 1e−6; and exactly."""
    law = jnp.full(2**18, mass / (2**18 - 1), jnp.float32).at[777].set(1 - mass)
    drawn = jax.jit(lambda law, words: jax.lax.map(lambda word: sample(law, word), words))
    tail = int((drawn(law, jax.random.bits(jax.random.key(0), (2_000,))) != 777).sum())
    assert stats.binomtest(tail, 2_000, mass).pvalue > 1e-6
    ends = words_below(lambda words: np.asarray(drawn(law, jnp.asarray(words))) <= np.array([776, 777]), 2)
    assert abs(1 - (ends[1] - ends[0]) / WORDS - mass) < 1e-8


@pytest.mark.parametrize("p", [0.0, 1e-9, 1e-8, 1e-7, 0.3, 1 - 1e-6, 1.0])
def test_a_coin_falls_as_often_as_it_should(p):
    found = int(words_below(lambda words: np.asarray(uniform(jnp.asarray(words))) < np.float32(p), ()))
    assert abs(found - float(np.float32(p)) * WORDS) <= (0 if p in (0, 1) else 1 + p * 2**9)


@pytest.mark.parametrize("x", [-2.5, 0.0, 5.0, 10.0, 15.0, 18.0, 20.0, 22.0])
def test_gumbel_noise_has_its_tail(x):
    """P(noise > x) = 1 − exp(−exp(−x))."""
    above = WORDS - int(words_below(lambda words: np.asarray(gumbel(jnp.asarray(words))) <= np.float32(x), ()))
    expected = -np.expm1(-np.exp(-float(np.float32(x)))) * WORDS
    assert abs(above - expected) < 1 + expected * 2**-18


@pytest.mark.parametrize("rare", [1e-7, 1e-8])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_sampled_student_plays_a_rare_token(rare, temperature):
    """Within 1 %: over the other token's noise at 4,096 quantiles, exactly over the words of the rare one's."""
    others = gumbel(jnp.asarray((np.arange(4_096) * 2**20 + 2**19).astype(np.uint32)))
    logits = jnp.broadcast_to(temperature * jnp.log(jnp.array([rare, 1 - rare])), (4_096, 2))
    play = jax.jit(lambda words: choose(logits, temperature, jnp.stack([gumbel(words), others], -1)))
    never = words_below(lambda words: np.asarray(play(jnp.asarray(words))) == 1, 4_096)
    assert np.mean(WORDS - never) / WORDS == pytest.approx(rare, rel=0.01)


def test_the_draws_of_an_update_are_these():
    """What drives a batch: words for labels, and the noise and the coins above, by keys of their own."""
    env = make_environment(TrainConfig(task="poison-chain", A=4, H=3))
    keys = jax.random.split(jax.random.key(5), 3)
    label, noise, coin = draw(jax.random.key(5), 6, env, True, True)
    np.testing.assert_array_equal(label, jax.random.bits(keys[0], (6, 3)))
    np.testing.assert_array_equal(noise, gumbel(jax.random.bits(keys[1], (6, 3, 4))))
    np.testing.assert_array_equal(coin, uniform(jax.random.bits(keys[2], (6, 3))))


@pytest.mark.parametrize("eta", [0.0, 1e-8, 1e-7, 0.3])
def test_the_experts_first_wrong_label_is_as_rare_as_it_should_be(eta):
    """Its level and what it is, in relative error: the sum of the others' probabilities, not 1 − that of the right."""
    setting = complete(Setting(eta, np.array([0.5, 0.3, 0.2])), 3)
    exits, wrong = exit_laws(world("truth", setting, deterministic(jnp.array([0, 2, 2, 1]), 3)))
    miss = float(np.float32(eta)) * np.array([0.5, 0.8, 0.8, 0.7])
    survival = np.cumprod([1, *(1 - miss)])
    np.testing.assert_allclose(exits, [*(survival[:-1] * miss), survival[-1]], rtol=1e-6)
    np.testing.assert_allclose(wrong[1], [0.625, 0.375, 0] if eta else [0, 0, 0], rtol=1e-6)

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nail.envs.bank import make_bank
from nail.envs.modadd import make_modadd
from nail.envs.play import check_task
from nail.envs.tokens import exact_match


def prompts(bank, which, n):
    return np.asarray(jax.jit(jax.vmap(getattr(bank, which)))(jnp.arange(n, dtype=jnp.uint32)))


@pytest.mark.parametrize(("p", "m"), [(2, 1), (2, 2), (7, 1), (3, 4), (2, 9), (5, 3), (11, 2)])
def test_bank_is_a_permutation_of_all_prompts(p, m):
    """Validation and training prompts together are all p^m prompts once each, so the two are disjoint."""
    bank = make_bank(p, m, seed=3, n_validation=7)
    both = np.concatenate([prompts(bank, "validation", bank.n_validation), prompts(bank, "train", bank.n_train)])
    assert {tuple(row) for row in both} == set(itertools.product(range(p), repeat=m))
    assert len(both) == p**m
    again = prompts(bank, "train", bank.n_train + 1)
    np.testing.assert_array_equal(again[-1], again[0])


def test_bank_of_the_paper_has_distinct_prompts():
    """15 M prompts of (7, 31) are addressable; a sample of them and of the validation prompts has no repeat."""
    bank = make_bank(7, 31, seed=0, n_validation=5_000)
    index = jnp.concatenate([jnp.arange(50_000), jnp.arange(14_950_000, 15_000_000)]).astype(jnp.uint32)
    train = np.asarray(jax.jit(jax.vmap(bank.train))(index))
    both = np.concatenate([train, prompts(bank, "validation", 5_000)])
    assert len(np.unique(both, axis=0)) == len(both)


@pytest.mark.parametrize(("p", "m"), [(7, 31), (3, 10), (2, 16)])
def test_prompts_look_uniform_and_independent(p, m):
    """Chi-square tests at a fixed seed: residues, pairs of neighbours, half-way sums, successive prompts, each over
    positions pooled or alone; a family of fewer than 150 tests at 1e−8 each fails by chance below 2e−6."""
    n = 20_000
    x = prompts(make_bank(p, m, seed=1, n_validation=100), "train", n)

    def uniform(values, classes):
        counts = np.bincount(values.ravel(), minlength=classes)
        assert len(counts) == classes
        assert stats.chisquare(counts).pvalue > 1e-8

    for j in range(m):
        uniform(x[:, j], p)
        uniform(x[:, j] * p + x[:, (j + 1) % m], p * p)
    uniform(x.cumsum(1)[:, m // 2] % p, p)
    uniform(x.sum(1) % p, p)
    uniform((x[1:] - x[:-1])[:, 0] % p, p)


def test_bank_is_a_function_of_its_seed():
    one, two = (prompts(make_bank(7, 10, seed, 100), "train", 500) for seed in (0, 1))
    np.testing.assert_array_equal(one, prompts(make_bank(7, 10, 0, 100), "train", 500))
    assert (one == two).mean() < 0.3


def env_of(recovery, p=7, m=4):
    return make_modadd(p, m, recovery, bank_seed=0, n_validation=10)


def test_clean_chain_by_hand():
    env = env_of("none")
    x = jnp.array([5, 6, 0, 3])
    np.testing.assert_array_equal(env.clean_actions(x), [5, 4, 4, 0])
    np.testing.assert_array_equal(env.observations(x, env.clean_actions(x)), [7, 5, 4, 4])


def test_expert_without_recovery_by_hand():
    """The position of the first mistake still has an informative law; only later ones are uniform over residues."""
    env = env_of("none")
    x, uniform = jnp.array([5, 6, 0, 3]), np.append(np.full(7, 1 / 7), 0)
    laws = np.asarray(env.laws(x, jnp.array([7, 5, 2, 4])))  # the token 2 in place of 4 at position 2
    np.testing.assert_array_equal(laws[:2].argmax(1), [5, 4])
    np.testing.assert_array_equal(laws[:2].max(1), 1)
    np.testing.assert_allclose(laws[2:], [uniform, uniform], rtol=1e-6)


def test_expert_that_follows_by_hand():
    """It adds x_t to whatever residue it is given; after "=" it is uniform for one position."""
    env = env_of("follow")
    laws = np.asarray(env.laws(jnp.array([5, 6, 0, 3]), jnp.array([7, 5, 2, 7])))
    np.testing.assert_array_equal(laws[:3].argmax(1), [5, 4, 2])
    np.testing.assert_allclose(laws[3], np.append(np.full(7, 1 / 7), 0), rtol=1e-6)


def test_expert_that_echoes_by_hand():
    """Right up to the first mistake, then 0.9 on the last token and 0.1 over the residues; after "=" uniform."""
    env = env_of("echo")
    x, uniform = jnp.array([5, 6, 0, 3]), np.append(np.full(7, 1 / 7), 0)
    laws = np.asarray(env.laws(x, jnp.array([7, 5, 2, 7])))
    np.testing.assert_array_equal(laws[:2], np.eye(8)[[5, 4]])
    np.testing.assert_allclose(laws[2], 0.9 * np.eye(8)[2] + 0.1 * uniform, rtol=1e-6)
    np.testing.assert_allclose(laws[3], uniform, rtol=1e-6)
    np.testing.assert_array_equal(env.poisoned(x, jnp.array([7, 5, 2, 7])), [False, False, True, True])
    assert check_task("modadd", p=5, m=6, recovery="echo").recovery == "echo"


@pytest.mark.parametrize("recovery", ["none", "follow", "echo"])
def test_parallel_laws_equal_the_laws_step_by_step(recovery):
    """On all 4^4 chains of one prompt."""
    env = env_of(recovery, p=3)
    x = jnp.array([1, 2, 2, 1])

    @jax.jit
    @jax.vmap
    def both(chain):
        def step(state, token):
            return env.advance(state, token), (env.observe(state), env.law(state), env.lost(state))

        _, (seen, laws, lost) = jax.lax.scan(step, env.start(x), chain)
        return laws, env.laws(x, seen), lost, env.poisoned(x, seen)

    stepwise, parallel, lost, poisoned = both(jnp.array(list(itertools.product(range(4), repeat=4))))
    np.testing.assert_array_equal(parallel, stepwise)
    np.testing.assert_array_equal(poisoned, lost)
    assert poisoned.any() == (recovery != "follow")


def test_score_by_hand():
    scored = exact_match(jnp.array([[1, 2, 3], [1, 0, 3]]), jnp.array([[1, 2, 3], [1, 2, 3]]))
    np.testing.assert_array_equal(scored.full_exact, [True, False])
    np.testing.assert_array_equal(scored.answer_exact, [True, True])
    np.testing.assert_array_equal(scored.position_exact, [[1, 1, 1], [1, 0, 1]])

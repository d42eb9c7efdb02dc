import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nail.noise import sample
from nail.training.config import TrainConfig
from nail.training.devices import pad_runs
from nail.training.experts import NetworkExpert
from nail.training.problem import make_channel, make_problem, numbers_of
from nail.training.rollout import Players, choose, draw, fixed_point, rollout
from nail.training.train import make_train

CONFIG = TrainConfig(p=3, m=4, eta=0.4, width=16, heads=2, init_std=0.5, n_validation=5)


@pytest.fixture(scope="module")
def world():
    problem = make_problem(CONFIG)
    numbers = jax.tree.map(lambda x: x[0], numbers_of((CONFIG,)))
    params = problem.policy.init(jax.random.key(0))
    return problem, make_channel(CONFIG, problem.env, numbers), params


def contexts_of(env, n):
    return jax.vmap(env.train_context)(jnp.arange(n, dtype=jnp.uint32) % 50)


def test_ties_go_to_the_lowest_token():
    logits = jnp.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, 0.0]])
    np.testing.assert_array_equal(choose(logits, 0.0, None), [1, 0, 0])
    np.testing.assert_array_equal(choose(logits, 0.0, jnp.full((3, 3), 7.0)), [1, 0, 0])


def test_greedy_rollout_is_the_argmax_of_the_full_pass(world):
    problem, _, params = world
    contexts = contexts_of(problem.env, 32)
    rolled = rollout(problem.env, problem.policy, params, contexts)
    logits = problem.policy.logits(params, contexts, rolled.observations)
    np.testing.assert_array_equal(rolled.actions, logits.argmax(-1))
    np.testing.assert_array_equal(rolled.observations[:, 1:], rolled.actions[:, :-1])
    np.testing.assert_array_equal(rolled.observations[:, 0], problem.env.equals)


def test_temperature_zero_with_noise_is_greedy(world):
    problem, _, params = world
    contexts = contexts_of(problem.env, 32)
    draws = draw(jax.random.key(3), 32, problem.env, sampled=True, mixture=False)
    cold = rollout(problem.env, problem.policy, params, contexts, draws=draws, temperature=0.0)
    np.testing.assert_array_equal(cold.actions, rollout(problem.env, problem.policy, params, contexts).actions)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_rollouts_follow_the_softmax(world, temperature):
    """First tokens of 20,000 rollouts of one prompt against softmax(logits/T): chi-square at 1e−6 each."""
    problem, _, params = world
    n = 20_000
    contexts = jnp.broadcast_to(contexts_of(problem.env, 1), (n, 4))
    draws = draw(jax.random.key(4), n, problem.env, sampled=True, mixture=False)
    rolled = rollout(problem.env, problem.policy, params, contexts, draws=draws, temperature=temperature)
    logits = problem.policy.logits(params, contexts[:1], rolled.observations[:1])[0, 0]
    expected = np.asarray(jax.nn.softmax(logits / temperature), float)
    counts = np.bincount(rolled.actions[:, 0], minlength=4)
    assert stats.chisquare(counts, expected / expected.sum() * n).pvalue > 1e-6


def test_expert_rollouts_stay_clean_with_probability_q_to_the_h(world):
    """Law 3 of docs/theory.md §3, q = 1−η+η/A: a binomial test per step at 1e−6; and fed back is what was labelled."""
    problem, channel, params = world
    n, q = 20_000, 1 - 0.4 + 0.4 / 3
    contexts = contexts_of(problem.env, n)
    draws = draw(jax.random.key(5), n, problem.env, sampled=False, mixture=False)
    rolled = rollout(
        problem.env,
        problem.policy,
        params,
        contexts,
        driver="expert",
        draws=draws,
        expert=problem.expert,
        channel=channel,
    )
    clean = jax.vmap(problem.env.clean_actions)(contexts)
    for h in range(1, 5):
        still = int((rolled.actions[:, :h] == clean[:, :h]).all(1).sum())
        assert stats.binomtest(still, n, q**h).pvalue > 1e-6
    laws = channel.probs(problem.expert.laws(contexts, rolled.observations))
    np.testing.assert_array_equal(sample(laws, draws.label), rolled.actions)


def test_mixture_ends_are_expert_and_greedy_student(world):
    problem, channel, params = world
    contexts = contexts_of(problem.env, 64)
    draws = draw(jax.random.key(6), 64, problem.env, sampled=False, mixture=True)

    def roll(driver, share=0.0):
        return rollout(
            problem.env, problem.policy, params, contexts, driver=driver, draws=draws, expert=problem.expert,
            channel=channel, expert_share=share,
        ).actions  # fmt: skip

    np.testing.assert_array_equal(roll("mixture", 1.0), roll("expert"))
    np.testing.assert_array_equal(roll("mixture", 0.0), rollout(problem.env, problem.policy, params, contexts).actions)
    assert (roll("mixture", 0.5) != roll("mixture", 1.0)).any()


def test_network_expert_has_the_same_law_in_parallel_and_step_by_step(world):
    """The network at clean prefixes, uniform over the residues after a mistake; prefixes of a sampled student."""
    problem, _, params = world
    expert = NetworkExpert(problem.env, problem.policy, params)
    contexts = contexts_of(problem.env, 16)
    draws = draw(jax.random.key(8), 16, problem.env, sampled=True, mixture=False)
    rolled = rollout(problem.env, problem.policy, params, contexts, draws=draws, temperature=1.0)
    laws = expert.laws(contexts, rolled.observations)
    cache, states = expert.start(contexts), jax.vmap(problem.env.start)(contexts)
    for h in range(4):
        law, cache = expert.step(cache, jnp.int32(h), states)
        np.testing.assert_allclose(laws[:, h], law, atol=1e-5)
        states = jax.vmap(problem.env.advance)(states, rolled.actions[:, h])
    lost = jax.vmap(problem.env.poisoned)(contexts, rolled.observations)
    assert lost.any()
    np.testing.assert_allclose(laws[lost], np.broadcast_to([1 / 3, 1 / 3, 1 / 3, 0], (int(lost.sum()), 4)), rtol=1e-6)
    own = jax.nn.softmax(problem.policy.logits(params, contexts, rolled.observations))
    np.testing.assert_array_equal(laws[~lost], own[~lost])


def both_ways(problem, channel, params, driver, temperature=0.0, n=256):
    """The same episodes token by token and by passes, and the number of passes."""
    contexts = jax.vmap(problem.env.train_context)(jnp.arange(n, dtype=jnp.uint32))
    draws = draw(jax.random.key(9), n, problem.env, sampled=temperature > 0, mixture=driver == "mixture")
    players = Players(problem.policy, params, driver, draws, temperature, problem.expert, channel, 0.5)
    chain = rollout(problem.env, *players[:2], contexts, **dict(zip(players._fields[2:], players[2:], strict=True)))
    return chain, *fixed_point(problem.env, players, contexts)


@pytest.mark.parametrize("task", ["modadd", "garnet", "poison-chain"])
@pytest.mark.parametrize(
    ("driver", "temperature"), [("student", 0.0), ("student", 1.0), ("expert", 0.0), ("mixture", 0.0), ("mixture", 0.7)]
)
def test_passes_over_the_chain_end_at_the_sequential_rollout(task, driver, temperature):
    """Every token of 256 episodes; it takes more than one pass and at most H."""
    config = dataclasses.replace(CONFIG, task=task, m=6)
    problem = make_problem(config)
    channel = make_channel(config, problem.env, jax.tree.map(lambda x: x[0], numbers_of((config,))))
    params = problem.policy.init(jax.random.key(1))
    if task != "modadd":
        params = jax.random.normal(jax.random.key(2), params.shape)
    chain, fixed, passes = both_ways(problem, channel, params, driver, temperature)
    np.testing.assert_array_equal(fixed.actions, chain.actions)
    np.testing.assert_array_equal(fixed.observations, chain.observations)
    assert 1 < passes <= 6


def test_a_clean_chain_is_confirmed_in_one_pass(world):
    """At η = 0 the expert plays the draft itself."""
    problem, _, params = world
    clean = make_channel(
        CONFIG, problem.env, jax.tree.map(lambda x: x[0], numbers_of((dataclasses.replace(CONFIG, eta=0.0),)))
    )
    chain, fixed, passes = both_ways(problem, clean, params, "expert")
    np.testing.assert_array_equal(fixed.actions, chain.actions)
    assert passes == 1


def test_training_with_passes_is_training_token_by_token():
    """30 updates of sampled rollouts: the same tokens, hence the same losses up to the rounding of the two decoders."""
    config = dataclasses.replace(CONFIG, method="opd-r", steps=30, eval_every=30, batch=8, lr=1e-3, warmup=0)
    seen = []
    for decode in ("sequential", "parallel"):
        program = make_train(dataclasses.replace(config, decode=decode))
        numbers = pad_runs(numbers_of((config,)))
        state, _ = program.segment(program.init(numbers), numbers)
        loss = float(state.loss_sum[0])
        seen.append([loss, float(program.segment(state, numbers)[1].evaluation.val_loss[0])])
    np.testing.assert_allclose(*seen, rtol=1e-5)

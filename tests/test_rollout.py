import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import UNOPTIMISED, finished, one
from scipy import stats

from nail.noise import sample
from nail.rules import TOP_P, top_p
from nail.training.config import TrainConfig
from nail.training.experts import NetworkExpert
from nail.training.problem import make_channel, make_setup, numbers_of
from nail.training.rollout import Players, choose, draw, fixed_point, rollout

CONFIG = TrainConfig(p=3, m=4, eta=0.4, width=16, heads=2, init_std=0.5, n_validation=5)
TASKS = {
    "modadd": dataclasses.replace(CONFIG, m=6),
    "garnet": TrainConfig(task="garnet", S=3, A=3, H=6, eta=0.4, n_validation=5),
    "poison-chain": TrainConfig(task="poison-chain", A=3, H=6, eta=0.4, n_validation=5),
}


class World:
    """A setup with its channel and parameters, and compiled rollouts in it."""

    def __init__(self, config, params_key=0):
        self.config, self.setup, self.programs = config, make_setup(config), {}
        self.channel = self.channel_at(config.eta)
        self.params = jax.jit(self.setup.policy.init)(jax.random.key(params_key))
        if config.task != "modadd":
            self.params = jax.random.normal(jax.random.key(2), self.params.shape)

    def channel_at(self, eta):
        return make_channel(self.setup, one(numbers_of((dataclasses.replace(self.config, eta=eta),))))

    def contexts(self, n):
        return jax.jit(jax.vmap(self.setup.env.train_context))(jnp.arange(n, dtype=jnp.uint32) % 50)

    def draws(self, key, n, sampled=False, mixture=False):
        return jax.jit(lambda key: draw(key, n, self.setup.env, sampled, mixture))(jax.random.key(key))

    def program(self, driver, rule, parallel):
        """(parameters, contexts, draws, channel, numbers) → rollout; by passes, with how many they were."""
        env, policy, expert = self.setup.env, self.setup.policy, self.setup.expert

        @jax.jit
        def run(params, contexts, draws, channel, temperature, number, share):
            players = Players(policy, params, driver, draws, temperature, rule, number, expert, channel, share)
            if parallel:
                return fixed_point(env, players, contexts)
            named = dict(zip(players._fields[2:], players[2:], strict=True))
            return rollout(env, policy, params, contexts, **named)

        return run

    def roll(self, contexts, draws=None, driver="student", temperature=0.0, rule=None, number=0.0, share=0.0,
             parallel=False, channel=None):  # fmt: skip
        kind = (driver, rule, parallel)
        if kind not in self.programs:
            self.programs[kind] = self.program(*kind)
        return self.programs[kind](self.params, contexts, draws, channel or self.channel, temperature, number, share)

    def logits(self, contexts, observations):
        return jax.jit(self.setup.policy.forward)(self.params, contexts, observations)[0]


@pytest.fixture(scope="module")
def world():
    return World(CONFIG)


@pytest.fixture(scope="module", params=list(TASKS))
def task(request):
    return World(TASKS[request.param], params_key=1)


def test_ties_go_to_the_lowest_token():
    logits = jnp.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, 0.0]])
    np.testing.assert_array_equal(choose(logits, 0.0, None), [1, 0, 0])
    np.testing.assert_array_equal(choose(logits, 0.0, jnp.full((3, 3), 7.0)), [1, 0, 0])
    np.testing.assert_array_equal(top_p(logits, jnp.full((3, 3), 7.0), 0.0), [1, 0, 0])


def test_greedy_rollout_is_the_argmax_of_the_full_pass(world):
    contexts = world.contexts(32)
    rolled = world.roll(contexts)
    np.testing.assert_array_equal(rolled.actions, world.logits(contexts, rolled.observations).argmax(-1))
    np.testing.assert_array_equal(rolled.observations[:, 1:], rolled.actions[:, :-1])
    np.testing.assert_array_equal(rolled.observations[:, 0], world.setup.env.equals)


def test_temperature_zero_with_noise_is_greedy(world):
    contexts = world.contexts(32)
    cold = world.roll(contexts, world.draws(3, 32, sampled=True))
    np.testing.assert_array_equal(cold.actions, world.roll(contexts).actions)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_rollouts_follow_the_softmax(world, temperature):
    """First tokens of 20,000 rollouts of one prompt against softmax(logits/T): chi-square at 1e−6 each."""
    n = 20_000
    contexts = jnp.broadcast_to(world.contexts(1), (n, 4))
    rolled = world.roll(contexts, world.draws(4, n, sampled=True), temperature=temperature)
    logits = world.logits(contexts[:1], rolled.observations[:1])[0, 0]
    expected = np.asarray(jax.nn.softmax(logits / temperature), float)
    counts = np.bincount(rolled.actions[:, 0], minlength=4)
    assert stats.chisquare(counts, expected / expected.sum() * n).pvalue > 1e-6


@pytest.mark.parametrize("parallel", [False, True])
def test_a_nucleus_of_mass_0_is_greedy_and_of_mass_1_sampled(task, parallel):
    """Every token of 256 episodes, in both decoders; a nucleus in between is neither."""
    contexts, draws = task.contexts(256), task.draws(9, 256, sampled=True)

    def tokens(rule, number=0.0, temperature=0.0):
        rolled = task.roll(contexts, draws, rule=rule, number=number, temperature=temperature, parallel=parallel)
        return np.asarray(rolled[0].actions if parallel else rolled.actions)

    np.testing.assert_array_equal(tokens(TOP_P, 0.0), tokens(None))
    np.testing.assert_array_equal(tokens(TOP_P, 1.0), tokens(None, temperature=1.0))
    between = tokens(TOP_P, 0.7)
    assert (between != tokens(TOP_P, 0.0)).any()
    assert (between != tokens(TOP_P, 1.0)).any()


def test_nucleus_by_hand():
    """p = 0.6 of the law (0.15, 0.5, 0.05, 0.3) keeps tokens 1 and 3, with law (5/8, 3/8): binomial test at 1e−6."""
    logits, n = jnp.log(jnp.array([0.15, 0.5, 0.05, 0.3])), 20_000
    draws = jax.jit(lambda key: top_p(jnp.broadcast_to(logits, (n, 4)), jax.random.gumbel(key, (n, 4)), 0.6))
    counts = np.bincount(draws(jax.random.key(0)), minlength=4)
    assert counts[[0, 2]].sum() == 0
    assert stats.binomtest(int(counts[1]), n, 5 / 8).pvalue > 1e-6


def test_expert_rollouts_stay_clean_with_probability_q_to_the_h(world):
    """Law 3 of docs/theory.md §3, q = 1−η+η/A: a binomial test per step at 1e−6; and fed back is what was labelled."""
    n, q = 20_000, 1 - 0.4 + 0.4 / 3
    contexts, draws = world.contexts(n), world.draws(5, n)
    rolled = world.roll(contexts, draws, "expert")
    clean = jax.jit(jax.vmap(world.setup.env.clean_actions))(contexts)
    for h in range(1, 5):
        still = int((rolled.actions[:, :h] == clean[:, :h]).all(1).sum())
        assert stats.binomtest(still, n, q**h).pvalue > 1e-6
    laws = world.channel.probs(jax.jit(world.setup.expert.laws)(contexts, rolled.observations))
    np.testing.assert_array_equal(sample(laws, draws.label), rolled.actions)


def test_mixture_ends_are_expert_and_greedy_student(world):
    contexts, draws = world.contexts(64), world.draws(6, 64, mixture=True)
    mixed = {share: world.roll(contexts, draws, "mixture", share=share).actions for share in (0.0, 0.5, 1.0)}
    np.testing.assert_array_equal(mixed[1.0], world.roll(contexts, draws, "expert").actions)
    np.testing.assert_array_equal(mixed[0.0], world.roll(contexts).actions)
    assert (mixed[0.5] != mixed[1.0]).any()


def test_network_expert_has_the_same_law_in_parallel_and_step_by_step(world):
    """The network at clean prefixes, uniform over the residues after a mistake; prefixes of a sampled student."""
    env, policy = world.setup.env, world.setup.policy
    expert = NetworkExpert(env, policy, world.params)
    contexts = world.contexts(16)
    rolled = world.roll(contexts, world.draws(8, 16, sampled=True), temperature=1.0)

    @jax.jit
    def both_ways():
        def step(carry, inputs):
            (cache, states), (h, action) = carry, inputs
            law, cache = expert.step(cache, h, states)
            return (cache, jax.vmap(env.advance)(states, action)), law

        start = expert.start(contexts), jax.vmap(env.start)(contexts)
        laws = jax.lax.scan(step, start, (jnp.arange(4), rolled.actions.T))[1]
        lost = jax.vmap(env.poisoned)(contexts, rolled.observations)
        own = jax.nn.softmax(policy.forward(world.params, contexts, rolled.observations)[0])
        return laws.swapaxes(0, 1), expert.laws(contexts, rolled.observations), lost, own

    stepwise, laws, lost, own = map(np.asarray, both_ways())
    np.testing.assert_allclose(laws, stepwise, atol=1e-5)
    assert lost.any()
    np.testing.assert_allclose(laws[lost], np.broadcast_to([1 / 3, 1 / 3, 1 / 3, 0], (int(lost.sum()), 4)), rtol=1e-6)
    np.testing.assert_array_equal(laws[~lost], own[~lost])


@pytest.mark.parametrize(
    ("driver", "temperature"), [("student", 0.0), ("student", 1.0), ("expert", 0.0), ("mixture", 0.0), ("mixture", 0.7)]
)
def test_passes_over_the_chain_end_at_the_sequential_rollout(task, driver, temperature):
    """Every token of 256 episodes; it takes more than one pass and at most H."""
    contexts = task.contexts(256)
    draws = task.draws(9, 256, sampled=temperature > 0, mixture=driver == "mixture")
    chain = task.roll(contexts, draws, driver, temperature, share=0.5)
    fixed, passes = task.roll(contexts, draws, driver, temperature, share=0.5, parallel=True)
    np.testing.assert_array_equal(fixed.actions, chain.actions)
    np.testing.assert_array_equal(fixed.observations, chain.observations)
    assert 1 < passes <= 6


def test_a_clean_chain_is_confirmed_in_one_pass(world):
    """At η = 0 the expert plays the draft itself."""
    contexts, draws, clean = world.contexts(256), world.draws(9, 256), world.channel_at(0.0)
    chain = world.roll(contexts, draws, "expert", channel=clean)
    fixed, passes = world.roll(contexts, draws, "expert", channel=clean, parallel=True)
    np.testing.assert_array_equal(fixed.actions, chain.actions)
    assert passes == 1


@pytest.mark.slow
def test_training_with_passes_is_training_token_by_token():
    """30 updates of sampled rollouts: the same tokens, hence the same losses up to the rounding of the two decoders."""
    config = dataclasses.replace(CONFIG, method="opd-r", steps=30, eval_every=30, batch=8, lr=1e-3, warmup=0)
    ways = [dataclasses.replace(config, decode=decode) for decode in ("sequential", "parallel")]
    last = [finished(way, options=UNOPTIMISED)[1][-1] for way in ways]
    np.testing.assert_allclose(*([row.train_loss[0], row.evaluation.val_loss[0]] for row in last), rtol=1e-5)

"""The law that draws a rollout's token is the law that the token is scored by: all chains of 2 steps, 3 actions, in
float64, at several temperatures and in a nucleus (docs/theory.md §2, docs/post_training.md §1.3)."""

import dataclasses
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import one

import nail
from nail.checks import BadInput
from nail.methods import METHOD, Method
from nail.rules import TOP_P, nucleus, rollout_law, top_p, top_p_law
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_instance, make_setup, numbers_of
from nail.training.ranges import check
from nail.training.update import Visited, collect, objective

A, H = 3, 2
CONFIG = TrainConfig(task="poison-chain", A=A, H=H, eta=0.4, batch=1, steps=4, eval_every=2, warmup=0, n_validation=4)
CHAINS = np.array(list(itertools.product(range(A), repeat=H)))
ADDED = {
    "mix-r": Method("mix-r", "mixture", "student", beta=0.3, temperature=0.5, action="rollout"),
    "jsd-r": Method("jsd-r", "JSD", "student", "jsd", beta=0.3, temperature=0.5, action="rollout"),
}


def law(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


class World:
    """A student on the poison chain, the states of all chains, and the noisy expert's laws there."""

    def __init__(self, method, **fields):
        config = dataclasses.replace(CONFIG, method=method, **fields)
        self.setup, self.numbers = make_setup(config), one(numbers_of((config,)))
        env = self.setup.env
        self.context, chains = env.train_context(jnp.uint32(0)), jnp.asarray(CHAINS, jnp.int32)
        self.seen = np.asarray(jax.vmap(lambda a: env.observations(self.context, a))(chains))
        shape = jax.eval_shape(self.setup.policy.init, jax.random.key(0)).shape
        self.logits = 2 * np.random.default_rng(3).normal(size=shape)
        self.noisy = make_instance(config).noisy(config.eta)[np.arange(H), self.seen]
        self.compiled = jax.jit(self._means, static_argnums=0)

    def at(self, table):
        """(chain, H, ..) of a table (H, S, ..)."""
        return table[np.arange(H), self.seen]

    def _means(self, estimator, chance, numbers):
        setup = self.setup._replace(config=dataclasses.replace(self.setup.config, estimator=estimator))
        chains, labels = map(jnp.ravel, jnp.indices((len(CHAINS), len(CHAINS))))
        actions, laws, seen = jnp.asarray(CHAINS, jnp.int32), jnp.asarray(self.noisy), jnp.asarray(self.seen)

        def each(i, j):
            alone = jax.tree.map(lambda x: x[None], self.context)
            visited = Visited(alone, seen[i][None], actions[i][None], laws[i][None], actions[j][None])
            channel, key = make_channel(setup, numbers), jax.random.key(0)
            return jax.value_and_grad(lambda z: objective(setup, channel, numbers, z, visited, key))(self.logits)

        given = jnp.prod(laws[chains[:, None], jnp.arange(H), actions[labels]], -1)
        return jax.tree.map(lambda x: jnp.tensordot(chance[chains] * given, x, 1), jax.vmap(each)(chains, labels))

    def means(self, estimator, drawn, **numbers):
        """(value, gradient) of the objective in mean over chains of the laws `drawn` (H, S, A) and over labels."""
        chance = np.take_along_axis(self.at(drawn), CHAINS[..., None], -1)[..., 0].prod(-1)
        value, slope = self.compiled(estimator, chance, self.numbers._replace(**numbers))
        return float(value), np.asarray(slope)


@pytest.fixture(autouse=True)
def double(request):
    with jax.enable_x64("World" in request.function.__code__.co_names):
        yield


@pytest.mark.parametrize(("method", "aware"), [("opd-r", False), ("opd-r", True), ("mix-r", False), ("jsd-r", False)])
def test_a_rollouts_token_has_the_full_form_as_mean_at_any_temperature(method, aware, tables):
    """Mean gradient over chains that softmax(z/T) draws, against the full form's at the same prefixes; where the
    objective is the reverse KL alone, its mean value too, which is a KL: at least 0."""
    if method in ADDED:
        nail.add_method(ADDED[method])
    world = World(method, channel_aware=aware)
    for temperature in map(float, np.float32((0.3, 1.0, 2.0))):
        drawn = law(world.logits / temperature)
        value, slope = world.means("mc", drawn, temperature=temperature)
        exact, gradient = world.means("full", drawn, temperature=temperature)
        assert np.abs(gradient).max() > 1e-3
        np.testing.assert_allclose(slope, gradient, atol=1e-10)
        if method == "opd-r":
            assert value == pytest.approx(exact, rel=1e-9)
            assert value > 0.01


@pytest.mark.parametrize("mass", [0.0, 0.6, 1.0])
def test_a_nucleus_has_the_terms_inside_as_mean(mass):
    """Σ_{a∈N} p·r, and Σ_{a∈N} ∇p·r in the gradient, r = log(p/t), at the prefixes that the nucleus N plays. Mass 1 is
    the reverse KL."""
    world = World("opd-r-top-p", rule_number=mass)
    p, mass = law(world.logits), float(np.float32(mass))
    inside = nucleus_of(p, mass)
    drawn = np.where(inside, p, 0) / np.where(inside, p, 0).sum(-1, keepdims=True)
    value, slope = world.means("mc", drawn)
    r = np.where(world.at(inside), np.log(world.at(p) / world.noisy), 0)
    here, chance = world.at(p), np.take_along_axis(world.at(drawn), CHAINS[..., None], -1)[..., 0].prod(-1)
    expected = chance @ (here * r).sum(-1).mean(-1)
    each, gradient = here * r - here * (here * r).sum(-1, keepdims=True), np.zeros_like(slope)
    for h in range(H):
        np.add.at(gradient[h], world.seen[:, h], chance[:, None] * each[:, h] / H)
    assert value == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(slope, gradient, atol=1e-10)
    if mass == 1:
        exact, full = world.means("full", drawn)
        assert value == pytest.approx(exact, rel=1e-10)
        np.testing.assert_allclose(slope, full, atol=1e-10)


def nucleus_of(p, mass):
    """The smallest set of most probable tokens with at least this mass (all of them at mass 1, one at 0)."""
    order = np.argsort(-p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, -1)
    kept = (ranked.cumsum(-1) - ranked < mass) | (np.arange(A) == 0) | (mass == 1)
    return np.take_along_axis(kept, np.argsort(order, -1), -1)


@pytest.mark.parametrize("fields", [{"temperature": 0.3}, {"channel_aware": True}])
def test_what_a_rollout_draws_is_what_is_scored(fields):
    """Losses of 300 batches of 64 episodes as they are collected: the sampled form less the full one is 0 in mean,
    within 5 standard errors (an error of 6e−7)."""
    config = dataclasses.replace(CONFIG, **{"method": "opd-r", "batch": 64, **fields})
    setup, numbers = make_setup(config), one(numbers_of((config,)))
    full, channel = setup._replace(config=dataclasses.replace(config, estimator="full")), make_channel(setup, numbers)
    shape = jax.eval_shape(setup.policy.init, jax.random.key(0)).shape
    logits = jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)

    def both(key):
        visited = collect(setup, channel, numbers, logits, jnp.int32(0), key)
        return jnp.stack([objective(kind, channel, numbers, logits, visited, key) for kind in (setup, full)])

    found = np.asarray(jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(1), 300)), float)
    apart = found[:, 0] - found[:, 1]
    assert abs(apart.mean()) < 5 * apart.std() / np.sqrt(len(apart)) + 1e-6
    assert apart.std() / np.sqrt(len(apart)) < 0.1 * found[:, 1].mean()


def test_a_nucleus_is_right_at_exact_boundaries():
    """All laws k/n of 2 to 4 integers ≥ 1 with sum n ≤ 10, masses j/n: against rational arithmetic, and the tokens that
    the rule can play are those that its law has."""
    for actions in (2, 3, 4):
        counts = [k for k in itertools.product(range(1, 10), repeat=actions) if sum(k) <= 10]
        cases = [(k, j) for k in counts for j in range(1, sum(k) + 1)]
        logits = jnp.log(jnp.asarray([np.array(k) / sum(k) for k, _ in cases], jnp.float32))
        mass = jnp.asarray([j / sum(k) for k, j in cases], jnp.float32)
        pushes = 1e3 * jnp.eye(actions)

        @jax.jit
        @jax.vmap
        def found(z, p, pushes=pushes):
            plays = jax.vmap(lambda gumbel: top_p(z, gumbel, p))(pushes) == jnp.arange(len(z))
            return nucleus(z, p), plays, top_p_law(z, p)

        kept, plays, logq = map(np.asarray, found(logits, mass))
        expected = [exact_nucleus([Fraction(x, sum(k)) for x in k], Fraction(j, sum(k))) for k, j in cases]
        np.testing.assert_array_equal(kept, expected)
        np.testing.assert_array_equal(plays, kept)
        np.testing.assert_array_equal(np.isfinite(logq), kept)
        inside = np.where(kept, np.exp(logits), 0)
        np.testing.assert_allclose(np.exp(logq), inside / inside.sum(-1, keepdims=True), atol=1e-6)


def exact_nucleus(weights, mass):
    """The first tokens, by weight and then by number, whose weights add up to `mass`."""
    kept, total = [False] * len(weights), Fraction(0)
    for token in sorted(range(len(weights)), key=lambda a: (-weights[a], a)):
        if total >= mass:
            break
        kept[token], total = True, total + weights[token]
    return kept


def test_the_law_of_a_rollout_at_temperature_1_is_the_students_bit_for_bit():
    logits = jax.random.normal(jax.random.key(0), (500, 7))
    expected = jax.jit(jax.nn.log_softmax)(logits)
    np.testing.assert_array_equal(jax.jit(rollout_law, static_argnums=0)(None, logits, 1.0, 0.0), expected)
    found = jax.jit(rollout_law, static_argnums=0)(None, logits, 0.5, 0.0)
    np.testing.assert_allclose(found, jax.nn.log_softmax(2 * logits), atol=1e-5)


def test_a_token_that_rounding_put_outside_of_the_nucleus_counts_once():
    """The rollout's logits and the loss's may round to different nuclei: no infinity in the loss or its gradient."""
    logits = jnp.log(jnp.array([0.5, 0.3, 0.2]))
    found, slope = jax.value_and_grad(lambda z: rollout_law(TOP_P, z, 1.0, 0.4)[1])(logits)
    assert float(found) == pytest.approx(np.log(0.3), abs=1e-6)
    np.testing.assert_allclose(slope, [-0.5, 0.7, -0.2], atol=1e-6)


UNKNOWN = TOP_P._replace(name="mine", law=None)
REFUSED = {
    "greedy": (METHOD["opd-r"], {"temperature": 0.0}, "temperature must be above 0: opd-r is scored by the law"),
    "a rule without its law": (
        Method("x", "x", "student", beta=1.0, action="rollout", rule=UNKNOWN), {},
        "law of the rule mine must be a function: x is scored by the law of the rollout's token, got None",
    ),
    "a policy gradient of it": (
        Method("x", "x", "student", reward="centred", group=2, rule=UNKNOWN), {"batch": 2, "group": 2},
        "law of the rule mine must be a function",
    ),
    "the expert's tokens": (
        Method("x", "x", "expert", beta=1.0, action="rollout"), {},
        "action of the method x must be auxiliary unless the student alone played",
    ),
    "older tokens": (
        Method("x", "x", "student", beta=1.0, action="rollout", temperature=1.0, aggregate=True), {},
        "action of the method x must be auxiliary unless the student alone played",
    ),
    "an end by rounding alone": (METHOD["jsd-beta"], {"beta": 1 - 1e-9}, "beta must be 0, 1, or neither when"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_loss_that_cannot_be_scored_is_refused(case, tables):
    row, fields, said = REFUSED[case]
    if row.name not in METHOD:
        nail.add_method(row)
    with pytest.raises(BadInput, match=said):
        check(dataclasses.replace(CONFIG, method=row.name, **fields))


def test_the_full_form_reads_no_token_and_is_not_refused(tables):
    nail.add_method(Method("x", "x", "student", beta=1.0, action="rollout", rule=UNKNOWN))
    check(dataclasses.replace(CONFIG, method="x", estimator="full"))
    check(dataclasses.replace(CONFIG, method="opd-r", temperature=0.0, estimator="full"))
    world = World("x", estimator="full")
    greedy = np.eye(A)[world.logits.argmax(-1)]
    assert world.means("full", greedy)[0] > 0.01

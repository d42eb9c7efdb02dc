"""What is known is not computed again, and nothing else changes: rollouts, losses, gradients."""

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from nail.checks import BadInput
from nail.cli.bench.products import products_of, total_flops
from nail.policies.block import attention
from nail.policies.matmul import dense, known_dense, pick
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_setup, numbers_of
from nail.training.ranges import check
from nail.training.rollout import rollout
from nail.training.train import make_train
from nail.training.update import collect, initial_params, objective, update

CONFIG = TrainConfig(p=5, m=6, eta=0.3, width=32, heads=4, init_std=0.3, batch=32, steps=10)
KEY = jax.random.key(1)


def with_(**changes):
    return dataclasses.replace(CONFIG, **changes)


def of(config):
    setup = make_setup(config)
    numbers = jax.tree.map(lambda x: x[0], numbers_of((config,)))
    params = jax.jit(lambda: initial_params(setup.policy, jnp.int32(3)))()
    return setup, numbers, make_channel(setup, numbers), params


def first_update(config):
    """What was visited, the loss there, and its gradient as one vector."""
    setup, numbers, channel, params = of(config)

    @jax.jit
    def both(params):
        visited = jax.lax.stop_gradient(collect(setup, channel, numbers, params, jnp.int32(0), KEY))
        loss = lambda params: objective(setup, channel, numbers, params, visited, KEY)  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(params)
        return visited, value, ravel_pytree(gradient)[0]

    return jax.tree.map(np.asarray, both(params))


@pytest.mark.parametrize(
    ("method", "layers", "decode", "batch"),
    [
        ("nail-f", 1, "sequential", 32), ("nail-f", 2, "sequential", 4), ("opd-r", 1, "parallel", 32),
        ("loglossbc", 1, "sequential", 32), ("dagger", 1, "sequential", 32),
        pytest.param("nail-f", 1, "sequential", 4, marks=pytest.mark.slow),
        pytest.param("nail-f", 3, "sequential", 32, marks=pytest.mark.slow),
        pytest.param("opd-f", 2, "parallel", 4, marks=pytest.mark.slow),
        pytest.param("nail-r", 2, "parallel", 32, marks=pytest.mark.slow),
        pytest.param("opd-f", 1, "sequential", 32, marks=pytest.mark.slow),
        pytest.param("loglossbc", 2, "sequential", 32, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_rollouts_are_the_same_and_gradients_up_to_rounding(method, layers, decode, batch):
    """With a table (batch 32) and without (4 episodes, 6 tokens); token by token and by passes; greedy, sampled,
    the expert's and a mixture. Rounding is 3e-7 of the gradient's length."""
    config = with_(method=method, layers=layers, decode=decode, batch=batch)
    (visited, loss, gradient), (plain, its_loss, its_gradient) = (
        first_update(dataclasses.replace(config, reuse=reuse)) for reuse in ("on", "off")
    )
    on_policy = method not in ("loglossbc", "dagger")
    assert (visited.known is not None and visited.known.kept is not None) == on_policy
    assert plain.known is None or plain.known.kept is None
    np.testing.assert_array_equal(visited.observations, plain.observations)
    np.testing.assert_array_equal(visited.actions, plain.actions)
    assert loss == pytest.approx(its_loss, rel=1e-5)
    assert np.linalg.norm(gradient - its_gradient) < 2e-6 * np.linalg.norm(its_gradient)


def known_after_a_rollout(config):
    setup, _, _, params = of(config)
    contexts = jax.jit(jax.vmap(setup.env.train_context))(np.arange(config.batch, dtype=np.uint32))
    rolled = jax.jit(lambda params: rollout(setup.env, setup.policy, params, contexts, keep=True))(params)
    return setup.policy, params, contexts, rolled


@pytest.mark.parametrize(("layers", "batch"), [(1, 32), (1, 4), (2, 32), (2, 4)])
def test_a_rollout_leaves_what_a_pass_computes(layers, batch):
    """Every product of every block at every position, the prompt's of lower blocks among them."""
    policy, params, contexts, rolled = known_after_a_rollout(with_(layers=layers, batch=batch))
    _, computed = jax.jit(policy.forward)(params, contexts, rolled.observations)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), rolled.known, computed)
    assert (rolled.known.table is not None) == (batch > 6)


@pytest.mark.parametrize(
    ("layers", "batch"),
    [(1, 32), (2, 4), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((1, 4), (2, 32)))],
)
def test_what_is_known_is_taken_as_known(layers, batch):
    """A pass that is told other values believes them, as its gradient shows for each (a table stands for the first
    block's keys and values); it takes nothing where nothing was kept."""
    policy, params, contexts, rolled = known_after_a_rollout(with_(layers=layers, batch=batch))

    @jax.jit
    def run(known):
        square = lambda params: jnp.square(policy.forward(params, contexts, rolled.observations, known)[0]).mean()  # noqa: E731
        return ravel_pytree(jax.grad(square)(params))[0]

    true, known = jax.device_get((run(rolled.known), rolled.known))
    leaves, shape = jax.tree.flatten(known)
    for i, leaf in enumerate(leaves):
        if batch > 6 and i in (0, layers):
            continue
        other = leaf + np.random.default_rng(1).normal(size=leaf.shape).astype(np.float32)
        told = jax.tree.unflatten(shape, [*leaves[:i], other, *leaves[i + 1 :]])
        assert np.abs(run(told) - true).max() > 1e-3, (i, leaf.shape)
    nothing = jax.tree.map(lambda x: x + np.float32(1), known._replace(kept=None))
    np.testing.assert_allclose(run(nothing), true, atol=2e-5)


def step_products(**changes):
    config = with_(**changes)
    setup, runs = make_setup(config), numbers_of((config,) * jax.local_device_count())
    state = jax.eval_shape(make_train(config).init, runs)
    numbers, state = jax.tree.map(lambda x: x[0], runs), jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), state)
    return products_of(lambda state: update(setup, numbers, state), state)


def test_an_on_policy_step_does_the_products_of_an_offline_one():
    """Up to attention and the logits, which are computed in the rollout and in the pass: the products with a matrix of
    the network on an inner side of 32 or 128 are as many, forward and backward."""

    def weights(products: Counter):
        return sum(p.flops * n for p, n in products.items() if p.batch == 1 and min(p.inner, p.columns) >= 32)

    offline, off = (weights(step_products(method="loglossbc", reuse=reuse)) for reuse in ("on", "off"))
    assert weights(step_products(method="nail-f")) == weights(step_products(method="opd-r")) == offline
    assert weights(step_products(method="nail-f", reuse="off")) > 1.3 * off > 1.3 * offline
    assert total_flops(step_products(method="dagger")) > total_flops(step_products(method="nail-f"))


def test_the_gradient_of_a_known_product_is_the_products():
    x, w, g = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(3, 5, 4), (4, 6), (3, 5, 6)]))
    plain, back = jax.vjp(dense, x, w)
    value, known_back = jax.vjp(lambda x, w: known_dense(x, w, plain + 1.0), x, w)
    np.testing.assert_array_equal(value, plain + 1.0)
    jax.tree.map(np.testing.assert_array_equal, known_back(g), back(g))


def test_the_gradient_of_known_weights_is_the_softmaxs():
    """With half of the keys hidden; told other weights, it believes them."""
    q, k, g = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 3, 4), (2, 4, 6), (2, 3, 6)]))
    q, k, g, mask = q[None], k[None], g[None], (jnp.arange(18) % 2 == 0).reshape(3, 6)
    plain, back = jax.vjp(lambda q, k: attention(q, k, mask), q, k)
    value, known_back = jax.vjp(lambda q, k: attention(q, k, mask, plain), q, k)
    np.testing.assert_array_equal(value, plain)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), known_back(g), back(g))
    np.testing.assert_array_equal(attention(q, k, mask, plain + 1.0), plain + 1.0)


def test_picked_rows_and_their_gradient():
    """Beside indexing and its own derivative, a scatter."""
    table, g = jax.random.normal(jax.random.key(0), (3, 5, 4)), jax.random.normal(jax.random.key(1), (3, 7, 4))
    tokens = jax.random.randint(jax.random.key(2), (3, 7), 0, 5)
    rows, back = jax.vjp(lambda table: pick(table, tokens), table)
    plain, its_back = jax.vjp(lambda table: table[jnp.arange(3)[:, None], tokens], table)
    np.testing.assert_array_equal(rows, plain)
    np.testing.assert_allclose(back(g)[0], its_back(g)[0], rtol=1e-6)


def test_an_unknown_word_is_refused():
    with pytest.raises(BadInput, match="unknown reuse 'maybe'"):
        check(with_(reuse="maybe"))

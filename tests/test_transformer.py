import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from nail.policies.block import gelu
from nail.policies.matmul import dense, matmul
from nail.policies.transformer import Decoder, TransformerPolicy
from nail.training.config import TrainConfig
from nail.training.problem import make_environment, make_policy


def policy_of(layers=2, heads=2, prompt=5, dtype=jnp.float32):
    return TransformerPolicy(Decoder(5, prompt, 5, 16, heads, layers, init_std=0.3, dtype=jnp.dtype(dtype)))


def initial(policy, seed):
    return jax.jit(policy.init)(jax.random.key(seed))


def tokens_of(prompt=5):
    """Six prompts of residues mod 4, and chains of five observations after them, "=" first."""
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, 4, (6, prompt))
    observations = np.concatenate([np.full((6, 1), 4), rng.integers(0, 5, (6, 4))], axis=1)
    return jnp.array(contexts, jnp.int32), jnp.array(observations, jnp.int32)


def plain_forward(params, tokens, prompt, heads, layers):
    """The network in float64 numpy, every position of every block computed, one sequence at a time."""
    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])

    def norm(x, ln):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * ln["scale"]

    out = []
    for row in np.asarray(tokens):
        x = weights["tokens"][row] + weights["positions"]
        for layer in range(layers):
            w = weights[f"blocks_{layer}"]
            h = norm(x, w["ln1"])
            q, (k, v) = h @ w["q"]["kernel"], np.split(h @ w["kv"]["kernel"], 2, axis=-1)
            mixed = np.zeros_like(x)
            size = x.shape[1] // heads
            for head in range(heads):
                cut = slice(head * size, (head + 1) * size)
                for t in range(len(x)):
                    scores = k[: t + 1, cut] @ q[t, cut] / np.sqrt(size)
                    weight = np.exp(scores - scores.max())
                    mixed[t, cut] = weight / weight.sum() @ v[: t + 1, cut]
            x = x + mixed @ w["proj"]["kernel"]
            up = norm(x, w["ln2"]) @ w["up"]["kernel"]
            x = x + (up * 0.5 * (1 + erf(up / np.sqrt(2)))) @ w["down"]["kernel"]
        out.append((norm(x, weights["ln"]) @ weights["tokens"].T)[prompt:])
    return np.stack(out)


@pytest.mark.parametrize(("layers", "heads", "prompt"), [(1, 4, 5), (2, 2, 3), (3, 1, 5)])
def test_forward_equals_a_plain_implementation(layers, heads, prompt):
    policy = policy_of(layers, heads, prompt)
    params = initial(policy, 0)
    contexts, observations = tokens_of(prompt)
    plain = plain_forward(params, jnp.concatenate([contexts, observations], 1), prompt, heads, layers)
    np.testing.assert_allclose(jax.jit(policy.forward)(params, contexts, observations)[0], plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("layers", "heads", "prompt"), [(1, 1, 5), (1, 4, 7), (2, 2, 3), (3, 4, 5)])
def test_cached_decoding_equals_the_full_pass(layers, heads, prompt):
    policy = policy_of(layers, heads, prompt)
    contexts, observations = tokens_of(prompt)

    @jax.jit
    def both_ways(params):
        def step(cache, inputs):
            logits, cache = policy.step(params, cache, *inputs)
            return cache, logits

        cached = jax.lax.scan(step, policy.start(params, contexts), (jnp.arange(5), observations.T))[1]
        return cached.swapaxes(0, 1), policy.forward(params, contexts, observations)[0]

    np.testing.assert_allclose(*both_ways(initial(policy, 1)), rtol=2e-5, atol=2e-5)


def test_no_position_sees_a_later_token():
    policy = policy_of()
    params, logits = initial(policy, 2), jax.jit(lambda *inputs: policy.forward(*inputs)[0])
    contexts, observations = tokens_of()
    before = logits(params, contexts, observations)
    after = logits(params, contexts, observations.at[:, 3].set((observations[:, 3] + 1) % 5))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert jnp.abs(before[:, 3:] - after[:, 3:]).max(axis=(0, 2)).min() > 1e-3


def test_the_papers_network_has_the_papers_size():
    """12·512² weights in products, 3.15 M with embeddings and norms, besides positions (docs/paper.md §1.1)."""
    config = TrainConfig()
    shapes = jax.eval_shape(make_policy(config, make_environment(config)).init, jax.random.key(0))["params"]
    sizes = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    assert sizes["positions"] == 62 * 512
    assert sizes["blocks_0"] == 12 * 512**2 + 2 * 512
    assert sum(sizes.values()) - sizes["positions"] == pytest.approx(3.15e6, rel=2e-3)


def test_initial_spread_is_the_papers():
    """N(0, 0.02²), residual projections N(0, 0.02²/(2·layers)); standard errors are below 0.1 %."""
    config = TrainConfig(layers=2)
    params = initial(make_policy(config, make_environment(config)), 0)["params"]["blocks_1"]
    for name, std in [("q", 0.02), ("kv", 0.02), ("up", 0.02), ("proj", 0.01), ("down", 0.01)]:
        assert float(params[name]["kernel"].std()) == pytest.approx(std, rel=0.01)


def test_gelu_is_exact():
    x = jnp.linspace(-8, 8, 4001)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), atol=2e-6)
    slope, exact = jax.vmap(jax.grad(gelu))(x), jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(x)
    np.testing.assert_allclose(slope, exact, atol=2e-6)


def test_products_have_the_gradients_of_plain_products():
    keys = jax.random.split(jax.random.key(0), 4)
    x, w = jax.random.normal(keys[0], (3, 5, 4)), jax.random.normal(keys[1], (4, 6))
    a, b = jax.random.normal(keys[2], (3, 2, 5, 4)), jax.random.normal(keys[3], (3, 2, 4, 7))
    for ours, left, right in [(dense, x, w), (matmul, a, b)]:
        gradients = jax.jit(jax.grad(lambda *z, f=ours: jnp.sin(f(*z)).sum(), (0, 1)))(left, right)
        plain = jax.jit(jax.grad(lambda *z: jnp.sin(z[0] @ z[1]).sum(), (0, 1)))(left, right)
        for got, expected in zip(gradients, plain, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_parameters_and_logits_in_float32():
    policy = policy_of(dtype=jnp.bfloat16)
    params = initial(policy, 0)
    contexts, observations = tokens_of()
    logits = jax.jit(policy.forward)(params, contexts, observations)[0]
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    exact = jax.jit(policy_of().forward)(params, contexts, observations)[0]
    np.testing.assert_allclose(logits, exact, atol=0.05 * float(jnp.abs(exact).max()))

"""Decoder transformer over a prompt of L tokens and a chain of H targets (docs/paper.md §1.1; there L = H = m).

Pre-LayerNorm with weights only, exact GELU, learned absolute positions, tied input and output embedding, no biases.
Only what is used is computed: the last block needs keys and values at every position, but queries, MLP
and logits at the H target positions alone. The token before the first target (in modular addition "=") is the first
observation; a block has L + H positions.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nail.policies.matmul import dense, matmul


class KVCache(NamedTuple):
    """Keys and values of every block, in the layout that attention reads."""

    keys: tuple[Float[Array, "B heads d T"], ...]
    values: tuple[Float[Array, "B heads T d"], ...]


class Block(nn.Module):
    """x ← x + Proj·Attention(LN x); x ← x + Down·gelu(Up·LN x)."""

    width: int
    heads: int
    layers: int
    init_std: float
    dtype: Any
    precision: Precision | None

    def setup(self) -> None:
        """Residual projections start at init_std/√(2·layers), all else at init_std."""
        inner, outer = self.init_std, self.init_std / (2 * self.layers) ** 0.5
        self.ln1, self.ln2 = _layer_norm(self.dtype), _layer_norm(self.dtype)
        self.q = Linear(self.width, inner, self.precision)
        self.kv = Linear(2 * self.width, inner, self.precision)
        self.proj = Linear(self.width, outer, self.precision)
        self.up = Linear(4 * self.width, inner, self.precision)
        self.down = Linear(self.width, outer, self.precision)

    def keys_values(self, x: Float[Array, "B T w"]) -> tuple[Array, Array]:
        """Keys (B, heads, d, T) and values (B, heads, T, d) at every position of x, d = width/heads."""
        kv = self.kv(self.ln1(x)).reshape(*x.shape[:2], 2, self.heads, -1)
        return kv[:, :, 0].transpose(0, 2, 3, 1), kv[:, :, 1].swapaxes(1, 2)

    def attend(self, x: Float[Array, "B Q w"], k: Array, v: Array, mask: Array) -> Float[Array, "B Q w"]:
        """The block's output at the positions of x, which attend to (k, v) where `mask` (Q, T) is true."""
        q = self.q(self.ln1(x)).reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)
        scores = matmul(q, k, self.precision).astype(jnp.float32) * q.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1).astype(self.dtype)
        mixed = matmul(weights, v, self.precision).swapaxes(1, 2).reshape(x.shape)
        x = x + self.proj(mixed)
        return x + self.down(gelu(self.up(self.ln2(x))))


class Decoder(nn.Module):
    """Logits over the A tokens at the H target positions L..L+H−1 of a block of L + H tokens."""

    n_actions: int
    prompt: int
    """L"""
    horizon: int
    """H"""
    width: int
    heads: int
    layers: int
    init_std: float
    dtype: Any
    precision: Precision | None = None

    def setup(self) -> None:
        """Embeddings N(0, init_std²)."""
        normal = nn.initializers.normal(self.init_std)
        self.tokens = self.param("tokens", normal, (self.n_actions, self.width), jnp.float32)
        self.positions = self.param("positions", normal, (self.prompt + self.horizon, self.width), jnp.float32)
        self.blocks = [
            Block(self.width, self.heads, self.layers, self.init_std, self.dtype, self.precision)
            for _ in range(self.layers)
        ]
        self.ln = _layer_norm(self.dtype)

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B H A"]:
        """One parallel pass over the prompt and the H observations."""
        x = self._embed(tokens, self.positions)
        causal = jnp.tril(jnp.ones((tokens.shape[1], tokens.shape[1]), bool))
        for i, block in enumerate(self.blocks):
            first = self.prompt if i == self.layers - 1 else 0
            x = block.attend(x[:, first:], *block.keys_values(x), causal[first:])
        return self._unembed(x)

    def prefill(self, prompt: Int[Array, "B L"]) -> KVCache:
        """The cache after the L tokens of the prompt, with room for the H tokens that follow."""
        x = self._embed(prompt, self.positions[: self.prompt])
        causal = jnp.tril(jnp.ones((self.prompt, self.prompt), bool))
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            k, v = block.keys_values(x)
            if i < self.layers - 1:
                x = block.attend(x, k, v, causal)
            keys.append(jnp.pad(k, ((0, 0), (0, 0), (0, 0), (0, self.horizon))))
            values.append(jnp.pad(v, ((0, 0), (0, 0), (0, self.horizon), (0, 0))))
        return KVCache(tuple(keys), tuple(values))

    def decode(
        self, cache: KVCache, step: Int[Array, ""] | int, token: Int[Array, " B"]
    ) -> tuple[Float[Array, "B A"], KVCache]:
        """Logits at target position L + step, where `token` stands, and the cache with that position filled."""
        position = self.prompt + step
        row = jax.lax.dynamic_slice_in_dim(self.positions, position, 1)
        x = self._embed(token[:, None], row)
        visible = (jnp.arange(self.prompt + self.horizon) <= position)[None, :]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            k, v = block.keys_values(x)
            keys.append(jax.lax.dynamic_update_slice_in_dim(cache.keys[i], k, position, axis=3))
            values.append(jax.lax.dynamic_update_slice_in_dim(cache.values[i], v, position, axis=2))
            x = block.attend(x, keys[i], values[i], visible)
        return self._unembed(x)[:, 0], KVCache(tuple(keys), tuple(values))

    def _embed(self, tokens: Int[Array, "B T"], positions: Float[Array, "T w"]) -> Float[Array, "B T w"]:
        """Token plus position; the token look-up is a product with one-hot rows, whose transpose needs no scatter."""
        one_hot = jax.nn.one_hot(tokens, self.n_actions, dtype=self.dtype)
        return dense(one_hot, self.tokens, self.precision) + positions.astype(self.dtype)

    def _unembed(self, x: Float[Array, "B T w"]) -> Float[Array, "B T A"]:
        """Tied output embedding, in float32."""
        return dense(self.ln(x), self.tokens.T, self.precision).astype(jnp.float32)


class TransformerPolicy(NamedTuple):
    """`Decoder` behind the interface of `nail.policies.policy`; contexts are the prompts' tokens (B, L)."""

    decoder: Decoder

    def init(self, key: PRNGKeyArray) -> Any:
        """Float32 parameters."""
        return self.decoder.init(key, jnp.zeros((1, self.decoder.prompt + self.decoder.horizon), jnp.int32))

    def logits(
        self, params: Any, contexts: Int[Array, "B L"], observations: Int[Array, "B H"]
    ) -> Float[Array, "B H A"]:
        """Logits at the H target positions; `observations` are the tokens before them, in modular addition
        ("=", a_1, …, a_{m−1})."""
        return self.decoder.apply(params, jnp.concatenate([contexts, observations], axis=1))

    def start(self, params: Any, contexts: Int[Array, "B L"]) -> KVCache:
        """The cache after the prompts."""
        return self.decoder.apply(params, contexts, method="prefill")

    def step(
        self, params: Any, cache: KVCache, step: Int[Array, ""] | int, observations: Int[Array, " B"]
    ) -> tuple[Float[Array, "B A"], KVCache]:
        """Logits at target `step` and the advanced cache."""
        return self.decoder.apply(params, cache, step, observations, method="decode")


def compute_dtype(precision: str) -> jnp.dtype:
    """Type of activations and products; parameters, softmax, loss and optimiser are float32 in any case."""
    return jnp.dtype("bfloat16" if precision == "bfloat16" else "float32")


def product_precision(precision: str) -> Precision | None:
    """XLA's precision of the products: HIGHEST for float32 on every device, the device's fast default otherwise."""
    return Precision.HIGHEST if precision == "float32" else None


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact GELU x·Φ(x), through erf: XLA's erfc, which `jax.nn.gelu` uses, is several times slower on a CPU."""
    return x * (0.5 + 0.5 * jax.lax.erf(x * jnp.asarray(2**-0.5, x.dtype)))


def _layer_norm(dtype: Any) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_bias=False, dtype=dtype)


class Linear(nn.Module):
    """x W without a bias, W ~ N(0, std²) in float32."""

    features: int
    std: float
    precision: Precision | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
        """x W in the type of x."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(self.std), shape, jnp.float32)
        return dense(x, kernel, self.precision)

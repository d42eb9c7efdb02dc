"""Decoder transformer over a prompt of L tokens and a chain of H targets (docs/paper.md §1.1; there L = H = m).

Pre-LayerNorm with weights only, exact GELU, learned absolute positions, tied input and output embedding, no biases.
Only what is used is computed: the last block needs keys and values at every position, but queries, MLP
and logits at the H target positions alone. The token before the first target (in modular addition "=") is the first
observation; a block has L + H positions, T for short.

What is known is not computed again (`Decoder.reuse`). The first block's keys, values and queries depend on token and
position alone: where more than A episodes stand at a position they are rows of a table. And a rollout evaluates the
network at the very prefixes at which the loss is taken afterwards, at the same parameters: the products and the
weights of attention that it leaves in its cache are the forward pass, and only their gradients are left to compute.
Inside, positions are the leading axis.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nail.policies.block import Block, Kept, layer_norm
from nail.policies.matmul import dense, pick


class Table(NamedTuple):
    """The first block's keys with values, and its queries, of every token at every position (Q: see `Kept`)."""

    kv: Float[Array, "T A kv"]
    q: Float[Array, "Q A w"]


class Cache(NamedTuple):
    """What a pass or a rollout leaves: keys and values of every block, in the layout that attention reads, the table,
    and for a loss at the same prefixes the rest of what was computed (None: not kept)."""

    keys: tuple[Float[Array, "B heads d T"], ...]
    values: tuple[Float[Array, "B heads T d"], ...]
    table: Table | None
    kept: tuple[Kept, ...] | None


class Decoder(nn.Module):
    """Logits over the A tokens at the H target positions L..L+H−1 of a block of T = L + H tokens."""

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
    reuse: bool = True
    """whether what is known is not computed again"""

    def setup(self) -> None:
        """Embeddings N(0, init_std²)."""
        normal = nn.initializers.normal(self.init_std)
        self.tokens = self.param("tokens", normal, (self.n_actions, self.width), jnp.float32)
        self.positions = self.param("positions", normal, (self.prompt + self.horizon, self.width), jnp.float32)
        self.blocks = [
            Block(self.width, self.heads, self.layers, self.init_std, self.dtype, self.precision)
            for _ in range(self.layers)
        ]
        self.ln = layer_norm(self.dtype)

    def __call__(self, tokens: Int[Array, "B T"], known: Cache | None = None) -> tuple[Float[Array, "B H A"], Cache]:
        """One parallel pass over the prompt and the H observations, and what it computed; `known` is what a pass or a
        rollout over the same tokens at the same parameters left."""
        known = known if known is not None and known.kept is not None else None
        tokens = tokens.T
        table = self._table(tokens.shape[1], None if known is None else known.table)
        first = self._first(0) if table else 0
        x = self._embed(tokens[first:], self.positions[first:])
        causal = jnp.tril(jnp.ones((len(tokens), len(tokens)), bool))
        keys, values, kept = [], [], []
        for i, block in enumerate(self.blocks):
            given, first = known and known.kept[i], self._first(i)
            if i == 0 and table:
                kv, q = pick(table.kv, tokens), pick(table.q, tokens[first:])
            else:
                kv = block.keys_values(x, known and block.join(known.keys[i], known.values[i]))
                x = x[first:]
                q = block.queries(x, given and given.q)
            k, v = block.split(kv)
            x, products = block.attend(x, q, k, v, causal[first:], given)
            keys, values, kept = [*keys, k], [*values, v], [*kept, self._worth_keeping(i, products, table)]
        made = Cache(tuple(keys), tuple(values), table, tuple(kept) if self.reuse else None)
        return self._unembed(x).swapaxes(0, 1), made

    def prefill(self, prompt: Int[Array, "B L"], keep: bool = False) -> Cache:
        """The cache after the L tokens of the prompt, with room for the H tokens that follow; with `keep` for all of
        their products."""
        tokens = prompt.T
        table = self._table(tokens.shape[1])
        x = self._embed(tokens, self.positions[: self.prompt])
        causal = jnp.tril(jnp.ones((self.prompt, self.prompt), bool))
        keys, values, kept = [], [], []
        for i, block in enumerate(self.blocks):
            k, v = block.split(pick(table.kv[: self.prompt], tokens) if i == 0 and table else block.keys_values(x))
            if i < self.layers - 1:
                q = pick(table.q[: self.prompt], tokens) if i == 0 and table else block.queries(x)
                x, products = block.attend(x, q, k, v, causal)
                products = products.with_room(self.horizon)
            else:
                products = block.nothing(tokens.shape[1], self.horizon, self.prompt + self.horizon)
            keys.append(jnp.pad(k, ((0, 0), (0, 0), (0, 0), (0, self.horizon))))
            values.append(jnp.pad(v, ((0, 0), (0, 0), (0, self.horizon), (0, 0))))
            kept.append(self._worth_keeping(i, products, table))
        return Cache(tuple(keys), tuple(values), table, tuple(kept) if keep and self.reuse else None)

    def decode(
        self, cache: Cache, step: Int[Array, ""] | int, token: Int[Array, " B"]
    ) -> tuple[Float[Array, "B A"], Cache]:
        """Logits at target position L + step, where `token` stands, and the cache with that position filled."""
        position = self.prompt + step
        x = self._embed(token[None], jax.lax.dynamic_slice_in_dim(self.positions, position, 1))
        visible = (jnp.arange(self.prompt + self.horizon) <= position)[None, :]
        keys, values, kept = [], [], []
        for i, block in enumerate(self.blocks):
            at = position - self._first(i)
            if i == 0 and cache.table:
                places = Table(position, at)
                kv, q = (
                    pick(jax.lax.dynamic_slice_in_dim(rows, place, 1), token[None])
                    for rows, place in zip(cache.table, places, strict=True)
                )
            else:
                kv, q = block.keys_values(x), block.queries(x)
            k, v = block.split(kv)
            keys.append(jax.lax.dynamic_update_slice_in_dim(cache.keys[i], k, position, axis=3))
            values.append(jax.lax.dynamic_update_slice_in_dim(cache.values[i], v, position, axis=2))
            x, products = block.attend(x, q, keys[i], values[i], visible)
            if cache.kept is not None:
                kept.append(cache.kept[i].filled(at, self._worth_keeping(i, products, cache.table)))
        filled = Cache(tuple(keys), tuple(values), cache.table, None if cache.kept is None else tuple(kept))
        return self._unembed(x)[0], filled

    def _first(self, block: int) -> int:
        """The first query position of a block."""
        return self.prompt if block == self.layers - 1 else 0

    def _table(self, episodes: int, known: Table | None = None) -> Table | None:
        """The first block's table, where it has fewer rows than the episodes have positions."""
        if not self.reuse or episodes <= self.n_actions:
            return None
        x = self.tokens.astype(self.dtype)[None] + self.positions.astype(self.dtype)[:, None]
        block, given = self.blocks[0], known or Table(None, None)
        return Table(block.keys_values(x, given.kv), block.queries(x[self._first(0) :], given.q))

    def _worth_keeping(self, block: int, products: Kept, table: Table | None) -> Kept:
        """A block's products without those that are picked from the table."""
        return products._replace(q=None) if block == 0 and table else products

    def _embed(self, tokens: Int[Array, "T B"], positions: Float[Array, "T w"]) -> Float[Array, "T B w"]:
        """Token plus position; the token look-up is a product with one-hot rows, whose transpose needs no scatter."""
        one_hot = jax.nn.one_hot(tokens, self.n_actions, dtype=self.dtype)
        return dense(one_hot, self.tokens, self.precision) + positions.astype(self.dtype)[:, None]

    def _unembed(self, x: Float[Array, "T B w"]) -> Float[Array, "T B A"]:
        """Tied output embedding, in float32."""
        return dense(self.ln(x), self.tokens.T, self.precision).astype(jnp.float32)


class TransformerPolicy(NamedTuple):
    """`Decoder` behind the interface of `nail.policies.policy`; contexts are the prompts' tokens (B, L)."""

    decoder: Decoder

    def init(self, key: PRNGKeyArray) -> Any:
        """Float32 parameters."""
        return self.decoder.init(key, jnp.zeros((1, self.decoder.prompt + self.decoder.horizon), jnp.int32))

    def forward(
        self, params: Any, contexts: Int[Array, "B L"], observations: Int[Array, "B H"], known: Cache | None = None
    ) -> tuple[Float[Array, "B H A"], Cache]:
        """Logits at the H target positions, and the cache of a rollout that ends there; `observations` are the tokens
        before the targets, in modular addition ("=", a_1, …, a_{m−1})."""
        return self.decoder.apply(params, jnp.concatenate([contexts, observations], axis=1), known)

    def start(self, params: Any, contexts: Int[Array, "B L"], keep: bool = False) -> Cache:
        """The cache after the prompts."""
        return self.decoder.apply(params, contexts, keep, method="prefill")

    def step(
        self, params: Any, cache: Cache, step: Int[Array, ""] | int, observations: Int[Array, " B"]
    ) -> tuple[Float[Array, "B A"], Cache]:
        """Logits at target `step` and the advanced cache."""
        return self.decoder.apply(params, cache, step, observations, method="decode")


def compute_dtype(precision: str) -> jnp.dtype:
    """Type of activations and products; parameters, softmax, loss and optimiser are float32 in any case."""
    return jnp.dtype("bfloat16" if precision == "bfloat16" else "float32")


def product_precision(precision: str) -> Precision | None:
    """XLA's precision of the products: HIGHEST for float32 on every device, the device's fast default otherwise."""
    return Precision.HIGHEST if precision == "float32" else None

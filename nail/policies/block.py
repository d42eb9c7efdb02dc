"""A block of the decoder transformer: LayerNorm, attention, MLP, and what it leaves for a second pass."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Bool, Float, Int

from nail.policies.matmul import dense, known_dense, known_softmax, matmul


class Kept(NamedTuple):
    """What a block computed at its Q query positions: all T, or the H targets in the last block."""

    q: Float[Array, "Q B w"] | None
    """None where they are picked from the table"""
    weights: Float[Array, "B heads Q T"]
    """of attention"""
    proj: Float[Array, "Q B w"]
    up: Float[Array, "Q B up"]
    down: Float[Array, "Q B w"]

    def with_room(self, more: int) -> "Kept":
        """The same with room for `more` queries and as many keys."""
        rows = jax.tree.map(lambda x: jnp.pad(x, ((0, more), (0, 0), (0, 0))), self._replace(weights=None))
        return rows._replace(weights=jnp.pad(self.weights, ((0, 0), (0, 0), (0, more), (0, more))))

    def filled(self, at: Int[Array, ""] | int, new: "Kept") -> "Kept":
        """The same with what is `new` at the query position `at`."""
        put = jax.lax.dynamic_update_slice_in_dim
        rows, row = self._replace(weights=None), new._replace(weights=None)
        rows = jax.tree.map(lambda x, y: put(x, y, at, axis=0), rows, row)
        return rows._replace(weights=put(self.weights, new.weights, at, axis=2))


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
        self.ln1, self.ln2 = layer_norm(self.dtype), layer_norm(self.dtype)
        self.q = Linear(self.width, inner, self.precision)
        self.kv = Linear(2 * self.width, inner, self.precision)
        self.proj = Linear(self.width, outer, self.precision)
        self.up = Linear(4 * self.width, inner, self.precision)
        self.down = Linear(self.width, outer, self.precision)

    def keys_values(self, x: Float[Array, "T B w"], known: Array | None = None) -> Float[Array, "T B kv"]:
        """Keys beside values at every position of x."""
        return self.kv(self.ln1(x), known)

    def queries(self, x: Float[Array, "Q B w"], known: Array | None = None) -> Float[Array, "Q B w"]:
        """Queries at every position of x."""
        return self.q(self.ln1(x), known)

    def split(self, kv: Float[Array, "T B kv"]) -> tuple[Array, Array]:
        """Keys (B, heads, d, T) and values (B, heads, T, d), d = width/heads."""
        kv = kv.reshape(*kv.shape[:2], 2, self.heads, -1)
        return kv[:, :, 0].transpose(1, 2, 3, 0), kv[:, :, 1].transpose(1, 2, 0, 3)

    def join(self, k: Float[Array, "B heads d T"], v: Float[Array, "B heads T d"]) -> Float[Array, "T B kv"]:
        """The inverse of `split`."""
        kv = jnp.stack([k.transpose(3, 0, 1, 2), v.transpose(2, 0, 1, 3)], axis=2)
        return kv.reshape(*kv.shape[:2], -1)

    def nothing(self, batch: int, queries: int, keys: int) -> Kept:
        """Room for what `attend` gives at so many query positions."""
        rows = jnp.zeros((queries, batch, self.width), self.dtype)
        weights = jnp.zeros((batch, self.heads, queries, keys), self.dtype)
        return Kept(rows, weights, rows, jnp.tile(rows, 4), rows)

    def attend(
        self, x: Float[Array, "Q B w"], q: Float[Array, "Q B w"], k: Array, v: Array, mask: Array,
        known: Kept | None = None,
    ) -> tuple[Float[Array, "Q B w"], Kept]:  # fmt: skip
        """The block's output at the positions of x, whose queries attend to (k, v) where `mask` (Q, T) is true, and
        what it took; what is `known` is not computed."""
        given = known or Kept(None, None, None, None, None)
        by_head = q.reshape(*q.shape[:2], self.heads, -1).transpose(1, 2, 0, 3)
        weights = attention(by_head, k, mask, given.weights, self.precision)
        mixed = matmul(weights, v, self.precision).transpose(2, 0, 1, 3).reshape(x.shape)
        proj = self.proj(mixed, given.proj)
        x = x + proj
        up = self.up(self.ln2(x), given.up)
        down = self.down(gelu(up), given.down)
        return x + down, Kept(q, weights, proj, up, down)


class Linear(nn.Module):
    """x W without a bias, W ~ N(0, std²) in float32."""

    features: int
    std: float
    precision: Precision | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*n i"], known: Float[Array, "*n o"] | None = None) -> Float[Array, "*n o"]:
        """x W in the type of x: `known` where that is given."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(self.std), shape, jnp.float32)
        return dense(x, kernel, self.precision) if known is None else known_dense(x, kernel, known, self.precision)


def attention(
    q: Float[Array, "B heads Q d"], k: Float[Array, "B heads d T"], mask: Bool[Array, "Q T"],
    known: Float[Array, "B heads Q T"] | None = None, precision: Precision | None = None,
) -> Float[Array, "B heads Q T"]:  # fmt: skip
    """softmax(q k/√d) over the keys where `mask` is true, in the type of q: `known` where that is given."""
    scale = q.shape[-1] ** -0.5
    if known is not None:
        return known_softmax(q, k, known, scale, precision)
    scores = matmul(q, k, precision).astype(jnp.float32) * scale
    return jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1).astype(q.dtype)


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact GELU x·Φ(x), through erf: XLA's erfc, which `jax.nn.gelu` uses, is several times slower on a CPU."""
    return x * (0.5 + 0.5 * jax.lax.erf(x * jnp.asarray(2**-0.5, x.dtype)))


def layer_norm(dtype: Any) -> nn.LayerNorm:
    """With weights only, ε = 1e−5."""
    return nn.LayerNorm(epsilon=1e-5, use_bias=False, dtype=dtype)

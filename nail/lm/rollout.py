"""Completions: greedy or sampled, from a cache of keys and values, with the token that ended each."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from nail.lm.model import Model, Weights, body, head, logits_of, positions_of
from nail.noise import sample, words


class Rollout(NamedTuple):
    """Completions of a batch."""

    tokens: Int[Array, "batch new"]
    """0 after the stop token"""
    counted: Bool[Array, "batch new"]
    """True for each generated token, the stop token included"""


class _Carry(NamedTuple):
    step: Int[Array, ""]
    tokens: Int[Array, "batch new"]
    ended: Bool[Array, " batch"]
    cache: Any
    hidden: Float[Array, "batch width"]


def empty_cache(model: Model, batch: int, length: int) -> dict[str, dict[str, Array]]:
    """Keys and values of no tokens, with room for `length`."""
    shape = (batch, length, model.sizes.num_kv_heads, model.sizes.head_dim)
    blank = {"k": jnp.zeros(shape, model.kind), "v": jnp.zeros(shape, model.kind)}
    return {f"layer_{i}": {**blank, "end_index": jnp.zeros(batch, jnp.int32)} for i in range(model.sizes.num_layers)}


def picked(logits: Float[Array, "batch tokens"], temperature: Any, keys: Key[Array, " batch"]) -> Int[Array, " batch"]:
    """A draw from softmax(logits/T) by a key of each row's own; greedy at the number 0.

    A T that is traced is above 0.
    """
    if not isinstance(temperature, Array) and temperature == 0:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    return sample(jax.nn.softmax(logits / temperature, axis=-1), jax.vmap(words)(keys))


def rollout(
    model: Model, weights: tuple[Weights, Weights], prompts: Int[Array, "batch length"],
    real: Bool[Array, "batch length"], keys: Key[Array, " batch"], *, new: int, temperature: Any,
    stops: tuple[int, ...],
) -> Rollout:  # fmt: skip
    """At most `new` tokens after each prompt, until one of `stops`; prompts are padded on their left (`real`).

    What is drawn for a row depends on its own key alone. The loop ends when all rows have. To be compiled: `new` and
    `stops` are static, and `temperature` where it is 0.
    """
    batch, length = prompts.shape
    total = length + new
    matrix = head(model, weights)
    here = jnp.pad(real, ((0, 0), (0, new)), constant_values=True)
    causal = jnp.arange(total)[None, :] <= jnp.arange(length)[:, None]
    mask = here[:, None, :] & causal[None]
    hidden, cache = body(model, weights)(prompts, positions_of(real), empty_cache(model, batch, total), mask)
    first = real.sum(-1).astype(jnp.int32)

    def going(carry: _Carry) -> Bool[Array, ""]:
        return (carry.step < new) & ~carry.ended.all()

    def one(carry: _Carry) -> _Carry:
        logits = logits_of(carry.hidden, matrix)
        chosen = picked(logits, temperature, jax.vmap(lambda key: jax.random.fold_in(key, carry.step))(keys))
        chosen = jnp.where(carry.ended, 0, chosen)
        tokens = jax.lax.dynamic_update_slice(carry.tokens, chosen[:, None], (0, carry.step))
        ended = carry.ended | jnp.isin(chosen, jnp.asarray(stops))
        seen = here & (jnp.arange(total)[None] <= length + carry.step)
        places = (first + carry.step)[:, None]
        hidden, cache = body(model, weights)(chosen[:, None], places, carry.cache, seen[:, None])
        return _Carry(carry.step + 1, tokens, ended, cache, hidden[:, 0])

    start = _Carry(jnp.int32(0), jnp.zeros((batch, new), jnp.int32), jnp.zeros(batch, bool), cache, hidden[:, -1])
    done = jax.lax.while_loop(going, one, start)
    stop = jnp.isin(done.tokens, jnp.asarray(stops)) & (jnp.arange(new)[None] < done.step)
    before = jnp.cumsum(stop, -1) - stop
    return Rollout(done.tokens, (before == 0) & (jnp.arange(new)[None] < done.step))

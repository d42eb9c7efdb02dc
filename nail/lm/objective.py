"""The method's loss on language models: the package's losses, on logits of a few positions at a time.

L = Σ over counted tokens of (1−β)F + βR, divided by their number in the whole update (docs/theory.md §2):
F = −log p(y) with y ~ t, R the score-function form at an action a, t = softmax(z_E/T) the noisy expert's law; where a
is the rollout's token, it is weighted by the law of the rollout (`nail.rules.rollout_law`).
No array of (batch, length, vocabulary) is made: positions come in chunks, whose logits are made again for the gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int, Key

from nail.lm.model import Model, Weights, head, hidden_states, logits_of
from nail.methods import Method
from nail.noise import sample, words
from nail.rules import rollout_law
from nail.training import losses


class Batch(NamedTuple):
    """Prompts with their completions: B rows of L prompt tokens (padded on the left) and N new ones."""

    prompts: Int[Array, "batch length"]
    real: Bool[Array, "batch length"]
    tokens: Int[Array, "batch new"]
    counted: Bool[Array, "batch new"]


class Scores(NamedTuple):
    """Sums over the counted tokens of a batch, and how many there are."""

    total: Float[Array, ""]
    count: Float[Array, ""]


def visited_states(model: Model, weights: tuple[Weights, Weights], batch: Batch) -> Float[Array, "batch new width"]:
    """Hidden states from which each new token is picked: those of the tokens before it."""
    tokens = jnp.concatenate([batch.prompts, batch.tokens], axis=1)
    real = jnp.concatenate([batch.real, batch.counted], axis=1)
    length = batch.prompts.shape[1]
    return hidden_states(model, weights, tokens, real)[:, length - 1 : -1]


def over_chunks(
    score: Callable[..., Float[Array, " chunk"]], chunk: int, keys: Key[Array, " n"], counted: Bool[Array, " n"],
    *rows: Any,
) -> Scores:  # fmt: skip
    """Σ over counted rows of `score(keys, *rows)`, at most `chunk` rows at a time.

    Each chunk is computed anew for its gradient. Each row has a key of its own: how rows are cut changes no draw.
    """
    n = counted.shape[0]
    chunk = min(chunk, n)
    short = -n % chunk
    keys = keys[jnp.minimum(jnp.arange(n + short), n - 1)]

    def cut(x: Array) -> Array:
        return jnp.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1))).reshape(-1, chunk, *x.shape[1:])

    @jax.checkpoint
    def one(sum_: Float[Array, ""], part: Any) -> tuple[Float[Array, ""], None]:
        keys, counts, *rest = part
        return sum_ + jnp.where(counts, score(keys, *rest), 0.0).sum(), None

    parts = (keys.reshape(-1, chunk), cut(counted), *map(cut, rows))
    total, _ = jax.lax.scan(one, jnp.float32(0), parts)
    return Scores(total, counted.sum().astype(jnp.float32))


def method_scores(
    method: Method, student: Model, expert: Model, trained: Weights, fixed: Weights, theirs: tuple[Weights, Weights],
    batch: Batch, keys: Key[Array, " batch"], *, beta: Any, temperature: Any, chunk: int,
) -> Scores:  # fmt: skip
    """Loss of a method's row on a batch that the student played: `temperature` is the expert's (its logits ÷ T).

    Each row of the batch has a key, each of its positions one made from it.
    """
    share = beta if method.beta is None else method.beta
    ours = (trained, fixed)
    mine, matrix = visited_states(student, ours, batch), head(student, ours)
    seen, their_matrix = stop_gradient((visited_states(expert, theirs, batch), head(expert, theirs)))

    def score(keys: Key[Array, " chunk"], h: Any, e: Any, played: Any) -> Float[Array, " chunk"]:
        logits = logits_of(h, matrix)
        logp = jax.nn.log_softmax(logits, axis=-1)
        reads = method.scores_rollout("mc")
        played_by = rollout_law(None, logits, method.temperature, 0.0) if reads else logp
        noisy = stop_gradient(logits_of(e, their_matrix) / temperature)
        label_keys, action_keys = jax.vmap(lambda k: tuple(jax.random.split(k)))(keys)
        labels = drawn(label_keys, noisy)
        actions = drawn(action_keys, stop_gradient(logp)) if method.action == "auxiliary" else played
        return jax.vmap(lambda lp, t, y, a, lq: losses.mixed_mc(lp, t, y, a, lq, share))(
            logp, jax.nn.softmax(noisy, axis=-1), labels, actions, played_by
        )

    return over_chunks(score, chunk, *_flat(_token_keys(keys, batch), batch.counted, mine, seen, batch.tokens))


def likelihood_scores(model: Model, trained: Weights, fixed: Weights, batch: Batch, *, chunk: int) -> Scores:
    """−log p of the completions' own tokens: the loss of a method whose episodes the expert played, cross-entropy."""
    weights = (trained, fixed)
    mine, matrix = visited_states(model, weights, batch), head(model, weights)

    def score(keys: Key[Array, " chunk"], h: Any, played: Any) -> Float[Array, " chunk"]:
        return jax.vmap(losses.forward_mc)(jax.nn.log_softmax(logits_of(h, matrix), axis=-1), played)

    return over_chunks(score, chunk, *_flat(_no_keys(batch), batch.counted, mine, batch.tokens))


def exact_divergence(
    student: Model, expert: Model, ours: tuple[Weights, Weights], theirs: tuple[Weights, Weights], batch: Batch,
    *, beta: Any, temperature: Any, chunk: int,
) -> Scores:  # fmt: skip
    """(1−β)·KL(t‖p) + β·KL(p‖t) at the visited prefixes, exactly, in nats."""
    mine, matrix = visited_states(student, ours, batch), head(student, ours)
    seen, their_matrix = visited_states(expert, theirs, batch), head(expert, theirs)

    def score(keys: Key[Array, " chunk"], h: Any, e: Any) -> Float[Array, " chunk"]:
        logp = jax.nn.log_softmax(logits_of(h, matrix), axis=-1)
        laws = jax.nn.softmax(logits_of(e, their_matrix) / temperature, axis=-1)
        return jax.vmap(lambda lp, t: losses.mixed_full(lp, t, beta))(logp, laws)

    return over_chunks(score, chunk, *_flat(_no_keys(batch), batch.counted, mine, seen))


def drawn(keys: Key[Array, " chunk"], logits: Float[Array, "chunk tokens"]) -> Int[Array, " chunk"]:
    """One token of softmax(logits) for each row, by a key of its own."""
    return sample(jax.nn.softmax(logits, axis=-1), jax.vmap(words)(keys))


def _token_keys(keys: Key[Array, " batch"], batch: Batch) -> Key[Array, "batch new"]:
    """A key for each new token, from that of its row."""
    places = jnp.arange(batch.tokens.shape[1])
    return jax.vmap(lambda key: jax.vmap(lambda i: jax.random.fold_in(key, i))(places))(keys)


def _no_keys(batch: Batch) -> Key[Array, "batch new"]:
    """For scores that draw nothing."""
    return jnp.broadcast_to(jax.random.key(0), batch.tokens.shape)


def _flat(*arrays: Array) -> tuple[Array, ...]:
    """Batch and position as one axis."""
    return tuple(x.reshape(-1, *x.shape[2:]) for x in arrays)

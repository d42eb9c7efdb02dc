"""One update on language models: prompts → completions (who plays) → the noisy expert's laws → loss → AdamW."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nail.lm.config import LmConfig
from nail.lm.model import Model, Weights
from nail.lm.objective import Batch, likelihood_scores, method_scores
from nail.lm.optimiser import optimiser
from nail.lm.rollout import Rollout, rollout


class State(NamedTuple):
    """All that a run carries from one update to the next."""

    step: Int[Array, ""]
    trained: Weights
    moments: Any
    queries: Int[Array, ""]
    """prefixes at which the expert was asked since the last evaluation"""
    loss_sum: Float[Array, ""]
    """of the updates since then"""
    loss_count: Float[Array, ""]


def begin(config: LmConfig, student: Model) -> State:
    """The state before the first update."""
    moments = tool(config).init(student.trained)
    sums = (np.int32(0), np.float32(0), np.float32(0))
    # copies: an update takes the memory of the state before it
    return settled(State(np.int32(0), jax.tree.map(jnp.copy, student.trained), moments, *sums))


def settled(tree: Any) -> Any:
    """Arrays that are bound to the first device, as those that an update returns are: its program is compiled once."""
    return jax.device_put(tree, jax.local_devices()[0])


def evaluated(state: State) -> State:
    """The state after an evaluation, from which sums begin anew."""
    return settled(state._replace(queries=np.int32(0), loss_sum=np.float32(0), loss_count=np.float32(0)))


def tool(config: LmConfig) -> optax.GradientTransformation:
    """The optimiser of a run."""
    return optimiser(config.lr, config.steps, config.clipped, config.weight_decay)


def collect(
    config: LmConfig, student: Model, expert: Model, stops: tuple[int, ...], weights: tuple[Weights, Weights],
    theirs: tuple[Weights, Weights], prompts: Int[Array, "batch length"], real: Bool[Array, "batch length"],
    key: PRNGKeyArray,
) -> Batch:  # fmt: skip
    """Completions of an update, by the row's driver: the student at the row's temperature, or the noisy expert."""
    row = config.row
    plays = partial(rollout, new=config.new_tokens, stops=stops)
    if row.driver == "expert":
        played = plays(expert, theirs, prompts, real, key, temperature=config.expert_temperature)
        played = with_end(played, stops)
    else:
        played = plays(student, weights, prompts, real, key, temperature=row.temperature)
    return Batch(prompts, real, *played)


def with_end(played: Rollout, stops: tuple[int, ...]) -> Rollout:
    """The same completions, one column wider, in which each ends with the last of `stops`, the end of a turn."""
    tokens = jnp.pad(played.tokens, ((0, 0), (0, 1)))
    counted = jnp.pad(played.counted, ((0, 0), (0, 1)))
    n = counted.sum(-1)
    final = jnp.take_along_axis(tokens, jnp.maximum(n - 1, 0)[:, None], axis=1)[:, 0]
    at = jnp.where(jnp.isin(final, jnp.asarray(stops)), n - 1, n)
    places = jnp.arange(tokens.shape[1])[None]
    return Rollout(jnp.where(places == at[:, None], stops[-1], tokens), places <= at[:, None])


def make_update(config: LmConfig, student: Model, expert: Model, stops: tuple[int, ...]) -> Any:
    """(state, fixed weights, expert's weights, prompts, real) → state after one more update, compiled."""
    row, optimise = config.row, tool(config)

    def scores(trained: Weights, fixed: Weights, theirs: Any, batch: Batch, key: PRNGKeyArray) -> Any:
        if row.driver == "expert":
            return likelihood_scores(student, trained, fixed, batch, chunk=config.chunk)
        return method_scores(
            row, student, expert, trained, fixed, theirs, batch, key,
            beta=config.beta, temperature=config.expert_temperature, chunk=config.chunk,
        )  # fmt: skip

    def gradient(trained: Weights, fixed: Weights, theirs: Any, batch: Batch, key: PRNGKeyArray) -> Any:
        """(loss, gradient) of the update: sums over micro-batches, divided by the counted tokens of all of them."""
        count = jnp.maximum(batch.counted.sum().astype(jnp.float32), 1)
        parts = config.batch // config.micro
        cut = jax.tree.map(lambda x: x.reshape(parts, config.micro, *x.shape[1:]), batch)

        def one(carry: Any, part: Any) -> tuple[Any, None]:
            mine, key = part
            value, slope = jax.value_and_grad(lambda w: scores(w, fixed, theirs, mine, key).total / count)(trained)
            return jax.tree.map(jnp.add, carry, (value, slope)), None

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, trained))
        return jax.lax.scan(one, zero, (cut, jax.random.split(key, parts)))[0]

    def update(state: State, fixed: Weights, theirs: Any, prompts: Any, real: Any) -> State:
        k_play, k_loss = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state.step + 1))
        batch = collect(config, student, expert, stops, (state.trained, fixed), theirs, prompts, real, k_play)
        loss, slope = gradient(state.trained, fixed, theirs, batch, k_loss)
        change, moments = optimise.update(slope, state.moments, state.trained)
        trained = optax.apply_updates(state.trained, change)
        queries = state.queries + batch.counted.sum(dtype=jnp.int32)
        return State(state.step + 1, trained, moments, queries, state.loss_sum + loss, state.loss_count + 1)

    return jax.jit(update, donate_argnums=0)

"""One update on language models: prompts → completions (who plays) → the noisy expert's laws → loss → AdamW.

The compiled program takes a run's seed, β and T as numbers: runs that differ in these alone share it.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from nail.lm.chat import Prompts
from nail.lm.config import LmConfig
from nail.lm.model import Model, Weights
from nail.lm.objective import Batch, likelihood_scores, method_scores
from nail.lm.optimiser import optimiser
from nail.lm.parallel import ALL, EACH, ROWS, everywhere, on_each, one_device, own_rows, row_keys
from nail.lm.rollout import Rollout, rollout


class State(NamedTuple):
    """All that a run carries from one update to the next."""

    step: Int[Array, ""]
    trained: Weights
    moments: Any
    queries: UInt32[Array, " 2"]
    """prefixes at which the expert was asked since the last evaluation: that number's high word and low word"""
    loss_sum: Float[Array, ""]
    """of the updates since then"""
    loss_count: Float[Array, ""]


class Numbers(NamedTuple):
    """What a run's program takes as numbers."""

    seed: Int[Array, ""]
    beta: Float[Array, ""]
    expert_temperature: Float[Array, ""]


def numbers(config: LmConfig, mesh: Mesh | None = None) -> Numbers:
    """Those of a run, on the devices of `mesh` (none given: on the first)."""
    found = Numbers(np.int32(config.seed), np.float32(config.beta), np.float32(config.expert_temperature))
    return everywhere(found, mesh or one_device())


def begin(config: LmConfig, student: Model, mesh: Mesh | None = None) -> State:
    """The state before the first update, on the devices of `mesh` (none given: on the first)."""
    moments = tool(config).init(student.trained)
    sums = (np.zeros(2, np.uint32), np.float32(0), np.float32(0))
    # copies: an update takes the memory of the state before it
    fresh = State(np.int32(0), jax.tree.map(jnp.copy, student.trained), moments, *sums)
    return everywhere(fresh, mesh or one_device())


def evaluated(state: State, mesh: Mesh | None = None) -> State:
    """The state after an evaluation, from which sums begin anew."""
    sums = everywhere((np.zeros(2, np.uint32), np.float32(0), np.float32(0)), mesh or one_device())
    return state._replace(queries=sums[0], loss_sum=sums[1], loss_count=sums[2])


def tool(config: LmConfig) -> optax.GradientTransformation:
    """The optimiser of a run."""
    return optimiser(config.lr, config.steps, config.clipped, config.weight_decay)


def collect(
    config: LmConfig, student: Model, expert: Model, stops: tuple[int, ...], weights: tuple[Weights, Weights],
    theirs: tuple[Weights, Weights], prompts: Int[Array, "batch length"], real: Bool[Array, "batch length"],
    keys: Key[Array, " batch"], expert_temperature: Float[Array, ""],
) -> Batch:  # fmt: skip
    """Completions of an update, by the row's driver: the student at the row's temperature, or the noisy expert."""
    row = config.row
    plays = partial(rollout, new=config.new_tokens, stops=stops)
    if row.driver == "expert":
        played = plays(expert, theirs, prompts, real, keys, temperature=expert_temperature)
        played = with_end(played, stops)
    else:
        played = plays(student, weights, prompts, real, keys, temperature=row.temperature)
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


def make_update(
    config: LmConfig, student: Model, expert: Model | None, stops: tuple[int, ...], mesh: Mesh | None = None
) -> Any:
    """(state, numbers, fixed weights, expert's weights, prompts) → state after one more update, compiled.

    Without an expert the last is a batch of prompts with their answers. Each device of `mesh` (none given: the first
    alone) plays and differentiates its own rows of the batch, at most `micro` at a time, with keys of their places in
    the whole batch; losses and gradients are added up over all devices.
    """
    row, optimise, mesh = config.row, tool(config), mesh or one_device()
    share = config.batch // mesh.size
    micro = min(config.micro, share)

    def scores(trained: Weights, fixed: Weights, theirs: Any, of: Numbers, batch: Batch, keys: Any) -> Any:
        if row.driver == "expert":
            return likelihood_scores(student, trained, fixed, batch, chunk=config.chunk)
        return method_scores(
            row, student, expert, trained, fixed, theirs, batch, keys,
            beta=of.beta, temperature=of.expert_temperature, chunk=config.chunk,
        )  # fmt: skip

    def gradient(
        trained: Weights, fixed: Weights, theirs: Any, of: Numbers, batch: Batch, keys: Any, count: Any
    ) -> Any:
        """(loss, gradient) of a device's rows: sums over micro-batches, divided by `count`, the update's tokens."""
        cut = jax.tree.map(lambda x: x.reshape(share // micro, micro, *x.shape[1:]), (batch, keys))

        def one(carry: Any, part: Any) -> tuple[Any, None]:
            value, slope = jax.value_and_grad(lambda w: scores(w, fixed, theirs, of, *part).total / count)(trained)
            return jax.tree.map(jnp.add, carry, (value, slope)), None

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, trained))
        return jax.lax.scan(one, zero, cut)[0]

    def update(state: State, of: Numbers, fixed: Weights, theirs: Any, given: Prompts | Batch) -> State:
        key = jax.random.fold_in(jax.random.key(of.seed), state.step + 1)
        k_play, k_loss = (row_keys(k, own_rows(share)) for k in jax.random.split(key))
        batch = given if expert is None else collect(
            config, student, expert, stops, (state.trained, fixed), theirs, *given, k_play, of.expert_temperature
        )  # fmt: skip
        count = jax.lax.psum(batch.counted.sum(dtype=jnp.uint32), ROWS)
        tokens = jnp.maximum(count.astype(jnp.float32), 1)
        loss, slope = jax.lax.psum(gradient(state.trained, fixed, theirs, of, batch, k_loss, tokens), ROWS)
        change, moments = optimise.update(slope, state.moments, state.trained)
        trained = optax.apply_updates(state.trained, change)
        low = state.queries[1] + count
        queries = jnp.stack([state.queries[0] + (low < count), low])
        return State(state.step + 1, trained, moments, queries, state.loss_sum + loss, state.loss_count + 1)

    return on_each(update, mesh, (ALL, ALL, ALL, ALL, EACH), ALL, donate_argnums=0)

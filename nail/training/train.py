"""`make_train(config)`: one compiled program for a batch of runs, scan over updates and evaluation inside.

A program is called segment by segment (an evaluation, then `eval_every` updates) with a donated state, so that progress
shows and a checkpoint can be written in between. Cutting a run in segments does not change a bit of it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nail.policies.policy import Policy
from nail.training.config import TrainConfig, check
from nail.training.devices import over_runs, place
from nail.training.evaluate import Evaluation, evaluate
from nail.training.problem import Numbers, make_problem
from nail.training.update import Buffer, buffer_shape, initial_params, optimiser, update


class TrainState(NamedTuple):
    """All that a run carries from one segment to the next."""

    step: Int[Array, ""]
    """updates done"""
    params: Any
    moments: Any
    buffer: Buffer | None
    loss_sum: Float[Array, ""]
    """of the training losses since the last evaluation"""
    loss_count: Int[Array, ""]
    bad_step: Int[Array, ""]
    """first update whose loss was not finite, −1 while there is none"""


class Metrics(NamedTuple):
    """One row of results."""

    step: Int[Array, ""]
    evaluation: Evaluation
    train_loss: Float[Array, ""]
    """mean objective of the updates since the previous evaluation, nats; NaN before the first update"""
    bad_step: Int[Array, ""]


class Train(NamedTuple):
    """A compiled program over a batch of R runs that differ in traced numbers only (leading axis R everywhere)."""

    init: Callable[[Numbers], TrainState]
    segment: Callable[[TrainState, Numbers], tuple[TrainState, Metrics]]
    """evaluate, then train up to `eval_every` updates; at the end of the budget it evaluates only"""


def make_train(config: TrainConfig, expert_params: Any = None) -> Train:
    """The program of all runs that share `config` up to its traced numbers; raises `BadInput` on a bad field."""
    check(config)
    problem = make_problem(config, expert_params)

    def init(numbers: Numbers) -> TrainState:
        runs = len(numbers.seed)
        params, moments = _initialiser(config.clip, config.weight_decay, problem.policy)(numbers.seed)
        buffer = jax.tree.map(lambda x: jnp.zeros((runs, *x.shape), x.dtype), buffer_shape(config, problem))
        step, count, bad = (jnp.full(runs, first, jnp.int32) for first in (0, 0, -1))
        return place(TrainState(step, params, moments, buffer, jnp.zeros(runs), count, bad))

    def one_update(_, carry):
        state, numbers = carry
        params, moments, buffer, loss = update(
            config, problem, numbers, state.step, state.params, state.moments, state.buffer
        )
        bad = (state.bad_step < 0) & ~jnp.isfinite(loss)
        bad_step = jnp.where(bad, state.step, state.bad_step)
        count = state.loss_count + 1
        new = TrainState(state.step + 1, params, moments, buffer, state.loss_sum + loss, count, bad_step)
        return new, numbers

    def segment(state: TrainState, numbers: Numbers) -> tuple[TrainState, Metrics]:
        seen = evaluate(problem.env, problem.policy, state.params, config.decode == "parallel")
        row = Metrics(state.step, seen, state.loss_sum / state.loss_count, state.bad_step)
        state = state._replace(loss_sum=jnp.float32(0), loss_count=jnp.int32(0))
        todo = jnp.minimum(config.eval_every, config.steps - state.step)
        state, _ = jax.lax.fori_loop(0, todo, one_update, (state, numbers))
        return state, row

    return Train(init, over_runs(segment, donate=0))


@functools.lru_cache(maxsize=8)
def _initialiser(clip: float, weight_decay: float, policy: Policy) -> Callable:
    """Seeds → (parameters, moments), compiled once for all methods that share a network."""

    def init(seed):
        params = initial_params(policy, seed)
        return params, optimiser(clip, weight_decay).init(params)

    return over_runs(init)

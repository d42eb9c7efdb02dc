"""`make_train(config)`: one compiled program for a batch of runs, scan over updates and evaluation inside.

A program is called segment by segment (an evaluation, then `eval_every` updates) with a donated state, so that progress
shows and a checkpoint can be written in between. Cutting a run in segments does not change a bit of it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nail.envs.noises import NOISES, check_kernel
from nail.policies.policy import Policy
from nail.training.config import TrainConfig
from nail.training.devices import over_runs, place
from nail.training.diagnose import Diagnosis, diagnose
from nail.training.evaluate import Evaluation, evaluate
from nail.training.privileged import began_with
from nail.training.problem import Numbers, make_setup
from nail.training.ranges import check, check_tokens
from nail.training.retention import Kept, old_environment, retention
from nail.training.steerability import Labels
from nail.training.steering import labelled
from nail.training.update import TrainState, buffer_shape, initial_params, optimiser, update


class Metrics(NamedTuple):
    """One row of results."""

    step: Int[Array, ""]
    evaluation: Evaluation
    train_loss: Float[Array, ""]
    """mean objective of the updates since the previous evaluation, nats; NaN before the first update"""
    bad_step: Int[Array, ""]
    diagnosis: Diagnosis | None = None
    kept: Kept | None = None
    labels: Labels | None = None


class Train(NamedTuple):
    """A compiled program over a batch of R runs that differ in traced numbers only (leading axis R everywhere)."""

    init: Callable[..., TrainState]
    """(numbers, parameters to begin with or None) → state; without parameters they are drawn from the runs' seeds"""
    segment: Callable[[TrainState, Numbers], tuple[TrainState, Metrics]]
    """evaluate, then train up to `eval_every` updates; at the end of the budget it evaluates only"""
    n_validation: int
    """held-out contexts that an evaluation really uses"""


def make_train(config: TrainConfig, expert_params: Any = None) -> Train:
    """The program of all runs that share `config` up to its traced numbers; raises `BadInput` on a bad field.

    One run on each device, by hand:

        >>> from nail.training.problem import numbers_of
        >>> config = TrainConfig(task="poison-chain", A=3, H=2, batch=4, steps=6, eval_every=3, n_validation=4)
        >>> program, numbers = make_train(config), numbers_of((config,) * jax.local_device_count())
        >>> state, metrics = program.segment(program.init(numbers), numbers)
        >>> int(state.step[0]), int(metrics.step[0])
        (3, 0)
    """
    check(config)
    setup = make_setup(config, expert_params)
    env, policy = setup.env, setup.policy
    check_tokens(config, env.n_actions)
    NOISES[config.noise].check(config, env.horizon)
    check_kernel(config.noise, env)
    old = old_environment(config, policy) if config.old_task else None
    decode_parallel = config.decode == "parallel"

    def init(numbers: Numbers, start: Any = None) -> TrainState:
        runs, decays = len(numbers.seed), (config.clip, config.weight_decay)
        given = start is not None
        params, moments = _starter(*decays)(start) if given else _initialiser(*decays, policy)(numbers.seed)
        # by NumPy, which compiles nothing
        buffer = jax.tree.map(lambda x: np.zeros((runs, *x.shape), x.dtype), buffer_shape(setup))
        step, count, bad = (np.full(runs, first, np.int32) for first in (0, 0, -1))
        loss = np.zeros(runs, np.float32)
        reference = jax.tree.map(jnp.copy, params) if began_with(config, setup.method.reward == "pairs") else None
        average = jax.tree.map(jnp.copy, params) if config.teacher == "average" else None
        return place(TrainState(step, params, moments, buffer, loss, count, bad, reference, average))

    def segment(state: TrainState, numbers: Numbers) -> tuple[TrainState, Metrics]:
        seen = evaluate(env, policy, state.params, decode_parallel)
        met = diagnose(setup, numbers, state.params) if config.diagnose else None
        kept = None if old is None else retention(old, policy, state.params, state.reference, decode_parallel)
        steered = labelled(setup, state.params) if config.steer else None
        row = Metrics(state.step, seen, state.loss_sum / state.loss_count, state.bad_step, met, kept, steered)
        state = state._replace(loss_sum=jnp.float32(0), loss_count=jnp.int32(0))
        todo = jnp.minimum(config.eval_every, config.steps - state.step)
        return jax.lax.fori_loop(0, todo, lambda _, state: update(setup, numbers, state), state), row

    return Train(init, over_runs(segment, donate=0), env.n_validation)


@functools.cache
def _initialiser(clip: float, weight_decay: float, policy: Policy) -> Callable:
    """Seeds → (parameters, moments), compiled once for all methods that share a network."""

    def init(seed):
        params = initial_params(policy, seed)
        return params, optimiser(clip, weight_decay).init(params)

    return over_runs(init)


@functools.cache
def _starter(clip: float, weight_decay: float) -> Callable:
    """Parameters → (the same, fresh moments): how a stage begins (docs/stages.md §1)."""
    return over_runs(lambda params: (params, optimiser(clip, weight_decay).init(params)))

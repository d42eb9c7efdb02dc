"""What a stage has kept of what its start could do (docs/post_training.md §5.4)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nail.checks import BadInput
from nail.envs.environment import Environment
from nail.policies.policy import Policy
from nail.training.config import TrainConfig
from nail.training.evaluate import BATCH, evaluate
from nail.training.problem import make_environment, make_policy


class Kept(NamedTuple):
    """On the held-out prompts of the configuration's `old_task`."""

    full_exact: Float[Array, ""]
    """share of greedy chains that are right at every position"""
    answer_exact: Float[Array, ""]
    """share of greedy chains whose answer is right"""
    val_loss: Float[Array, ""]
    """cross-entropy of the clean chain, nats per token"""
    kl: Float[Array, ""]
    """KL(π_0‖π) to what the run began with, nats per token: mean over the positions of the clean chain and the first
    `BATCH` held-out prompts"""


def old_environment(config: TrainConfig, policy: Policy) -> Environment:
    """The environment of `old_task`; raises `BadInput` if its student is another network."""
    old = config.old_config
    env = make_environment(old)
    if make_policy(old, env) != policy:
        raise BadInput(f"old_task must be a task of the same network, got {config.old_task!r}")
    return env


def require_same_network(config: TrainConfig) -> None:
    """Raise `BadInput` if the student of `old_task` is another network."""
    if config.old_task:
        old_environment(config, make_policy(config, make_environment(config)))


def retention(env: Environment, policy: Policy, params: Any, reference: Any, parallel: bool) -> Kept:
    """`Kept` of the student with `params`, for a run that began with `reference`."""
    seen = evaluate(env, policy, params, parallel)
    index = jnp.arange(min(env.n_validation, BATCH), dtype=jnp.uint32)
    contexts = jax.vmap(env.validation_context)(index)
    observations = jax.vmap(env.observations)(contexts, jax.vmap(env.clean_actions)(contexts))
    before, now = (jax.nn.log_softmax(policy.forward(p, contexts, observations)[0]) for p in (reference, params))
    kl = jnp.sum(jnp.exp(before) * (before - now), axis=-1).mean()
    return Kept(seen.full_exact, seen.answer_exact, seen.val_loss, kl)

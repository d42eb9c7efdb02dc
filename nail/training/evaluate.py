"""Evaluation on the validation contexts: greedy rollouts scored, and the clean cross-entropy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nail.envs.environment import Environment
from nail.policies.policy import Policy
from nail.training.rollout import rollout

BATCH = 512
"""validation contexts rolled out at once"""


class Evaluation(NamedTuple):
    """Means over the validation contexts."""

    full_exact: Float[Array, ""]
    """share of greedy chains that are right at every position"""
    answer_exact: Float[Array, ""]
    """share of greedy chains whose last token is right"""
    position_accuracy: Float[Array, " H"]
    """share of greedy chains that are right at each position"""
    val_loss: Float[Array, ""]
    """cross-entropy of the clean chain, teacher-forced on it, nats per token"""


def evaluate(env: Environment, policy: Policy, params: Any, parallel: bool = False) -> Evaluation:
    """Exact means over the validation contexts of `env`; `parallel` is how rollouts are decoded."""
    n = env.n_validation
    batch = min(n, BATCH)
    index = jnp.arange(-(-n // batch) * batch, dtype=jnp.uint32).reshape(-1, batch)

    def one_batch(index):
        contexts = jax.vmap(env.validation_context)(jnp.minimum(index, n - 1))
        counted = (index < n).astype(jnp.float32)
        sums = jax.tree.map(lambda x: counted @ x, _per_context(env, policy, params, contexts, parallel))
        return Evaluation(*sums)

    return jax.tree.map(lambda x: x.sum(0) / n, jax.lax.map(one_batch, index))


def _per_context(env: Environment, policy: Policy, params: Any, contexts: Any, parallel: bool) -> Evaluation:
    """The summands of `evaluate`, one row a context."""
    clean = jax.vmap(env.clean_actions)(contexts)
    scored = jax.vmap(env.score)(contexts, rollout(env, policy, params, contexts, parallel=parallel).actions)
    logits, _ = policy.forward(params, contexts, jax.vmap(env.observations)(contexts, clean))
    right = clean[..., None] == jnp.arange(env.n_actions)
    cross_entropy = -jnp.sum(jnp.where(right, jax.nn.log_softmax(logits), 0.0), axis=-1).mean(-1)
    return Evaluation(
        scored.full_exact.astype(jnp.float32),
        scored.answer_exact.astype(jnp.float32),
        scored.position_exact,
        cross_entropy,
    )

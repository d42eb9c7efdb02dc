"""What the student's own rollouts meet, position by position (docs/post_training.md §1.6)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nail.noise import at_states, over
from nail.training import losses
from nail.training.evaluate import BATCH
from nail.training.problem import Numbers, Setup, make_channel
from nail.training.rollout import draw, rollout

STREAM = 2**32 - 1
"""of a run's chance; updates fold in their small numbers instead"""
LOW = 0.05


class Diagnosis(NamedTuple):
    """By position, over `BATCH` rollouts; r = log q − log p at the token played, nats: p the student's law, q the noisy
    expert's, floored at `losses.FLOOR`."""

    advantage_mean: Float[Array, " H"]
    """mean of r"""
    advantage_low: Float[Array, " H"]
    """its `LOW` quantile"""
    advantage_negative: Float[Array, " H"]
    """share of r < 0"""
    off_support: Float[Array, " H"]
    """mean mass of p off the expert's K most likely tokens; 0 where the objective's support is all tokens"""
    repeated: Float[Array, " H"]
    """share of tokens that are the one before; 0 at the first position"""


def diagnose(setup: Setup, numbers: Numbers, params: object) -> Diagnosis:
    """`Diagnosis` of the student, rolled out by its method's own rule on the validation contexts, from the first again
    where they are fewer than `BATCH`. The chance of it is the seed's, the same at each evaluation."""
    config, method, env, policy, expert = setup
    index = jnp.arange(BATCH, dtype=jnp.uint32) % env.n_validation
    contexts = jax.vmap(env.validation_context)(index)
    key = jax.random.fold_in(jax.random.key(numbers.seed), jnp.uint32(STREAM))
    rolled = rollout(
        env, policy, params, contexts, draws=draw(key, BATCH, env, config.sampled, False),
        temperature=numbers.temperature, rule=method.rule, rule_number=numbers.rule_number,
        parallel=config.decode == "parallel",
    )  # fmt: skip
    channel = at_states(over(make_channel(setup, numbers), contexts), rolled.observations)
    q = channel.probs(expert.laws(contexts, rolled.observations))
    logp = jax.nn.log_softmax(policy.forward(params, contexts, rolled.observations)[0], axis=-1)
    played = rolled.actions[..., None] == jnp.arange(env.n_actions)
    r = jnp.sum(jnp.where(played, jnp.log(jnp.maximum(q, losses.FLOOR)) - logp, 0.0), axis=-1)
    k = config.support_size or env.n_actions
    inside = jax.vmap(jax.vmap(lambda law: losses.teacher_support(law, k)))(q)
    again = rolled.actions[:, 1:] == rolled.actions[:, :-1]
    return Diagnosis(
        r.mean(0),
        jnp.quantile(r, LOW, axis=0),
        (r < 0).mean(0),
        jnp.sum(jnp.exp(logp), axis=-1, where=~inside).mean(0),
        jnp.concatenate([jnp.zeros(1), again.mean(0)]),
    )

"""One decode loop for every driver: the noisy expert, the student (greedy or sampled), or a mixture of both.

All chance enters through numbers drawn beforehand, one set per position. A label drawn inside the loop and one drawn
afterwards from the law at the same prefix are therefore the same label.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nail.envs.environment import Environment
from nail.experts import Expert
from nail.noise import Channel, sample
from nail.policies.policy import Policy

Driver = Literal["expert", "student", "mixture"]


class Draws(NamedTuple):
    """The chance of one batch of episodes, by position."""

    label: Float[Array, "B H"]
    """uniform numbers that pick the expert's labels"""
    gumbel: Float[Array, "B H A"] | None
    """Gumbel noise that picks the student's tokens; None for greedy rollouts"""
    coin: Float[Array, "B H"] | None
    """uniform numbers that say who plays in a mixture"""


class Rollout(NamedTuple):
    """What the episodes visited: `observations` spell the prefixes, `actions` were taken at them."""

    observations: Int[Array, "B H"]
    actions: Int[Array, "B H"]


def draw(key: PRNGKeyArray, batch: int, env: Environment, sampled: bool, mixture: bool) -> Draws:
    """Independent numbers for a batch; what a driver does not use is not drawn."""
    label, gumbel, coin = jax.random.split(key, 3)
    shape = (batch, env.horizon)
    return Draws(
        jax.random.uniform(label, shape),
        jax.random.gumbel(gumbel, (*shape, env.n_actions)) if sampled else None,
        jax.random.uniform(coin, shape) if mixture else None,
    )


def choose(
    logits: Float[Array, "B A"], temperature: Float[Array, ""] | float, gumbel: Float[Array, "B A"] | None
) -> Int[Array, " B"]:
    """The student's token: argmax of logits + T·gumbel, a sample of softmax(logits/T); greedy without Gumbel noise.

    Ties go to the lowest token.
    """
    noisy = logits if gumbel is None else logits + temperature * gumbel
    return jnp.argmax(noisy, axis=-1).astype(jnp.int32)


def rollout(
    env: Environment,
    policy: Policy,
    params: Any,
    contexts: Any,
    *,
    driver: Driver = "student",
    draws: Draws | None = None,
    temperature: Float[Array, ""] | float = 0.0,
    expert: Expert | None = None,
    channel: Channel | None = None,
    expert_share: Float[Array, ""] | float = 0.0,
    unroll: int | bool = 1,
) -> Rollout:
    """Roll out a batch of B episodes of H steps.

    driver "student" plays the policy at `temperature` (greedy where `draws` is None or holds no Gumbel noise),
    "expert" the noisy expert, "mixture" the noisy expert with probability `expert_share` (β_i of DAgger) at each step
    and else the student.
    """
    states = jax.vmap(env.start)(contexts)
    student = policy.start(params, contexts) if driver != "expert" else None
    noisy = expert.start(contexts) if driver != "student" else None
    numbers = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), draws)

    def step(carry, inputs):
        states, student, noisy = carry
        h, now = inputs
        seen = jax.vmap(env.observe)(states)
        own = played = None
        if driver != "expert":
            logits, student = policy.step(params, student, h, seen)
            own = choose(logits, temperature, None if now is None else now.gumbel)
        if driver != "student":
            law, noisy = expert.step(noisy, h, states)
            played = sample(channel.probs(law), now.label)
        if driver == "mixture":
            action = jnp.where(now.coin < expert_share, played, own)
        else:
            action = own if played is None else played
        return (jax.vmap(env.advance)(states, action), student, noisy), (seen, action)

    steps = (jnp.arange(env.horizon), numbers)
    _, (seen, actions) = jax.lax.scan(step, (states, student, noisy), steps, unroll=unroll)
    return Rollout(seen.T, actions.T)

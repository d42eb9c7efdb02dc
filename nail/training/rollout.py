"""Rollouts for every driver: the noisy expert, the student (greedy or sampled), or a mixture of both.

All chance enters through numbers drawn beforehand, one set per position. A label drawn inside the loop and one drawn
afterwards from the law at the same prefix are therefore the same label. And a rollout is the one fixed point of a map
from chains to chains, "play every position at the prefix that the chain has before it", so that it can be found in two
ways: token by token, or by passes over the whole chain until it no longer changes.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from nail.envs.environment import Environment
from nail.noise import Channel, at, at_states, gumbel, sample, uniform, words
from nail.policies.policy import Policy
from nail.rules import Rule
from nail.training.experts import Expert

Driver = Literal["expert", "student", "mixture"]


class Draws(NamedTuple):
    """The chance of one batch of episodes, by position."""

    label: UInt32[Array, "B H"]
    """random words that pick the expert's labels"""
    gumbel: Float[Array, "B H A"] | None
    """Gumbel noise that picks the student's tokens; None for greedy rollouts"""
    coin: Float[Array, "B H"] | None
    """uniform numbers that say who plays in a mixture"""


class Rollout(NamedTuple):
    """What the episodes visited: `observations` spell the prefixes, `actions` were taken at them."""

    observations: Int[Array, "B H"]
    actions: Int[Array, "B H"]
    known: Any = None
    """what the student computed at these prefixes, for `Policy.forward`; None if that was not to be kept"""


def draw(key: PRNGKeyArray, batch: int, env: Environment, sampled: bool, mixture: bool) -> Draws:
    """Independent numbers for a batch; what a driver does not use is not drawn."""
    label, token, coin = jax.random.split(key, 3)
    shape = (batch, env.horizon)
    return Draws(
        words(label, shape),
        gumbel(words(token, (*shape, env.n_actions))) if sampled else None,
        uniform(words(coin, shape)) if mixture else None,
    )


def choose(
    logits: Float[Array, "*n A"], temperature: Float[Array, ""] | float, gumbel: Float[Array, "*n A"] | None
) -> Int[Array, "*n"]:
    """The student's token: argmax of logits + T·gumbel, a sample of softmax(logits/T); greedy without Gumbel noise.

    Ties go to the lowest token. A method's own rollout rule takes the place of this one.
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
    rule: Rule | None = None,
    rule_number: Float[Array, ""] | float = 0.0,
    expert: Expert | None = None,
    channel: Channel | None = None,
    expert_share: Float[Array, ""] | float = 0.0,
    parallel: bool = False,
    keep: bool = False,
) -> Rollout:
    """Roll out a batch of B episodes of H steps.

    driver "student" plays the policy by `rule` at the user's number, or without one at `temperature` (greedy where
    `draws` is None or holds no Gumbel noise), "expert" the noisy expert, "mixture" the noisy expert with probability
    `expert_share` (β_i of DAgger) at each step and else the student. `parallel` decodes by passes over the whole chain,
    which changes rounding at most. `keep`: the rollout says what the student computed. `channel` is bound to the
    contexts, and where coins fall along the episodes to those (`nail.noise.drawn`).
    """
    players = Players(
        policy, params, driver, draws, temperature, rule, rule_number, expert, channel, expert_share
    )  # fmt: skip
    if parallel:
        return fixed_point(env, players, contexts, keep)[0]
    return _token_by_token(env, players, contexts, keep)


class Players(NamedTuple):
    """Who plays, and with which numbers: the arguments of `rollout`."""

    policy: Policy
    params: Any
    driver: Driver
    draws: Draws | None
    temperature: Float[Array, ""] | float
    rule: Rule | None
    rule_number: Float[Array, ""] | float
    expert: Expert | None
    channel: Channel | None
    expert_share: Float[Array, ""] | float

    def own(self, logits: Float[Array, "*n A"], gumbel: Float[Array, "*n A"] | None) -> Int[Array, "*n"]:
        """The student's tokens, by the method's rule or by temperature."""
        if self.rule is None or gumbel is None:
            return choose(logits, self.temperature, gumbel)
        return self.rule.play(logits, gumbel, self.rule_number).astype(jnp.int32)


def fixed_point(
    env: Environment, players: Players, contexts: Any, keep: bool = False
) -> tuple[Rollout, Int[Array, ""]]:
    """The rollout by Jacobi iteration from the clean chain, and the number of passes that it took, at most H.

    A pass plays every position at once, at the prefix that the chain of the pass before has there: a ← F(a). Position h
    depends on positions before it only, so after k passes the first k are final, and a chain with F(a) = a is the
    rollout. A student that knows the task confirms the clean chain in one pass. The last pass is made at the prefixes
    of the rollout, so that what it computed is what is known there.
    """
    policy, params, draws, expert = players.policy, players.params, players.draws, players.expert

    def play(actions):
        observations = jax.vmap(env.observations)(contexts, actions)
        own = played = known = None
        if players.driver != "expert":
            logits, cache = policy.forward(params, contexts, observations)
            own, known = players.own(logits, None if draws is None else draws.gumbel), cache if keep else None
        if players.driver != "student":
            channel = at_states(players.channel, observations)
            played = sample(channel.probs(expert.laws(contexts, observations)), draws.label)
        return _pick(players, own, played, draws), known

    def unfinished(carry):
        _, _, settled, passes = carry
        return ~settled & (passes < env.horizon)

    def one_pass(carry):
        before, _, _, passes = carry
        after, known = play(before)
        return after, known, (after == before).all(), passes + 1

    clean = jax.vmap(env.clean_actions)(contexts)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(play, clean)[1])
    start = (clean, nothing, jnp.bool_(False), jnp.int32(0))
    actions, known, _, passes = jax.lax.while_loop(unfinished, one_pass, start)
    return Rollout(jax.vmap(env.observations)(contexts, actions), actions, known), passes


def _pick(players: Players, own: Array | None, played: Array | None, draws: Draws | None) -> Array:
    """Who plays: the student's token `own`, the expert's `played`, or one of them by the mixture's coin."""
    if players.driver == "mixture":
        return jnp.where(draws.coin < players.expert_share, played, own)
    return own if played is None else played


def _token_by_token(env: Environment, players: Players, contexts: Any, keep: bool) -> Rollout:
    """The rollout by one pass over the positions, with the policy's cache."""
    policy, params, draws, expert = players.policy, players.params, players.draws, players.expert
    states = jax.vmap(env.start)(contexts)
    student = policy.start(params, contexts, keep) if players.driver != "expert" else None
    noisy = expert.start(contexts) if players.driver != "student" else None
    numbers = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), draws)

    def step(carry, inputs):
        states, student, noisy = carry
        h, now = inputs
        seen = jax.vmap(env.observe)(states)
        own = played = None
        if players.driver != "expert":
            logits, student = policy.step(params, student, h, seen)
            own = players.own(logits, None if now is None else now.gumbel)
        if players.driver != "student":
            law, noisy = expert.step(noisy, h, states)
            played = sample(at_states(at(players.channel, h), seen).probs(law), now.label)
        action = _pick(players, own, played, now)
        return (jax.vmap(env.advance)(states, action), student, noisy), (seen, action)

    steps = (jnp.arange(env.horizon), numbers)
    (_, student, _), (seen, actions) = jax.lax.scan(step, (states, student, noisy), steps)
    return Rollout(seen.T, actions.T, student if keep else None)

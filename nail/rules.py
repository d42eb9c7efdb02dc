"""How a rollout picks the student's token, and the law that the token then has.

A token is argmax of logits + T·Gumbel, unless the method has a rule of its own. Nothing here loads JAX before a token
is picked.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from nail.registry import document_fields


class Rule(NamedTuple):
    """How a student's token is picked in a rollout, with one number of the user's."""

    name: str
    """of the rule, in messages and legends"""
    play: Callable[[Any, Any, Any], Any]
    """(logits (.., A), standard Gumbel noise (.., A), number) → token (..)"""
    meaning: str
    """of the number, in a phrase"""
    default: float
    """the number where the configuration has none"""
    least: float
    """smallest number that is allowed"""
    most: float
    """largest number that is allowed"""
    law: Callable[[Any, Any], Any] | None = None
    """(logits (.., A), number) → log-probabilities (.., A) of what `play` draws, −inf for a token that it never does;
    None: not known, and refused where an objective is scored by it (`nail.method_checks.check_scored`)"""


def rollout_law(rule: Rule | None, logits: Any, temperature: Any, number: Any) -> Any:
    """log q, q the law that the student's rollout draws a token from: softmax(logits/T) with T > 0, or the rule's own.

    At T = 1 it is log softmax(logits), bit for bit. Outside of a rule's law log p stands, p = softmax(logits): a token
    that was played is there only because the rollout rounded its logits otherwise. (.., A), (), () → (.., A).
    """
    import jax
    import jax.numpy as jnp

    logp = jax.nn.log_softmax(logits, axis=-1)
    if rule is not None:
        law = rule.law(logits, number)
        return jnp.where(law > -jnp.inf, law, logp)
    return jnp.where(temperature == 1, logp, jax.nn.log_softmax(logits / temperature, axis=-1))


def nucleus(logits: Any, p: Any) -> Any:
    """The smallest set of most probable tokens with mass >= p (arXiv 1904.09751), as a mask; (.., A), () → (.., A).

    Tokens tie to the lowest. A mass of at least p − 2⁻²⁰ counts as p: that is sixteen roundings of float32, so that at
    an exact boundary (law .3, .1, .1, .5 and p = .8) the smaller set is kept. p <= 0: the first token; p >= 1: all.
    """
    import jax
    import jax.numpy as jnp

    order = jnp.argsort(-logits, axis=-1)
    law = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    rank = jnp.argsort(order, axis=-1)
    above = jnp.take_along_axis(jnp.cumsum(law, axis=-1) - law, rank, axis=-1)
    return (rank == 0) | (above < p - 2.0**-20) | (p >= 1)


def top_p(logits: Any, gumbel: Any, p: Any) -> Any:
    """A token of the nucleus: argmax of logits + Gumbel inside, a sample of softmax(logits) given the nucleus.

    p <= 0 is greedy and p >= 1 is sampled, bit for bit. Shapes (.., A), (.., A), () → (..) int32.
    """
    import jax.numpy as jnp

    return jnp.argmax(jnp.where(nucleus(logits, p), logits + gumbel, -jnp.inf), axis=-1).astype(jnp.int32)


def top_p_law(logits: Any, p: Any) -> Any:
    """log-probabilities of what `top_p` draws, −inf outside of the nucleus; its gradient holds the nucleus fixed."""
    import jax
    import jax.numpy as jnp

    return jax.nn.log_softmax(jnp.where(nucleus(logits, p), logits, -jnp.inf), axis=-1)


TOP_P = Rule("top-p", top_p, "mass p of the nucleus: 0 greedy, 1 sampled", 0.9, 0.0, 1.0, top_p_law)


document_fields(__name__)

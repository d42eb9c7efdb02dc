"""Count-based learners: what a row of nail/methods.py estimates from all its data, and how it decides."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nail.checks import require
from nail.counting.drivers import EXPERT, GREEDY, MIXTURE, Driver, Tally, World, sampled
from nail.counting.own import Kept, driver_of, of_counts, policy_of, start
from nail.counting.rows import check_counted
from nail.methods import METHOD, Method
from nail.noise import FLOOR, Huber, label_weight, sample
from nail.policies.softmax_table import frequencies


def label_law(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """Forward KL at its optimum: label frequencies (uniform at an unlabelled level)."""
    return frequencies(tally.labels)


def queried_law(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """Reverse KL at its optimum: the noisy law itself wherever its probability was queried, the rest of the mass spread
    over the other actions.

    The reverse KL's score function reads log t(a) of the noisy expert at the student's own token a: a probability, not
    a label, so this learner has another oracle than the label learners and their numbers of queries do not compare. Its
    minimiser is p = t: a level with all actions queried is fitted without error, and this is the law of largest entropy
    that agrees with every answer so far. There is no such learner of labels: with label frequencies in the place of t
    the reverse KL has them as its minimiser, which is `label_law`, the forward learner. Source: docs/theory.md §2.
    """
    known = jnp.where(tally.seen, world.noisy, 0.0)
    unseen = (~tally.seen).sum(-1, keepdims=True)
    return jnp.where(tally.seen, known, (1.0 - known.sum(-1, keepdims=True)) / jnp.maximum(unseen, 1))


def clean_estimate(noisy: Float[Array, "*level A"], channel: Huber) -> Float[Array, "*level A"]:
    """The clean law p that minimises KL(f ‖ p_η), p_η = (1−η)p + ην and f = `noisy`: for label frequencies f the
    maximum-likelihood one; exact where f = p_η for some p.

    Kuhn and Tucker: p_η(a) = max(ην(a), f(a)/λ). The j actions with the largest f/(ην) share what the others' floors
    leave of the mass, λ_j = Σ_{those} f / (1 − Σ_{others} ην); λ_j grows with j as long as the next action gets more
    than its floor and falls from there on, so λ = max_j λ_j. Source: docs/theory.md §2 (channel-aware), §4.9.
    """
    floor = channel.eta * jnp.broadcast_to(channel.kernel, noisy.shape)
    mass, others = jnp.zeros_like(noisy), jnp.zeros_like(noisy)
    for b in range(noisy.shape[-1]):  # unrolled: on a CPU much faster than pairs of actions on a last axis
        f, v = noisy[..., b, None], floor[..., b, None]
        before = f * floor >= noisy * v
        mass, others = mass + jnp.where(before, f, 0.0), others + jnp.where(before, 0.0, v)
    scale = (mass / (1.0 - others)).max(-1, keepdims=True)
    clean = jnp.maximum(noisy / scale - floor, 0.0)
    return clean / clean.sum(-1, keepdims=True)


def clean_law(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """Forward KL through the channel as told at its optimum: `clean_estimate` of the label frequencies (uniform at an
    unlabelled level)."""
    estimate = clean_estimate(frequencies(tally.labels), world.told)
    return jnp.where(tally.labels.sum(-1, keepdims=True) > 0, estimate, 1.0 / estimate.shape[-1])


def mixed_law(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """NAIL-β: (1−β)·`label_law` + β·`queried_law`; both parts, hence the mixture, have the optimum p = t."""
    return (1.0 - world.beta) * label_law(tally, world) + world.beta * queried_law(tally, world)


def label_counts(tally: Tally, world: World) -> Int[Array, "*level A"]:
    """Plurality: the 0–1 loss minimiser over labels, without η or ν (NAILGUN, and the mode of `label_law`)."""
    return tally.labels


def channel_score(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """log P(labels | clean action a) + const = n_a·log(1 + (1−η)/(η ν(a))), η and ν as told.

    The Bayes rule of a learner that knows (or is wrong about) the channel. ην is floored at 1e−10. For uniform ν any
    told η gives the plurality.
    """
    weight = label_weight(world.told, world.noisy)
    return tally.labels * weight.reshape((1,) * (tally.labels.ndim - weight.ndim) + weight.shape)


def class_score(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """Bayes mixture over the finite class Π = `world.candidates`, uniform prior: Σ_i w_i π_i(a|s) with
    log w_i = Σ_{h,s,b} n_{h,s,b}·log π_{i,η}(b|s) + const, π_{i,η} the candidate through the told channel."""
    noisy = world.told.probs(world.candidates)
    axes = tuple(range(1, noisy.ndim))
    log_weight = (tally.labels[None] * jnp.log(jnp.maximum(noisy, FLOOR))).sum(axes)
    return jnp.tensordot(jax.nn.softmax(log_weight), world.candidates, 1)


TOKEN = {"auxiliary": lambda law, own, bits: sample(law, bits), "rollout": lambda law, own, bits: own}
"""`action` of a method → the token that the reverse KL reads, from the student's laws, the rollout's tokens and random
words: a fresh draw from the student at the visited prefix, or the rollout's own"""


class Learner(NamedTuple):
    """What a method is to the count-based loops, which read these fields and no name."""

    driver: Driver
    law: Callable[[Tally, World], Float[Array, "*level A"]]
    """fitted law: what a sampling student and an auxiliary token are drawn from; a noisy law, or the clean one behind
    the channel where the loss sees that (`clean_law`)"""
    score: Callable[[Tally, World], Array]
    """the final policy, and a greedy student, play its argmax; ties to the lowest action"""
    query: Callable[..., Int[Array, "*level"]] | None
    """the token whose noisy-expert probability is read, at every level that is visited; None: only labels are read.
    Another oracle: these answers are numbers of the noisy law, not samples of it (`queried_law`)"""
    draws: int
    """random words a level and episode: 1 for the label, and 1 each for a driver's play and a queried token that are
    random"""
    told: str
    """which channel `channel_score` and `class_score` believe in"""
    start: Callable[..., Kept] | None = None
    """what replicates of a learner with a state of its own begin with, given the shape (H, S, A), the setting and the
    number of replicates; None: a tally of nothing"""


@lru_cache
def learner_of(method: Method) -> Learner:
    """The count-based learner of a row of nail/methods.py, from its driver, divergence, β, temperature and action.

    Losses are at their optimum given all data so far: frequencies of labels for the forward KL, or the clean law behind
    them where the channel is known, queried probabilities for the reverse one. Raises `BadInput` as `check_counted`.
    """
    check_counted(method)
    if (own := method.functions) is not None:
        begins = partial(start, method.name, own, method.told)
        return Learner(driver_of(own), label_law, policy_of(own), None, 0, method.told, begins)
    samples, queries = method.temperature > 0, method.beta != 0
    fresh = method.action == "auxiliary"
    student = sampled(float(method.temperature)) if samples else GREEDY
    labelled = clean_law if method.decides == "channel" else label_law
    law = labelled if not queries else queried_law if method.beta == 1 else mixed_law
    fit = law if queries else label_counts
    if method.law is not None:
        law = fit = of_counts(method.law)
    if method.score is not None:
        fit = of_counts(method.score)
    return Learner(
        {"expert": EXPERT, "mixture": MIXTURE, "student": student}[method.driver],
        law,
        {"fit": fit, "plurality": label_counts, "channel": channel_score, "class": class_score}[method.decides],
        TOKEN[method.action] if queries else None,
        1 + (method.driver == "mixture" or (method.driver == "student" and samples)) + (queries and fresh),
        method.told,
    )


def learner(name: str, by_level: bool = False) -> Learner:
    """`learner_of` the method called `name`.

    Raises `BadInput` for an unknown name, as `learner_of` does, and with `by_level` for a finite class, whose weights
    do not come apart by levels.
    """
    found = learner_of(METHOD.find(name))
    require(not by_level or found.score is not class_score, "method", name, "one that decides level by level")
    return found

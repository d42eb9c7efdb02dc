"""Perturbed definitions of `defclass`, for steerability: prompts as pure functions (docs/token_tasks.md §3.4)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from nail.envs.defclass import (
    CANONICAL,
    CLASSES,
    HELD_OUT,
    NAME,
    OPEN,
    Criteria,
    DefClass,
    Prompt,
    answer,
    answered,
    criteria,
    item,
    make_prompt,
)


def redefine(prompt: Prompt, found: Criteria) -> Prompt:
    """The prompt with other criteria, by name; names keep their places, and the item stays."""
    return make_prompt(found, item(prompt), prompt[0:8:2] - NAME)


def swap(prompt: Prompt, key: PRNGKeyArray) -> Prompt:
    """Two names, uniform over the pairs, exchange their criteria."""
    pair = jax.random.permutation(key, CLASSES)[:2]
    found = criteria(prompt)
    return redefine(prompt, found.at[pair].set(found[pair[::-1]]))


def reassign(prompt: Prompt, key: PRNGKeyArray) -> Prompt:
    """New criteria of the 12 for all names; the new answer is uniform over the names.

    The item needs a value that is not held out: that of the answer, in a prompt of the bank.
    """
    k_label, k_right, k_rest = jax.random.split(key, 3)
    label = jax.random.randint(k_label, (), 0, CLASSES)
    return redefine(prompt, _around(prompt, label, _pick(k_right, OPEN, _open_in(prompt)), k_rest))


def introduce(prompt: Prompt, key: PRNGKeyArray) -> Prompt:
    """A held-out criterion: where the item has one, a uniform name gets it and is the answer, and the others get
    criteria of the 12 that are not in the item; else a name other than the answer gets one that is not in the item."""
    k_label, k_kind, k_rest, k_other = jax.random.split(key, 4)
    there = jnp.isin(jnp.array(HELD_OUT), item(prompt))
    label = jax.random.randint(k_label, (), 0, CLASSES)
    moved = _around(prompt, label, _pick(k_kind, HELD_OUT, there), k_rest)
    other = (answer(prompt) + jax.random.randint(k_other, (), 1, CLASSES)) % CLASSES
    kept = criteria(prompt).at[other].set(_pick(k_kind, HELD_OUT, ~there))
    return redefine(prompt, jnp.where(there.any(), moved, kept))


STREAM = 2
"""of the bank's chance, beside training and validation"""
PERTURBATIONS = {"swap": swap, "reassign": reassign, "introduce": introduce}
"""name → (prompt, key) → prompt"""


def perturbed(prompts: Int[Array, "n 13"], key: PRNGKeyArray, kind: str) -> Int[Array, "n 13"]:
    """A perturbation of each prompt, each with a key of its own; `kind` is one of `PERTURBATIONS`."""
    return jax.vmap(PERTURBATIONS[kind])(prompts, jax.random.split(key, len(prompts)))


class Steering(NamedTuple):
    """What a task's steerability is measured on (docs/token_tasks.md §3.5)."""

    classes: int
    items: Callable[[Any, int], tuple[Any, Any]]
    """(environment, number n of items) → their prompts before and after a perturbation, the same for every method and
    seed"""
    right: Callable[[Any], Int[Array, ""]]
    """prompt → the right class"""
    given: Callable[[Any], Int[Array, ""]]
    """an episode's actions → the class that they end with, −1 for none"""


def items(env: DefClass, n: int) -> tuple[Int[Array, "n 13"], Int[Array, "n 13"]]:
    """Held-out prompts with canonical definitions and no NOT, whatever the task's options are, and the same perturbed:
    item i in the way number i mod 3 of `PERTURBATIONS`."""
    usual = env._replace(epsilon=0.0, negated=0.0)
    before = jax.vmap(usual.validation_context)(jnp.arange(n, dtype=jnp.uint32))
    key = jax.random.fold_in(jax.random.key(env.bank_seed), STREAM)
    each = jnp.stack([perturbed(before, key, kind) for kind in PERTURBATIONS])
    return before, each[jnp.arange(n) % len(each), jnp.arange(n)]


STEERING = Steering(CLASSES, items, answer, answered)


def right_answer(prompt: Prompt, eta_new: Float[Array, ""] | float) -> Float[Array, ""]:
    """P(the teacher's sampled answer is right) at definitions that are not canonical (docs/token_tasks.md §3.3).

    Σ_j P(j names other than the right one y are said Y of) · (s/(1+j) + (1−s)·1[j=0]/4), j binomial with η_new over the
    names other than y whose canonical criterion is in the item (they have moved), s the probability of Y at y: 1 if its
    own canonical criterion is in the item, else 1−η_new.
    """
    right = jnp.arange(CLASSES) == answer(prompt)
    tempting = jnp.isin(jnp.array(CANONICAL), item(prompt))
    said = jnp.where((right & tempting).any(), 1.0, 1.0 - eta_new)
    law = jnp.eye(CLASSES)[0]
    for c in range(CLASSES):
        rate = jnp.where(tempting[c] & ~right[c], eta_new, 0.0)
        law = (1.0 - rate) * law + rate * jnp.roll(law, 1)
    counts = jnp.arange(CLASSES)
    return jnp.sum(law * (said / (1.0 + counts) + (1.0 - said) * (counts == 0) / CLASSES))


def _around(prompt: Prompt, label: Int[Array, ""], right: Int[Array, ""], key: PRNGKeyArray) -> Criteria:
    """`right` as the criterion of `label`, and for the others different ones of the 12 that are not in the item."""
    pool = jnp.array(OPEN, jnp.int32)
    order = jnp.argsort(jnp.where(jnp.isin(pool, item(prompt)), 2.0, jax.random.uniform(key, pool.shape)))
    return pool[order[:CLASSES]].at[label].set(right)


def _open_in(prompt: Prompt) -> Bool[Array, " open"]:
    return jnp.isin(jnp.array(OPEN), item(prompt))


def _pick(key: PRNGKeyArray, tokens: tuple[int, ...], allowed: Bool[Array, " n"]) -> Int[Array, ""]:
    """One of the allowed tokens, uniformly; the first where there is none."""
    scores = jnp.where(allowed, jax.random.uniform(key, (len(tokens),)), -1.0)
    return jnp.array(tokens, jnp.int32)[jnp.argmax(scores)]

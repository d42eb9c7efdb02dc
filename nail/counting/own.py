"""What a user brings, in the count-based loops: a score or a law of counts, and learners with a state of their own.

Neither sees the truth: counts are handed over without the secret and without the noisy law, and a learner with a state
gets its episodes step by step. The poison chain is run there as the MDP that it is, with two states a step, on the path
(0) and off it (1): so answers off the path are asked for, given (from the law of an expert that is uniform there) and
counted as the learner's own rules have it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from nail.checks import BadInput
from nail.counting.crossing import NStar
from nail.counting.drivers import Driver, Setting, Tally, World, channel
from nail.counting.tracing import abstract, require_array, shown, traced
from nail.envs.mdp import TabularMDP
from nail.learners import Episode, Functions, Problem
from nail.methods import Method
from nail.noise import Huber, sample, words
from nail.policies.softmax_table import deterministic
from nail.registry import document_fields

Laws = Float[Array, "H S A"]


class Counts(NamedTuple):
    """What `score` and `law` of a method read. The axes `*level` are (H,) on the poison chain and the hidden path, one
    informative state a step, and (H, S) in any other MDP."""

    labels: Int[Array, "*level A"]
    """labels by step, state and action"""
    seen: Bool[Array, "*level A"]
    """actions whose probability under the noisy expert was queried: none where labels alone are read (β = 0)"""
    probabilities: Float[Array, "*level A"]
    """those probabilities, exact; 0 elsewhere"""
    episodes: Int[Array, ""]
    """episodes so far"""
    channel: Huber
    """the channel of the labels as the learner believes it to be: η and ν"""


@lru_cache
def of_counts(function: Callable[[Counts], Any]) -> Callable[[Tally, World], Float[Array, "*level A"]]:
    """A function of `Counts` as the loops call it."""

    def read(tally: Tally, world: World) -> Array:
        probabilities = jnp.where(tally.seen, world.noisy, 0.0)
        return function(Counts(tally.labels, tally.seen, probabilities, tally.episodes, world.told))

    return read


class Kept(NamedTuple):
    """A learner with a state of its own in one replicate, between two episodes."""

    state: Any
    asked: Int[Array, "... H"]
    """answers so far, by step"""
    episodes: Int[Array, "..."]


def asked(kept: Kept) -> Float[Array, ""]:
    """Answers so far."""
    return kept.asked.astype(jnp.float32).sum(-1)


class Answers:
    """Octaves of losses, and the mean number of answers until each of their checkpoints where a learner counts its own
    (a third part of an octave)."""

    def __init__(self, octaves: Iterator[tuple[Any, ...]]):
        self._octaves, self._parts = octaves, []

    def octaves(self) -> Iterator[tuple[Any, Any]]:
        """(checkpoints, losses) for `crossing`."""
        for checkpoints, losses, *answers in self._octaves:
            self._parts += [(checkpoints, each) for each in answers]
            yield checkpoints, losses

    def counted(self, found: NStar) -> NStar:
        """n* with the learner's own queries, on a line between checkpoints; as it is if the learner counts none."""
        if not self._parts:
            return found
        episodes, mean = (np.concatenate(part) for part in zip(*self._parts, strict=True))

        def until(n):
            return np.inf if n == np.inf else float(np.interp(n, episodes, mean))

        low, high = found.interval
        queries = None if found.censored else until(found.value)
        return dataclasses.replace(found, queries=queries, query_interval=(until(low), until(high)))


def start(name: str, row: Functions, told: str, shape: tuple[int, ...], setting: Setting, replicates: int) -> Kept:
    """Replicates before their first episode, where an episode has `shape` (H, S, A); the setting is complete.

    Raises `BadInput` as `check_own`.
    """
    believed = Huber(*map(jnp.asarray, channel(setting, told)))
    if jnp.ndim(believed.eta) == 1 and len(believed.eta) != shape[1]:
        # by level of the chain, whose states are alike
        believed = believed._replace(eta=believed.eta[: shape[0], None])
    _check_functions(name, row, shape, believed.eta.shape, believed.kernel.shape)
    begun = row.init(Problem(*shape, believed))

    def repeated(leaf):
        leaf = jnp.asarray(leaf)
        return jnp.broadcast_to(leaf, (replicates, *leaf.shape))

    none = jnp.zeros((replicates, shape[0]), jnp.int32)
    return Kept(jax.tree.map(repeated, begun), none, none[:, 0])


def _episode(
    row: Functions, first: Int[Array, ""], tables: tuple[Laws, Laws], move: Callable[..., Any], kept: Kept,
    key: Key[Array, ""], bits: UInt32[Array, "H 2"],
) -> Kept:  # fmt: skip
    """One episode that begins in state `first`: `tables` are the laws that labels are drawn from and those that a
    learner reads as probabilities, `move(h, s, a, word)` is the next state."""
    plays, asks, updates = jax.random.split(jax.random.fold_in(key, 1), 3)
    reads_labels, reads_probabilities = "labels" in row.oracle, "probabilities" in row.oracle
    laws, noisy = tables
    horizon, _, n_actions = noisy.shape

    def step(s, at):
        h, word = at
        label, chosen = sample(laws[h, s], word[1]), row.play(kept.state, h, s, plays)
        expert = (chosen < 0) | (chosen >= n_actions)
        action = jnp.where(expert, label, chosen).astype(jnp.int32)
        answered = expert | (row.ask is None or row.ask(kept.state, h, s, asks))
        told = jnp.where(answered, label, n_actions) if reads_labels else jnp.int32(n_actions)
        probability = jnp.where(answered, noisy[h, s, action], 0.0) if reads_probabilities else jnp.float32(0.0)
        return move(h, s, action, word[0]), Episode(s, action, told, probability, answered)

    _, episode = lax.scan(step, jnp.asarray(first, jnp.int32), (jnp.arange(horizon, dtype=jnp.int32), bits))
    answers = episode.asked.astype(jnp.int32) * (reads_labels + reads_probabilities)
    return Kept(row.update(kept.state, episode, updates), kept.asked + answers, kept.episodes + 1)


def _on_chain(row: Functions, learner: Any, world: World, kept: Kept, key: Key[Array, ""]) -> Kept:
    """One episode of the poison chain."""
    horizon = kept.asked.shape[-1]
    laws = jnp.stack([world.noisy[:horizon], world.off[:horizon]], 1)

    def move(h, s, action, word):
        return jnp.where((s == 0) & (action == world.secret[h]), 0, 1).astype(jnp.int32)

    bits = words(jax.random.fold_in(key, 0), (horizon, 2))
    return _episode(row, jnp.int32(0), (laws, laws), move, kept, key, bits)


def _in_mdp(row: Functions, learner: Any, mdp: TabularMDP, world: World, kept: Kept, key: Key[Array, ""]) -> Kept:
    """One episode of any finite MDP."""
    bits = words(jax.random.fold_in(key, 0), (mdp.horizon + 1, 2))

    def move(h, s, action, word):
        return sample(mdp.P[h, s, action], word)

    first = sample(mdp.rho, bits[-1, 0])
    return _episode(row, first, (world.noisy, world.noisy), move, kept, key, bits[:-1])


@lru_cache
def driver_of(row: Functions) -> Driver:
    """Who drives an episode of a learner with a state of its own: the learner, or the expert where it lets it."""
    return Driver(lambda play: play.greedy, partial(_on_chain, row), lambda kept, world: kept, partial(_in_mdp, row))


@lru_cache
def policy_of(row: Functions) -> Callable[[Kept, World], Float[Array, "*level A"]]:
    """The policy of such a learner as a score, one-hot: (H, S, A), or (H, A) of the states on the chain's path."""

    def score(kept: Kept, world: World) -> Array:
        actions = row.decide(kept.state)
        if world.secret.ndim == 1:
            levels = world.secret.shape[0]
            actions = jnp.pad(actions[:, 0], (0, levels - actions.shape[0]))
        return deterministic(actions, world.noisy.shape[-1])

    return score


def check_own(method: Method, shape: tuple[int, ...]) -> None:
    """Raise `BadInput` naming the first function of the method that is not what it must be where counts have this
    shape: (H, A) on the poison chain and the hidden path, else (H, S, A). Each is traced by JAX, twice, and nothing is
    computed: another shape or type of what it returns, and what is not a pure function of its arguments, is found here.
    """
    if method.functions is not None:
        _check_functions(method.name, method.functions, shape if len(shape) == 3 else (shape[0], 2, shape[1]))
    for part in ("score", "law"):
        if (function := getattr(method, part)) is not None:
            _check_counts(f"{part} of the method {method.name}", function, shape)


@lru_cache
def _check_counts(what: str, function: Callable[[Counts], Any], shape: tuple[int, ...]) -> None:
    believed = Huber(abstract((), jnp.float32), abstract(shape[-1:], jnp.float32))
    counts = Counts(
        *(abstract(shape, kind) for kind in (jnp.int32, jnp.bool_, jnp.float32)), abstract((), jnp.int32), believed
    )
    found = traced(what, function, counts)
    kinds = (jnp.floating,) if what.startswith("law") else (jnp.number, jnp.bool_)
    require_array(what, found, shape, kinds, "numbers")


@lru_cache
def _check_functions(
    name: str, row: Functions, shape: tuple[int, ...], eta: tuple[int, ...] = (), kernel: tuple[int, ...] = ()
) -> None:
    horizon, n_states, n_actions = shape
    believed = Huber(abstract(eta, jnp.float32), abstract(kernel or (n_actions,), jnp.float32))

    def what(part):
        return f"{part} of the learner {name}"

    state = traced(what("init"), lambda given: row.init(Problem(*shape, given)), believed)
    number, key = abstract((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
    for part in ("play", "ask"):
        if (function := getattr(row, part)) is not None:
            kind = (jnp.integer, "an integer") if part == "play" else (jnp.bool_, "a bool")
            found = traced(what(part), function, state, number, number, key)
            require_array(what(part), found, (), kind[:1], kind[1])
    steps = (horizon,)
    episode = Episode(*(abstract(steps, kind) for kind in (jnp.int32, jnp.int32, jnp.int32, jnp.float32, jnp.bool_)))
    after = traced(what("update"), row.update, state, episode, key)
    same = jax.tree.structure(after) == jax.tree.structure(state) and shown(after) == shown(state)
    if not same:
        raise BadInput(f"{what('update')} must return a state like that of init, {shown(state)}, got {shown(after)}")
    decided = traced(what("decide"), row.decide, state)
    require_array(what("decide"), decided, (horizon, n_states), (jnp.integer,), "integers")


document_fields(__name__)

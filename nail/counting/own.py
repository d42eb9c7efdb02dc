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
from scipy.special import stdtrit

from nail.checks import BadInput
from nail.counting.channels import label_laws
from nail.counting.crossing import NStar, level_of
from nail.counting.drivers import Driver, Setting, Tally, World, channel
from nail.envs.mdp import TabularMDP
from nail.learners import Episode, Functions, Problem
from nail.methods import Method
from nail.noise import Channel, Huber, sample, words
from nail.policies.softmax_table import deterministic
from nail.registry import document_fields
from nail.tracing import abstract, require_array, shown, traced

Laws = Float[Array, "H S A"]
SPLIT = 1.0 - level_of(2)
"""error of the interval of the mean number of answers, and of that of n* which goes with it"""


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
    channel: Channel
    """the channel of the labels as it is believed to be, as of `nail.learners.Problem`"""


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
    """Octaves of losses, and the answers until each of their checkpoints where a learner counts its own (a third part
    of an octave, with the runs of the losses: replicates, or means over those of an instance).

    The error of 5 % is split in two: half is that of the interval of n* (the one of level 97.5 %), half that of
    Student's interval of the mean number of answers at each of its ends. So queries are in their interval with 95 % or
    more if runs' answers are near normal in mean. Where all runs have the same number of answers, there is nothing to
    split.
    """

    def __init__(self, octaves: Iterator[tuple[Any, ...]], most: int):
        """An episode has at most `most` answers."""
        self._octaves, self._most, self._parts, self._runs = octaves, most, [], 0

    def octaves(self) -> Iterator[tuple[Any, Any]]:
        """(checkpoints, losses) for `crossing`."""
        for checkpoints, losses, *answers in self._octaves:
            for each in answers:
                self._runs = len(each)
                spread = each.std(0, ddof=1) if self._runs > 1 else np.full(each.shape[1], np.inf)
                self._parts.append((checkpoints, each.mean(0), spread / np.sqrt(self._runs)))
            yield checkpoints, losses

    def counted(self, found: NStar) -> NStar:
        """n* with the learner's own queries, on a line between checkpoints; as it is if the learner counts none."""
        if not self._parts:
            return found
        episodes, mean, error = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        quantile = float(stdtrit(max(self._runs - 1, 1), 1.0 - SPLIT / 2))

        def until(n, values=mean):
            return float(np.interp(n, episodes, values))

        def end(n, wider, sign):
            if np.isfinite(n) and until(n, error) == 0:
                return until(n)
            if wider == np.inf:
                return np.inf
            bound = until(wider) + sign * quantile * until(wider, error)
            return float(np.clip(bound, 0.0, self._most * wider))

        (low, high), (lower, higher) = found.interval, found.wider[0]
        queries = None if found.censored else until(found.value)
        ends = end(low, lower, -1), end(high, higher, 1)
        return dataclasses.replace(found, queries=queries, query_interval=ends)


def reads_counts(method: Method) -> bool:
    """Whether functions of the user's own read counts: those have H levels exactly, also where a program is padded."""
    return method.score is not None or method.law is not None


def begin_own(method: Method, told: str, shape: tuple[int, ...], setting: Setting, replicates: int) -> Kept | None:
    """What replicates of a learner with a state of its own begin with, where counts have `shape`: (H, A) on the poison
    chain and the hidden path, else (H, S, A). None for learners of counts. The setting is complete, and `told` says
    what of it is believed.

    Raises `BadInput` naming the first function of the method that is not what it must be. Each is traced by JAX, twice,
    before anything is computed: another shape or type of what it returns, and what is not a pure function of its
    arguments, is found so.
    """
    believed = jax.tree.map(jnp.asarray, channel(setting, told))
    by_level = len(shape) == 2 and isinstance(believed, Huber) and believed.eta.ndim == 1
    if by_level:
        believed = believed._replace(eta=believed.eta[: shape[0]])
    for part in ("score", "law"):
        if (function := getattr(method, part)) is not None:
            _check_counts(f"{part} of the method {method.name}", function, shape, *_key_of(believed))
    if (row := method.functions) is None:
        return None
    if by_level:
        believed = believed._replace(eta=believed.eta[:, None])
    shape = shape if len(shape) == 3 else (shape[0], 2, shape[1])
    _check_functions(method.name, row, shape, *_key_of(believed))

    def repeated(leaf):
        leaf = jnp.asarray(leaf)
        return jnp.broadcast_to(leaf, (replicates, *leaf.shape))

    none = jnp.zeros((replicates, shape[0]), jnp.int32)
    return Kept(jax.tree.map(repeated, row.init(Problem(*shape, believed))), none, none[:, 0])


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
    uniform = jnp.full_like(world.noisy, 1.0 / world.noisy.shape[-1])
    off = world._replace(expert=uniform, noisy=world.off.probs(uniform), noise=world.off)
    noisy = jnp.stack([world.noisy[:horizon], off.noisy[:horizon]], 1)
    laws = jnp.stack([label_laws(world, key)[:horizon], label_laws(off, key)[:horizon]], 1)

    def move(h, s, action, word):
        return jnp.where((s == 0) & (action == world.secret[h]), 0, 1).astype(jnp.int32)

    bits = words(jax.random.fold_in(key, 0), (horizon, 2))
    return _episode(row, jnp.int32(0), (laws, noisy), move, kept, key, bits)


def _in_mdp(row: Functions, learner: Any, mdp: TabularMDP, world: World, kept: Kept, key: Key[Array, ""]) -> Kept:
    """One episode of any finite MDP."""
    bits = words(jax.random.fold_in(key, 0), (mdp.horizon + 1, 2))

    def move(h, s, action, word):
        return sample(mdp.P[h, s, action], word)

    first = sample(mdp.rho, bits[-1, 0])
    return _episode(row, first, (label_laws(world, key), world.noisy), move, kept, key, bits[:-1])


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


def _key_of(tree: Any) -> tuple[Any, tuple[Any, ...]]:
    """A tree of arrays as what a cache can keep: its structure, and abstract leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


@lru_cache
def _check_counts(what: str, function: Callable[[Counts], Any], shape: tuple[int, ...], kind: Any, leaves: Any) -> None:
    believed = jax.tree.unflatten(kind, [abstract(*leaf) for leaf in leaves])
    counts = Counts(
        *(abstract(shape, kind) for kind in (jnp.int32, jnp.bool_, jnp.float32)), abstract((), jnp.int32), believed
    )
    found = traced(what, function, counts)
    kinds = (jnp.floating,) if what.startswith("law") else (jnp.number, jnp.bool_)
    require_array(what, found, shape, kinds, "numbers")


@lru_cache
def _check_functions(name: str, row: Functions, shape: tuple[int, ...], kind: Any, leaves: Any) -> None:
    horizon, n_states, _ = shape
    believed = jax.tree.unflatten(kind, [abstract(*leaf) for leaf in leaves])

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

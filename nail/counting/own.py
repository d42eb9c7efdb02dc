"""What a user brings, in the count-based loops: a score or a law of counts, and learners with a state of their own.

Neither sees the truth: counts are handed over without the secret and without the noisy law, and a learner with a state
gets its episodes step by step. The poison chain is run there as the MDP that it is, with two states a step, on the path
(0) and off it (1): so answers off the path are asked for, given (from the law of an expert that is uniform there) and
counted as the learner's own rules have it.
"""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from nail.checks import BadInput, require
from nail.counting.drivers import Driver, Setting, Tally, World, channel
from nail.envs.mdp import TabularMDP
from nail.learners import Episode, Functions, Problem
from nail.methods import Method
from nail.noise import Huber, sample, words
from nail.policies.softmax_table import deterministic
from nail.registry import document_fields


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


def start(name: str, row: Functions, told: str, shape: tuple[int, ...], setting: Setting, replicates: int) -> Kept:
    """Replicates before their first episode, in an MDP of `shape` (H, S, A); the setting is complete.

    Raises `BadInput` as `check_own`.
    """
    _check_functions(name, row, shape)
    begun = row.init(Problem(*shape, channel(setting, told)))

    def repeated(leaf):
        leaf = jnp.asarray(leaf)
        return jnp.broadcast_to(leaf, (replicates, *leaf.shape))

    none = jnp.zeros((replicates, shape[0]), jnp.int32)
    return Kept(jax.tree.map(repeated, begun), none, none[:, 0])


def _episode(
    row: Functions, n_actions: int, first: Int[Array, ""], law: Callable[..., Any], move: Callable[..., Any],
    kept: Kept, key: Key[Array, ""], bits: UInt32[Array, "H 2"],
) -> Kept:  # fmt: skip
    """One episode that begins in state `first`: `law(h, s)` is what labels are drawn from, `move(h, s, a, word)` the
    next state."""
    plays, asks, updates = jax.random.split(jax.random.fold_in(key, 1), 3)
    reads_labels, reads_probabilities = "labels" in row.oracle, "probabilities" in row.oracle

    def step(s, at):
        h, word = at
        noisy = law(h, s)
        label, chosen = sample(noisy, word[1]), row.play(kept.state, h, s, plays)
        expert = (chosen < 0) | (chosen >= n_actions)
        action = jnp.where(expert, label, chosen).astype(jnp.int32)
        answered = expert | (row.ask is None or row.ask(kept.state, h, s, asks))
        told = jnp.where(answered, label, n_actions) if reads_labels else jnp.int32(n_actions)
        probability = jnp.where(answered, noisy[action], 0.0) if reads_probabilities else jnp.float32(0.0)
        return move(h, s, action, word[0]), Episode(s, action, told, probability, answered)

    horizon = kept.asked.shape[-1]
    _, episode = lax.scan(step, jnp.asarray(first, jnp.int32), (jnp.arange(horizon, dtype=jnp.int32), bits))
    answers = episode.asked.astype(jnp.int32) * (reads_labels + reads_probabilities)
    return Kept(row.update(kept.state, episode, updates), kept.asked + answers, kept.episodes + 1)


def _on_chain(row: Functions, learner: Any, world: World, kept: Kept, key: Key[Array, ""]) -> Kept:
    """One episode of the poison chain."""
    horizon, n_actions = kept.asked.shape[-1], world.noisy.shape[-1]

    def law(h, s):
        return jnp.where(s == 0, world.noisy[h], world.off[h])

    def move(h, s, action, word):
        return jnp.where((s == 0) & (action == world.secret[h]), 0, 1).astype(jnp.int32)

    bits = words(jax.random.fold_in(key, 0), (horizon, 2))
    return _episode(row, n_actions, jnp.int32(0), law, move, kept, key, bits)


def _in_mdp(row: Functions, learner: Any, mdp: TabularMDP, world: World, kept: Kept, key: Key[Array, ""]) -> Kept:
    """One episode of any finite MDP."""
    bits = words(jax.random.fold_in(key, 0), (mdp.horizon + 1, 2))

    def move(h, s, action, word):
        return sample(mdp.P[h, s, action], word)

    first = sample(mdp.rho, bits[-1, 0])
    return _episode(row, mdp.n_actions, first, lambda h, s: world.noisy[h, s], move, kept, key, bits[:-1])


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


def _of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _channel(n_actions: int) -> Huber:
    return Huber(_of((), jnp.float32), _of((n_actions,), jnp.float32))


@lru_cache
def _check_counts(what: str, function: Callable[[Counts], Any], shape: tuple[int, ...]) -> None:
    counts = Counts(
        _of(shape, jnp.int32), _of(shape, jnp.bool_), _of(shape, jnp.float32), _of((), jnp.int32), _channel(shape[-1])
    )
    found = _traced(what, function, counts)
    kinds = (jnp.floating,) if what.startswith("law") else (jnp.number, jnp.bool_)
    _require_array(what, found, shape, kinds, "numbers")


@lru_cache
def _check_functions(name: str, row: Functions, shape: tuple[int, ...]) -> None:
    horizon, n_states, n_actions = shape

    def what(part):
        return f"{part} of the learner {name}"

    state = _traced(what("init"), lambda given: row.init(Problem(*shape, given)), _channel(n_actions))
    number, key = _of((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
    for part in ("play", "ask"):
        if (function := getattr(row, part)) is not None:
            kind = (jnp.integer, "an integer") if part == "play" else (jnp.bool_, "a bool")
            found = _traced(what(part), function, state, number, number, key)
            _require_array(what(part), found, (), kind[:1], kind[1])
    steps = (horizon,)
    episode = Episode(*(_of(steps, kind) for kind in (jnp.int32, jnp.int32, jnp.int32, jnp.float32, jnp.bool_)))
    after = _traced(what("update"), row.update, state, episode, key)
    same = jax.tree.structure(after) == jax.tree.structure(state) and _shown(after) == _shown(state)
    if not same:
        raise BadInput(f"{what('update')} must return a state like that of init, {_shown(state)}, got {_shown(after)}")
    decided = _traced(what("decide"), row.decide, state)
    _require_array(what("decide"), decided, (horizon, n_states), (jnp.integer,), "integers")


def _traced(what: str, function: Callable[..., Any], *given: Any) -> Any:
    """Shapes and types of what a function returns; raises `BadInput` unless it is a pure function that JAX can trace:
    no tracer is left behind, and a second trace is the first one again."""
    try:
        with jax.checking_leaks():
            programs = [jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*given) for _ in range(2)]
    except BadInput:
        raise
    except Exception as error:
        why = str(error).strip().split("\n")[0] or "no message"
        raise BadInput(
            f"{what} must be a pure function in JAX of its arguments, and tracing it raised {type(error).__name__}: "
            f"{why}"
        ) from error
    (first, found), (second, _) = programs
    same = _text(first) == _text(second) and len(first.consts) == len(second.consts)
    if not (same and all(map(_equal, first.consts, second.consts))):
        raise BadInput(f"{what} must be a pure function of its arguments, and traced twice it is two programs")
    return found


def _text(program: Any) -> str:
    """A program's code without the addresses of Python's objects."""
    return re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr))


def _equal(one: Any, other: Any) -> bool:
    if jnp.issubdtype(jnp.result_type(one), jax.dtypes.prng_key):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)


def _shown(tree: Any) -> str:
    """Shapes and types of a tree in words."""
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)) or "nothing"


def _require_array(what: str, found: Any, shape: tuple[int, ...], kinds: tuple[Any, ...], words: str) -> None:
    """Raise `BadInput` unless `found` is one array of this shape and of one of these kinds."""
    one = jax.tree.structure(found) == jax.tree.structure(0)
    ok = one and found.shape == shape and any(jnp.issubdtype(found.dtype, kind) for kind in kinds)
    axes = f" of shape {shape}" if shape else ""
    require(ok, f"what {what} returns", _shown(found), f"{words}{axes}")


document_fields(__name__)

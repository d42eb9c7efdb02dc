"""Runs a count-based learner in thousands of independent replicates, as one compiled program a learner.

The program advances every replicate by points × stride episodes and reads the success of the learner's policy every
`stride` episodes; `stride` is traced, so doubling the number of episodes compiles nothing. Replicates go through in
blocks small enough to stay in the processor's cache.

The number of levels H is traced too: a program has its levels padded to a multiple of `PAD`, so a curve over H compiles
a few programs, not one a point. Padded levels come after the real ones, and no level depends on a later one; success
reads the first H alone. Functions of the user's own may read the shape, or one level at another: they get H levels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Key

from nail.checks import require
from nail.counting.drivers import Setting, Tally, no_data, repeat, world
from nail.counting.learners import Learner
from nail.counting.own import Kept, asked
from nail.policies.softmax_table import deterministic, plurality

BLOCK = 128
"""largest number of replicates that are advanced together"""
PAD = 4
"""levels of a program are a multiple of this"""


class State(NamedTuple):
    """Replicates between two advances; the leading axis of every leaf is the replicate."""

    keys: Key[Array, " R"]
    levels: Int[Array, " R"]
    """H, the levels that count; the axis of levels is padded"""
    secret: Int[Array, "R levels"]
    tally: Tally | Kept


def blocks(replicates: int) -> int:
    """Replicates advanced together: the largest divisor up to `BLOCK` (a remainder would compile twice), all of them if
    the number has no divisor of a useful size."""
    best = max(size for size in range(1, BLOCK + 1) if replicates % size == 0)
    return best if best >= min(16, replicates) else replicates


def shared(parts: list[State], device: Callable[[], Any]) -> list[State]:
    """The replicates in more parts, one on each free device that `device` gives, and in their order.

    Parts are halves; they stay whole where a half would go through in blocks of another size: rounding might differ.
    """
    (largest, size), *_ = sorted(enumerate(part.keys.shape[0] for part in parts), key=lambda part: (-part[1], part[0]))
    if size % 2 or blocks(size // 2) != blocks(size) or (free := device()) is None:
        return parts
    first, second = (jax.tree.map(lambda leaf, side=side: leaf[side], parts[largest]) for side in (
        slice(None, size // 2), slice(size // 2, None)
    ))  # fmt: skip
    return shared([*parts[:largest], first, jax.device_put(second, free), *parts[largest + 1 :]], device)


@partial(jax.jit, static_argnames="replicates")
def replicate_keys(replicates: int, seed: int | Int[Array, ""], first: int | Int[Array, ""] = 0) -> Key[Array, " R"]:
    """fold_in(key(seed), j) for j = first..first+R−1."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(first + jnp.arange(replicates))


def padded(horizon: int) -> int:
    """Levels of the program that runs H levels."""
    return -(-horizon // PAD) * PAD


@partial(jax.jit, static_argnames="horizon")
def secrets(keys: Key[Array, " R"], horizon: int, n_actions: int | Int[Array, ""]) -> Int[Array, "R H"]:
    """Right actions of each replicate, uniform on A^H, from its fold_in(·, 0)."""
    uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), (padded(horizon),)))(keys)
    return (uniform * n_actions).astype(jnp.int32)[:, :horizon]


def begin(
    horizon: int, n_actions: int, replicates: int, seed: int, kept: Kept | None = None, pad: bool = True
) -> State:
    """Replicates before their first episode, with a tally of nothing, or what a learner of its own state has `kept`;
    without `pad` of H levels exactly, for a channel of the user's own that knows no others, and for functions of
    counts. Raises `BadInput` for H < 1, A < 2 or replicates < 1."""
    require(horizon >= 1, "horizon", horizon, "at least 1")
    require(n_actions >= 2, "n_actions", n_actions, "at least 2")
    require(replicates >= 1, "replicates", replicates, "at least 1")
    keys = replicate_keys(replicates, seed)
    most = padded(horizon) if pad else horizon
    empty = no_data((most, n_actions), replicates) if kept is None else kept
    levels = jnp.full(replicates, horizon, jnp.int32)
    return State(keys, levels, secrets(keys, most, n_actions), empty)


@partial(jax.jit, static_argnames=("row", "points"))
def advance(
    row: Learner, state: State, setting: Setting, stride: Int[Array, ""] | int, points: int
) -> tuple[State, Any]:
    """`points`·`stride` more episodes; whether the policy is right at all H levels, after each `stride` of them, bool
    (R, points); and, of a learner with a state of its own, the answers so far (R, points)."""

    def one(replicate: State) -> tuple[State, Any]:
        here = world(row.told, setting, deterministic(replicate.secret, setting.told_kernel.shape[-1]))
        counts = jnp.arange(replicate.secret.shape[0]) < replicate.levels

        def success(tally):
            found = plurality(row.score(row.driver.read(tally, here), here))
            right = jnp.all((found == here.secret) | ~counts)
            return (right, asked(tally)) if row.counts_answers else right

        episode = partial(row.driver.episode, row, here)
        tally, seen = repeat(episode, success, replicate.tally, replicate.keys, stride, points)
        return replicate._replace(tally=tally), seen

    return lax.map(one, state, batch_size=blocks(state.keys.shape[0]))

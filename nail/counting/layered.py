"""Runs count-based learners on any finite MDP (Garnet, cliff, rare action, a hidden path as a tree).

Tables are (H, S, A) and an episode visits one state a layer; regret is exact, by dynamic programming in float64.
Episode i of replicate j uses fold_in(fold_in(key, j), i).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from nail.checks import require
from nail.counting.drivers import Play, Setting, Tally, World, complete, no_data, repeat, world
from nail.counting.learners import Learner, class_score, clean_estimate, clean_law, learner
from nail.counting.levels import blocks, replicate_keys
from nail.counting.own import Kept, asked, check_own
from nail.envs.instances import Instance, check_instance
from nail.envs.mdp import TabularMDP, check_laws, regret
from nail.methods import METHOD, expert_share
from nail.noise import sample, words
from nail.policies.softmax_table import add_labels, deterministic, plurality

ENTRIES = 2**24
"""entries of the policies' tables that are evaluated together"""
Read = Callable[[Learner, Setting, World, Any], Any]


def _episode(row: Learner, mdp: TabularMDP, world: World, tally: Tally, key: Key[Array, ""]) -> Tally:
    """One episode: (s_h, a_h, label) by layer, then all its labels and queries into the tally."""
    horizon, n_states = mdp.horizon, mdp.n_states
    law, greedy = row.law(tally, world), plurality(row.score(tally, world))
    share = expert_share(world.decay, tally.episodes, 1)
    bits = words(key, (horizon + 1, 1 + row.draws))

    def layer(state, at):
        h, word = at
        label = sample(world.noisy[h, state], word[1])
        play = Play(greedy[h, state], law[h, state], label, share, word[1 + row.draws // 2])
        action = row.driver.plays(play)
        return sample(mdp.P[h, state, action], word[0]), (state, action, label)

    first = sample(mdp.rho, bits[horizon, 0])
    _, (states, actions, labels) = lax.scan(layer, first, (jnp.arange(horizon), bits[:horizon]))
    visited = (states[:, None] == jnp.arange(n_states)[None, :]).astype(jnp.int32)
    everywhere = jnp.broadcast_to(labels[:, None], visited.shape)
    seen = tally.seen
    if row.query is not None:
        queried = row.query(law[jnp.arange(horizon), states], actions, bits[:horizon, -1])
        queried = jnp.broadcast_to(queried[:, None], visited.shape)
        seen = add_labels(seen.astype(jnp.int32), queried, visited) > 0
    return Tally(add_labels(tally.labels, everywhere, visited), seen, tally.episodes + 1)


@partial(jax.jit, static_argnames=("row", "read", "points"))
def _advance(row, read, mdp, expert, setting, candidates, replicates, stride, points):
    """Tallies after, and what `read` sees (R, points, ..)."""
    here = world(row.told, setting, expert, candidates)

    def one(replicate):
        key, tally = replicate
        episode = partial(row.driver.walk or _episode, row, mdp, here)
        return repeat(episode, partial(read, row, setting, here), tally, key, stride, points)

    return lax.map(one, replicates, batch_size=blocks(replicates[0].shape[0]))


def simulation(
    read: Read, instance: Instance, method: str, setting: Setting, replicates: int, seed: int,
    candidates: Float[np.ndarray, "N H S A"] | None = None, first: int = 0,
) -> Callable[[int, int], Any]:  # fmt: skip
    """A function (stride, points) → what `read` sees (R, points, ..) after each `stride` further episodes.

    It goes on where its last call ended, and with stride 0 looks there: at first, before any episode. `first` is the
    number of the first replicate. Arguments and errors otherwise as `learned_regret`.
    """
    row = learner(method)
    require(replicates >= 1, "replicates", replicates, "at least 1")
    check_instance(instance)
    shape = instance.mdp.r.shape
    if row.score is class_score:
        require(candidates is not None, "candidates", candidates, f"a table (N, H, S, A) for {method}")
        check_laws("candidates", np.asarray(candidates), (len(candidates), *shape))
    setting = complete(setting, shape[-1], instance.kernel, shape[:-1])
    mdp, expert, chosen = jax.tree.map(
        lambda table: jnp.asarray(table, jnp.float32), (instance.mdp, instance.expert, candidates)
    )
    check_own(METHOD[method], shape)
    keys = replicate_keys(replicates, seed, first)
    tally = no_data(shape, replicates) if row.start is None else row.start(shape, setting, replicates)

    def advance(stride, points):
        nonlocal tally
        require(stride >= 0 and points >= 1, "stride, points", (stride, points), "at least 0 and at least 1")
        tally, seen = _advance(row, read, mdp, expert, setting, chosen, (keys, tally), stride, points)
        return jax.tree.map(np.asarray, seen)

    return advance


def greedy(row: Learner, setting: Setting, world: World, tally: Tally | Kept) -> Int[Array, "H S"]:
    """What the learner's policy plays."""
    return plurality(row.score(tally, world))


def greedy_and_asked(row: Learner, setting: Setting, world: World, kept: Kept) -> tuple[Array, Array]:
    """What the policy of a learner with a state of its own plays (H, S), and the answers so far ()."""
    return greedy(row, setting, world, kept), asked(kept)


def deployed(row: Learner, setting: Setting, world: World, tally: Tally) -> Float[Array, "H S A"]:
    """The clean law behind the fitted one, which a learner of a stochastic expert deploys, the channel being known.

    Maximum likelihood for label learners, the noisy law behind the channel for those that read probabilities; uniform
    at a state without a label. Source: docs/theory.md §4.5, §4.8.
    """
    return clean_law(tally, world) if row.query is None else clean_estimate(row.law(tally, world), world.told)


def exact_regret(instance: Instance, actions: Int[np.ndarray, "R points H S"]) -> Float[np.ndarray, "R points"]:
    """J(π*) − J(π) of the policies that play `actions`, π* the clean expert, by dynamic programming in float64."""
    parts = np.array_split(actions, -(-actions.size * instance.mdp.n_actions // ENTRIES))
    tables = (np.asarray(deterministic(jnp.asarray(part), instance.mdp.n_actions), np.float64) for part in parts)
    return np.concatenate([np.asarray(regret(instance.mdp, table, instance.expert)) for table in tables])


def learned_regret(
    instance: Instance, method: str, setting: Setting, stride: int, points: int, replicates: int, seed: int,
    candidates: Float[np.ndarray, "N H S A"] | None = None,
) -> Float[np.ndarray, "R points"]:  # fmt: skip
    """`exact_regret` of each replicate's greedy policy after stride, 2·stride, .., points·stride episodes.

    `setting.kernel` None means the instance's own kernel, `setting.told_kernel` None the uniform one; a kernel may
    be (A,) or (H, S, A). `candidates` is the finite class Π (clean laws) of nail-class. Raises `BadInput` for an
    unknown method, an instance whose laws are no laws, a bad setting, stride < 0, points or replicates < 1, or
    nail-class without candidates.
    """
    run = simulation(greedy, instance, method, setting, replicates, seed, candidates)
    return exact_regret(instance, run(stride, points))

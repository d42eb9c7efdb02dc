"""Runs the rows of nail/counting/learners.py on any finite MDP (Garnet, cliff, rare action, a hidden path as a tree).

Tables are (H, S, A) and an episode visits one state a layer; regret is exact, by dynamic programming in float64.
Episode i of replicate j uses fold_in(fold_in(key, j), i).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nail.checks import require, require_known
from nail.counting.learners import LEARNER, Learner, Play, Setting, Tally, World
from nail.counting.levels import blocks, replicate_keys
from nail.envs.instances import Instance
from nail.envs.mdp import TabularMDP, regret
from nail.noise import Huber, sample
from nail.policies.softmax_table import add_labels, deterministic, plurality


def _world(row: Learner, mdp: TabularMDP, expert: Array, setting: Setting, candidates: Array | None) -> World:
    secret = plurality(expert)
    noisy = Huber(setting.eta, setting.kernel).probs(expert)
    return World(secret, noisy, row.told(setting), setting.beta, candidates)


def _episode(row: Learner, mdp: TabularMDP, world: World, tally: Tally, share: Array, key: PRNGKeyArray) -> Tally:
    """One episode: (s_h, a_h, label) by layer, then all its labels and queries into the tally."""
    horizon, n_states = mdp.horizon, mdp.n_states
    law, greedy = row.law(tally, world), plurality(row.score(tally, world))
    uniform = jax.random.uniform(key, (horizon + 1, 1 + row.draws))

    def layer(state, at):
        h, u = at
        label = sample(world.noisy[h, state], u[1])
        play = Play(greedy[h, state], law[h, state], label, share, u[1 + row.draws // 2])
        action = row.driver.plays(play)
        return sample(mdp.P[h, state, action], u[0]), (state, action, label)

    first = sample(mdp.rho, uniform[horizon, 0])
    _, (states, actions, labels) = lax.scan(layer, first, (jnp.arange(horizon), uniform[:horizon]))
    visited = (states[:, None] == jnp.arange(n_states)[None, :]).astype(jnp.int32)
    everywhere = jnp.broadcast_to(labels[:, None], visited.shape)
    seen = tally.seen
    if row.query is not None:
        queried = row.query(law[jnp.arange(horizon), states], actions, uniform[:horizon, -1])
        queried = jnp.broadcast_to(queried[:, None], visited.shape)
        seen = add_labels(seen.astype(jnp.int32), queried, visited) > 0
    return Tally(add_labels(tally.labels, everywhere, visited), seen, tally.episodes + 1)


@partial(jax.jit, static_argnames=("row", "points"))
def _run(row, mdp, expert, setting, candidates, keys, stride, points):
    """Greedy actions (R, points, H, S) after each `stride` episodes."""
    world = _world(row, mdp, expert, setting, candidates)

    def one(key):
        def episode(_, tally):
            number = tally.episodes + 1
            share = jnp.power(jnp.float32(setting.decay), number.astype(jnp.float32))
            return _episode(row, mdp, world, tally, share, jax.random.fold_in(key, number))

        def point(tally, _):
            tally = lax.fori_loop(0, stride, episode, tally)
            return tally, plurality(row.score(tally, world))

        empty = Tally(jnp.zeros(expert.shape, jnp.int32), jnp.zeros(expert.shape, bool), jnp.int32(0))
        return lax.scan(point, empty, length=points)[1]

    return lax.map(one, keys, batch_size=blocks(keys.shape[0]))


def learned_policies(
    instance: Instance, method: str, setting: Setting, stride: int, points: int, replicates: int, seed: int,
    candidates: Float[np.ndarray, "N H S A"] | None = None,
) -> Int[np.ndarray, "R points H S"]:  # fmt: skip
    """Actions of each replicate's greedy policy after stride, 2·stride, .., points·stride episodes.

    `setting.kernel` None means the instance's own kernel, `setting.told_kernel` None the uniform one; a kernel may
    be (A,) or (H, S, A). `candidates` is the finite class Π (clean laws) of nail-class. Raises `BadInput` for an
    unknown method, η outside [0, 1), stride, points or replicates < 1, or nail-class without candidates.
    """
    require_known("method", method, LEARNER)
    require(0.0 <= setting.eta < 1.0, "eta", setting.eta, "in [0, 1)")
    require(stride >= 1 and points >= 1 and replicates >= 1, "stride, points, replicates",
            (stride, points, replicates), "at least 1")  # fmt: skip
    require(
        method != "nail-class" or candidates is not None,
        "candidates",
        candidates,
        "a table (N, H, S, A) for nail-class",
    )
    n_actions = instance.mdp.n_actions
    kernel = instance.kernel if setting.kernel is None else setting.kernel
    told = np.full(n_actions, 1.0 / n_actions) if setting.told_kernel is None else setting.told_kernel
    setting = setting._replace(kernel=jnp.asarray(kernel, jnp.float32), told_kernel=jnp.asarray(told, jnp.float32))
    mdp = TabularMDP(*(jnp.asarray(leaf, jnp.float32) for leaf in instance.mdp))
    keys = replicate_keys(replicates, seed)
    chosen = None if candidates is None else jnp.asarray(candidates, jnp.float32)
    expert = jnp.asarray(instance.expert, jnp.float32)
    return np.asarray(_run(LEARNER[method], mdp, expert, setting, chosen, keys, stride, points))


def learned_regret(
    instance: Instance, method: str, setting: Setting, stride: int, points: int, replicates: int, seed: int,
    candidates: Float[np.ndarray, "N H S A"] | None = None,
) -> Float[np.ndarray, "R points"]:  # fmt: skip
    """Exact regret J(π*) − J(π̂) of those policies, π* the clean expert; arguments and errors as `learned_policies`."""
    actions = learned_policies(instance, method, setting, stride, points, replicates, seed, candidates)
    tables = np.asarray(deterministic(jnp.asarray(actions), instance.mdp.n_actions), np.float64)
    return np.asarray(regret(instance.mdp, tables, instance.expert))

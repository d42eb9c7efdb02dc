"""Stochastic policies learned on any finite MDP: the fitted noisy law with the known channel taken out of it.

The learner loop is the one of nail/counting/layered.py; what is read off it is the law, not its plurality.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nail.checks import require, require_known
from nail.counting.layered import _episode, _world
from nail.counting.learners import LEARNER, Setting, Tally, class_score
from nail.counting.levels import blocks, replicate_keys
from nail.envs.instances import Instance
from nail.envs.mdp import TabularMDP
from nail.noise import Huber


def clean_estimate(noisy: Float[Array, "... A"], channel: Huber) -> Float[Array, "... A"]:
    """π̂ ∝ max(π̂_η − ην, 0): the clean law behind a fitted noisy one; exact where π̂_η = (1−η)π + ην."""
    left = jnp.maximum(noisy - channel.eta * channel.kernel, 0.0)
    return left / left.sum(-1, keepdims=True)


@partial(jax.jit, static_argnames=("row", "points"))
def _run(row, mdp, expert, setting, keys, stride, points):
    """Clean laws (R, points, H, S, A) after each `stride` episodes."""
    world = _world(row, mdp, expert, setting, None)

    def one(key):
        def episode(_, tally):
            number = tally.episodes + 1
            share = jnp.power(jnp.float32(setting.decay), number.astype(jnp.float32))
            return _episode(row, mdp, world, tally, share, jax.random.fold_in(key, number))

        def point(tally, _):
            tally = lax.fori_loop(0, stride, episode, tally)
            return tally, clean_estimate(row.law(tally, world), Huber(setting.eta, setting.kernel))

        empty = Tally(jnp.zeros(expert.shape, jnp.int32), jnp.zeros(expert.shape, bool), jnp.int32(0))
        return lax.scan(point, empty, length=points)[1]

    return lax.map(one, keys, batch_size=blocks(keys.shape[0]))


def learned_laws(
    instance: Instance, method: str, eta: float, stride: int, points: int, replicates: int, seed: int
) -> Float[np.ndarray, "R points H S A"]:
    """Each replicate's clean law π̂_h(a|s) after stride, 2·stride, .., points·stride episodes, η and ν known; float64.

    The law is uniform at a state without a label. Raises `BadInput` for an unknown method (or the finite-class one,
    which has no law of its own), η outside [0, 1), stride, points or replicates < 1. Source: docs/theory.md §4.5.
    """
    require_known("method", method, [name for name, row in LEARNER.items() if row.score is not class_score])
    require(0.0 <= eta < 1.0, "eta", eta, "in [0, 1)")
    require(stride >= 1 and points >= 1 and replicates >= 1, "stride, points, replicates",
            (stride, points, replicates), "at least 1")  # fmt: skip
    kernel = jnp.asarray(instance.kernel, jnp.float32)
    setting = Setting(eta, kernel, told_kernel=kernel)
    mdp = TabularMDP(*(jnp.asarray(leaf, jnp.float32) for leaf in instance.mdp))
    expert = jnp.asarray(instance.expert, jnp.float32)
    row = LEARNER[method]._replace(name="", label="")
    laws = np.asarray(_run(row, mdp, expert, setting, replicate_keys(replicates, seed), stride, points), np.float64)
    return laws / laws.sum(-1, keepdims=True)

"""Stochastic policies learned on any finite MDP: the fitted noisy law with the known channel taken out of it.

The learner loop is the one of nail/counting/layered.py; what is read off it is the law, not its plurality.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nail.counting.drivers import Setting, Tally, World, channel
from nail.counting.layered import simulation
from nail.counting.learners import Learner, learner
from nail.envs.instances import Instance
from nail.noise import Huber


def clean_estimate(noisy: Float[Array, "... A"], channel: Huber) -> Float[Array, "... A"]:
    """π̂ ∝ max(π̂_η − ην, 0): the clean law behind a fitted noisy one; exact where π̂_η = (1−η)π + ην."""
    left = jnp.maximum(noisy - channel.eta * channel.kernel, 0.0)
    return left / left.sum(-1, keepdims=True)


def _clean(row: Learner, setting: Setting, world: World, tally: Tally) -> Float[Array, "H S A"]:
    return clean_estimate(row.law(tally, world), channel(setting))


def learned_laws(
    instance: Instance, method: str, eta: float, stride: int, points: int, replicates: int, seed: int
) -> Float[np.ndarray, "R points H S A"]:
    """Each replicate's clean law π̂_h(a|s) after stride, 2·stride, .., points·stride episodes, η and ν known; float64.

    The law is uniform at a state without a label. Raises `BadInput` as `learned_regret` does, and for the
    finite-class method, which has no law of its own. Source: docs/theory.md §4.5.
    """
    learner(method, by_level=True)
    setting = Setting(eta, told_kernel=instance.kernel)
    laws = simulation(_clean, instance, method, setting, replicates, seed)(stride, points).astype(np.float64)
    return laws / laws.sum(-1, keepdims=True)

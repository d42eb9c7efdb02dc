"""Stochastic policies learned on any finite MDP: the fitted law with the known channel taken out of it.

The learner loop is the one of nail/counting/layered.py; what is read off it is the law, not its plurality.
"""

import numpy as np
from jaxtyping import Array, Float

from nail.counting.drivers import Setting, Tally, World
from nail.counting.layered import simulation
from nail.counting.learners import Learner, clean_estimate, clean_law, learner
from nail.envs.instances import Instance


def _clean(row: Learner, setting: Setting, world: World, tally: Tally) -> Float[Array, "H S A"]:
    return clean_law(tally, world) if row.query is None else clean_estimate(row.law(tally, world), world.told)


def learned_laws(
    instance: Instance, method: str, eta: float, stride: int, points: int, replicates: int, seed: int
) -> Float[np.ndarray, "R points H S A"]:
    """Each replicate's clean law π̂_h(a|s) after stride, 2·stride, .., points·stride episodes, η and ν known; float64
    (rounded as float32).

    Maximum likelihood for label learners, the noisy law behind the channel for those that read probabilities; uniform
    at a state without a label. Raises `BadInput` as `learned_regret` does, and for the finite-class method, which has
    no law of its own. Source: docs/theory.md §4.5.
    """
    learner(method, by_level=True)
    setting = Setting(eta, told_kernel=instance.kernel)
    laws = simulation(_clean, instance, method, setting, replicates, seed)(stride, points).astype(np.float64)
    return laws / laws.sum(-1, keepdims=True)

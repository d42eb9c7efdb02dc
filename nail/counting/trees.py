"""An expert that answers everywhere on an A-ary tree of depth H, and what is exact there by enumeration of its A^H
trajectories, in float64 (docs/theory.md §4.8). The state at step h is the number of the prefix a_<h in base A."""

import numpy as np
from jaxtyping import Float

from nail.checks import require
from nail.envs.instances import Instance, hidden_path

Law = Float[np.ndarray, "... H S A"]
EXPERTS = ("deterministic", "stochastic")


def tree(seed: int, horizon: int, n_actions: int, expert: str) -> Instance:
    """The tree with the clean law of each node drawn from `seed`: all on one action, uniform (`deterministic`), or
    Dirichlet(1, .., 1) (`stochastic`); ν uniform, no reward but that of `nail.envs.instances.hidden_path`, whose
    dynamics these are.

    Raises `BadInput` as that does, and for an unknown `expert`. Source: docs/theory.md §4.8.
    """
    require(expert in EXPERTS, "expert", expert, " or ".join(EXPERTS))
    empty = hidden_path(horizon, n_actions)
    rng, shape = np.random.default_rng(seed), empty.mdp.r.shape
    if expert == "deterministic":
        law = np.eye(n_actions)[rng.integers(n_actions, size=shape[:-1])]
    else:
        law = rng.dirichlet(np.ones(n_actions), shape[:-1])
    return empty._replace(name="tree", expert=law)


def trajectories(law: Law) -> Float[np.ndarray, "... paths"]:
    """Probability of each of the A^H trajectories where π_h(a|s) = `law`[h, s, a]."""
    *batch, horizon, _, n_actions = law.shape
    mass = np.ones((*batch, 1))
    for h in range(horizon):
        mass = (mass[..., None] * law[..., h, : n_actions**h, :]).reshape(*batch, -1)
    return mass


def total_variation(law: Law, expert: Law) -> Float[np.ndarray, "..."] | float:
    """½ Σ over trajectories |P_π̂ − P_π*|, in [0, 1], π̂ = `law`, π* = `expert`. Source: docs/theory.md §4.8."""
    return 0.5 * np.abs(trajectories(law) - trajectories(expert)).sum(-1)


def unvisited_mass(labelled: Float[np.ndarray, "... H S"], expert: Law) -> Float[np.ndarray, "..."] | float:
    """π*-mass of trajectories that pass a node without a label (`labelled` 0, else 1). Source: docs/theory.md §4.8."""
    return 1.0 - trajectories(expert * labelled[..., None]).sum(-1)


def greedy_limit(expert: Law) -> tuple[Float[np.ndarray, "H S"], Law]:
    """What a greedy driver labels in the limit, the nodes of the path of most probable actions (1, else 0), and the law
    that it deploys then: π* there and, with no label elsewhere, uniform. Each action of the path is the most probable
    one at its node; the path need not be the most probable trajectory. Source: docs/theory.md §4.8."""
    horizon, n_states, n_actions = expert.shape
    labelled, node = np.zeros((horizon, n_states)), 0
    for h in range(horizon):
        labelled[h, node] = 1.0
        node = node * n_actions + int(expert[h, node].argmax())
    return labelled, np.where(labelled[..., None] > 0, expert, 1.0 / n_actions)

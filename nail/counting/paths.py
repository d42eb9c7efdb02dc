"""LogLossBC on the hidden path: maximum likelihood over A^H paths, a best-path search on the trie of the data.

Up to a constant the log-likelihood of a path a is (docs/theory.md §4.1)

    Σ_h N(a_{1:h})·log(qA) + (N(a_{1:h−1}) − N(a_{1:h}))·log η,

N(v) the trajectories through prefix v: a trajectory gains log(qA) for each step on the path and log η for leaving it.
The search goes down the trie level by level for all replicates at once, stops at prefixes of a single trajectory
(whose best continuation is that trajectory itself), and comes back up with the best score of every prefix.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from nail.checks import require
from nail.counting.drivers import Setting, channel, complete
from nail.counting.levels import replicate_keys, secrets
from nail.noise import sample
from nail.policies.softmax_table import deterministic
from nail.theory.exact import right_probability


@partial(jax.jit, static_argnames=("horizon", "count"))
def _draw(horizon, setting, keys, secret, first, count):
    n_actions = setting.kernel.shape[0]

    def replicate(at):
        key, right = at
        noisy = channel(setting).probs(deterministic(right, n_actions))

        def episode(number):
            u = jax.random.uniform(jax.random.fold_in(key, number), (horizon,))
            on_path, off_path = sample(noisy, u), (u * n_actions).astype(jnp.int32)
            left = jnp.append(on_path != right, True)
            return jnp.where(jnp.arange(horizon) <= jnp.argmax(left), on_path, off_path).astype(jnp.uint8)

        return jax.vmap(episode)(first + jnp.arange(count))

    return jax.lax.map(replicate, (keys, secret))


def expert_paths(
    horizon: int, n_actions: int, setting: Setting, replicates: int, seed: int, count: int, first: int = 1
) -> tuple[Integer[np.ndarray, "R n H"], Integer[np.ndarray, "R H"]]:
    """Episodes first..first+count−1 of the noisy expert on the hidden path, and the secrets (the same as those of
    nail/counting/levels.py for the same seed).

    Uniform noise only: off path the noisy expert must stay uniform. Raises `BadInput` for another kernel, A > 256.
    """
    require(n_actions <= 256, "n_actions", n_actions, "at most 256")
    setting = complete(setting, n_actions)
    require(bool(jnp.allclose(setting.kernel, 1.0 / n_actions)), "kernel", "another one", "uniform on the hidden path")
    keys = replicate_keys(replicates, seed)
    right = secrets(keys, horizon, n_actions)
    return np.asarray(_draw(horizon, setting, keys, right, first, count)), np.asarray(right)


def _descend(actions: Integer[np.ndarray, "R n H"], n_actions: int) -> list[tuple[np.ndarray, ...]]:
    """Per level: the counts of every branching prefix's children (nodes, A), the numbers that the children of two or
    more trajectories have at the next level (else −1), and one trajectory through each child."""
    replicates, n, horizon = actions.shape
    flat = actions.reshape(-1, horizon)
    alive = np.arange(len(flat))
    node = np.repeat(np.arange(replicates), n)
    levels, nodes = [], replicates
    for h in range(horizon):
        child = node * n_actions + flat[alive, h]
        count = np.bincount(child, minlength=nodes * n_actions)
        through = np.full(nodes * n_actions, -1)
        through[child] = alive
        active = count >= 2
        number = np.where(active, np.cumsum(active) - 1, -1)
        levels.append(tuple(x.reshape(nodes, n_actions) for x in (count, number, through)))
        keep = active[child]
        alive, node, nodes = alive[keep], number[child[keep]], int(active.sum())
    return levels


def best_path(actions: Integer[np.ndarray, "R n H"], n_actions: int, eta: float) -> Integer[np.ndarray, "R H"]:
    """The maximum-likelihood path of each replicate's n trajectories; ties to the lowest action from the root down.

    Raises `BadInput` for A < 2 or η outside [0, 1). Source: docs/theory.md §4.1.
    """
    horizon = actions.shape[2]
    stay = np.log(right_probability(n_actions, eta) * n_actions)
    leave = np.log(max(eta, 1e-100))
    levels = _descend(actions, n_actions)
    below, choices = np.zeros(1), []
    for h in reversed(range(horizon)):
        count, number, _ = levels[h]
        beyond = np.where(count == 1, (horizon - h - 1) * stay, 0.0)
        if len(below):
            beyond = np.where(number >= 0, below[np.maximum(number, 0)], beyond) if h < horizon - 1 else beyond
        score = count * stay + (count.sum(1, keepdims=True) - count) * leave + beyond
        choices.append(np.argmax(np.round(score, 7), axis=1))
        below = score.max(1)
    return _follow(actions, levels, choices[::-1])


def _follow(actions, levels, choices):
    """Paths from the root: the best child while it is a branching prefix, then its one trajectory, else action 0."""
    replicates, _, horizon = actions.shape
    flat = actions.reshape(-1, horizon)
    path = np.zeros((replicates, horizon), int)
    node, single = np.arange(replicates), np.full(replicates, -1)
    for h in range(horizon):
        count, number, through = levels[h]
        inside = np.flatnonzero(node >= 0)
        step = choices[h][node[inside]]
        path[inside, h] = step
        alone = np.flatnonzero(single >= 0)
        path[alone, h] = flat[single[alone], h]
        at = node[inside], step
        single[inside] = np.where(count[at] == 1, through[at], -1)
        node[inside] = number[at]
    return path


def success(
    actions: Integer[np.ndarray, "R n H"], right: Integer[np.ndarray, "R H"], n_actions: int, eta: float
) -> Float[np.ndarray, " R"]:
    """1 where the maximum-likelihood path is the secret, else 0."""
    return (best_path(actions, n_actions, eta) == right).all(1).astype(float)

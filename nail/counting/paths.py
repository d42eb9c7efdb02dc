"""LogLossBC on the hidden path: maximum likelihood over A^H paths, a best-path search on the trie of the data.

Up to a constant the log-likelihood of a path a is (docs/theory.md §4.1)

    Σ_h N(a_{1:h})·log(qA) + (N(a_{1:h−1}) − N(a_{1:h}))·log η,

N(v) the trajectories through prefix v: a trajectory gains log(qA) for each step on the path and log η for leaving it.
Scores are in units of log(qA) − log η, what one step on the path is worth, so that ties do not depend on η. The search
goes down the trie level by level for all replicates at once, stops at prefixes of a single trajectory
(whose best continuation is that trajectory itself), and comes back up with the best score of every prefix.
"""

import numpy as np
from jaxtyping import Bool, Integer

from nail.checks import require
from nail.counting.drivers import Setting, complete, is_number
from nail.counting.kernels import Wrong
from nail.counting.levels import replicate_keys, secrets
from nail.theory.bursts import burst_survival
from nail.theory.exact import check_setting, right_probability


def as_uniform(setting: Setting, n_actions: int) -> Setting:
    """Noise that never hits the right action and is uniform over the others, as the uniform noise that it is on the
    hidden path: of rate ηA/(A−1) (off path the expert is uniform either way, docs/theory.md §4.7).

    Other settings are left as they are. Raises `BadInput` for another law over the wrong actions, for bursts and rates
    that differ (it holds for labels each for itself, with one η), and where that rate is 1 or more: the label of the
    right action is then not the likeliest.
    """
    if not isinstance(setting.kernel, Wrong):
        return setting
    alone = setting.burst is None and is_number(complete(setting, n_actions).eta)
    said = "Huber's with one η, where whole paths are learned (hidden-path) from noise that is never right"
    require(alone, "noise", "bursts or rates that differ", said)
    even = np.allclose(setting.kernel.law, 1.0 / (n_actions - 1))
    require(even, "kernel", "another one", "uniform or never-right where whole paths are learned (hidden-path)")
    eta = complete(setting, n_actions).eta * n_actions / (n_actions - 1)
    require(eta < 1.0, "eta", eta * (n_actions - 1) / n_actions,
            f"below (A−1)/A = {(n_actions - 1) / n_actions:g} where whole paths are learned from noise that is never "
            "right")  # fmt: skip
    return setting._replace(eta=eta, kernel=None)


def expert_paths(
    horizon: int, n_actions: int, setting: Setting, replicates: int, seed: int, count: int, first: int = 1
) -> tuple[Integer[np.ndarray, "R n H"], Integer[np.ndarray, "R H"]]:
    """Episodes first..first+count−1 of the noisy expert on the hidden path, and the secrets (the same as those of
    nail/counting/levels.py for the same seed).

    An episode follows the secret for a geometric number of steps (each is right with probability q), then takes one of
    the wrong actions, then any: uniform noise only, under which the noisy expert stays uniform off path. In bursts the
    number of right steps has the law of `burst_survival`. Random numbers are drawn for a call's episodes together, from
    a generator of (seed, first): a data set that grows by the same calls keeps its episodes. Raises `BadInput` for
    another kernel, rates that differ, a channel of one's own, A > 256.
    """
    require(n_actions <= 256, "n_actions", n_actions, "at most 256")
    setting = complete(setting, n_actions)
    one = setting.noise is None and is_number(setting.eta)
    require(one, "noise", "another one", "Huber's with one η, or bursts, for LogLossBC on the hidden path")
    uniform = bool(np.allclose(np.asarray(setting.kernel), 1.0 / n_actions))
    require(uniform, "kernel", "another one", "uniform on the hidden path")
    right = np.asarray(secrets(replicate_keys(replicates, seed), horizon, n_actions))
    rng = np.random.default_rng([seed, first])
    actions = rng.integers(n_actions, size=(replicates, count, horizon), dtype=np.uint8)
    q = right_probability(n_actions, float(setting.eta))
    steps = np.full((replicates, count), horizon, np.uint8 if horizon < 256 else np.int64)
    if setting.burst is not None:
        alive = burst_survival(horizon, n_actions, float(setting.eta), float(setting.burst))
        steps[:] = np.searchsorted(1.0 - alive, rng.random(steps.shape), side="right")
    elif q < 1.0:
        steps[:] = np.minimum(rng.geometric(1.0 - q, steps.shape) - 1, horizon)
    secret = right.astype(np.uint8)[:, None, :]
    np.copyto(actions, secret, where=np.arange(horizon, dtype=steps.dtype) < steps[..., None])
    left = np.nonzero(steps < horizon)
    at = (*left, steps[left])
    shift = rng.integers(1, n_actions, size=len(left[0]))
    actions[at] = (right[left[0], at[2]] + shift) % n_actions
    return actions, right


def _along(actions, path, stay, leave):
    """Score of one path (R, H) of each replicate."""
    alive, at = np.arange(actions.shape[0] * actions.shape[1]), path.astype(np.uint8)
    flat, n = actions.reshape(-1, actions.shape[2]), actions.shape[1]
    total, before = np.zeros(len(path)), np.full(len(path), n)
    for h in range(actions.shape[2]):
        alive = alive[flat[alive, h] == at[alive // n, h]]
        count = np.bincount(alive // n, minlength=len(path))
        total += count * stay + (before - count) * leave
        before = count
    return total


def _descend(actions, n_actions, stay, leave, least):
    """Per level: the counts of every branching prefix's children (nodes, A), the numbers that the children to be
    searched have at the next level (else −1), one trajectory through each child, and what the step adds to the score.

    Children of two or more trajectories are searched if their score could reach `least` (R,) with all of them on one
    path; otherwise the step is worth −∞.
    """
    replicates, n, horizon = actions.shape
    flat = actions.reshape(-1, horizon)
    alive = np.arange(len(flat))
    node, score, needed = np.repeat(np.arange(replicates), n), np.zeros(replicates), least
    levels = []
    for h in range(horizon):
        child = node * n_actions + flat[alive, h]
        count = np.bincount(child, minlength=len(score) * n_actions)
        through = np.full(len(count), -1)
        through[child] = alive
        by_node = count.reshape(-1, n_actions)
        gain = by_node * stay + (by_node.sum(1, keepdims=True) - by_node) * leave
        reached, needed = (score[:, None] + gain).ravel(), np.repeat(needed, n_actions)
        active, rest = count >= 2, horizon - h - 1
        hopeless = active & (reached + count * rest * stay < needed - 1e-6)
        gain[hopeless.reshape(gain.shape)] = -np.inf
        active &= ~hopeless
        number = np.where(active, np.cumsum(active) - 1, -1)
        levels.append((by_node, *(x.reshape(by_node.shape) for x in (number, through)), gain))
        keep = active[child]
        alive, node, score, needed = alive[keep], number[child[keep]], reached[active], needed[active]
    return levels


def _worth(n_actions: int, eta: float) -> tuple[float, float]:
    """log(qA) and log η over their difference: qA = 1 + (1−η)(A−1)."""
    check_setting(1, n_actions, eta)
    stay, leave = np.log1p((1.0 - eta) * (n_actions - 1)), np.log(max(eta, 1e-100))
    return stay / (stay - leave), leave / (stay - leave)


def best_path(
    actions: Integer[np.ndarray, "R n H"], n_actions: int, eta: float, guess: Integer[np.ndarray, "R H"] | None = None
) -> Integer[np.ndarray, "R H"]:
    """The maximum-likelihood path of each replicate's n trajectories; ties to the lowest action from the root down.

    Branch and bound: prefixes that cannot reach the score of `guess` are not searched, which changes the cost alone.
    Raises `BadInput` for A < 2 or η outside [0, 1). Source: docs/theory.md §4.1.
    """
    replicates, _, horizon = actions.shape
    stay, leave = _worth(n_actions, eta)
    least = np.full(replicates, -np.inf) if guess is None else _along(actions, guess, stay, leave)
    levels = _descend(actions, n_actions, stay, leave, least)
    below, choices = np.zeros(0), []
    for h in reversed(range(horizon)):
        count, number, _, gain = levels[h]
        score = gain + np.where(count == 1, (horizon - h - 1) * stay, 0.0)
        if len(below):
            score += np.where(number >= 0, below[np.maximum(number, 0)], 0.0)
        choices.append(np.argmax(np.round(score, 7), axis=1))
        below = score.max(1) if h else below
    return _follow(actions, levels, choices[::-1])


def _follow(actions, levels, choices):
    """Paths from the root: the best child while it is a branching prefix, then its one trajectory, else action 0."""
    replicates, _, horizon = actions.shape
    flat = actions.reshape(-1, horizon)
    path = np.zeros((replicates, horizon), int)
    node, single = np.arange(replicates), np.full(replicates, -1)
    for h in range(horizon):
        count, number, through, _ = levels[h]
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
) -> Bool[np.ndarray, " R"]:
    """Whether the maximum-likelihood path is the secret."""
    return (best_path(actions, n_actions, eta, right) == right).all(1)

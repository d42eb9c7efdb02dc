"""Offline learners of the hidden path on the same simulated data as the full posterior (docs/theory.md §4.7)."""

import math

import numpy as np
from jaxtyping import Integer

from nail.counting.paths import best_path
from nail.figures.experiment import Row
from nail.theory import posterior
from nail.theory.exact import bc_exact, genie_success

from ._theory import Point

LEARNERS = {
    "loglossbc": "LogLossBC",
    "prefix": "plurality at each prefix",
    "margins": "most probable action of each step",
    "steps": "plurality of each step, no prefix",
    "leaf": "most frequent trajectory",
}
"""offline learners that are measured against the Bayes rule"""
SEEN = ("success", "success_se", "above", "above_se", "off_mode", "exact", "genie")
"""columns of a measured success; `above`: success less the posterior's mass of its mode, on the same data"""


def successes(point: Point, horizon: int, n_actions: int, eta: float) -> list[Row]:
    """Each learner's success on the same data, and of the Bayes rule the mean posterior mass of the mode."""
    n, replicates = point["n"], point["replicates"]
    right = 1.0 - eta + eta / n_actions
    laws, rng = posterior.leaf_laws(horizon, n_actions, right), np.random.default_rng(point["seed"])
    secret = rng.integers(0, len(laws), replicates)
    every = posterior.paths(horizon, n_actions)
    actions = simulate(every[secret], n_actions, right, n, rng)
    place = n_actions ** np.arange(horizon)[::-1]
    reached = posterior.reached_leaves(actions @ place, len(laws))
    log_mass = posterior.log_posterior(reached, laws)
    mass = np.exp(log_mass)
    mode, modes = mass.max(1), log_mass > log_mass.max(1, keepdims=True) - 1e-8
    guesses = {
        "loglossbc": best_path(actions, n_actions, eta) @ place,
        "prefix": posterior.prefix_plurality(reached, n_actions),
        "margins": posterior.step_modes(mass, n_actions),
        "steps": posterior.step_modes(reached, n_actions),
        "leaf": reached.argmax(1),
    }
    few = posterior.data_sets(len(laws), n) <= posterior.MAX_DATA_SETS
    bayes = posterior.bayes_success(laws, n) if few else ""
    chain = bc_exact(horizon, n_actions, eta, n)
    genie = genie_success(horizon, n_actions, eta, n)

    def row(method, hits, off_mode, exact):
        above, root = hits - mode, math.sqrt(replicates)
        numbers = (hits.mean(), hits.std() / root, above.mean(), above.std() / root, off_mode, exact, genie)
        return {"method": method, **dict(zip(SEEN, numbers, strict=True))}

    rows = [row("bayes", mode, 0, bayes)]
    for method, guess in guesses.items():
        exact = {"loglossbc": bayes, "prefix": chain}.get(method, "")
        off = int((~modes[np.arange(replicates), guess]).sum())
        rows.append(row(method, (guess == secret).astype(float), off, exact))
    return rows


def simulate(
    secret: Integer[np.ndarray, "R H"], n_actions: int, right: float, n: int, rng: np.random.Generator
) -> Integer[np.ndarray, "R n H"]:
    """n episodes of the noisy expert in each replicate: right with probability `right` while on the secret path, else
    one of the wrong actions; uniform off it."""
    actions = np.empty((len(secret), n, secret.shape[1]), np.uint8)
    on_path = np.ones((len(secret), n), bool)
    for h, clean in enumerate(secret.T[:, :, None]):
        wrong = (clean + rng.integers(1, n_actions, on_path.shape, np.uint8)) % n_actions
        label = np.where(rng.random(on_path.shape, np.float32) < right, clean, wrong)
        actions[:, :, h] = np.where(on_path, label, rng.integers(0, n_actions, on_path.shape, np.uint8))
        on_path &= actions[:, :, h] == clean
    return actions

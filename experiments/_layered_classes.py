"""Layered finite classes with an expert in them, random and hard, for the bound of docs/theory.md §5.

Each has N candidates a layer and uniform ν:

- random: stochastic laws (Dirichlet) on a Garnet MDP;
- coin: two actions, N−1 copies of one wrong law, both laws near 1/2, so that Pinsker's inequality is tight;
- rare: an action that ends all reward, which the expert never takes and the wrong law takes now and then: here the
  mixture's errors add up over H to the regret.

In the last two the distance of the laws is chosen for each n (`two_laws.spacing`: n labels are worth c·log N nats) and
the exact law of what is measured is known. Copies may differ where nobody goes.
"""

import numpy as np

from nail.counting.mixture import Layered
from nail.envs.instances import garnet
from nail.envs.mdp import make_mdp
from nail.theory.two_laws import spacing, wrong_weight

from ._theory import Point

SPACING = {"coin": 8.0, "rare": 2.0}
"""c of `spacing`: where Σ TV² (coin) has nearly come to its end, and the regret (rare) comes nearest to its bound"""


def episodes(horizon: int, size: int, eta: float, factor: int) -> int:
    """n = factor·2·H·log|Π|/(1−η)², log|Π| = H·log N."""
    return factor * int(np.ceil(2 * horizon**2 * np.log(size) / (1 - eta) ** 2))


def problems(point: Point) -> list[Layered]:
    """The instances of a point. The random ones depend on the instance's number, on H and on N only, so that they are
    the same for every η and learner; the hard one is the same for all, in independent batches of replicates."""
    horizon, size, count = point["horizon"], point["size"], point["instances"]
    if point["family"] != "random":
        n = episodes(horizon, size, point["eta"], int(point["factors"]))
        return [hard(horizon, size, *laws(point["family"], size, point["eta"], n))] * count
    found = []
    for number in range(count):
        rng = np.random.default_rng([number, horizon, size])
        mdp = garnet(int(rng.integers(2**31)), horizon, point["n_states"], point["n_actions"], point["branching"]).mdp
        candidates = rng.dirichlet(np.ones(point["n_actions"]), (horizon, size, point["n_states"]))
        found.append(Layered(mdp, candidates, rng.integers(size, size=horizon)))
    return found


def laws(family: str, size: int, eta: float, n: int) -> tuple[float, float]:
    """Chance of action 1 under the expert, and under the wrong candidates."""
    return spacing(eta, family == "coin", size, n, SPACING[family])


def hard(horizon: int, size: int, right: float, wrong: float) -> Layered:
    """Reward 1 at the end of an episode without action 1; the expert is candidate 0 of N, at every state alike."""
    P = np.zeros((horizon, 2, 2, 2))
    P[:, 0, 0, 0] = P[:, 0, 1, 1] = P[:, 1, :, 1] = 1.0
    r = np.zeros((horizon, 2, 2))
    r[-1, 0, 0] = 1.0
    chance = np.where(np.arange(size) == 0, right, wrong)
    candidates = np.broadcast_to(np.stack([1 - chance, chance], axis=-1)[:, None], (horizon, size, 2, 2))
    return Layered(make_mdp(P, r, np.array([1.0, 0.0])), candidates, np.zeros(horizon, int))


def exact(point: Point, n: int) -> dict[str, float]:
    """Means of `tv2` and `regret` of a hard family: its layers are independent and get a label an episode each."""
    horizon, size, eta = (point[name] for name in ("horizon", "size", "eta"))
    right, wrong = laws(point["family"], size, eta, n)
    mean, square = wrong_weight(*((1 - eta) * p + eta / 2 for p in (right, wrong)), size, n)
    regret = (1 - right) ** horizon - (1 - right - (wrong - right) * mean) ** horizon
    return {"exact_tv2": float(horizon * (wrong - right) ** 2 * square.sum()), "exact_regret": float(regret.sum())}

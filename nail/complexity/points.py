"""Points of a grid of sample complexities: what is asked, whether it can be, and its n* as a row."""

import functools
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from nail.checks import require
from nail.complexity import kernels
from nail.counting import INSTANCES
from nail.counting.columns import ANSWERS, N_STAR, OF_THE_INSTANCE
from nail.envs.noises import check_burst
from nail.envs.tasks import TASKS
from nail.methods import METHOD
from nail.training.config import content_hash

Point = dict[str, Any]
HUBER, BURSTS = "huber", "bursts"
"""how labels are corrupted: each for itself, or in bursts"""
MAX_CELLS = 2**28
"""largest replicates × H × A on the poison chain and the hidden path"""
TOGETHER = 64
"""points of a series whose intervals are measured to an end, to hold at once (`points` of `nail.n_star`)"""


HIDDEN = ("definition", "point_seed")
"""of a point, what is no option"""


def check_noise(noise: str, burst: float | None, eta: float) -> None:
    """Raise `BadInput` for ρ = `burst` without bursts, for bursts without it, and for one that η does not allow."""
    require((burst is None) == (noise == HUBER), "burst", burst, "given with noise bursts, and left out with huber")
    if burst is not None:
        check_burst(eta, burst)


def channel_of(noise: str, burst: float | None, eta: float) -> Any:
    """The channel of labels that come in bursts, with the instance's own ν; None: Huber's."""
    from nail.noise import Bursts

    return None if noise == HUBER else Bursts(eta, burst)


def run_of(point: Point) -> str:
    """The id of a point."""
    return content_hash({"figure": N_STAR, **point})


def definitions(*found: str | None) -> dict[str, str]:
    """A column that tells apart what was defined outside the package, from the fingerprints of such definitions."""
    own = [fingerprint for fingerprint in found if fingerprint]
    return {"definition": content_hash(own)} if own else {}


@dataclass(frozen=True)
class Measure:
    """What measures a point: its n*, as one row. `given` holds instances that the user gave as objects, by name."""

    given: dict[str, Any] = field(default_factory=dict)

    def __call__(self, point: Point) -> list[dict[str, Any]]:
        from nail.complexity.intervals import write_wider
        from nail.counting.drivers import Setting
        from nail.counting.nstar import n_star

        method, kernel, levels = point["method"], point["kernel"], by_level(point)
        where = (point["H"], point["A"]) if levels else (None, None)
        setting = Setting(kernel=kernels.level_kernel(kernel, point["A"]) if levels else None)
        found = n_star(
            point["instance"] if levels else self.instance(point), method, *where, point["eta"], point["delta"],
            point["replicates"], point["point_seed"], point["max_episodes"], setting, point.get("instances", 1),
            criterion=point["criterion"], epsilon=point.get("epsilon"), points=TOGETHER,
            noise=channel_of(point.get("noise", HUBER), point.get("burst"), point["eta"]),
        )  # fmt: skip
        episodes, queries = (np.inf, np.inf) if found.censored else (found.value, found.queries)
        numbers = (
            episodes, *found.interval, queries, *found.query_interval, int(found.censored), found.resolution,
            found.mean_loss, found.oracle, found.budget, write_wider(found.wider),
        )  # fmt: skip
        about, hidden = self.about(point), {name: point[name] for name in HIDDEN if name in point}
        options = {name: value for name, value in point.items() if name not in hidden}
        words = {"noise_kernel": about.pop("noise_kernel")}
        answers = dict(zip(ANSWERS, numbers, strict=True))
        return [{**options, **words, **answers, **about, **hidden, "run": run_of(point)}]

    def instance(self, point: Point) -> Any:
        """The instance of a point, or the function seed → instance, with the kernel that was asked for."""
        found = self.given.get(point["instance"])
        if found is None:
            task = TASKS[point["instance"]]
            found = partial(task.instance, task.options(**{name: point[name] for name in options_of(task.name)}))
        if not callable(found):
            return kernels.with_kernel(found, point["kernel"])
        return lambda seed: kernels.with_kernel(found(seed), point["kernel"])

    def about(self, point: Point) -> dict[str, Any]:
        """The columns `OF_THE_INSTANCE`; over several instances the least q and the largest R."""
        kernel, eta = point["kernel"], point["eta"]
        if by_level(point):
            law, n_actions = kernels.level_kernel(kernel, point["A"]), point["A"]
            least = 0.0 if kernel in kernels.FOLLOWS else 1.0 / n_actions if law is None else float(min(law))
            q, policies = 1.0 - eta + eta * least, point["H"] * np.log(n_actions)
            return dict(zip(OF_THE_INSTANCE, (q, 1.0, policies, kernels.in_words(kernel)), strict=True))
        drawn = self.drawn(point)
        q, most = min(least_right(one, eta) for one in drawn), max(largest_return(one.mdp) for one in drawn)
        horizon, n_states, n_actions = drawn[0].mdp.r.shape
        words = kernels.in_words(kernel, drawn[0].kernel)
        return dict(zip(OF_THE_INSTANCE, (q, most, horizon * n_states * np.log(n_actions), words), strict=True))

    def drawn(self, point: Point) -> list[Any]:
        """The instances of a point."""
        from nail.counting.nstar import draw

        return draw(self.instance(point), point["point_seed"], point.get("instances", 1), point["replicates"])


def by_level(point: Point) -> bool:
    """Whether the instance of a point is one of the two that are simulated without tables."""
    return point["instance"] in INSTANCES


@functools.cache
def options_of(task: str) -> dict[str, Any]:
    """Options of a tabular task and their defaults."""
    return {name: field.default for name, field in TASKS[task].options.__dataclass_fields__.items()}


def least_right(instance: Any, eta: float) -> float:
    """q: the least chance of a right label at states that π* visits; NaN where π* is stochastic at one of them."""
    from nail.envs.mdp import occupancy

    visited = np.asarray(occupancy(instance.mdp, instance.expert)) > 0
    law = np.asarray(instance.expert)[visited]
    if (law.max(-1) < 1).any():
        return float("nan")
    return float(np.asarray(instance.noisy(eta))[visited][law == 1].min())


def largest_return(mdp: Any) -> float:
    """R: the largest sum of rewards of an episode that can occur, V_h(s) = max_a [r + max {V_{h+1}(s') : P > 0}]."""
    values = np.zeros(mdp.n_states)
    for p, r in zip(np.asarray(mdp.P)[::-1], np.asarray(mdp.r)[::-1], strict=True):
        values = (r + np.where(p > 0, values, -np.inf).max(-1)).max(-1)
    return float(values[np.asarray(mdp.rho) > 0].max())


def check(point: Point, first: Any = None) -> None:
    """Raise `BadInput` for a point that cannot be measured, before any is; quick, without compiling.

    `first` is the first instance of a point that is not simulated by level. What others are drawn is seen when they
    are.
    """
    from nail.counting import nstar, paths
    from nail.counting.drivers import EXPERT, Setting
    from nail.counting.learners import class_score, learner

    method, n_actions, replicates = point["method"], point["A"], point["replicates"]
    row = learner(method)
    require(row.score is not class_score, "method", method, "one that is not given a finite class")
    kernels.check_kernel(point["kernel"], method, n_actions)
    nstar.check_criterion(point["criterion"], point.get("epsilon"), point["delta"], first is None)
    if METHOD[method].own:
        _check_own(point, first)
    if first is not None:
        count, cells = point.get("instances", 1), replicates * first.mdp.r.size
        require(count <= replicates, "instances", count, f"in 1..replicates = {replicates}")
        require(cells <= nstar.MDP_CELLS, "replicates × H × S × A", cells, f"at most {nstar.MDP_CELLS}")
        entries = count * first.mdp.P.size
        require(entries <= nstar.MDP_ENTRIES, "instances × entries of P", entries, f"at most {nstar.MDP_ENTRIES}")
        return
    cells = replicates * point["H"] * n_actions
    require(cells <= MAX_CELLS, "replicates × H × A", cells, f"at most {MAX_CELLS}")
    if point["instance"] == "hidden-path":
        nstar.check_path(METHOD[method])
    if point["instance"] == "hidden-path" and row.driver is EXPERT:
        nstar.path_budget(point["H"], replicates, point["max_episodes"])
        require(point["kernel"] in ("uniform", "never-right"), "kernel", point["kernel"],
                f"uniform or never-right where whole paths are learned ({method} on hidden-path)")  # fmt: skip
        setting = Setting(point["eta"], kernels.level_kernel(point["kernel"], n_actions), burst=point.get("burst"))
        paths.as_uniform(setting, n_actions)


def _check_own(point: Point, first: Any) -> None:
    """Raise `BadInput` for functions of the user's own that are not what a learner's must be: each is traced."""
    from nail.counting.channels import with_noise
    from nail.counting.drivers import Setting, complete
    from nail.counting.learners import learner
    from nail.counting.own import begin_own

    method, n_actions = METHOD[point["method"]], point["A"]
    shape = (point["H"], n_actions) if first is None else first.mdp.r.shape
    kernel = kernels.level_kernel(point["kernel"], n_actions) if first is None else first.kernel
    noise = channel_of(point.get("noise", HUBER), point.get("burst"), point["eta"])
    setting = with_noise(Setting(point["eta"], kernel), noise)
    setting = complete(setting, n_actions, None, shape[:-1] if first is not None else ())
    begin_own(method, learner(point["method"]).told, shape, setting, 1)

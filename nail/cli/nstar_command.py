"""`nail n-star …`: measured sample complexities, as a table or as JSON. JAX is loaded only when it runs."""

import dataclasses
import math
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import tyro

from nail.checks import BadInput, require, require_known
from nail.cli.question import Question
from nail.cli.theory_command import Eta

MAX_CELLS = 2**30
"""largest replicates × H × A"""


def task_options(name: str, given: dict[str, Any]) -> Any:
    """The options of the tabular task `name`, from values or their texts.

    Raises `BadInput` for a task that has no instance, an option that it does not have, or a bad value.
    """
    from nail.envs.tasks import TASKS

    require_known("instance", name, [task for task, row in TASKS.items() if row.instance])
    kinds = {field.name: type(field.default) for field in dataclasses.fields(TASKS[name].options)}
    for option, value in given.items():
        require_known(f"option of {name}", option, kinds)
        try:
            given[option] = kinds[option](value)
        except ValueError:
            raise BadInput(f"{option} must be of type {kinds[option].__name__}, got {value!r}") from None
    options = TASKS[name].options(**given)
    options.check()
    return options


@dataclass(frozen=True, kw_only=True)
class NStarCommand(Question):
    """Measure n*: the smallest number of episodes with mean regret ≤ δ over replicates.

    On the poison chain and the hidden path, regret is 1 − the probability of all H right actions.
    """

    instance: str
    """poison-chain or hidden-path, with a secret a replicate; or another tabular task (garnet, …: see `nail list`),
    with exact regret in units of its reward"""
    method: str
    """count-based learner: see `nail list`"""
    H: Annotated[int | None, tyro.conf.arg(help="horizon H ≥ 1, steps an episode")] = None
    A: Annotated[int | None, tyro.conf.arg(help="number of actions A ≥ 2")] = None
    eta: Eta
    delta: Annotated[float, tyro.conf.arg(help="mean regret δ that is allowed, 0 < δ < 1")]
    options: tuple[str, ...] = ()
    """further options of another task, as NAME=VALUE (garnet: S=8 branching=2)"""
    instances: int = 20
    """instances of another task, drawn from seed, seed+1, …, which share the replicates, ≥ 1"""
    replicates: int = 2000
    """independent replicates, ≥ 1"""
    seed: int = 0
    """seed of secrets or instances, labels, rollouts and bootstrap, ≥ 0"""
    max_episodes: int = 100_000
    """episodes after which the answer is left open (censored), ≥ 1"""

    name: ClassVar[str] = "n-star"
    source: ClassVar[str] = "docs/theory.md §4.1, §4.2, §5; uniform noise; queries = episodes × H"

    @property
    def by_level(self) -> bool:
        """Whether the instance is one of the two that are simulated without tables."""
        from nail.counting import INSTANCES

        return self.instance in INSTANCES

    @property
    def meaning(self) -> str:
        what = "all H right actions are found" if self.by_level else "mean regret is at most δ"
        return f"smallest number of episodes after which {what}"

    @property
    def formula(self) -> str:
        if self.by_level:
            return "min{n : mean success over replicates ≥ 1−δ}; 95 % bootstrap interval over replicates"
        return "min{n : mean of J(π*) − J(π̂) over replicates ≤ δ}; 95 % bootstrap interval over instances"

    def task(self) -> Any:
        """The options of an instance that is not simulated by levels."""
        size = {name: value for name, value in (("H", self.H), ("A", self.A)) if value is not None}
        return task_options(self.instance, {**size, **dict(word.partition("=")[::2] for word in self.options)})

    def inputs(self) -> dict[str, Any]:
        """The options by name, without those that the instance does not read."""
        shown = super().inputs()
        del shown["options"]
        if not self.by_level:
            return {**shown, **dataclasses.asdict(self.task())}
        del shown["instances"]
        return shown

    def answer(self) -> dict[str, Any]:
        cells = self.replicates * (self.H or 1) * (self.A or 1)
        require(cells <= MAX_CELLS, "replicates × H × A", cells, f"at most {MAX_CELLS}")
        where: tuple[Any, ...] = (self.instance, self.method, self.H, self.A)
        if self.by_level:
            require(self.H is not None and self.A is not None, "H, A", (self.H, self.A), f"given for {self.instance}")
            require(not self.options, "options", self.options, f"empty for {self.instance}")
        else:
            from nail.envs.tasks import TASKS

            where = (partial(TASKS[self.instance].instance, self.task()), self.method)
        if self.method == "nailgun" and self.eta >= 0.5:
            print(f"nail: nailgun has its guarantee for eta < 1/2 only, and eta is {self.eta}", file=sys.stderr)
        from nail.counting.nstar import n_star

        found = n_star(
            *where, eta=self.eta, delta=self.delta, replicates=self.replicates, seed=self.seed,
            max_episodes=self.max_episodes, instances=self.instances,
        )  # fmt: skip
        return {
            "value": found.value,
            "interval": _ends(found.interval),
            "queries": found.queries,
            "query_interval": _ends(found.query_interval),
            "censored": found.censored,
            "budget": found.budget,
            "resolution": found.resolution,
        }


def _ends(interval: tuple[float, float]) -> list[int | None]:
    """An interval of counts; None for an end that is not finite."""
    return [int(end) if math.isfinite(end) else None for end in interval]

"""`nail n-star …`: measured sample complexities, as a table or as JSON. JAX is loaded only when it runs."""

import dataclasses
import math
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import tyro

from nail.checks import require, require_known
from nail.cli.parse import named, with_config
from nail.cli.question import Question
from nail.envs.noises import check_burst
from nail.envs.tasks import TASKS

MAX_CELLS = 2**28
"""largest replicates × H × A"""
UNIFORM = "uniform"
SILENT = 2.0
"""seconds until the progress of a search is shown"""


@dataclass(frozen=True, kw_only=True)
class NStar(Question):
    """Measure n*: the smallest number of episodes with mean regret ≤ δ over replicates.

    On the poison chain and the hidden path, regret is 1 − the probability of all H right actions.
    """

    instance: str
    """poison-chain or hidden-path, with a secret a replicate; or another tabular task (garnet, …: see `nail list`) with
    its options, and exact regret in units of its reward"""
    method: str
    """count-based learner: see `nail list`"""
    eta: Annotated[float, tyro.conf.arg(help="corruption rate η, 0 ≤ η ≤ 1 − 1e-9")]
    delta: Annotated[float, tyro.conf.arg(help="mean regret δ that is allowed, 1e-9 ≤ δ < 1")]
    noise: Literal["huber", "bursts"] = "huber"
    """how labels are corrupted: huber (each for itself), or bursts (docs/noise.md)"""
    burst: float | None = None
    """ρ of bursts: P(corrupted → corrupted) from step to step, max(0, 2 − 1/η) ≤ ρ < 1; ρ = η is huber's law"""
    instances: int = 20
    """instances of another task, drawn from seed, seed+1, …, which share the replicates, 1 ≤ instances ≤ replicates"""
    replicates: int = 2000
    """independent replicates ≥ 1, with replicates × H × A ≤ 2^28; with S states,
    replicates × H × S × A ≤ 2^26"""
    seed: int = 0
    """seed of secrets or instances, labels and rollouts, 0 ≤ seed < 2^31"""
    max_episodes: int = 100_000
    """episodes after which the answer is left open (censored), 1 ≤ max_episodes ≤ 2^30"""

    name: ClassVar[str] = "n-star"
    source: ClassVar[str] = "docs/theory.md §4.1, §4.2, §5; queries = episodes × H (twice that for NAIL-β)"

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
            return "min{n : mean success over replicates ≥ 1−δ}; 95 % interval over replicates (Clopper and Pearson's)"
        over = "instances" if self.instances > 1 else "replicates"
        return f"min{{n : mean of J(π*) − J(π̂) over replicates ≤ δ}}; 95 % interval over {over} (Student's)"

    def inputs(self) -> dict[str, Any]:
        """The options by name; the two instances simulated by level are not drawn, and huber has no ρ."""
        unread = {"instances"} if self.by_level else set()
        unread |= {"noise", "burst"} if self.channel is None else set()
        return {name: value for name, value in super().inputs().items() if name not in unread}

    @property
    def channel(self) -> Any:
        """The channel of labels that comes in bursts, with the instance's own ν; None: Huber's. Raises `BadInput`."""
        require((self.burst is None) == (self.noise == "huber"), "burst", self.burst,
                "given with noise bursts, and left out with huber")  # fmt: skip
        if self.noise == "huber":
            return None
        check_burst(self.eta, self.burst)
        from nail.noise import Bursts

        return Bursts(self.eta, self.burst)

    def answer(self) -> dict[str, Any]:
        if self.by_level:
            cells = self.replicates * self.H * self.A
            require(cells <= MAX_CELLS, "replicates × H × A", cells, f"at most {MAX_CELLS}")
            where: tuple[Any, ...] = (self.instance, self.method, self.H, self.A)
        else:
            self.check()
            from nail.envs.play import check_once

            check_once(TASKS[self.instance])
            where = (partial(TASKS[self.instance].instance, self), self.method)
        if self.method == "nailgun" and self.eta >= 0.5:
            print(f"nail: nailgun has its guarantee for eta < 1/2 only, and eta is {self.eta}", file=sys.stderr)
        from tqdm import tqdm

        from nail.counting.nstar import n_star
        from nail.training.devices import require_devices

        require_devices()
        with tqdm(
            total=self.max_episodes, unit="episode", desc=f"{self.method}, at most", delay=SILENT, leave=False,
            dynamic_ncols=True,
        ) as bar:  # fmt: skip

            def show(episodes: int, loss: float) -> None:
                bar.set_postfix_str(f"mean regret {loss:.3g}, target {self.delta:g}", refresh=False)
                bar.update(episodes - bar.n)

            found = n_star(
                *where, eta=self.eta, delta=self.delta, replicates=self.replicates, seed=self.seed,
                max_episodes=self.max_episodes, instances=self.instances, watch=show, noise=self.channel,
            )  # fmt: skip
        numbers = dataclasses.asdict(found)
        shown = ("value", "interval", "queries", "query_interval", "oracle", "censored", "budget", "resolution")
        answer = {name: _ends(numbers[name]) if "interval" in name else numbers[name] for name in shown}
        noise = UNIFORM if self.by_level else noise_of(where[0](self.seed).kernel)
        return {**answer, "noise_kernel": noise, "ties": "lowest"}


def noise_of(kernel: Any) -> str:
    """A noise kernel ν (A,) or (H, S, A) in words: its numbers, where it is the same at every state."""
    import numpy as np

    laws = np.asarray(kernel).reshape(-1, np.shape(kernel)[-1])
    if (laws != laws[0]).any():
        return "ν(·|h, s), a law for each step and state"
    if (laws[0] == laws[0, 0]).all():
        return UNIFORM
    return f"ν = ({', '.join(f'{x:.6g}' for x in laws[0])})"


def n_star_for(arguments: list[str]) -> type[NStar]:
    """The command, with the options of the tabular task that `--instance` names."""
    tabular = {name: row for name, row in TASKS.items() if row.instance}
    name = named("--instance", arguments, next(iter(tabular)))
    if arguments[:1] != ["n-star"]:
        name = next(iter(tabular))
    require_known("instance", name, tabular)
    return with_config(NStar, tabular[name].options)


def _ends(interval: tuple[float, float]) -> list[int | None]:
    """An interval of counts; None for an end that is not finite."""
    return [int(end) if math.isfinite(end) else None for end in interval]

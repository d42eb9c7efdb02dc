"""`nail n-star …`: measured sample complexities, as a table or as JSON. JAX is loaded only when it runs."""

import dataclasses
import math
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

import tyro

from nail.checks import require, require_known
from nail.cli.nstar_grid import InGrid, axes_in
from nail.cli.parse import named, with_config
from nail.cli.question import Question
from nail.complexity import kernels
from nail.complexity.points import HUBER, MAX_CELLS, channel_of, check_noise
from nail.envs.tasks import TASKS

CRITERION = ("criterion", "epsilon")
"""options that say when a learner is good enough; the default is not printed"""
NOISE = ("noise", "burst")
"""options of bursts"""
DECIMALS = 1000
"""parts of 1 to which an end of an interval of means is rounded"""
SILENT = 2.0
"""seconds until the progress of a search is shown"""


@dataclass(frozen=True, kw_only=True)
class NStar(Question, InGrid):
    """Measure n*: the smallest number of episodes with mean regret ≤ δ over replicates; with --vary on a grid.

    On the poison chain and the hidden path, regret is 1 − the probability of all H right actions. A grid is kept in a
    folder: rows.csv, fits.csv, bounds.csv and a picture; the same command goes on after a kill.
    """

    instance: str
    """poison-chain or hidden-path, with a secret a replicate; or another tabular task (garnet, …: see `nail list`) with
    its options, and exact regret in units of its reward"""
    method: str
    """count-based learner: see `nail list`"""
    eta: Annotated[float, tyro.conf.arg(help="corruption rate η, 0 ≤ η ≤ 1 − 1e-9")]
    delta: Annotated[float, tyro.conf.arg(help="mean regret δ that is allowed, 1e-9 ≤ δ < 1 (pac: probability)")]
    criterion: Literal["mean", "pac"] = "mean"
    """mean: regret is at most δ in mean over replicates; pac: it is at most ε with probability at least 1 − δ"""
    epsilon: Annotated[
        float | None, tyro.conf.arg(help="regret ε that is allowed with probability 1 − δ (pac only), ε > 0")
    ] = None
    kernel: str | None = None
    """noise kernel ν: uniform, never-right (uniform over the actions that π* does not play), worst (all on the action
    of least Q*), or the A numbers of a law, as 0.1,0.6,0.2,0.1; default: the instance's own"""
    noise: Literal["huber", "bursts"] = HUBER
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
    source: ClassVar[str] = (
        "docs/theory.md §4.1, §4.2, §5; queries = episodes × H (twice that for NAIL-β), or for a learner that does not "
        "ask at every step the mean number of its answers until then"
    )

    def run(self) -> None:
        if self.in_grid:
            require(not self.json, "json", self.json, "left out with --vary, --bound or --out")
            return self.run_grid()
        self.refuse_unread()
        return super().run()

    @property
    def by_level(self) -> bool:
        """Whether the instance is one of the two that are simulated without tables."""
        from nail.counting import INSTANCES

        return self.instance in INSTANCES

    @property
    def meaning(self) -> str:
        what = "all H right actions are found" if self.by_level else "mean regret is at most δ"
        if self.criterion == "pac":
            what = "regret is at most ε with probability at least 1 − δ"
        return f"smallest number of episodes after which {what}"

    @property
    def formula(self) -> str:
        if self.by_level:
            return "min{n : mean success over replicates ≥ 1−δ}; 95 % interval over replicates (Clopper and Pearson's)"
        if self.criterion == "pac":
            alike = self.instances == 1 or self.replicates // self.instances == 1
            over = "replicates (Clopper and Pearson's)" if alike else "instances (Chernoff's)"
            return f"min{{n : share of replicates with J(π*) − J(π̂) ≤ ε is ≥ 1−δ}}; 95 % interval over {over}"
        over = "instances" if self.instances > 1 else "replicates"
        return f"min{{n : mean of J(π*) − J(π̂) over replicates ≤ δ}}; 95 % interval over {over} (Student's)"

    def inputs(self) -> dict[str, Any]:
        """The options by name; the two instances simulated by level are not drawn, `mean` has no ε, huber no ρ."""
        unused = [*(["instances"] if self.by_level else []), *(CRITERION if self.criterion == "mean" else [])]
        unused += [*(["kernel"] if self.kernel is None else []), *(NOISE if self.noise == HUBER else [])]
        return {name: value for name, value in self.measurement().items() if name not in unused}

    def answer(self) -> dict[str, Any]:
        kernel = kernels.kernel_text(self.kernel)
        kernels.check_kernel(kernel, self.method, getattr(self, "A", None))
        check_noise(self.noise, self.burst, self.eta)
        if self.by_level:
            cells = self.replicates * self.H * self.A
            require(cells <= MAX_CELLS, "replicates × H × A", cells, f"at most {MAX_CELLS}")
            where: tuple[Any, ...] = (self.instance, self.method, self.H, self.A)
        else:
            self.check()
            from nail.envs.play import check_once

            check_once(TASKS[self.instance])
            drawn = partial(TASKS[self.instance].instance, self)
            where = (lambda seed: kernels.with_kernel(drawn(seed), kernel), self.method)
        if self.method == "nailgun" and self.eta >= 0.5:
            print(f"nail: nailgun has its guarantee for eta < 1/2 only, and eta is {self.eta}", file=sys.stderr)
        from tqdm import tqdm

        from nail.counting.drivers import Setting
        from nail.counting.nstar import n_star
        from nail.training.devices import require_devices

        require_devices()
        with tqdm(
            total=self.max_episodes, unit="episode", desc=f"{self.method}, at most", delay=SILENT, leave=False,
            dynamic_ncols=True,
        ) as bar:  # fmt: skip
            what = "mean regret" if self.criterion == "mean" else "P(regret > ε)"

            def show(episodes: int, loss: float) -> None:
                bar.set_postfix_str(f"{what} {loss:.3g}, target {self.delta:g}", refresh=False)
                bar.update(episodes - bar.n)

            setting = Setting(kernel=kernels.level_kernel(kernel, self.A) if self.by_level else None)
            found = n_star(
                *where, setting=setting, eta=self.eta, delta=self.delta, replicates=self.replicates, seed=self.seed,
                max_episodes=self.max_episodes, instances=self.instances, watch=show,
                criterion=self.criterion, epsilon=self.epsilon, noise=channel_of(self.noise, self.burst, self.eta),
            )  # fmt: skip
        numbers = dataclasses.asdict(found)
        shown = ("value", "interval", "queries", "query_interval", "oracle", "censored", "budget", "resolution")
        answer = {name: _ends(numbers[name]) if "interval" in name else numbers[name] for name in shown}
        own = None if self.by_level else where[0](self.seed).kernel
        return {**answer, "noise_kernel": kernels.in_words(kernel, own), "ties": "lowest"}


def n_star_for(arguments: list[str]) -> type[NStar]:
    """The command, with the options of the tabular tasks that `--instance`, or an axis of a grid, names.

    What an axis of a grid varies need not be given too.
    """
    tabular = {name: row for name, row in TASKS.items() if row.instance}
    first = next(iter(tabular))
    axes = axes_in(arguments) if arguments[:1] == ["n-star"] else {}
    names = [named("--instance", arguments, first)] if arguments[:1] == ["n-star"] else [first]
    if "instance" in axes:
        names = [name.strip() for name in axes["instance"].split(",") if name.strip()] or [first]
    for name in names:
        require_known("instance", name, tabular)
    command: type[NStar] = NStar
    for options in dict.fromkeys(tabular[name].options for name in names):
        command = with_config(command, options)
    needed = {"instance": names[0], "method": "", "eta": 0.5, "delta": 0.1}
    varied = {name: value for name, value in needed.items() if name in axes}
    kinds = get_type_hints(NStar, include_extras=True)
    body = {"__annotations__": {name: kinds[name] for name in varied}, "__doc__": NStar.__doc__, **varied}
    return dataclass(frozen=True, kw_only=True)(type("NStar", (command,), body)) if varied else command


def _ends(interval: tuple[float, float]) -> list[int | float | None]:
    """An interval of counts, or of their means, which are rounded outwards; None for an end that is not finite."""
    rounded = (side(end * DECIMALS) / DECIMALS if math.isfinite(end) else None for side, end in zip(
        (math.floor, math.ceil), interval, strict=True
    ))  # fmt: skip
    return [int(end) if end is not None and end == int(end) else end for end in rounded]

"""Regret against episodes on random (Garnet) MDPs, with a deterministic and a stochastic expert (docs/theory.md §4.5).

The expert answers everywhere, so nothing here is lost for good after a mistake. Deterministic expert: the learner
plays the plurality of its labels. Stochastic (soft-optimal) expert: it plays its fitted law with the known channel
taken out; the loss is then |J(π*) − J(π̂)|, since the value of a law may err either way. A greedy driver is then outside
the guarantee (§4.8). The reverse-KL learners read probabilities of the noisy expert, another oracle than labels: they
are compared among themselves only.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from nail.counting.drivers import Setting
from nail.counting.layered import deployed, exact_regret, greedy, simulation
from nail.counting.learners import learner
from nail.envs.instances import garnet
from nail.envs.mdp import regret
from nail.figures.experiment import Claim, Row
from nail.figures.plotting import REFERENCE, TEXT_WIDTH, look, measured, note
from nail.methods import METHOD
from nail.stats import Interval, jackknife_interval, mean_interval, ratio_interval

from ._theory import Point, figure_of_points, seeded

ORDER = ("loglossbc", "dagger", "opd-f", "nail-f", "opd-r", "nail-r")
EXPERTS = {"optimal": "deterministic expert (optimal)", "soft": "stochastic expert (soft-optimal)"}
LEARNERS = {"optimal": ORDER, "soft": (*ORDER[:3], "opd-channel", *ORDER[3:])}
FIRST = 100
"""number of the first instance"""
OCTAVES = 3
"""at the end of a curve, over which its exponent is read"""
ROUNDING = 1e-12
"""regret that is rounding, in units of R: the policies are equally good"""
SOURCES = {"optimal": "docs/theory.md §4.5", "soft": "docs/theory.md §4.8"}


class Size(NamedTuple):
    """A preset."""

    instances: int
    replicates: int
    """per instance"""
    stride: int
    """episodes before the first evaluation; later ones at twice, four times, .. that"""
    doublings: int
    horizon: int = 8
    n_states: int = 8
    n_actions: int = 4
    branching: int = 2
    eta: float = 0.5
    temperature: float = 0.05


SIZES = {
    "smoke": Size(3, 2, 4, 4, horizon=3, n_states=4, n_actions=3),
    "cpu": Size(20, 8, 8, 8),
    "paper": Size(100, 20, 16, 10, horizon=100, n_states=20),
}


def series(preset: str) -> list[list[Point]]:
    """One series of instances for each expert and learner; learners share the instances and no random number."""
    fields = SIZES[preset]._asdict()
    count = fields.pop("instances")
    return [
        [seeded({"expert": expert, "method": method, "instance": FIRST + i, **fields}) for i in range(count)]
        for expert in EXPERTS
        for method in LEARNERS[expert]
    ]


def measure(point: Point) -> list[Row]:
    """Mean over replicates of the exact |J(π*) − J(π̂)| of one learner on one instance, at each evaluation."""
    instance = garnet(
        point["instance"], point["horizon"], point["n_states"], point["n_actions"], point["branching"],
        point["expert"], point["temperature"],
    )  # fmt: skip
    read = greedy if point["expert"] == "optimal" else deployed
    run = simulation(read, instance, point["method"], Setting(point["eta"], told_kernel=instance.kernel),
                     point["replicates"], point["seed"])  # fmt: skip
    episodes = point["stride"] * 2 ** np.arange(point["doublings"] + 1)
    seen = np.concatenate([run(int(more), 1) for more in np.diff(episodes, prepend=0)], axis=1)
    if read is deployed:
        laws = seen.astype(np.float64)
        loss = np.abs(regret(instance.mdp, laws / laws.sum(-1, keepdims=True), instance.expert))
    else:
        loss = exact_regret(instance, seen)
    loss[np.abs(loss) < ROUNDING] = 0.0
    oracle = "labels" if learner(point["method"]).query is None else "probabilities"
    return [
        {**point, "oracle": oracle, "episodes": int(n), "loss": float(x)}
        for n, x in zip(episodes, loss.mean(0), strict=True)
    ]


def losses(rows: pd.DataFrame, expert: str, method: str) -> pd.DataFrame:
    """Loss of one learner, one row an instance and one column a number of episodes."""
    chosen = rows[(rows.expert == expert) & (rows.method == method)]
    return chosen.pivot(index="instance", columns="episodes", values="loss")


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean loss over instances with Student's 95 % interval at each evaluation, in units of R = 1."""
    found, row = [], next(rows.itertuples())
    for (expert, method, oracle), _ in rows.groupby(["expert", "method", "oracle"], sort=False):
        loss = losses(rows, expert, method)
        at = mean_interval(loss.to_numpy())
        numbers = {"episodes": loss.columns, "loss": at.estimate, "low": at.low, "high": at.high}
        found.append(pd.DataFrame({"expert": expert, "method": method, "oracle": oracle, **numbers}))
    same = ["replicates", "horizon", "n_states", "n_actions", "branching", "eta", "temperature"]
    return pd.concat(found).assign(
        instances=rows.instance.nunique(), **{name: getattr(row, name) for name in same}
    )  # fmt: skip


def last_positive(*losses: Float[np.ndarray, "instances n"]) -> int:
    """The last evaluation at which the 95 % intervals of all mean losses are above 0; −1 where there is none."""
    return int(np.flatnonzero([-1, *np.all([mean_interval(loss).low > 0 for loss in losses], axis=0)])[-1]) - 1


def exponent(*losses: Float[np.ndarray, "instances n"]) -> Interval:
    """Slope of log mean loss on log n between the ends of the `OCTAVES` octaves that end at `last_positive`, less that
    of the second losses where there are two, instances being pairs; NaN where a curve has no such octaves."""
    last, sign = [last_positive(loss) for loss in losses], (1, -1)
    if min(last) < OCTAVES or any(((x[:, at - OCTAVES] > 0).sum() < 2) for x, at in zip(losses, last, strict=True)):
        return Interval(np.nan, np.nan, np.nan)
    ends = np.stack([x[:, [at, at - OCTAVES]] for x, at in zip(losses, last, strict=True)], axis=1)

    def slope(ends):
        after, before = ends.mean(0).T
        return np.log2(after / before) @ sign[: len(losses)] / OCTAVES

    return jackknife_interval(slope, ends)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Rates over the last octaves; who is ahead at the same oracle; who may drive when the expert is stochastic."""
    of = {key: losses(rows, *key).to_numpy() for key, _ in rows.groupby(["expert", "method"])}
    episodes = np.sort(rows.episodes.unique())
    rates = (
        ("optimal", "nail-f", -np.inf, -1.0), ("optimal", "loglossbc", -np.inf, -1.0),
        ("optimal", "nail-r", -np.inf, -1.0), ("soft", "opd-channel", -np.inf, -0.5),
        ("soft", "loglossbc", -np.inf, -0.5), ("soft", "nail-r", -0.25, np.inf),
    )  # fmt: skip
    found = [*(_rate(of, episodes, *rate) for rate in rates), _slower(of)]
    bc, nail = of["optimal", "loglossbc"], of["optimal", "nail-f"]
    last = max(last_positive(bc, nail), 0)
    for expert, one, other, at, low, high in (
        ("optimal", "loglossbc", "nail-f", slice(None, len(episodes) // 2 + 1), 0.5, 2.0),
        ("optimal", "loglossbc", "nail-f", slice(last, last + 1), -np.inf, 1.0),
        ("soft", "loglossbc", "opd-channel", slice(None), 0.5, 2.0),
    ):
        ratio = ratio_interval(of[expert, one][:, at], of[expert, other][:, at])
        found.append(_ratio(expert, one, other, episodes[at], ratio, low, high))
    return found


def name(method: str) -> str:
    """The learner's label, with what it reads where that is not labels."""
    return METHOD[method].label + ("" if learner(method).query is None else " (reads probabilities)")


def within(low: float, high: float) -> str:
    """The open interval in words."""
    return f"below {high:g}" if low == -np.inf else f"above {low:g}" if high == np.inf else f"in ({low:g}, {high:g})"


def lies(found: Interval, low: float, high: float) -> bool:
    """Whether intervals lie inside the open one; nothing is below −∞, not even −∞."""
    return bool(np.all((found.low > low) | (low == -np.inf)) and np.all(found.high < high))


JACKKNIFE, PAIRED = "(jackknife over instances)", "(jackknife over instances, the same for both)"


def _rate(
    of: dict, episodes: Int[np.ndarray, " n"], expert: str, method: str, low: float, high: float
) -> Claim:  # fmt: skip
    found, last = exponent(of[expert, method]), last_positive(of[expert, method])
    return Claim(
        f"{EXPERTS[expert]}: over the last {OCTAVES} octaves the loss of {name(method)} has an exponent in n "
        + within(low, high), SOURCES[expert],
        f"the exponent's 95 % interval {JACKKNIFE} does not lie {within(low, high)}, or there are not "
        f"{OCTAVES} octaves up to the last n at which the 95 % interval of the mean loss is above 0",
        f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}], up to n = {episodes[last]}", lies(found, low, high),
    )  # fmt: skip


def _slower(of: dict) -> Claim:
    found = exponent(of["soft", "nail-f"], of["soft", "opd-channel"])
    return Claim(
        f"{EXPERTS['soft']}: over the last {OCTAVES} octaves the loss of {name('nail-f')}, greedy, falls "
        f"slower than that of {name('opd-channel')}", SOURCES["soft"],
        f"the 95 % interval of the difference of exponents {PAIRED} reaches 0 or less",
        f"difference {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]", bool(found.low > 0),
    )  # fmt: skip


def _ratio(
    expert: str, one: str, other: str, episodes: Int[np.ndarray, " n"], ratio: Interval, low: float, high: float
) -> Claim:  # fmt: skip
    where = "at the last n where neither is 0" if len(episodes) == 1 else f"at the first {len(episodes)} evaluations"
    ends = dict.fromkeys((ratio.low.argmin(), ratio.high.argmax()))
    return Claim(
        f"{EXPERTS[expert]}: {where} the loss of {name(one)} over that of {name(other)} is {within(low, high)}",
        SOURCES[expert],
        f"a 95 % interval of the ratio of mean losses {PAIRED} does not lie {within(low, high)}",
        "; ".join(f"{ratio.estimate[i]:.3g} [{ratio.low[i]:.3g}, {ratio.high[i]:.3g}] at n = {episodes[i]}"
                  for i in ends),
        lies(ratio, low, high),
    )  # fmt: skip


SMALLEST = 1e-7
"""lower end of the figure's regrets: what is below it is rounding, or a curve that has left the picture"""


def draw(table: pd.DataFrame) -> Figure:
    """Loss against episodes on logarithmic axes, one panel an expert."""
    figure = Figure(figsize=(TEXT_WIDTH, 3.3), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    floor = table.loss[table.loss > 0].min() / 2
    for axes, (expert, title) in zip(panels, EXPERTS.items(), strict=True):
        for method in LEARNERS[expert]:
            points = table[(table.expert == expert) & (table.method == method)]
            shown = points[points.loss > 0].assign(low=points.low.clip(floor))
            hollow = points.oracle.iloc[0] != "labels"
            measured(axes, look(method), shown, "episodes", "loss", hollow=hollow, label=name(method))
        n, power = np.sort(points.episodes), {"optimal": -1.0, "soft": -0.5}[expert]
        top = table[(table.expert == expert) & (table.episodes == n[0])].loss.max()
        axes.plot(n, 2 * top * (n / n[0]) ** power, **REFERENCE["lower"])
        axes.annotate("∝ 1/n" if power == -1 else "∝ 1/√n", (n[2], 2.6 * top * (n[2] / n[0]) ** power), fontsize=7,
                      color="#666666")  # fmt: skip
        axes.set_title(title)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("episodes n")
    panels[0].set_ylim(max(floor, SMALLEST), 1)
    panels[0].set_ylabel("regret J(π*) − J(π̂), in units of R")
    panels[1].set_ylabel("|J(π*) − J(π̂)|, in units of R")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1.2)
    row = next(table.itertuples())
    note(
        figure, f"Garnet, H = {row.horizon}, S = {row.n_states}, A = {row.n_actions}, b = {row.branching}, "
        f"uniform noise η = {row.eta}, soft expert τ = {row.temperature}; mean over {row.instances} instances "
        f"× {row.replicates} replicates,\nbands: Student's 95 % intervals over instances",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_points(
    "theory_garnet",
    "regret against episodes on random MDPs, deterministic and stochastic expert",
    {
        "smoke": "about 15 seconds on two cores",
        "cpu": "about 30 seconds on two cores",
        "paper": "finer grids, more replicates; not timed yet",
    },
    series, measure, analyse, claims, draw,
)  # fmt: skip

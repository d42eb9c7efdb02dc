"""Composition of permutations (S5) under three laws of a noisy expert: where is offline learning not enough?

docs/token_tasks.md §2.5. Under two of the laws the expert goes on from a wrong token, and the authors' plots show
offline and online learners alike; under the random suffix a wrong key digit ends all information. `smoke` and `cpu` are
shorter than the authors' m = 21, with a small student of two blocks. `paper` is their protocol, and repeats what they
logged.
"""

import dataclasses
import math

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import TEXT_WIDTH, curve, handle, note
from nail.methods import METHOD
from nail.stats import median_interval
from nail.sweep.grid import grid
from nail.sweep.stages import flat
from nail.training.config import TrainConfig

from ._training import SEEDS, UNSOLVED, accuracy_axes, does_not_solve, figure_of_runs, late, per_seed, solves, tabulate

LAWS = {
    "distributional": ("distributional", "follow"),
    "semantic key": ("semantic-key", "follow"),
    "random suffix": ("semantic-key", "none"),
}
"""law → noise and recovery"""
ORDER = ("loglossbc", "opd-f", "opd-r", "nail-f", "nail-r")
NAIL = ("nail-f", "nail-r")
ENDS = ("loglossbc", "nail-f")
"""what stands for offline and for online where the budget is small"""
METHODS = {
    "smoke": dict.fromkeys(LAWS, ORDER), "paper": dict.fromkeys(LAWS, ORDER),
    "cpu": dict.fromkeys(LAWS, ENDS),
}  # fmt: skip
"""preset → law → methods"""
SEED = SEEDS | {"cpu": range(10, 15)}
"""preset → seeds; `cpu` has others than its pilots, which had the first five (docs/token_tasks.md §2.5)"""
NOT_GREEDY = ("loglossbc", "opd-f", "opd-r")
"""methods whose prefixes are the noisy expert's, or come to be those of a student that is like it"""
APART = 0.1
"""full-chain accuracy by which two methods are apart"""
CPU = TrainConfig(
    task="s5", m=2, eta=0.8, estimator="full", width=64, heads=4, layers=2, init_std=0.1, lr=2e-3, warmup=100,
    steps=1_500, eval_every=150, n_validation=200,
)  # fmt: skip
SMOKE = dataclasses.replace(CPU, width=16, heads=2, batch=16, steps=40, warmup=5, eval_every=10, n_validation=50)
PAPER = TrainConfig(task="s5", eta=0.8, steps=125_000, eval_every=1_000, precision="bfloat16")
BASE = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
ESTIMATORS = {"mc": "sampled", "full": "whole law"}
LOGGED = {
    "mc": {.05: .9986, .1: .9982, .2: .9278, .3: .8932, .4: .7012, .5: .6938, .6: .6780, .7: .5576, .8: .1120, .9: 0.0},
    "full": {.05: .9996, .1: .9978, .2: .9912, .3: .9874, .4: .9774, .5: .9728, .6: .9696, .7: .9560, .8: .9666,
             .9: .6364},
}  # fmt: skip
"""estimator → η → what the authors logged of OPD-F under the distributional law (docs/token_tasks.md §2.4)"""
CLOSE = 0.1
"""full-chain accuracy within which a logged number is repeated"""


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """The methods of each law × the seeds; for `paper` also the runs that the authors logged, one seed each."""
    found: list[TrainConfig] = []
    for law, (noise, recovery) in LAWS.items():
        base = dataclasses.replace(BASE[preset], noise=noise, recovery=recovery)
        found += grid(base, method=METHODS[preset][law], seed=SEED[preset])
    if preset != "paper":
        return tuple(found)
    base = dataclasses.replace(PAPER, noise="distributional", method="opd-f")
    return flat((*found, *grid(base, estimator=tuple(LOGGED), eta=tuple(LOGGED["mc"]))))


def with_law(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the law's name, in the order of `LAWS`."""
    names = {pair: name for name, pair in LAWS.items()}
    laws = [names[pair] for pair in zip(rows.noise, rows.recovery, strict=True)]
    rows = rows.assign(law=pd.Categorical(laws, list(LAWS)))
    return rows.sort_values("law", kind="stable").assign(law=lambda r: r.law.astype(str))


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that compare methods, with their law: those at the η and the estimator of LogLossBC."""
    own = rows[rows.method == "loglossbc"].iloc[0]
    return with_law(rows[(rows.eta == own.eta) & (rows.estimator == own.estimator)])


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of accuracy and clean loss at each evaluation; where the authors' runs are
    repeated, their accuracy at the end (kind "ours") beside what they logged (kind "logged")."""
    curves = tabulate(compared(rows), ["law", "method", "m", "eta"], ("full_exact", "val_loss"), times=False)
    return pd.concat([curves, repeated(rows)], ignore_index=True)


def repeated(rows: pd.DataFrame) -> pd.DataFrame:
    """The authors' runs: η, estimator, and full-chain accuracy at the end, ours and theirs; empty without them."""
    part = rows[(rows.noise == "distributional") & (rows.method == "opd-f") & (rows.seed == 0)]
    last = part[part.step == part.step.max()]
    if last.eta.nunique() < 2:
        return pd.DataFrame()
    logged = [LOGGED[estimator][eta] for estimator, eta in zip(last.estimator, last.eta, strict=True)]
    same = last[["estimator", "eta", "m"]].assign(law="distributional", method="opd-f", metric="full_exact", n_seeds=1)
    return pd.concat([same.assign(kind="ours", mean=last.full_exact), same.assign(kind="logged", mean=logged)])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What the authors' plots say of the laws, what the theory expects of NAIL, and the authors' numbers themselves."""
    by_law = {law: dict(iter(level.groupby("method"))) for law, level in compared(rows).groupby("law")}
    absorbing = by_law["random suffix"]
    solvers = [(law, method) for law in LAWS for method in NAIL if method in by_law[law]]
    found = [solves(by_law[law][method], law, method, "docs/theory.md §5, expected") for law, method in solvers]
    found += [_alike(by_law[law], law) for law in LAWS if law != "random suffix"]
    others = [method for method in NOT_GREEDY if method in absorbing]
    found += [
        does_not_solve(absorbing[method], "random suffix", method, "docs/token_tasks.md §2.4") for method in others
    ]
    found += [_ahead(absorbing, method) for method in others]
    again = repeated(rows)
    return found + [_logged(again, estimator) for estimator in (LOGGED if len(again) else ())]


def _alike(level: dict[str, pd.DataFrame], law: str) -> Claim:
    offline, online = (late(level[method], "full_exact") for method in ("loglossbc", "nail-f"))
    return Claim(
        f"{law}: LogLossBC and NAIL-F are not apart (both ≥ {UNSOLVED} and within {APART}, every seed)",
        "docs/token_tasks.md §2.4",
        f"one seed in which one of them is below {UNSOLVED}, or they are more than {APART} apart, over the last "
        "quarter (median of its evaluations)",
        f"full-chain accuracy per seed: LogLossBC {per_seed(offline)}; NAIL-F {per_seed(online)}",
        bool(np.all((np.minimum(offline, online) >= UNSOLVED) & (np.abs(offline - online) <= APART))),
    )  # fmt: skip


def mean_accuracy(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, the mean full-chain accuracy over all evaluations after the first: the earlier solved, the higher."""
    after = rows[rows.step > 0]
    return after.pivot(index="episodes", columns="seed", values="full_exact").mean().to_numpy()


def _ahead(level: dict[str, pd.DataFrame], method: str) -> Claim:
    gain = median_interval(mean_accuracy(level["nail-f"]) - mean_accuracy(level[method]))
    return Claim(
        f"random suffix: NAIL-F is ahead of {METHOD[method].label} (full-chain accuracy, mean over the budget)",
        "docs/token_tasks.md §2.4",
        "an interval of the median difference of a seed (order statistics) that does not lie above 0",
        f"difference {gain.value:.3g}, {100 * gain.level:.4g} % interval [{gain.low:.3g}, {gain.high:.3g}]",
        gain.low > 0,
    )  # fmt: skip


def _logged(again: pd.DataFrame, estimator: str) -> Claim:
    part = again[again.estimator == estimator].pivot(index="eta", columns="kind", values="mean")
    pairs = "; ".join(f"η = {eta:g}: {row.ours:.4f}, {row.logged:.4f}" for eta, row in part.iterrows())
    return Claim(
        f"distributional: OPD-F, {ESTIMATORS[estimator]}, repeats what the authors logged (within {CLOSE} at every η)",
        "docs/token_tasks.md §2.4", f"one η at which the accuracy at the end is more than {CLOSE} away (one seed each)",
        f"full-chain accuracy, ours and logged: {pairs}", bool(((part.ours - part.logged).abs() <= CLOSE).all()),
    )  # fmt: skip


def clean_chance(law: str, m: int, eta: float) -> float:
    """Probability that a trajectory of the noisy expert is clean to its end (docs/token_tasks.md §2.3)."""
    return (1 - 0.8 * eta) ** (5 * m if law == "distributional" else m)


def fitted_loss(law: str, eta: float) -> float:
    """Clean validation loss, nats a token, of a student equal to the noisy law: a noisy digit costs −log(1−0.8η)."""
    return -math.log(1 - 0.8 * eta) * (5 if law == "distributional" else 1) / 7


def draw(table: pd.DataFrame) -> Figure:
    """The three laws side by side: full-chain accuracy above, clean validation loss below."""
    curves = table[table.kind == "curve"]
    row = next(curves.itertuples())
    figure = Figure(figsize=(TEXT_WIDTH, 4.2), layout="constrained")
    places = figure.subplots(2, len(LAWS), sharex=True, sharey="row")
    for (accuracy, loss), law in zip(places.T, LAWS, strict=True):
        for method in ORDER:
            chosen = curves[(curves.law == law) & (curves.method == method)]
            if len(chosen):
                curve(accuracy, method, chosen[chosen.metric == "full_exact"], clip=(0.0, 1.0))
                curve(loss, method, chosen[chosen.metric == "val_loss"], clip=(1e-5, np.inf))
        loss.axhline(fitted_loss(law, row.eta), color="#666666", linewidth=0.9, linestyle=":")
        accuracy.set_title(f"{law} (clean: {clean_chance(law, row.m, row.eta):.2g})")
        accuracy.set_ylim(-0.03, 1.03)
        accuracy_axes(loss)
    places[1, 0].set_ylim(-0.05, 2.6)
    places[0, 0].set_ylabel("full-chain accuracy")
    places[1, 0].set_ylabel("clean validation loss\n(nats/token)")
    handles = [handle(method, METHOD[method].label) for method in ORDER if method in set(curves.method)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.2)
    note(
        figure, f"mean of {row.n_seeds:g} seeds, band: ± 1 standard deviation; m = {row.m}, η = {row.eta:g}; in titles "
        "the chance that an expert's trajectory is clean;\ndotted: a student equal to the noisy law",
    )  # fmt: skip
    return figure


EXPERIMENT = figure_of_runs(
    "s5",
    "composition of permutations under three laws of noise: who learns the clean expert",
    {
        "smoke": "45 runs of 40 updates, 15 programs to compile, about a minute on two cores",
        "cpu": "30 runs of 1,500 updates, about 8 minutes on two cores (estimated)",
        "paper": "94 runs of 125,000 updates of a 3.15 M-parameter student, 20 of them logged by the authors: an "
        "accelerator",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

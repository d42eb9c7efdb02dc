"""Chains of stages on `defclass`, their last rows and gains of one over another (docs/steering.md §2)."""

import dataclasses
import functools
from itertools import permutations
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float

from nail.envs.defclass import make_defclass
from nail.envs.steering import items, right_answer
from nail.stats import Interval, mean_interval
from nail.training.config import TrainConfig
from nail.training.steering import ITEMS

CPU = TrainConfig(
    task="defclass", noise="canonical", eta=0.1, epsilon=0.02, eta_new=0.3, width=32, heads=4, layers=2, init_std=0.1,
    lr=3e-3, warmup=100, batch=32, steps=500, eval_every=500, n_validation=512, steer=True,
)  # fmt: skip
SIZE = {
    "smoke": dataclasses.replace(
        CPU, width=16, heads=2, layers=1, batch=16, steps=20, eval_every=20, warmup=5, n_validation=50
    ),
    "cpu": CPU,
}
"""preset → what all stages have in common"""
SEEDS = {"smoke": range(2), "cpu": range(1, 6)}
"""preset → seeds; the pilots of docs/steering.md §2.4 had seed 0"""
METHOD = {"SFT": "loglossbc", "OPD": "opd-f", "NAIL": "nail-f", "RL": "grpo"}
"""stage → its method"""
RATE = {"SFT": 3e-3, "OPD": 3e-3, "NAIL": 3e-3, "RL": 1e-4}
"""stage → its learning rate"""
STAGE = {method: stage for stage, method in METHOD.items()}
WRONG = 0.6
"""η_new at which the mode of the teacher's law is wrong"""
OTHERS, MISLED = "(ε = 1)", f"(ε = 1, η_new = {WRONG:g})"
"""after a stage: none of its prompts has the usual definitions; and besides its teacher's mode is wrong there"""
ORDERS = tuple(" > ".join(order) for order in permutations(("SFT", "OPD", "RL")))
BEST = "SFT > OPD > RL"
PLAIN = ("SFT", "SFT > SFT", "SFT > OPD", "SFT > NAIL", "SFT > RL")
DIVERSE = tuple(f"SFT > {stage}{OTHERS}" for stage in METHOD)
WRONGED = tuple(f"SFT > {stage}{MISLED}" for stage in ("OPD", "NAIL"))
LONG = (*ORDERS, "SFT > OPD > OPD", f"{BEST}{OTHERS}")


def elsewhere(chain: str) -> str:
    """A chain with OPD and RL at ε = 1."""
    return " > ".join(word if word == "SFT" else f"{word}{OTHERS}" for word in chain.split(" > "))


DIVERSE_ORDERS = tuple(map(elsewhere, ORDERS))
DIVERSE_LONG = (*DIVERSE_ORDERS, elsewhere("SFT > OPD > OPD"), f"SFT > OPD{OTHERS} > RL")
CHAINS = (*PLAIN, *DIVERSE, *WRONGED, "RL > RL", *LONG, *DIVERSE_LONG)
NAMES = {
    "answer_exact": "accuracy", "usual_exact": "accuracy on usual definitions",
    "perturbed_exact": "accuracy on perturbed definitions", "steerability": "steerability",
    "follow_rate": "follow rate", "false_flips": "false flips", "over_selection": "over-selection",
}  # fmt: skip
"""metric → its name"""
COSTS = ("updates", "queries", "rollouts")
"""of a chain: updates, the teacher's labels, rollouts whose answer was verified"""
HOW = "95 %, Student's, over seeds"


def stage(base: TrainConfig, word: str) -> TrainConfig:
    """The configuration that a stage's word stands for; reward asks no noisy expert."""
    name = word.partition("(")[0]
    changed = {"": {}, OTHERS: {"epsilon": 1.0}, MISLED: {"epsilon": 1.0, "eta_new": WRONG}}[word.removeprefix(name)]
    noise = {"noise": "uniform", "eta": TrainConfig.eta} if name == "RL" else {}
    return dataclasses.replace(base, method=METHOD[name], lr=RATE[name], **noise, **changed)


def runs(preset: str) -> tuple[tuple[TrainConfig, ...], ...]:
    """Each chain once a seed; chains share the stages that they begin with."""
    return tuple(
        tuple(stage(dataclasses.replace(SIZE[preset], seed=seed), word) for word in chain.split(" > "))
        for chain in CHAINS
        for seed in SEEDS[preset]
    )


def prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run, with its chain in words and what all of its stages cost."""
    last = rows.sort_values("step").groupby("run", sort=False).tail(1).set_index("run", drop=False)
    marks = np.select([last.eta_new == WRONG, last.epsilon == 1], [MISLED, OTHERS], "")
    last = last.assign(word=last.method.map(STAGE) + marks, updates=last.step, queries=last.expert_queries,
                       rollouts=last.verified_rollouts.fillna(0))  # fmt: skip

    start, named, costs = dict(last.start), dict(last.word), {name: dict(last[name]) for name in COSTS}

    def chain(run: str) -> list[str]:
        return [*chain(start[run]), run] if start[run] else [run]

    chains = [chain(run) for run in last.index]
    sums = {name: [sum(cost[run] for run in each) for each in chains] for name, cost in costs.items()}
    return last.assign(chain=[" > ".join(named[run] for run in each) for each in chains], **sums)


def at(rows: pd.DataFrame, chain: str, metric: str) -> Float[np.ndarray, " seeds"]:
    """A metric of a chain, in the order of the seeds. The rows are `prepared`."""
    return rows.loc[rows.chain == chain, ["seed", metric]].sort_values("seed")[metric].to_numpy(float)


class Gain(NamedTuple):
    """Of one chain over another, seed by seed, in a metric."""

    words: str
    interval: Interval

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return bool(self.interval.low > 0)

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return bool(self.interval.high < 0)


def gain(rows: pd.DataFrame, chain: str, other: str, metric: str) -> Gain:
    """`chain` less `other`, paired by seed."""
    values = at(rows, chain, metric) - at(rows, other, metric)
    found = mean_interval(values)
    return Gain(f"{NAMES[metric]}, {chain} less {other}:", found)


def in_words(found: Interval) -> str:
    """An interval, for a claim."""
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def words(found: list[Gain]) -> str:
    """Gains, for a claim."""
    return "; ".join(f"{each.words} {in_words(each.interval)}" for each in found)


def teacher(rows: pd.DataFrame, chain: str) -> float:
    """Share of right answers among the samples of a chain's last teacher at the perturbed prompts of the rows."""
    row = rows[rows.chain == chain].iloc[0]
    return _right(float(row.eta_new), int(row.bank_seed))


@functools.cache
def _right(eta_new: float, bank_seed: int) -> float:
    """Mean of the closed form of docs/token_tasks.md §3.3 over the perturbed prompts."""

    @jax.jit
    def mean():
        _, after = items(make_defclass(0.0, eta_new, bank_seed, 1), ITEMS)
        return jax.vmap(right_answer, in_axes=(0, None))(after, eta_new).mean()

    return float(mean())

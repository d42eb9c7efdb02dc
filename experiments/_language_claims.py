"""Claims of figure 6: what the expert is, what the caption says of t = 1, what is expected at high noise."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from nail.figures.experiment import Claim
from nail.methods import METHOD
from nail.stats import trend_test

from ._training import LEVEL, per_seed

RIGHT = 0.95
"""accuracy of its greedy answers that an expert made from scratch is to have"""
WRONG = 0.5
"""share of its greedy accuracy below which the expert's samples go wrong"""
APART = "every seed, by more than a standard error"
UNLESS = (
    "one seed that is not above by more than the standard error of the difference of two evaluations after the last "
    "update (of two that are alike, all of three seeds are with chance {})"
)
ALIKE, FROM_START = UNLESS.format("0.004"), UNLESS.format("0.034: they share their start")
"""for two methods; for the end and the start of one, which is a single evaluation"""


def of_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs; β is that of NAIL-β, and no number for other methods."""
    chosen = rows[rows.part == "run"]
    return chosen.assign(beta=chosen.beta.where(chosen.method == "nail-beta"))


def final(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, the accuracy after the last update; the rows are one setting's."""
    return rows[rows.step == rows.step.max()].sort_values("seed").accuracy.to_numpy()


def start(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, the accuracy before the first update: that of one model, unless adapters begin otherwise."""
    return rows[rows.step == 0].sort_values("seed").accuracy.to_numpy()


def speed(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Per seed, the mean accuracy of the evaluations on the way: the earlier a run learns, the higher."""
    return rows[(rows.step > 0) & (rows.step < rows.step.max())].groupby("seed").accuracy.mean().to_numpy()


def apart(higher: Float[np.ndarray, "..."], lower: Float[np.ndarray, "..."], questions: float) -> bool:
    """Whether every accuracy is above its partner by more than a standard error of the difference of two evaluations.

    Of two that are alike one is with chance 0.16, all of three seeds with 0.004.
    """
    error = np.sqrt((higher * (1 - higher) + lower * (1 - lower)) / questions)
    return bool(np.all(higher - lower > error))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What the expert is, what the caption says of t = 1, and what the theory expects at high noise."""
    table = of_runs(rows)
    low, *_, high = sorted(table.expert_temperature.unique())
    at = {t: level for t, level in table.groupby("expert_temperature")}
    by_beta = {t: dict(iter(level.groupby("beta"))) for t, level in at.items()}
    others = {t: dict(iter(level[level.beta.isna()].groupby("method"))) for t, level in at.items()}
    found = _of_expert(rows, high)
    found += [_fastest(by_beta[low], low), _highest(by_beta[low], low)]
    everyone = {**{f"β = {beta:g}": part for beta, part in by_beta[low].items()},
                **{METHOD[name].label: part for name, part in others[low].items()}}  # fmt: skip
    found.append(_improve(everyone, f"t = {low:g}: NAIL at every β, OPD and LogLossBC improve the student"))
    mixtures = {f"β = {beta:g}": part for beta, part in by_beta[high].items()}
    found.append(_improve(mixtures, f"t = {high:g}: NAIL at every β improves the student"))
    return found + [_ahead(by_beta[high][METHOD[name].beta], part, name, high) for name, part in others[high].items()]


def _of_expert(rows: pd.DataFrame, high: float) -> list[Claim]:
    """What t is chosen by; how right the greedy answers are is claimed of an expert made here."""
    accuracy = rows[rows.part == "expert"].set_index("temperature").accuracy
    greedy, sampled = accuracy[0.0], accuracy[high]
    found = []
    if (rows.part == "expert made").any():
        found.append(Claim(
            f"the expert's greedy answers are right (accuracy ≥ {RIGHT})", "docs/language_models.md §10",
            f"an accuracy below {RIGHT} on the test questions", f"accuracy {greedy:.3g}", bool(greedy >= RIGHT),
        ))  # fmt: skip
    found.append(Claim(
        f"t = {high:g}: the expert's samples go wrong (less than {WRONG} times as often right as its greedy answers)",
        "docs/language_models.md §10", f"samples that are right at least {WRONG} times as often",
        f"accuracy {sampled:.3g} of samples, {greedy:.3g} of greedy answers", bool(sampled < WRONG * greedy),
    ))  # fmt: skip
    return found


def _fastest(by_beta: dict[float, pd.DataFrame], t: float) -> Claim:
    values = np.stack([speed(part) for part in by_beta.values()], axis=1)
    p = trend_test(values, -np.array(list(by_beta)), np.random.default_rng(0))
    return Claim(
        f"t = {t:g}: the more forward the objective, the faster it learns (mean accuracy of the evaluations between "
        f"the first and the last falls with β: Page's test, β permuted within seeds, p < {LEVEL:g})",
        "paper, Fig. 6", f"p ≥ {LEVEL:g}",
        f"p = {p:.2g}; per seed " + "; ".join(
            f"β = {beta:g}: {per_seed(column)}" for beta, column in zip(by_beta, values.T, strict=True)),
        p < LEVEL,
    )  # fmt: skip


def _highest(by_beta: dict[float, pd.DataFrame], t: float) -> Claim:
    ends = {beta: final(part) for beta, part in by_beta.items()}
    forward, reverse = (max((beta for beta in ends if keep(beta)), key=lambda beta: ends[beta].mean())
                        for keep in (lambda beta: beta < 0.5, lambda beta: beta > 0.5))  # fmt: skip
    return Claim(
        f"t = {t:g}: the best forward-heavy objective (β < ½, by its mean) ends above the best reverse-heavy one "
        f"(β > ½; {APART})",
        "paper, Fig. 6", ALIKE,
        f"accuracy per seed: β = {forward:g} {per_seed(ends[forward])}; β = {reverse:g} {per_seed(ends[reverse])}",
        apart(ends[forward], ends[reverse], _questions(by_beta[forward])),
    )  # fmt: skip


def _improve(parts: dict[str, pd.DataFrame], statement: str) -> Claim:
    gains = {name: final(part) - start(part) for name, part in parts.items()}
    return Claim(
        f"{statement} (above the start; {APART})", "docs/language_models.md §10", FROM_START,
        "lowest gain: " + "; ".join(f"{name}: {gain.min():.3g}" for name, gain in gains.items()),
        all(apart(final(part), start(part), _questions(part)) for part in parts.values()),
    )  # fmt: skip


def _ahead(ours: pd.DataFrame, theirs: pd.DataFrame, name: str, t: float) -> Claim:
    """Of NAIL with the divergence of another method: they differ by who plays."""
    mine, its = final(ours), final(theirs)
    return Claim(
        f"t = {t:g}: NAIL with β = {METHOD[name].beta:g} ends above {METHOD[name].label} ({APART})",
        "docs/language_models.md §10, expected", ALIKE,
        f"accuracy per seed: NAIL {per_seed(mine)}; {METHOD[name].label} {per_seed(its)}",
        apart(mine, its, _questions(ours)),
    )  # fmt: skip


def _questions(rows: pd.DataFrame) -> float:
    return float(rows.test_questions.iloc[0])

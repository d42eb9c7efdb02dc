"""What is read off the rows of theory_general_bound: measured over bound with intervals, and the claims."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from nail.figures.experiment import Claim
from nail.stats import REFUTED, Interval, coverage_chance, jackknife_interval, mean_interval
from nail.theory.bounds import mean_regret_bound, tv_budget

KEYS = ["family", "learner", "horizon", "size", "eta", "factor"]
SETTING = ["horizon", "size", "eta"]
QUANTITIES = ("tv2", "regret", "identity")
SOURCE = "docs/theory.md §5 (general polynomial bound)"
RATIO = {"tv2": "Σ TV² over its bound", "regret": "mean regret over its bound"}
OUTSIDE = {"greedy": "the mixture's argmax, played and deployed", "wrong-eta": "the mixture told η' = 0"}
AXES = {"horizon": "H", "size": "N", "eta": "η"}


def over_bounds(rows: pd.DataFrame) -> pd.DataFrame:
    """`tv2` and `regret`, and their exact means, over their bounds, and `identity`, a control variate of both.

    `identity` = (Σ KL − log|Π| − log_weight)/log|Π|. Told the channel, whoever drives, its mean is 0: Σ_i
    log(π*_η/mixture_η) at the labels telescopes to the posterior's gain.
    """
    log_class = rows.horizon * np.log(rows["size"])
    settings = list(zip(rows.horizon, log_class, rows.eta, rows.episodes, strict=True))
    bounds = {at: (tv_budget(*at[1:3]), at[3] * mean_regret_bound(*at)) for at in set(settings)}
    tv2, regret = np.array([bounds[at] for at in settings]).T
    return rows.assign(
        tv2=rows.tv2 / tv2, regret=rows.regret / regret, exact_tv2=rows.exact_tv2 / tv2,
        exact_regret=rows.exact_regret / regret, identity=(rows.kl - log_class - rows.log_weight) / log_class,
    )  # fmt: skip


def controlled(
    values: Float[np.ndarray, "i ..."],
    identity: Float[np.ndarray, "i ..."],
    told: Bool[np.ndarray, "..."] | bool = True,
) -> Float[np.ndarray, "..."] | np.floating:  # fmt: skip
    """Mean over instances of `values`, less their regression on `identity` where that has mean 0 (`told`), which
    narrows intervals. The slope is estimated from the same instances, which biases the mean by O(1/instances)."""
    centred = identity - identity.mean(0)
    slope = (centred * values).sum(0) / (centred**2).sum(0)
    return values.mean(0) - np.where(told, slope * identity.mean(0), 0.0)


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """`controlled` means over instances of `over_bounds` with their 95 % jackknife intervals, one row a setting and n,
    and the plain mean of `identity` with Student's."""
    rows = over_bounds(rows)
    table = rows[rows.instance == rows.instance.iloc[0]].reset_index(drop=True)
    table["instances"] = rows.instance.nunique()
    samples = [rows.pivot(index="instance", columns=KEYS, values=name)[list(table[KEYS].itertuples(index=False))]
               for name in QUANTITIES]  # fmt: skip
    each, told = np.stack(samples, axis=1), (table.learner != "wrong-eta").to_numpy()
    found = {"identity": mean_interval(each[:, -1])}
    for i, name in enumerate(QUANTITIES[:-1]):
        found[name] = jackknife_interval(lambda each, i=i: controlled(each[:, i], each[:, -1], told), each)
    for name, at in found.items():
        table[name], table[f"{name}_low"], table[f"{name}_high"] = at
    columns = [f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")]
    return table[[*KEYS, "episodes", "instances", "replicates", *columns, "exact_tv2", "exact_regret"]]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The inequalities, how tight they are, what moves the ratios, and who is outside the guarantee."""
    table, each = analyse(rows), over_bounds(rows)
    last = table[table.factor == table.factor.max()]
    random, hard_ones = (table[(table.family == "random") == of] for of in (True, False))
    random = random[random.learner == "mixture"]
    return [
        _below(random), _exact_below(hard_ones), _coverage(hard_ones),
        _identity(pd.concat([last[(last.family == "random") & (last.learner != "wrong-eta")], hard_ones])),
        _tight("coin", "tv2", 0.75, table), _tight("rare", "regret", 1 / 3, table),
        *_trends(each[(each.factor == each.factor.max()) & (each.learner == "mixture")]),
        *(_outside(learner, last[last.learner == learner]) for learner in OUTSIDE),
    ]  # fmt: skip


def _below(points: pd.DataFrame) -> Claim:
    worst = points.tv2_high.max()
    return Claim(
        "random classes: Σ TV² is below log|Π|/(2(1−η)²) at every H, N, η and n", SOURCE,
        "an upper end of a 95 % interval of measured/bound that is 1 or more",
        f"largest upper end {worst:.3f} over {len(points)} points; measured/bound from {points.tv2.min():.3f} to "
        f"{points.tv2.max():.3f}",
        bool(worst < 1),
    )  # fmt: skip


def _exact_below(points: pd.DataFrame) -> Claim:
    worst = points[["exact_tv2", "exact_regret"]].max()
    return Claim(
        "coin and rare: the exact means of Σ TV² and of the regret are below their bounds at every H, N, η and n",
        SOURCE,
        "an exact mean that is its bound or more",
        f"largest exact/bound: Σ TV² {worst.exact_tv2:.4f}, regret {worst.exact_regret:.4f}; {len(points)} points",
        bool((worst < 1).all()),
    )  # fmt: skip


def _covered(statement: str, inside: pd.Series) -> Claim:
    chance = coverage_chance(int(inside.sum()), len(inside))
    return Claim(
        statement, SOURCE, f"so few of the 95 % intervals contain it that the chance of that few is below {REFUTED:g}",
        f"{inside.sum()} of {len(inside)} intervals contain it (chance of so few {chance:.2g})",
        bool(chance >= REFUTED),
    )  # fmt: skip


def _coverage(points: pd.DataFrame) -> Claim:
    """One quantity a point: what its family is made for."""
    inside = [
        getattr(row, f"{name}_low") <= getattr(row, f"exact_{name}") <= getattr(row, f"{name}_high")
        for row in points.itertuples() for name in ["tv2" if row.family == "coin" else "regret"]
    ]  # fmt: skip
    return _covered("coin and rare: simulated Σ TV² (coin) and regret (rare) have their exact means", pd.Series(inside))


def _identity(points: pd.DataFrame) -> Claim:
    inside = (points.identity_low <= 0) & (points.identity_high >= 0)
    return _covered(
        "told the channel, whoever drives: mean Σ KL is log|Π| + mean log of the expert's posterior mass",
        inside,
    )


def _tight(family: str, name: str, least: float, table: pd.DataFrame) -> Claim:
    points = table[table.family == family]
    lowest = points[f"{name}_low"].min()
    return Claim(
        f"{family}: {RATIO[name]} is at least {least:.2f} at every H, N, η and n", SOURCE,
        f"a lower end of a 95 % interval of measured/bound below {least:.2f}",
        f"lowest lower end {lowest:.3f}; measured/bound from {points[name].min():.3f} to {points[name].max():.3f}",
        bool(lowest >= least),
    )  # fmt: skip


def quotient(top: Float[np.ndarray, "i 2"], bottom: Float[np.ndarray, "j 2"], paired: bool) -> Interval:
    """Quotient of two `controlled` means with its 95 % jackknife interval over instances, by its logarithm; each has
    the values and their identity as columns, of the same instances if `paired`."""

    def log(each):
        return np.log(controlled(*each.T))

    if paired:
        both = np.stack([top, bottom], axis=1)
        found = jackknife_interval(lambda each: log(each[:, 0]) - log(each[:, 1]), both)
    else:
        found = jackknife_interval(lambda one, other: log(one) - log(other), top, bottom)
    return Interval(*map(np.exp, found))


def _trends(each: pd.DataFrame) -> list[Claim]:
    """From the least to the greatest H, N or η, the others as in the first setting, at the largest n/n₀."""
    first = each[SETTING].iloc[0]
    found = []
    for family, name, axis, low, high in (
        ("random", "tv2", "horizon", 0.8, 1.25), ("random", "tv2", "size", 2 / 3, 1.5),
        ("random", "tv2", "eta", 1.0, np.inf), ("random", "regret", "horizon", 0.0, None),
        ("rare", "regret", "horizon", 0.8, 1.25),
    ):  # fmt: skip
        others = [other for other in SETTING if other != axis]
        points = each[(each.family == family) & (each[others] == first[others]).all(axis=1)]
        least, most = points[axis].min(), points[axis].max()
        limit = (least / most) ** 0.5 if high is None else high
        at = quotient(
            *(points[points[axis] == x][[name, "identity"]].to_numpy() for x in (most, least)), paired=axis == "eta"
        )
        words = {None: "falls by more than the square root", np.inf: "rises"}
        words = words.get(high, f"changes by a factor in [{low:.2f}, {limit:.2f}]")
        found.append(Claim(
            f"{family}: {RATIO[name]} {words} from the least to the greatest {AXES[axis]}", SOURCE,
            f"the 95 % interval of the quotient of the two ratios does not lie inside ({low:.2f}, {limit:.2f})",
            f"{AXES[axis]} {least:g} to {most:g}: factor {at.estimate:.3f} [{at.low:.3f}, {at.high:.3f}]",
            bool(low < at.low and at.high < limit),
        ))  # fmt: skip
    return found


def _outside(learner: str, points: pd.DataFrame) -> Claim:
    point = points.iloc[0]
    return Claim(
        f"outside the guarantee: {OUTSIDE[learner]}, has Σ TV² above log|Π|/(2(1−η)²) at the last n", SOURCE,
        "a lower end of the 95 % interval of measured/bound that is 1 or less",
        f"measured/bound {point.tv2:.2f} [{point.tv2_low:.2f}, {point.tv2_high:.2f}] at n = {point.episodes}",
        bool(point.tv2_low > 1),
    )  # fmt: skip

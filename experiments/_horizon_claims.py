"""What is claimed of n*(H): the form and the slope of every curve, the known curves through the points, the genie's
bound, and that the hidden path's own tree has the chain's law (docs/theory.md §4.1, §4.2, §4.7, §5)."""

import math

import numpy as np
import pandas as pd
from scipy.stats import norm

from nail.figures.claims import every, inside, judged
from nail.figures.experiment import Claim
from nail.stats import NORMAL_95
from nail.theory.exact import right_probability
from nail.theory.known import level_spread
from nail.theory.online import episodes_per_level
from nail.theory.scaling import LineFit, Scaling

from ._nstar import (
    EXPONENTIAL,
    POLYNOMIAL,
    TREE,
    above_zero,
    at_each,
    coverage_claim,
    enough_points,
    episodes,
    fit_n_star,
    label,
    log_ratio,
    of,
    with_known,
)

CHAIN, PATH = "poison-chain", "hidden-path"
CURVES = {**{(CHAIN, method): method for method in EXPONENTIAL + POLYNOMIAL}, (PATH, "loglossbc"): "loglossbc"}
"""(instance, method) of the measured curves"""
NEAR = 0.1
"""relative margin of a slope (rate −log q, or μ): its whole interval lies within"""
DAGGER = 0.2
"""relative margin of DAgger's slope around that of NAIL-F; β_i makes it another law"""
SAME = 0.15
"""relative margin of n* on the tree around n* on the chain"""
DECIDED = 4.0
"""difference in AIC that decides"""


def fit(points: pd.DataFrame) -> Scaling | None:
    """The fits of one curve; for learners of labels that play greedily, with the √H of docs/theory.md §4.2."""
    row, root = next(points.itertuples(), None), None
    if row is None:
        return None
    if row.method in ("nail-f", "dagger"):
        root = float(norm.ppf(1.0 - row.delta)) * level_spread(row.n_actions, row.eta)
    return fit_n_star(points, root)


def rate(rows: pd.DataFrame) -> float:
    """−log q of the curves' setting, nats a step."""
    row = next(of(rows, part="curves").itertuples())
    return -math.log(right_probability(row.n_actions, row.eta))


def per_level(rows: pd.DataFrame) -> float:
    """μ of the curves' setting, episodes a level."""
    row = next(of(rows, part="curves").itertuples())
    return episodes_per_level(row.n_actions, row.eta)


def line_of(found: Scaling, method: str) -> tuple[str, LineFit]:
    return ("exponential", found.exponential) if method in EXPONENTIAL else ("linear", found.linear)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Form and slope of every curve, the known curves through the points, the genie, and the check on the tree."""
    curves, tree = (with_known(of(rows, part=part), "horizon") for part in ("curves", "tree"))
    greedy = of(curves, instance=CHAIN, method="nail-f")
    return [
        *(_rate_claim(curves, instance, method, rate(rows)) for instance, method in CURVES if method in EXPONENTIAL),
        coverage_claim(
            of(curves, instance=CHAIN, method="loglossbc"), "n_bc", "horizon",
            "poison chain: the measured n* of LogLossBC is the exact one", "docs/theory.md §4.2",
        ),
        coverage_claim(
            greedy, "n_greedy", "horizon", "poison chain: the measured n* of NAIL-F is that of the law of one level",
            "docs/theory.md §4.2",
        ),
        _mean_cost_claim(greedy, per_level(rows)),
        _dagger_claim(of(curves, instance=CHAIN, method="dagger"), greedy),
        _linear_claim(of(curves, instance=CHAIN, method="nail-r")),
        _genie_claim(of(curves, instance=PATH, method="loglossbc")),
        *(_tree_claim(tree, method) for method in ("nail-f", "opd-f")),
    ]  # fmt: skip


ABOVE = f"AIC(exponential) {DECIDED:g} above the smaller of the other two"
BELOW = f"AIC(exponential) {DECIDED:g} below the smaller of the other two"
WIDE = "undecided where that interval is wider than this band and meets it, and where AIC does not decide"
TITLE = {CHAIN: "poison chain", PATH: "hidden path"}


def _numbers(found: Scaling, method: str, points: pd.DataFrame) -> str:
    _, line = line_of(found, method)
    beyond = int((points.censored != 0).sum())
    return (
        f"slope {line.slope:.3f}, 95 % interval [{line.interval[0]:.3f}, {line.interval[1]:.3f}]; AIC(exponential) − "
        f"AIC(power law or linear) = {found.delta_aic:.1f}; {len(points)} points, {beyond} of them censored"
    )


def _within(interval: tuple[float, float], target: float, margin: float) -> bool | None:
    return inside(interval, target * (1 - margin), target * (1 + margin))


def _exponential(found: Scaling) -> bool | None:
    """Whether AIC decides for an exponential, and not against it."""
    return None if abs(found.delta_aic) < DECIDED else found.delta_aic < 0


def _other(found: Scaling) -> bool | None:
    """Whether AIC decides against an exponential, and not for it."""
    return None if abs(found.delta_aic) < DECIDED else found.delta_aic > 0


def _rate_claim(curves: pd.DataFrame, instance: str, method: str, b: float) -> Claim:
    points = of(curves, instance=instance, method=method)

    def measure() -> tuple[str, bool | None]:
        found = fit(points)
        return _numbers(found, method, points), every(_exponential(found), _within(found.exponential.interval, b, NEAR))

    return judged(
        f"{TITLE[instance]}: n* of {label(method)} is exponential in H at rate −log q a step",
        "docs/theory.md §4.1, §4.2, §5",
        f"some of the rate's 95 % interval further than ±{NEAR:.0%} from −log q = {b:.3f}, or {ABOVE}; {WIDE}",
        enough_points(points),
        measure,
    )


def _mean_cost_claim(points: pd.DataFrame, mu: float) -> Claim:
    def measure() -> tuple[str, bool | None]:
        found = fit(points)
        return _numbers(found, "nail-f", points), every(_other(found), _within(found.linear.interval, mu, NEAR))

    return judged(
        "poison chain: n* of NAIL-F is not exponential in H, and its slope is μ, given the √H term "
        "(n* = bH + zσ√H + a)", "docs/theory.md §4.2, §5",
        f"some of the 95 % interval of b further than ±{NEAR:.0%} from μ = {mu:.4f}, or {BELOW}; {WIDE}",
        enough_points(points), measure,
    )  # fmt: skip


def _dagger_claim(points: pd.DataFrame, greedy: pd.DataFrame) -> Claim:
    """The two slopes are independent: the interval of their ratio on the scale of logarithms."""
    found, other = fit(points), fit(greedy)
    sure = found is not None and other is not None and min(x.linear.interval[0] for x in (found, other)) > 0

    def measure() -> tuple[str, bool | None]:
        half = math.hypot(*(math.log(x.linear.interval[1] / x.linear.interval[0]) / 2 for x in (found, other)))
        ratio = found.linear.slope / other.linear.slope
        interval = ratio * math.exp(-half), ratio * math.exp(half)
        numbers = f"ratio {ratio:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]; " + _numbers(found, "dagger", points)
        return numbers, every(_other(found), _within(interval, 1.0, DAGGER))

    return judged(
        "poison chain: n* of DAgger is not exponential in H, and its slope, given the √H term, is near that of NAIL-F",
        "docs/theory.md §4.2",
        f"some of the 95 % interval of the ratio of slopes further than ±{DAGGER:.0%} from 1, or {BELOW}; {WIDE}",
        {**enough_points(points), "as many of NAIL-F": other is not None, "slopes whose intervals are above 0": sure},
        measure,
    )


def _linear_claim(points: pd.DataFrame) -> Claim:
    def measure() -> tuple[str, bool | None]:
        found = fit(points)
        return _numbers(found, "nail-r", points), _other(found)

    return judged(
        "poison chain: n* of NAIL-R (reads probabilities) is not exponential in H", "docs/theory.md §5",
        f"{BELOW} (a power law, n* = bH + c√H); undecided where AIC does not decide", enough_points(points), measure,
    )  # fmt: skip


def _genie_claim(points: pd.DataFrame) -> Claim:
    return judged(
        "hidden path: LogLossBC needs at least the genie's number of trajectories", "docs/theory.md §4.1, §4.7",
        "the 95 % interval of n* ends below the genie's number at some H",
        {"points of LogLossBC on the hidden path": len(points) > 0,
         "the genie's number at each point": bool(points.n_offline.notna().all())},
        lambda: ("n*/genie: " + at_each("horizon", points, episodes(points) / points.n_offline),
                 bool((points.high >= points.n_offline).all())),
    )  # fmt: skip


def _tree_claim(rows: pd.DataFrame, method: str) -> Claim:
    """On its own tree the hidden path has the chain's n*: the exact one of NAIL-F, the measured one of OPD-F."""
    points, beside = of(rows, instance=TREE, method=method).sort_values("horizon"), "exact n*"
    if method != "nail-f":
        chain, beside = of(rows, instance=CHAIN, method=method).sort_values("horizon"), "measured n*"
        points, chain = (x[x.horizon.isin(set(points.horizon) & set(chain.horizon))] for x in (points, chain))

    def measure() -> tuple[str, bool | None]:
        if method == "nail-f":
            low, ratio, high = (points[name] / points.n_greedy for name in ("low", "n_star", "high"))
        else:
            middle, sd = log_ratio(points, chain)
            low, ratio, high = np.exp(middle + np.outer([-NORMAL_95, 0.0, NORMAL_95], sd))
        ends = f"ends from {min(low):.3f} to {max(high):.3f}"
        within = every(*(_within(interval, 1.0, SAME) for interval in zip(low, high, strict=True)))
        return f"A = 2, ratios {at_each('horizon', points, ratio)}; {ends}", within

    return judged(
        f"{label(method)} has the chain's {beside} on the hidden path's own tree too", "docs/theory.md §4.1, §4.2",
        f"some of a 95 % interval of n*(tree)/n*(chain) further than ±{SAME:.0%} from 1; undecided where one is "
        "wider than that and meets it",
        {"points on the tree and on the chain at the same H": len(points) > 0, **above_zero(points)}, measure,
    )  # fmt: skip

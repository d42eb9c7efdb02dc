"""Labels, on-policy labels, reward: what the stages of post-training, and their order, do to a student.

docs/steering.md §2: chains of stages on `defclass`, each stage with the same number of updates, from prompts most of
whose definitions are the usual ones. Accuracy, steerability and over-selection are those of the last row of a chain.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.figures.experiment import Claim
from nail.figures.plotting import TEXT_WIDTH, note
from nail.stats import mean_interval

from ._stages import (
    BEST,
    CHAINS,
    COSTS,
    DIVERSE_ORDERS,
    HOW,
    METHOD,
    MISLED,
    NAMES,
    ORDERS,
    OTHERS,
    WRONG,
    WRONGED,
    at,
    elsewhere,
    gain,
    in_words,
    prepared,
    runs,
    teacher,
    words,
)  # fmt: skip
from ._training import figure_of_runs, per_seed

SOURCE = "docs/steering.md §2.3"


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each chain and metric: mean over seeds with Student's interval (kind "mean"), each seed (kind "seed"), and the
    chain's cost."""
    rows = prepared(rows)
    found = []
    for chain, part in rows.groupby("chain", sort=False):
        cost = {name: part[name].iloc[0] for name in COSTS}
        for metric in NAMES:
            values = at(rows, chain, metric)
            found.append({"chain": chain, "kind": "mean", "metric": metric, "n_seeds": len(values), **cost,
                          **dict(zip(("value", "low", "high"), mean_interval(values), strict=True))})  # fmt: skip
            found += [{"chain": chain, "kind": "seed", "metric": metric, "value": value, **cost} for value in values]
    return pd.DataFrame(found)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What docs/steering.md §2.3 expects, each with its numbers."""
    rows = prepared(rows)
    return [
        _hides(rows),
        *(_improves(rows, f"SFT > {name}") for name in ("OPD", "NAIL")),
        *(_inherits(rows, chain) for chain in WRONGED),
        _beats_teacher(rows),
        _beyond(rows, BEST, "SFT > OPD > OPD"),
        _beyond(rows, elsewhere(BEST), elsewhere("SFT > OPD > OPD")),
        _alone(rows),
        *(_best(rows, ORDERS, BEST, metric) for metric in ("answer_exact", "steerability")),
        *(_best(rows, DIVERSE_ORDERS, elsewhere(BEST), metric) for metric in ("perturbed_exact", "steerability")),
        *(_diverse(rows, f"SFT > {name}") for name in METHOD),
        _diverse(rows, f"SFT > OPD{OTHERS} > RL"),
        _offline_suffices(rows),
    ]


def _hides(rows: pd.DataFrame) -> Claim:
    accuracy, found = at(rows, "SFT", "answer_exact"), at(rows, "SFT", "steerability")
    return Claim(
        "accuracy hides a loss of steerability: SFT has an accuracy of 0.95 or more and a steerability of 0.5 or less "
        "(every seed)", SOURCE, "one seed with an accuracy below 0.95 or a steerability above 0.5",
        f"accuracy per seed: {per_seed(accuracy)}; steerability: {per_seed(found)}",
        bool(((accuracy >= 0.95) & (found <= 0.5)).all()),
    )  # fmt: skip


def _improves(rows: pd.DataFrame, chain: str) -> Claim:
    found = [gain(rows, chain, "SFT > SFT", metric) for metric in ("answer_exact", "steerability")]
    return Claim(
        f"{chain} improves accuracy and steerability over SFT > SFT, at equal updates", SOURCE,
        f"an interval of a gain ({HOW}) that is not above 0", words(found), all(each.above for each in found),
    )  # fmt: skip


def _inherits(rows: pd.DataFrame, chain: str) -> Claim:
    values, right = at(rows, chain, "perturbed_exact"), chain.replace(MISLED, OTHERS)
    found = gain(rows, chain, right, "perturbed_exact")
    return Claim(
        f"{chain}: where the mode of the teacher is wrong the student inherits it (η_new = {WRONG:g}, accuracy on "
        f"perturbed definitions of 0.5 or less, every seed, and less than that of {right})", SOURCE,
        f"one seed above 0.5, or an interval of the difference ({HOW}) that is not below 0",
        f"accuracy on perturbed definitions per seed: {per_seed(values)}; the teacher's: {teacher(rows, chain):.3f}; "
        f"of SFT: {per_seed(at(rows, 'SFT', 'perturbed_exact'))}; {words([found])}",
        bool((values <= 0.5).all()) and found.below,
    )  # fmt: skip


def _beats_teacher(rows: pd.DataFrame) -> Claim:
    chain = f"SFT > NAIL{OTHERS}"
    values, own = at(rows, chain, "perturbed_exact"), teacher(rows, chain)
    found = mean_interval(values - own)
    return Claim(
        f"{chain}: where the mode of the teacher is right the student is better than its teacher's samples", SOURCE,
        f"an interval of the mean gain ({HOW}) that is not above 0",
        f"accuracy on perturbed definitions per seed: {per_seed(values)}; the teacher's: {own:.3f}; gain "
        f"{in_words(found)}", bool(found.low > 0),
    )  # fmt: skip


def _beyond(rows: pd.DataFrame, chain: str, other: str) -> Claim:
    found = [gain(rows, chain, other, m) for m in ("perturbed_exact", "over_selection", "steerability")]
    return Claim(
        f"{chain} goes beyond {other}: more accurate on perturbed definitions, the majority is chosen less "
        "often where it is wrong, steerability does not fall", SOURCE,
        f"an interval ({HOW}) of the gain in accuracy not above 0, of over-selection not below 0, or of steerability "
        "below 0", words(found), found[0].above and found[1].below and not found[2].below,
    )  # fmt: skip


def _alone(rows: pd.DataFrame) -> Claim:
    found = gain(rows, "RL > RL", "SFT > RL", "answer_exact")
    return Claim(
        "RL alone is worse than SFT > RL, at equal updates", SOURCE,
        f"an interval of its gain in accuracy ({HOW}) that is not below 0", words([found]), found.below,
    )  # fmt: skip


def _best(rows: pd.DataFrame, orders: tuple[str, ...], best: str, metric: str) -> Claim:
    found = [gain(rows, order, best, metric) for order in orders if order != best]
    return Claim(
        f"none of the other five orders is above {best} in {NAMES[metric]}", SOURCE,
        f"another order whose interval of a gain over it ({HOW}) is above 0", words(found),
        not any(each.above for each in found),
    )  # fmt: skip


def _diverse(rows: pd.DataFrame, chain: str) -> Claim:
    found = gain(rows, f"{chain}{OTHERS}", chain, "steerability")
    return Claim(
        f"it is the diversity of definitions that restores steerability: {chain} is more steerable when the last "
        "stage's prompts have ε = 1 than when they are like those of SFT", SOURCE,
        f"an interval of the gain ({HOW}) that is not above 0", words([found]), found.above,
    )  # fmt: skip


def _offline_suffices(rows: pd.DataFrame) -> Claim:
    found = [
        gain(rows, f"SFT > {name}{OTHERS}", f"SFT > SFT{OTHERS}", "steerability") for name in ("OPD", "NAIL", "RL")
    ]
    return Claim(
        "with diverse definitions offline labels restore as much steerability as on-policy labels or reward", SOURCE,
        f"an interval of a gain of OPD, NAIL or RL over SFT, all with ε = 1 ({HOW}), that is above 0", words(found),
        not any(each.above for each in found),
    )  # fmt: skip


SHOWN = ("answer_exact", "perturbed_exact", "steerability", "over_selection")
"""metrics with a panel of their own"""
GROUPS = {MISLED: ("†", "#D55E00"), OTHERS: ("*", "#009E73"), "": ("", "#0072B2")}
"""mark of a stage in a chain → what stands for it in the drawing, and the chain's colour"""


AFTER = (f"SFT > SFT{OTHERS}", "RL > RL", ORDERS[0], DIVERSE_ORDERS[0])
"""chains above which the drawing has a line"""


def draw(table: pd.DataFrame) -> Figure:
    """A line for each chain: its metrics with intervals over seeds, and what it cost."""
    shown = [chain for chain in CHAINS if chain in set(table.chain)]
    figure = Figure(figsize=(TEXT_WIDTH, 1.2 + 0.19 * len(shown)), layout="constrained")
    panels = figure.subplots(1, len(SHOWN) + 1, sharey=True)
    for axes, metric in zip(panels, SHOWN, strict=False):
        _draw_metric(axes, table[table.metric == metric], shown)
        axes.set_title(NAMES[metric].replace(" on ", "\non ").replace(" def", "\ndef"))
        axes.set_xlim(-0.05, 1.05)
    _draw_costs(panels[-1], table, shown)
    panels[0].set_yticks(range(len(shown)), [_short(chain) for chain in shown])
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    for axes in panels:
        for chain in AFTER:
            axes.axhline(shown.index(chain) - 0.5, color="#666666", linewidth=0.6)
    seeds = table[table.kind == "mean"].n_seeds.max()
    note(
        figure, f"mean of {seeds:g} seeds with Student's 95 % interval, dots: seeds; accuracy: at the last stage's own "
        "prompts.\n* a stage whose prompts have ε = 1 (else ε = 0.02); † the same with a teacher whose mode is wrong "
        "there",
    )  # fmt: skip
    return figure


def _short(chain: str) -> str:
    """A chain in the words of the drawing."""
    for mark, (sign, _) in list(GROUPS.items())[:-1]:
        chain = chain.replace(mark, sign)
    return chain.replace(" > ", " → ")


def _draw_metric(axes: Axes, table: pd.DataFrame, shown: list[str]) -> None:
    """Mean, interval and seeds of one metric."""
    for place, chain in enumerate(shown):
        colour = next(colour for mark, (_, colour) in GROUPS.items() if mark in chain)
        part = table[table.chain == chain]
        mean, seeds = part[part.kind == "mean"].iloc[0], part[part.kind == "seed"].value
        axes.hlines(place, max(mean.low, 0), min(mean.high, 1), color=colour, linewidth=1.2)
        axes.plot(mean.value, place, "o", color=colour, markersize=4)
        axes.plot(seeds, [place] * len(seeds), ".", color=colour, markersize=2.5, alpha=0.5)


def _draw_costs(axes: Axes, table: pd.DataFrame, shown: list[str]) -> None:
    """Bars of teacher queries and verified rollouts, thousands."""
    cost = table.drop_duplicates("chain").set_index("chain").loc[shown]
    places = np.arange(len(shown))
    axes.barh(places - 0.18, cost.queries / 1000, 0.34, color="#888888", label="teacher's labels")
    axes.barh(places + 0.18, cost.rollouts / 1000, 0.34, color="#CC79A7", label="verified rollouts")
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xticks([0, 10, 100, 1000], ["0", "10", "100", "1000"])
    axes.set_title("cost\n(thousands)")
    axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, -0.13))


EXPERIMENT = figure_of_runs(
    "stages",
    "labels, on-policy labels, reward: what the stages of post-training and their order do to a student's steerability",
    {
        "smoke": "80 runs of 20 updates, some minutes on two cores, most of them for ten compilations",
        "cpu": "200 runs of 500 updates, about 6.5 minutes on two cores",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

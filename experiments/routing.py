"""Routing: three ways in which a student can fail, and which of five treatments mends each in the fewest trajectories.

docs/post_training.md §3: classification by definitions that are drawn anew for each prompt. Starts: fine-tuning that
was stopped early; that never saw other than the usual definitions, nor a negated one; that learned from an expert whose
most likely mark is wrong. From each of them: fine-tuning on the expert's chains, rejection sampling, GRPO, DPO, NAIL-F,
at equal numbers of trajectories.
"""

import dataclasses

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nail.figures.experiment import Claim
from nail.figures.plotting import TEXT_WIDTH, curve, handle, note
from nail.stats import median_interval
from nail.sweep.grid import grid
from nail.sweep.stages import Runs
from nail.training.config import TrainConfig

from ._training import SEEDS, UNSOLVED, figure_of_runs, over_seeds, per_seed

CPU = TrainConfig(
    task="defclass", method="loglossbc", epsilon=1.0, eta=0.0, width=32, heads=4, layers=2, init_std=0.1, batch=64,
    lr=3e-3, warmup=20, steps=500, eval_every=500, n_validation=400,
)  # fmt: skip
BASE = {"smoke": dataclasses.replace(CPU, width=8, heads=2, batch=16, n_validation=50), "cpu": CPU}
"""preset → fine-tuning on the expert's chains at random definitions without a NOT; all runs vary it"""
EXECUTION, ABSENT, MISRANKED = STARTS = ("execution", "absent", "mis-ranked")
EXPERT = {
    EXECUTION: {}, ABSENT: {"negated": 1.0}, MISRANKED: {"negated": 1.0, "noise": "misread", "eta": 0.6},
}  # fmt: skip
"""start → prompts of the treatments and the expert's law there; the start itself had the same, or those of `BEFORE`"""
BEFORE = {ABSENT: {"epsilon": 0.0}}
FIRST = {
    "smoke": {EXECUTION: 2, ABSENT: 4, MISRANKED: 4},
    "cpu": {EXECUTION: 240, ABSENT: 300, MISRANKED: 500},
}
"""preset → updates of the start"""
SETTLE = {"smoke": 2, "cpu": 200}
"""preset → updates at the rate `SLOW` in which the mis-ranked start comes to rest at the chances that its expert has"""
SLOW = 3e-4
BUDGET = {
    "smoke": dict.fromkeys(STARTS, (4, 2)), "cpu": {EXECUTION: (35, 5), ABSENT: (400, 40), MISRANKED: (8, 1)},
}  # fmt: skip
"""preset → updates of each treatment, and between evaluations"""
TREATMENTS = {
    "loglossbc": "SFT", "rft-online": "rejection\nsampling", "grpo": "GRPO", "dpo": "DPO", "nail-f": "NAIL-F",
}  # fmt: skip
"""method → what it is called"""
REWARDED, LABELLED = ("rft-online", "grpo", "dpo"), ("loglossbc", "nail-f")
RATES = {
    EXECUTION: {"loglossbc": 3e-3, "rft-online": 3e-4, "grpo": 3e-4, "dpo": 3e-4, "nail-f": 3e-3},
    ABSENT: dict.fromkeys(TREATMENTS, 3e-3),
    MISRANKED: dict.fromkeys(TREATMENTS, 3e-4),
}
"""start → method → learning rate, from the pilots of docs/post_training.md §3, as the budgets are"""
DIAGONAL = {EXECUTION: "nail-f", ABSENT: "loglossbc", MISRANKED: "dpo"}
"""start → the treatment that the rule routes it to"""
DRAWS, FOUND = 256, 0.95
"""a behaviour is there where so many sampled chains hold a right one with this probability, absent where they do with
1 minus it"""
TOKENS = 13
"""of a chain"""
BY = ["begun", "method"]
SOURCE = "docs/post_training.md §3"


def first_stages(preset: str, start: str) -> tuple[TrainConfig, ...]:
    """Fine-tuning on the expert's chains: stopped early, on the usual definitions alone, or on an expert that misses a
    NOT (then in two stages, the second one slower)."""
    steps, prompts = FIRST[preset][start], BEFORE.get(start, EXPERT[start])
    first = dataclasses.replace(BASE[preset], steps=steps, eval_every=steps, **prompts)
    if start != MISRANKED:
        return (first,)
    rest = SETTLE[preset]
    return first, dataclasses.replace(first, steps=rest, eval_every=rest, lr=SLOW, warmup=0)


def treatment(preset: str, start: str, method: str) -> TrainConfig:
    """What is done from the end of a start."""
    steps, every = BUDGET[preset][start]
    # a reward asks no noisy expert
    given = {"reward": "chain", "noise": "uniform", "eta": TrainConfig.eta} if method in REWARDED else {}
    return dataclasses.replace(
        BASE[preset], method=method, steps=steps, eval_every=every, lr=RATES[start][method], warmup=5,
        **{**EXPERT[start], **given},
    )  # fmt: skip


def runs(preset: str) -> Runs:
    """Seed by seed, each start and the five treatments that begin with its end."""
    found = []
    for start in STARTS:
        for method in TREATMENTS:
            stages = (*first_stages(preset, start), treatment(preset, start, method))
            found += zip(*(grid(stage, seed=SEEDS[preset]) for stage in stages), strict=True)
    return tuple(found)


def treated(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of treatments, with the start that each begins with in words, and the geometric mean over prompts of the
    chance that a sampled chain is right."""
    second = rows[(rows.start != "") & ~rows.run.isin(rows.start)]
    misled = second.start.isin(rows.run[rows.noise == "misread"])
    begun = np.where(misled, MISRANKED, np.where(second.negated == 1, ABSENT, EXECUTION))
    return second.assign(begun=begun, chance=np.exp(-TOKENS * second.val_loss))


def gains(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """(accuracy at the end − accuracy at the start)/(trajectories/10,000), per seed. The rows are one cell's."""
    at = over_seeds(rows, "full_exact")
    return ((at.iloc[-1] - at.iloc[0]) / (at.index[-1] / 10_000)).to_numpy()


def analyse(rows: pd.DataFrame) -> pd.DataFrame:
    """For each start and treatment: accuracy by trajectories (kind "curve": mean and standard deviation over seeds),
    the gain of each seed (kind "seed") and its median with an interval of order statistics (kind "median")."""
    parts = []
    for (begun, method), cell in treated(rows).groupby(BY, sort=False):
        at, gain = over_seeds(cell, "full_exact"), gains(cell)
        numbers = {"episodes": at.index, "mean": at.mean(axis=1).to_numpy(), "sd": at.std(axis=1, ddof=1).to_numpy()}
        middle = {"kind": "median", **median_interval(gain)._asdict()}
        found = [{"kind": "seed", "value": value} for value in gain] + [middle]
        part = pd.concat([pd.DataFrame({"kind": "curve", **numbers}), pd.DataFrame(found)])
        parts.append(part.assign(begun=begun, method=method, n_seeds=len(gain)))
    columns = [*BY, "kind", "episodes", "mean", "sd", "value", "low", "high", "level", "n_seeds"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The starts are what they are called, and the diagonal wins; what docs/post_training.md §3 expects."""
    cells = dict(iter(treated(rows).groupby(BY)))
    return [
        *_starts(cells),
        *(_diagonal(cells, start) for start in STARTS),
        _left_behind(cells, ABSENT, REWARDED, "a reward"),
        _left_behind(cells, MISRANKED, LABELLED, "an expert with the wrong mode"),
    ]  # fmt: skip


def _starts(cells: dict[tuple[str, str], pd.DataFrame]) -> list[Claim]:
    """What a start's sampled and greedy chains hold; all treatments of a start begin with the same numbers."""
    at = {start: cells[start, "grpo"].query("step == 0").sort_values("seed") for start in STARTS}
    found = {start: 1 - (1 - part.chance.to_numpy()) ** DRAWS for start, part in at.items()}
    chance, greedy = at[MISRANKED].chance.to_numpy(), at[MISRANKED].full_exact.to_numpy()
    drawn = f"of a typical prompt (geometric mean) {DRAWS} sampled chains hold a right one with probability"
    shown = "probability per seed: {}; greedy accuracy: {}"
    return [
        Claim(
            f"{EXECUTION}: the behaviour is there: {drawn} ≥ {FOUND:g} (every seed)", SOURCE,
            f"one seed below {FOUND:g}",
            shown.format(per_seed(found[EXECUTION]), per_seed(at[EXECUTION].full_exact)),
            bool((found[EXECUTION] >= FOUND).all()),
        ),
        Claim(
            f"{ABSENT}: the behaviour is not there: {drawn} ≤ {1 - FOUND:.2g} (every seed)", SOURCE,
            f"one seed above {1 - FOUND:.2g}",
            shown.format(per_seed(found[ABSENT]), per_seed(at[ABSENT].full_exact)),
            bool((found[ABSENT] <= 1 - FOUND).all()),
        ),
        Claim(
            f"{MISRANKED}: a sampled chain is right more often than the greedy one (every seed)", SOURCE,
            "one seed whose greedy accuracy is at least the chance of a sampled chain (geometric mean over prompts)",
            f"chance per seed: {per_seed(chance)}; greedy accuracy: {per_seed(greedy)}", bool((greedy < chance).all()),
        ),
    ]  # fmt: skip


def _diagonal(cells: dict[tuple[str, str], pd.DataFrame], start: str) -> Claim:
    """The treatment of the rule gains more than each other one, seed by seed."""
    gain, own = {method: gains(cells[start, method]) for method in TREATMENTS}, DIAGONAL[start]
    others = np.stack([gain[method] for method in TREATMENTS if method != own])
    return Claim(
        f"{start}: {TREATMENTS[own]} gains most per 10,000 trajectories (every seed)", SOURCE,
        "one seed in which another treatment gains as much",
        "gain per seed: " + "; ".join(f"{_words(method)}: {per_seed(value)}" for method, value in gain.items()),
        bool((gain[own] > others).all()),
    )  # fmt: skip


def _left_behind(
    cells: dict[tuple[str, str], pd.DataFrame], start: str, methods: tuple[str, ...], signal: str
) -> Claim:
    ends = {method: over_seeds(cells[start, method], "full_exact").iloc[-1].to_numpy() for method in methods}
    return Claim(
        f"{start}: what learns from {signal} ({', '.join(map(_words, methods))}) does not mend it (full chain < "
        f"{UNSOLVED:g}, every seed)", SOURCE, f"one seed at {UNSOLVED:g} or more at the end of the budget",
        "full-chain accuracy per seed: " + "; ".join(f"{_words(m)}: {per_seed(value)}" for m, value in ends.items()),
        all((value < UNSOLVED).all() for value in ends.values()),
    )  # fmt: skip


def _words(method: str) -> str:
    return TREATMENTS[method].replace("\n", " ")


def draw(table: pd.DataFrame) -> Figure:
    """Accuracy against trajectories from each start, and the gains in colours, the rule's cells framed."""
    figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    panels = above.subplots(1, len(STARTS), sharey=True)
    for axes, start in zip(panels, STARTS, strict=True):
        _draw_curves(axes, table[(table.begun == start) & (table.kind == "curve")], start)
    panels[0].set_ylabel("full-chain accuracy (greedy)")
    above.legend(handles=[handle(method, _words(method)) for method in TREATMENTS], loc="outside upper center", ncols=5)
    _draw_gains(below.subplots(), table[table.kind == "median"])
    row = next(table.itertuples())
    level = table[table.kind == "median"].level.iloc[0]
    note(
        figure, f"{row.n_seeds:g} seeds; curves: mean, band ± 1 standard deviation; cells: median gain, below it its "
        f"{100 * level:.4g} % interval (order statistics);\nframed: the treatment that the rule routes a start to. A "
        "trajectory is a verified rollout (rejection sampling, GRPO, DPO),\na demonstration (SFT) or a rollout that "
        "the expert labelled (NAIL-F)",
    )  # fmt: skip
    return figure


def _draw_curves(axes: Axes, table: pd.DataFrame, start: str) -> None:
    for method in TREATMENTS:
        curve(axes, method, table[table.method == method].reset_index(), clip=(0.0, 1.0))
    axes.set_title(start)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=0)
    axes.set_xlabel("trajectories")


def _draw_gains(axes: Axes, table: pd.DataFrame) -> None:
    """A cell for each start (rows) and treatment (columns)."""
    cells = table.set_index(BY)
    value = np.array([[cells.value[start, method] for method in TREATMENTS] for start in STARTS])
    share = value / np.maximum(value.max(axis=1, keepdims=True), 1e-9)
    image = axes.imshow(share, cmap="RdBu", vmin=-1, vmax=1, aspect="auto", alpha=0.6)
    for i, start in enumerate(STARTS):
        for j, method in enumerate(TREATMENTS):
            cell = cells.loc[(start, method)]
            words = f"{cell.value:.2f}\n[{cell.low:.2f}, {cell.high:.2f}]".replace("-", "−")
            axes.text(j, i, words, ha="center", va="center", fontsize=7)
            if DIAGONAL[start] == method:
                axes.add_patch(Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, fill=False, linewidth=1.8))
    axes.set_xticks(range(len(TREATMENTS)), TREATMENTS.values())
    axes.set_yticks(range(len(STARTS)), STARTS)
    axes.set_ylabel("start")
    axes.set_title("gain in full-chain accuracy per 10,000 trajectories")
    axes.grid(visible=False)
    axes.figure.colorbar(image, ax=axes, label="share of the row's largest gain")


EXPERIMENT = figure_of_runs(
    "routing",
    "three starts, five treatments: which one gains most per verified rollout, and whether the routing rule says so",
    {
        "smoke": "57 runs of 2 or 4 updates, a minute and a half on two cores (compiling)",
        "cpu": "95 runs of 8 to 500 updates, about 4 minutes on two cores",
    },
    runs, analyse, claims, draw,
)  # fmt: skip

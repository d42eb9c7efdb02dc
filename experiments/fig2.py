"""Figure 2: modular addition at η = 0 and at high noise; who learns the clean expert from noisy labels.

Paper, figure 2 (paper_protocol.md). The presets `smoke` and `cpu` have a shorter chain and a higher η than the paper,
so that the chance of a clean trajectory, q^m with q = 1−η+η/p, is as small, and larger initial weights and learning
rate, so that a small network leaves its plateaus sooner.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nail.config import TrainConfig
from nail.experiment import Claim, Experiment, Row
from nail.methods import METHOD
from nail.plotting import TEXT_WIDTH, curve, handle
from nail.run import run_all

SOLVED = 0.95
UNSOLVED = 0.5
ZERO_LOSS = 0.05
"""nats per token"""
ORDER = ("loglossbc", "dagger", "opd-f", "opd-r", "nail-f", "nail-r")
METRICS = ("full_exact", "answer_exact", "val_loss")

PAPER = TrainConfig(precision="bfloat16")
CPU = TrainConfig(
    m=10, eta=0.5, width=64, heads=4, init_std=0.1, lr=1e-3, warmup=100, steps=2_500, eval_every=125, n_validation=500
)
SMOKE = dataclasses.replace(
    CPU, p=3, m=3, width=16, heads=2, batch=16, steps=40, warmup=5, eval_every=10, n_validation=50
)
BASE = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
SEEDS = 3


def runs(preset: str) -> tuple[TrainConfig, ...]:
    """Six methods × two noise levels × three seeds."""
    base = BASE[preset]
    return tuple(
        dataclasses.replace(base, method=method, eta=eta, seed=seed)
        for method in ORDER
        for eta in (0.0, base.eta)
        for seed in range(SEEDS)
    )


def compute(preset: str, out: Path) -> list[Row]:
    """Rows of all runs of a preset."""
    return run_all(runs(preset), out)


def analyse(rows: list[Row]) -> list[Row]:
    """Mean and standard deviation (of the sample, n − 1) over seeds of each metric at each evaluation."""
    table = []
    for eta in etas(rows):
        for method in ORDER:
            steps = sorted({int(r["step"]) for r in rows})
            for metric in METRICS:
                values = np.stack([at_step(rows, eta, method, step, metric) for step in steps])
                episodes = [step * int(rows[0]["batch"]) for step in steps]
                for n, at in zip(episodes, values, strict=True):
                    table.append(
                        {
                            "eta": eta,
                            "method": method,
                            "metric": metric,
                            "episodes": n,
                            "mean": float(at.mean()),
                            "sd": float(at.std(ddof=1)),
                            "n_seeds": len(at),
                            "p": rows[0]["p"],
                            "m": rows[0]["m"],
                        }
                    )
    return table


def etas(rows: list[Row]) -> list[float]:
    """The noise levels of the figure, clean first."""
    return sorted({float(r["eta"]) for r in rows})


def at_step(rows: list[Row], eta: float, method: str, step: int, metric: str) -> np.ndarray:
    """A metric over the seeds."""
    chosen = [r for r in rows if r["method"] == method and float(r["eta"]) == eta and int(r["step"]) == step]
    return np.array([float(r[metric]) for r in sorted(chosen, key=lambda r: int(r["seed"]))])


def claims(rows: list[Row]) -> list[Claim]:
    """The captions' claims, each with its numbers (paper_protocol.md, "What the captions claim")."""
    last = max(int(r["step"]) for r in rows)
    clean, noisy = etas(rows)

    def final(eta, method, metric):
        return at_step(rows, eta, method, last, metric)

    def numbers(eta, methods, metric):
        return "; ".join(f"{METHOD[m].label} {' '.join(f'{x:.3g}' for x in final(eta, m, metric))}" for m in methods)

    nail, others = ("nail-f", "nail-r"), ("loglossbc", "opd-f", "opd-r")
    found = []
    for m in nail:
        found.append(
            Claim(
                f"η=0: {METHOD[m].label} drives the clean loss to zero (below {ZERO_LOSS} nats/token, every seed)",
                "paper, Fig. 2",
                f"final loss per seed: {numbers(clean, (m,), 'val_loss')}",
                bool(np.all(final(clean, m, "val_loss") < ZERO_LOSS)),
            )
        )
        found.append(
            Claim(
                f"η=0: {METHOD[m].label} reaches perfect accuracy (full chain ≥ 0.99, every seed)",
                "paper, Fig. 2",
                f"final full-chain accuracy per seed: {numbers(clean, (m,), 'full_exact')}",
                bool(np.all(final(clean, m, "full_exact") >= 0.99)),
            )
        )
    found.append(
        Claim(
            f"η=0: OPD-F plateaus (clean validation loss above {ZERO_LOSS} nats/token at the end, every seed)",
            "paper, Fig. 2",
            f"final loss per seed: {numbers(clean, ('opd-f',), 'val_loss')}; "
            f"full-chain accuracy: {numbers(clean, ('opd-f',), 'full_exact')}",
            bool(np.all(final(clean, "opd-f", "val_loss") > ZERO_LOSS)),
        )
    )
    times = {m: _median_episodes_to_solve(rows, clean, m) for m in ORDER}
    found.append(
        Claim(
            f"η=0: LogLossBC learns fastest (median episodes to full chain ≥ {SOLVED})",
            "theory.md, expected",
            "; ".join(f"{METHOD[m].label} {t:,.0f}" if t < math.inf else f"{METHOD[m].label} not reached"
                      for m, t in times.items()),
            times["loglossbc"] < math.inf and times["loglossbc"] == min(times.values()),
        )
    )  # fmt: skip
    for m in nail:
        found.append(
            Claim(
                f"η={noisy:g}: {METHOD[m].label} solves the task (full chain ≥ {SOLVED}, every seed)",
                "paper, Fig. 2",
                f"final full-chain accuracy per seed: {numbers(noisy, (m,), 'full_exact')}",
                bool(np.all(final(noisy, m, "full_exact") >= SOLVED)),
            )
        )
    for m in others:
        found.append(
            Claim(
                f"η={noisy:g}: {METHOD[m].label} does not solve the task (full chain < {UNSOLVED}, every seed)",
                "paper, Fig. 2",
                f"final full-chain accuracy per seed: {numbers(noisy, (m,), 'full_exact')}",
                bool(np.all(final(noisy, m, "full_exact") < UNSOLVED)),
            )
        )
    return found


def _median_episodes_to_solve(rows: list[Row], eta: float, method: str) -> float:
    """Median over seeds of the first evaluation with full-chain accuracy ≥ `SOLVED`, infinite where there is none."""
    chosen = [r for r in rows if r["method"] == method and float(r["eta"]) == eta]
    firsts = []
    for seed in {r["seed"] for r in chosen}:
        solved = [int(r["episodes"]) for r in chosen if r["seed"] == seed and float(r["full_exact"]) >= SOLVED]
        firsts.append(min(solved, default=math.inf))
    return float(np.median(firsts))


def draw(table: list[Row]) -> Figure:
    """Two noise levels side by side; clean validation loss above, full-chain accuracy below."""
    levels = sorted({float(r["eta"]) for r in table})
    p, m = int(table[0]["p"]), int(table[0]["m"])
    figure = Figure(figsize=(TEXT_WIDTH, 4.7), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))
    grid = figure.subplots(2, len(levels), sharex=True, squeeze=False)
    for column, eta in enumerate(levels):
        q = 1 - eta + eta / p
        loss, accuracy = grid[:, column]
        for method in ORDER:
            curve(loss, method, *_series(table, eta, method, "val_loss"), clip=(1e-5, np.inf))
            curve(accuracy, method, *_series(table, eta, method, "full_exact"), clip=(0.0, 1.0))
        loss.set_title(f"η = {eta:g},  $q^m$ = {q**m:.2g}")
        if eta == 0:
            loss.set_yscale("log")
            loss.set_ylim(bottom=1e-5)
        else:
            _mark_exact_fit(loss, -math.log(q))
        accuracy.set_ylim(-0.03, 1.03)
        accuracy.set_xlabel("training trajectories (thousands)")
        accuracy.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}")
        accuracy.set_xlim(left=0)
    grid[0, 0].set_ylabel("clean validation loss\n(nats/token)")
    grid[1, 0].set_ylabel("full-chain accuracy")
    handles = [handle(method, METHOD[method].label) for method in ORDER]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(ORDER), columnspacing=1.2)
    note = (
        f"mean of {table[0]['n_seeds']} seeds, band: ± 1 standard deviation; p = {p}, m = {m}; "
        "$q^m$: chance that an expert's trajectory is clean to its end"
    )
    figure.text(0.995, 0.008, note, ha="right", va="bottom", fontsize=6.5, color="#555555")
    return figure


def _mark_exact_fit(axes: Axes, level: float) -> None:
    """The clean loss of a student that equals the noisy law: −ln q (paper_protocol.md: 0.188 at η=0.2, p=7)."""
    axes.axhline(level, color="#666666", linewidth=0.9, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.annotate(
        f"−ln q = {level:.3f}: a student equal to the noisy law", (0.02, level), color="#444444",
        xycoords=("axes fraction", "data"), xytext=(0, -3), textcoords="offset points", va="top", fontsize=7,
    )  # fmt: skip


def _series(table: list[Row], eta: float, method: str, metric: str) -> tuple[np.ndarray, ...]:
    chosen = [r for r in table if float(r["eta"]) == eta and r["method"] == method and r["metric"] == metric]
    return tuple(np.array([float(r[column]) for r in chosen]) for column in ("episodes", "mean", "sd"))


EXPERIMENT = Experiment(
    name="fig2",
    summary="modular addition at η = 0 and high noise: clean validation loss and full-chain accuracy",
    cost={
        "smoke": "36 runs of 40 updates, about 25 seconds on two cores",
        "cpu": "36 runs of 2,500 updates, about 8 minutes on two cores",
        "paper": "36 runs of 46,875 updates of a 3.15 M-parameter student, an accelerator",
    },
    compute=compute,
    analyse=analyse,
    claims=claims,
    draw=draw,
    runs=runs,
)

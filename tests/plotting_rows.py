"""Small tables of rows for pictures: exact n*, and training runs."""

import math
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.text import Text

from nail.sweep.table import typed
from nail.theory.exact import n_bc
from nail.theory.known import n_greedy

METHODS = ("loglossbc", "nail-f")


class Line(NamedTuple):
    """A bound, as `nail.complexity.bounds` has them."""

    name: str
    values: Any
    unit: str = "episodes"
    side: str = "upper"


def points(etas=(0.3, 0.5), budget=200, **fields):
    """n* over methods, η and H: the exact one, censored beyond the budget, where a series ends."""
    rows = []
    for method, exact in zip(METHODS, (n_bc, n_greedy), strict=True):
        for eta in etas:
            for horizon in (2, 4, 6, 8):
                n = exact(horizon, 2, eta, 0.1)
                beyond = n > budget
                value, low, high = (math.inf, budget, math.inf) if beyond else (n, 0.9 * n, 1.1 * n)
                ends = {"queries": value * horizon, "queries_low": low * horizon, "queries_high": high * horizon}
                rows.append({
                    "instance": "poison-chain", "method": method, "H": horizon, "A": 2, "eta": eta, "delta": 0.1,
                    "criterion": "mean", "kernel": "uniform", "replicates": 50, "seed": len(rows), **fields,
                    "max_episodes": budget, "n_star": value, "low": low, "high": high, **ends,
                    "censored": int(beyond), "oracle": "labels",
                })  # fmt: skip
                if beyond:
                    break
    return pd.DataFrame(rows)


def runs(seeds=3, etas=(0.1, 0.2, 0.3), methods=METHODS, accuracy=lambda method, eta, seed, step: step / 4, **fields):
    """Training runs of four updates of ten episodes, as text in a table."""
    rows = []
    for method in methods:
        for eta in etas:
            for seed in range(seeds):
                for step in (0, 2, 4):
                    rows.append({
                        "run": f"{method}{eta}{seed}", "method": method, "seed": seed, "step": step,
                        "episodes": 10 * step, "expert_queries": 30 * step,
                        "full_exact": accuracy(method, eta, seed, step), "val_loss": 1.0, "eta": eta,
                        "temperature": float(method == "loglossbc"), "lr": 0.1, **fields,
                    })  # fmt: skip
    return typed([{name: str(value) for name, value in row.items()} for row in rows])


def words_of(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")

"""How columns and their values are called in a picture: labels of axes with units, symbols in legends and titles."""

from typing import Any

import numpy as np
import pandas as pd

from nail.methods import METHOD
from nail.sweep.table import SOLVED

SYMBOLS = {"eta": "η", "delta": "δ", "epsilon": "ε", "beta": "β", "burst": "ρ", "kernel": "ν"}
AXES = {
    "H": "horizon H (steps)",
    "A": "actions A",
    "S": "states S of a layer",
    "eta": "corruption rate η",
    "beta": "weight β of the reverse KL",
    "p": "modulus p",
    "m": "length m of the chain",
    "lr": "learning rate",
    "batch": "batch (episodes an update)",
    "steps": "updates",
    "episodes": "training episodes",
    "expert_queries": "expert queries",
    "full_exact": "full-chain accuracy",
    "answer_exact": "answer accuracy",
    "accuracy": "accuracy on test questions",
    "val_loss": "clean validation loss (nats/token)",
    "train_loss": "training objective (nats/token)",
    "test_loss": "test loss (nats/token)",
    "episodes_to_solve": f"episodes until accuracy ≥ {SOLVED}",
    "queries_to_solve": f"expert queries until accuracy ≥ {SOLVED}",
    "mean_loss": "mean regret at n*",
    "method": "",
    "instance": "",
    "task": "",
}
"""column → label of its axis; another one is called by its name"""
N_STAR = {
    "n_star": "n* (episodes)",
    "queries": "queries in n* episodes",
}
UNTIL = {"mean": "mean regret ≤ δ", "pac": "P(regret ≤ ε) ≥ 1 − δ"}
"""criterion of n* → what it is"""
SHARES = ("full_exact", "answer_exact", "accuracy")
"""columns whose values lie in [0, 1]"""


def axis_label(name: str, rows: pd.DataFrame) -> str:
    """What stands beside an axis."""
    if name in N_STAR:
        return f"{N_STAR[name]}\nuntil {UNTIL.get(_criterion(rows), 'its criterion is met')}"
    if name == "delta":
        return {"mean": "mean regret δ", "pac": "probability δ"}.get(_criterion(rows), "δ")
    return AXES.get(name, name.replace("_", " "))


def _criterion(rows: pd.DataFrame) -> str:
    """That of all rows; "" of rows with several."""
    found = set(rows.criterion) if "criterion" in rows else {"mean"}
    return found.pop() if len(found) == 1 else ""


def value_label(name: str, value: Any, rows: pd.DataFrame) -> str:
    """A value of a column in a legend or a title: a method by its label, with what it reads where that is not labels;
    another one as "η = 0.3"."""
    if name == "method":
        label = " > ".join(METHOD[part].label if part in METHOD else number(part) for part in str(value).split(" > "))
        reads = set(rows[rows.method == value].oracle) - {"labels"} if "oracle" in rows else set()
        return label + (f" (reads {', '.join(map(str, sorted(reads)))})" if reads else "")
    if name in ("instance", "task"):
        return number(value)
    return f"{SYMBOLS.get(name, name)} = {number(value)}"


def number(value: Any) -> str:
    """A value as it is read: six digits are enough, and nothing is nothing."""
    if isinstance(value, float | np.floating):
        return "none" if np.isnan(value) else f"{value:.6g}"
    return "none" if value == "" else str(value)

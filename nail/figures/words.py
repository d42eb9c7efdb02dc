"""How columns and their values are called in a picture: labels of axes with units, symbols in legends and titles,
and the small print under it."""

from typing import Any

import numpy as np
import pandas as pd

from nail.figures.medians import FEW
from nail.figures.shown import Shown
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
MISSING = {"burst": "no bursts", "epsilon": "mean regret", "definition": "no own definition"}
"""column → what it is where it is empty"""
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
    if name in MISSING and number(value) == "none":
        return MISSING[name]
    if name == "definition":
        return f"definition {value}"
    return f"{SYMBOLS.get(name, name)} = {number(value)}"


def number(value: Any) -> str:
    """A value as it is read: six digits are enough, and nothing is nothing."""
    if isinstance(value, float | np.floating):
        return "none" if np.isnan(value) else f"{value:.6g}"
    return "none" if value == "" else str(value)


def small_print(rows: pd.DataFrame, what: Shown, table: pd.DataFrame, *unseen: str) -> str:
    """The sentences under a picture: what marks are, what is not drawn, what all points have in common."""
    said = [_bands(table, what), _without_x(table, what), *unseen, _setting(rows, what)]
    return " ".join(filter(None, said))


def _bands(table: pd.DataFrame, what: Shown) -> str:
    """What lines, bands and open marks are, for the small print."""
    counts = table.n_seeds[table.kind.isin(["median", "point"])].astype(int)
    few, most = counts.min(), counts.max()
    said = []
    if most > 1:
        seeds = f"{few} seeds" if few == most else f"{few} to {most} seeds"
        spread = ["thin or small: each seed"] if few <= FEW else []
        spread += ["band or bar: its 95 % interval (order statistics)"] if most > FEW else []
        said.append(f"Median of {seeds}; {'; '.join(spread)}.")
    elif what.measured and table.low.notna().any():
        said.append("Bands or bars: 95 % intervals.")
    elif not what.measured:
        said.append("One seed.")
    marked = ["median", "point", *(["seed"] if few <= FEW else [])]
    if (table.censored.eq(1) & table.kind.isin(marked)).any():
        said.append("Open marks with arrows: beyond the budget.")
    return " ".join(said)


def _setting(rows: pd.DataFrame, what: Shown) -> str:
    """What all points have in common, of what a reader wants to know first."""
    names = ["instance", "task", "H", "A", "S", "p", "m", "eta", "delta", "epsilon", "burst", "kernel",
             "replicates", "method"]  # fmt: skip
    free = [name for name in names if name in rows and name not in (*what.series, what.x)]
    alone = [name for name in free if rows[name].nunique(dropna=False) == 1 and number(rows[name].iloc[0]) != "none"]
    return ", ".join(value_label(name, rows[name].iloc[0], rows) for name in alone) + "." if alone else ""


def _without_x(table: pd.DataFrame, what: Shown) -> str:
    """Points that have no place on the x axis."""
    counted = table[table.kind.isin(["median", "point"])]
    lost = int(counted[what.x].isna().sum())
    return f"Not drawn: {lost} of {len(counted)} points, as they have no {what.x}." if lost else ""

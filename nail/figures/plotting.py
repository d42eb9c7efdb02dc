"""How every figure looks: one colour and one mark per method, one function for a curve with its band."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from nail.sweep.store import write_bytes

TEXT_WIDTH = 6.75
"""inches across two columns of a paper; fonts below are sized for it"""
SMALLEST = 7
"""points of the smallest letters, exponents and indices aside"""

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "nail",
    "figure.dpi": 100,
    "savefig.dpi": 220,
}


class Look(NamedTuple):
    """Colour and mark of a method, the same in every figure (colours after Okabe and Ito)."""

    colour: str
    mark: str
    line: str = "-"


LOOK = {
    "loglossbc": Look("#222222", "s"),
    "dagger": Look("#CC79A7", "D"),
    "opd-f": Look("#E69F00", "v", "--"),
    "opd-r": Look("#D55E00", "^", "--"),
    "nail-f": Look("#0072B2", "o"),
    "nail-r": Look("#009E73", "P"),
    "nail-beta": Look("#56B4E9", "X"),
    "jsd-beta": Look("#8C6D31", "*"),
    "nailgun": Look("#7A3E9D", "h"),
    "nail-channel": Look("#00306B", "p"),
    "nail-class": Look("#5B8C00", "<"),
    "nail-wrong-eta": Look("#B8860B", ">", "-."),
    "nail-wrong-nu": Look("#A50026", "d", "-."),
    "opd-top-p": Look("#9A6700", "H", "--"),
    "opd-r-top-p": Look("#A14A76", "^", "-."),
    "lsm": Look("#2F6F4F", "s", "--"),
    "lsm-tail": Look("#4C5FA8", "D", "--"),
    "lsm-unrenormalised": Look("#8A8A8A", "X", "--"),
    "opd-channel": Look("#6B5B00", "8"),
    "halving": Look("#C44536", "v"),
    "nail-selective": Look("#1B998B", "*"),
    "stagger": Look("#5D4E8C", "^"),
    "bc-r": Look("#6C7A89", "P"),
    "opd-f-top-k": Look("#B07D2B", "<", "--"),
    "opd-f-top-k-tail": Look("#D98880", ">", "--"),
}

_COLOURS = ("#0B7A75", "#B5179E", "#6A994E", "#7F5539", "#3A0CA3", "#C1121F")
SPARE = tuple(Look(colour, mark, "--") for colour, mark, _ in zip(cycle(_COLOURS), cycle("o^sDv"), range(30)))
"""thirty different ones, for methods that are not in `LOOK`"""

CASES = (Look("#222222", "s"), Look("#0072B2", "o"), Look("#009E73", "P"), Look("#D55E00", "^"), Look("#CC79A7", "D"))
"""for figures whose curves are cases of an instance, not methods"""

REFERENCE = {
    "lower": {"color": "#666666", "linestyle": ":", "linewidth": 1.3},
    "exact": {"color": "#222222", "linestyle": "-", "linewidth": 0.7},
    "upper": {"color": "#888888", "linestyle": (0, (6, 2, 1, 2)), "linewidth": 1.1},
}
"""how lower bounds, exact curves and upper bounds are drawn"""


def look(method: str) -> Look:
    """Colour and mark of a method; one that was added from outside gets the next spare ones, and keeps them for as long
    as the process lives (the spare ones come round again after all are taken)."""
    return LOOK.setdefault(method, SPARE[len(LOOK) % len(SPARE)])


@contextmanager
def figure_style() -> Iterator[None]:
    """The house's matplotlib settings, for the time of a `with` block; figures are drawn without pyplot, so that no
    backend is chosen and no display is needed."""
    with matplotlib.rc_context(STYLE):
        yield


def curve(axes: Axes, method: str, points: pd.DataFrame, clip: tuple[float, float] | None = None) -> None:
    """A method's `mean` against `episodes` with a band of one standard deviation `sd`, one row of `points` an
    evaluation; the band is cut to `clip` (a share stays in [0, 1])."""
    style, x, mean = look(method), points["episodes"], points["mean"]
    spread = pd.to_numeric(points["sd"])  # of a single seed there is none: a column of empty cells is text
    low, high = mean - spread, mean + spread
    if clip is not None:
        low, high = np.clip(low, *clip), np.clip(high, *clip)
    axes.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0)
    every = max(1, len(x) // 8)
    offset = list(LOOK).index(method) % every
    axes.plot(x, mean, color=style.colour, linestyle=style.line, marker=style.mark, markevery=(offset, every))


def handle(method: str, label: str) -> Line2D:
    """A method's entry for a legend."""
    style = look(method)
    return Line2D([], [], color=style.colour, linestyle=style.line, marker=style.mark, label=label)


def measured(
    axes: Axes, style: Look, points: pd.DataFrame, x: str, y: str = "episodes", hollow: bool = False,
    label: str | None = None,
) -> None:  # fmt: skip
    """Measured points, columns `x` and `y`, with their intervals (`low`, `high`) as a band; where the column `censored`
    is there and true, `y` is the budget, and an open mark with an arrow says that the truth lies above it."""
    beyond = points["censored"] != 0 if "censored" in points else pd.Series(False, points.index)
    mark = {"color": style.colour, "marker": style.mark, "markerfacecolor": "none" if hollow else style.colour}
    kept, above = points[~beyond], points[beyond]
    axes.fill_between(kept[x], kept["low"], kept["high"], color=style.colour, alpha=0.16, linewidth=0)
    axes.plot(kept[x], kept[y], linestyle=style.line, label=label, markersize=6.5 if hollow else None, **mark)
    if len(above):
        joined = pd.concat([kept[-1:], above])
        axes.plot(joined[x], joined[y], color=style.colour, linestyle=":", linewidth=0.9)
        axes.plot(above[x], above[y], linestyle="none", **{**mark, "markerfacecolor": "white"})
    for at in zip(above[x], above[y], strict=True):
        axes.annotate(
            "", at, xytext=(0, 11), textcoords="offset points",
            arrowprops={"arrowstyle": "<-", "color": style.colour, "linewidth": 0.8},
        )  # fmt: skip


def width_of(text: str, size: float | int) -> float:
    """Width of a text in points."""
    return float(TextPath((0, 0), text, size=size).get_extents().width) if text.strip() else 0.0


def note(figure: Figure, text: str) -> None:
    """Small print at the lower right, in as many lines as it takes: what the bands are, the setting."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if width_of(longer, SMALLEST) < 0.98 * 72 * figure.get_figwidth() else [lines[-1], word]
    figure.supxlabel("\n".join(lines), x=0.995, ha="right", fontsize=SMALLEST, color="#666666")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write STEM.png and STEM.pdf, without a date so that the same rows give the same file."""
    paths = []
    for kind, metadata in (("png", {"Software": "nail"}), ("pdf", {"CreationDate": None})):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, metadata=metadata)
        paths.append(stem.with_name(f"{stem.name}.{kind}"))
        write_bytes(paths[-1], drawn.getvalue())
    return paths

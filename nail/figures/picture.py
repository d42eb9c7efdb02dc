"""A picture of any folder of rows: `nail plot DIR`, and what `nail train` and sweeps draw at their end.

Which columns go where: nail/figures/shown.py. What is drawn of them, and written beside the picture as a table:
nail/figures/medians.py.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator

from nail.checks import BadInput, require, require_known, say
from nail.figures.medians import measurements, tabulate
from nail.figures.panels import FARTHEST, LINES, draw_panel, values_of
from nail.figures.plotting import CASES, REFERENCE, SPARE, TEXT_WIDTH, Look, figure_style, look, note, save, width_of
from nail.figures.references import KINDS, reference_lines
from nail.figures.shown import SOLVE, Shown, in_order, is_number, kinds_in, prepared, shown
from nail.figures.words import SHARES, axis_label, number, small_print, value_label
from nail.sweep.store import lock_of, write_text
from nail.sweep.table import read_rows

COLUMN_WIDTH = 3.4
"""inches across one column of a paper: of a picture with one panel"""
LOGS = ("x", "y", "xy")
MOST_TICKS = 8
"""values of an axis up to which each is named"""
APART = 0.07
"""of an axis: the least distance of two values that are named"""
THOUSANDS = 10_000
"""episodes from which on they are counted in thousands"""
LEGEND_ROW = 0.17
"""inches of a row of a legend"""
DECADE = 10.0
"""ratio of the largest to the smallest value of an axis from which on it is logarithmic"""


class Picture(Figure):
    """A figure that a notebook shows."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """At the resolution of files, which text is laid out for, and half their size."""
        shown, (width, _) = io.BytesIO(), self.get_size_inches()
        with figure_style():
            self.savefig(shown, format="png")
        return shown.getvalue(), {"width": round(110 * width)}


def draw(
    rows: pd.DataFrame, x: str | None = None, y: str | None = None, by: str | None = None, panel: str | None = None,
    log: str | None = None, bounds: Sequence[Any] = (), exact: bool = False, style: Path | str | None = None,
) -> tuple[Figure, pd.DataFrame]:  # fmt: skip
    """A picture of rows (of training runs, or of measured n*; of both those that have y), and the table that it is
    drawn from.

    What goes where is chosen (`nail.figures.shown.shown`), or given as names of columns; `y` may also be
    episodes_to_solve or queries_to_solve, and `log` is "x", "y" or "xy". `bounds` are
    `nail.complexity.bounds.Bound`s, drawn where they count what y counts; `exact` draws the known n* where there is
    one. `style` is a matplotlib style file. Raises `BadInput` for what the rows cannot show.
    """
    rows = prepared(rows, y, (x, by, panel))
    if log is not None:
        require_known("log", log, LOGS)
    labels = bool(bounds) and all(bound.unit == "labels" for bound in bounds)
    what = shown(rows, x, y, by, panel, labels)
    table = tabulate(measurements(rows, what), what)
    lines, unseen = reference_lines(rows, what, bounds, exact)
    table = pd.concat([table, lines], ignore_index=True).reindex(columns=table.columns) if len(lines) else table
    with _style(style):
        return _draw(rows, what, table, log, unseen), table


def picture(out: Path, name: str, rows: pd.DataFrame, style: Path | str | None = None, **options: Any) -> None:
    """Write OUT/NAME.png, .pdf and .csv, the table of the picture; options as `draw` has them.

    Raises `BadInput` as `draw` does, and for a name that is none, or that a table of another kind has.
    """
    plain = bool(name) and name.isprintable() and not name.startswith(".") and Path(name).name == name
    require(plain, "name", repr(name), "the name of a file, without its end")
    taken = (out / f"{name}.csv").exists() and not (out / f"{name}.png").exists()
    require(not taken, "name", name, f"one that is free: {name}.csv in {out} is no picture's table")
    figure, table = draw(rows, style=style, **options)
    with lock_of(out / "figures.lock"), _style(style):
        write_text(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
        save(figure, out / name)


def picture_at_end(out: Path) -> None:
    """Draw OUT/plot.{png,pdf,csv} of a folder whose training runs are done; what goes wrong is a sentence on standard
    error."""
    try:
        rows = read_rows(out)
        picture(out, "plot", kinds_in(rows).get(False, rows))
    except Exception as error:  # the runs are done, whatever keeps them from being drawn
        why = error if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
        say(f"no picture was drawn of {out} ({why})")


@contextmanager
def _style(style: Path | str | None) -> Iterator[None]:
    """The house's settings, and those of a style file over them."""
    with figure_style():
        if style is not None:
            known = str(style) in matplotlib.style.library or Path(style).is_file()
            require(known, "style", style, "a matplotlib style file, or the name of a style")
            try:
                matplotlib.style.use(style)
            except (OSError, ValueError) as error:
                raise BadInput(f"style must be a matplotlib style file, and {style} is none ({error})") from error
        yield


def _draw(rows: pd.DataFrame, what: Shown, table: pd.DataFrame, log: str | None, unseen: str) -> Figure:
    panels = [group for _, group in table.groupby(list(what.panels), dropna=False)] if what.panels else [table]
    columns = _columns(len(panels))
    height = -(-len(panels) // columns)
    width = COLUMN_WIDTH if len(panels) == 1 else TEXT_WIDTH
    figure = Picture(figsize=(width, 0.9 + (2.3 if columns < 3 else 1.9) * height), layout="constrained")
    grid = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False).ravel()
    logs = _logs(table, what, log)
    looks = looks_of(rows, what)
    for place, (axes, points) in enumerate(zip(grid, panels, strict=False)):
        draw_panel(axes, points, what, looks)
        if what.panels:
            named = [value_label(name, points[name].iloc[0], rows) for name in what.panels]
            long = width_of(", ".join(named), 8.5) > 0.85 * 72 * width / columns
            axes.set_title(("\n" if long else ", ").join(named))
        if place + columns >= len(panels):
            axes.set_xlabel(axis_label(what.x, rows) + _thousands(axes, "x", what.x, points))
            axes.tick_params(labelbottom=True)
        if place % columns == 0:
            axes.set_ylabel(
                axis_label(what.y, rows) + (_thousands(axes, "y", what.y, table) if "y" not in logs else "")
            )
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    _scales(grid[0], table, what, logs)
    rows_of_legend = _legend(figure, rows, what, table, looks)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(0, rows_of_legend - 1))
    note(figure, small_print(rows, what, table, unseen, _outside(table, grid[0])))
    return figure


def _thousands(axes: Axes, axis: str, name: str, points: pd.DataFrame) -> str:
    """What a label of counts in thousands ends in; "" where the numbers are small, and the axis is as it was."""
    counts = points[name] if axis == "x" else points.value
    if name not in ("episodes", *SOLVE) or not counts.max() >= THOUSANDS:
        return ""
    getattr(axes, f"{axis}axis").set_major_formatter(lambda value, _: f"{value / 1000:g}")
    return " (thousands)" if axis == "x" else "\n(thousands)"


def _columns(panels: int) -> int:
    """Panels side by side."""
    return panels if panels <= 3 else 2 if panels == 4 else 3 if panels <= 9 else 4


def looks_of(rows: pd.DataFrame, what: Shown) -> dict[Any, Look]:
    """Value of the colour's column → its look: methods have their own, a few values those of cases."""
    if what.by is None:
        methods = rows.method.unique() if "method" in rows else []
        return {None: look(methods[0]) if len(methods) == 1 else CASES[0]}
    values = in_order(rows[what.by].unique())
    if what.by == "method":
        return {value: look(value) for value in values}
    if len(values) <= len(CASES):
        return dict(zip(values, CASES, strict=False))
    if is_number(rows[what.by]):
        shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(values)))
        return {value: Look(matplotlib.colors.to_hex(shade), "o") for value, shade in zip(values, shades, strict=True)}
    return {value: SPARE[place % len(SPARE)] for place, value in enumerate(values)}


def _logs(table: pd.DataFrame, what: Shown, log: str | None) -> str:
    """Which axes are logarithmic: as given, or where their values span `DECADE`."""
    points = table[~table.kind.isin(KINDS)]
    if log is not None:
        for axis, name in (("x", what.x), ("y", "value")):
            usable = is_number(points[name]) and (points[name].dropna() > 0).any()
            require(axis not in log or usable, "log", log, f"without {axis}, whose values are not above 0")
        return log

    def spans(column: pd.Series) -> bool:
        found = column[np.isfinite(column)]
        return bool(len(found) and found.min() > 0 and found.max() >= DECADE * found.min())

    x = what.x != "episodes" and is_number(points[what.x]) and spans(points[what.x])
    y = what.y not in SHARES and spans(points.value)
    return ("x" if x else "") + ("y" if y else "")


def _scales(axes: Axes, table: pd.DataFrame, what: Shown, logs: str) -> None:
    """Kinds of axes and their limits; a share shows all of [0, 1]."""
    if "x" in logs:
        axes.set_xscale("log")
    if what.x != "episodes" and is_number(table[what.x]):
        _name_values(axes, np.unique(table[what.x].dropna()), "x" in logs)
    if "y" in logs:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    if what.y in SHARES:
        axes.set_ylim(-0.03, 1.03)
        return
    if what.x == "episodes":
        axes.set_xlim(left=0)
    points = table[~table.kind.isin(KINDS)]
    ends = pd.concat([points.value, points.low, points.high])
    ends = ends[np.isfinite(ends) & ((ends > 0) | ("y" not in logs))]
    if ends.empty or what.y not in (*SOLVE, "n_star", "queries"):
        return
    beside = table.value[table.kind.isin(KINDS)]
    beside = beside[np.isfinite(beside) & (beside > ends.max() / FARTHEST**2) & (beside < ends.max() * FARTHEST)]
    low, high = (f([*ends, *beside]) for f in (min, max))
    axes.set_ylim((low / 1.5, high * 3) if "y" in logs else (0, 1.12 * high))


def _outside(table: pd.DataFrame, axes: Axes) -> str:
    """The bounds that lie beyond the axis everywhere."""
    low, high = axes.get_ylim()
    drawn = table[table.kind.isin(KINDS)]
    far = [str(name) for name, line in drawn.groupby("name", sort=False) if not line.value.between(low, high).any()]
    return f"Outside the picture: {', '.join(far)}." if far else ""


def _name_values(axes: Axes, values: np.ndarray, log: bool) -> None:
    """Ticks of the x axis at its values, where these are few and apart."""
    at = np.log(values) if log and (values > 0).all() else values
    if 1 < len(values) <= MOST_TICKS and np.diff(at).min() >= APART * (at[-1] - at[0]):
        axes.set_xticks(values, [number(value) for value in values.tolist()])
        axes.xaxis.set_minor_locator(NullLocator())
    elif not log and (values % 1 == 0).all():
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _legend(figure: Figure, rows: pd.DataFrame, what: Shown, table: pd.DataFrame, looks: dict[Any, Look]) -> int:
    """Colours, kinds of lines, reference lines, in as many columns as fit; returns the number of its rows."""
    handles = []
    if what.by not in (None, what.x):
        for value, style in looks.items():
            handles.append(Line2D([], [], color=style.colour, linestyle=style.line if what.line is None else "none",
                                  marker=style.mark, label=value_label(what.by, value, rows)))  # fmt: skip
    for place, value in enumerate(values_of(table, what.line) if what.line else []):
        handles.append(Line2D([], [], color="#444444", linestyle=LINES[place], marker="o",
                              markerfacecolor="none" if place else "#444444",
                              label=value_label(what.line or "", value, rows)))  # fmt: skip
    for (kind, name), _ in table[table.kind.isin(KINDS)].groupby(["kind", "name"]):
        handles.append(Line2D([], [], label=name, **REFERENCE[kind]))
    if not handles:
        return 0
    widest = max(width_of(str(handle.get_label()), 7.5) for handle in handles)
    columns = int(72 * figure.get_figwidth() / (widest + 34))
    columns = max(1, min(columns, len(handles)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.2)
    return -(-len(handles) // columns)

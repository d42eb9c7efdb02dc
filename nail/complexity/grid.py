"""`nail.n_star_grid`: sample complexities over a grid as a table, with fits, bounds that are judged, and a picture."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nail.checks import require, say
from nail.complexity.plan import COSTLIER, Plan, plan
from nail.complexity.points import run_of
from nail.counting.columns import N_STAR

FILES = ("rows.csv", "fits.csv", "bounds.csv", "n_star.png", "n_star.pdf", "n_star.csv")
"""of a folder"""
PICTURE = "n_star"
Axis = float | int | Sequence[float | int]
"""a number, or several"""


@dataclass(frozen=True)
class SampleComplexities:
    """Measured sample complexities of a grid."""

    rows: pd.DataFrame
    """one row a point, in the order of the axes: its options, `n_star` with `low` and `high` (episodes), `queries` with
    theirs, `censored`, `oracle`, and where the row comes from"""
    axes: tuple[str, ...]
    """columns that are varied"""
    asked: tuple[Any, ...] = ()
    """`nail.complexity.bounds.Bound`s that are judged"""
    planned: pd.DataFrame | None = None
    """one row a point that was asked for, by `run`: those that were left out have no row in `rows`"""

    @cached_property
    def fits(self) -> pd.DataFrame:
        """How n* grows along each axis and along all together: `nail.complexity.fits.fit`."""
        from nail.complexity.fits import fit

        return fit(self.rows, self.axes)

    @cached_property
    def bounds(self) -> pd.DataFrame:
        """Whether each bound holds, its constant and its rates: `nail.complexity.bounds.judge`."""
        from nail.complexity.bounds import judge

        return judge(self.rows, self.asked, self.axes, self.planned)

    def plot(self, **how: Any) -> Figure:
        """The picture: `nail.figures.picture.draw` with its options (x, y, by, panel, log, exact, style)."""
        from nail.figures.picture import draw

        return draw(self.rows, bounds=self.asked, **how)[0]

    def write(self, out: Path) -> None:
        """Write fits.csv, bounds.csv and the picture into a folder."""
        from nail.figures.picture import picture
        from nail.sweep.store import write_text

        for name, table in (("fits", self.fits), ("bounds", self.bounds)):
            write_text(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
        picture(out, PICTURE, self.rows, bounds=self.asked)


def n_star_grid(
    instance: Any, method: str | Sequence[str], *, eta: Axis = 0.5, delta: Axis = 0.1, kernel: Any = None,
    noise: str = "huber", burst: Axis | None = None, criterion: str | Sequence[str] = "mean",
    epsilon: Axis | None = None, replicates: Axis = 2000, instances: Axis = 20, seed: Axis = 0,
    max_episodes: Axis = 100_000,
    bounds: Mapping[str, str | Callable[..., Any]] | None = None,
    lower_bounds: Mapping[str, str | Callable[..., Any]] | None = None, bound_unit: str = "episodes",
    out: Path | str | None = None, **options: Any,
) -> SampleComplexities:  # fmt: skip
    """n* (`nail.n_star`) at each point of the product of all options that are given as sequences.

        >>> found = n_star_grid("poison-chain", ("nail-f", "loglossbc"), H=(2, 3), A=3, eta=0, replicates=100)
        >>> found.rows[["method", "H", "n_star"]].values.tolist()
        [['nail-f', 2, 2], ['nail-f', 3, 3], ['loglossbc', 2, 1], ['loglossbc', 3, 1]]

    `instance` is the name of a tabular task (those of `nail.add_instance` too), an `Instance`, a function seed →
    `Instance`, or a sequence of them; `options` are those of the task (H, A, S, …), and H and A of an object are its
    own. `kernel` is ν: uniform, never-right, worst, or the A numbers of a law (nail/complexity/kernels.py); without it
    the instance has its own. With `noise` bursts labels are wrong in bursts, ρ = `burst` (docs/noise.md). The seed of a
    point (`point_seed` in its row) is made from all its options and `seed`, so points are independent. A series along H
    (else η, δ, ε) ends at its first point that is beyond `max_episodes`, whose row stays.

    `bounds` are upper bounds on n* by name, `lower_bounds` lower ones: expressions or functions, in `bound_unit`
    episodes or labels (docs/bound.md). With `out` all is kept in that folder, as by `nail n-star --vary`: finished
    points are not measured again, also after a kill, and several processes may work there at once. Raises `BadInput`,
    before anything is measured, as `nail.complexity.plan.plan` and `nail.complexity.bounds.check`.
    """
    for side, some in {"bounds": bounds, "lower_bounds": lower_bounds}.items():
        require(some is None or isinstance(some, Mapping), side, repr(some), "a mapping from names to formulas")
    require(out is None or isinstance(out, str | os.PathLike), "out", repr(out), "the path of a folder")
    given = {
        "instance": instance, "method": method, **options, "eta": eta, "delta": delta, "criterion": criterion,
        "epsilon": epsilon, "kernel": kernel, "noise": noise, "burst": burst, "replicates": replicates,
        "instances": instances, "seed": seed, "max_episodes": max_episodes,
    }  # fmt: skip
    grid = plan({name: _values(name, value) for name, value in given.items()})
    from nail.complexity.bounds import Bound

    sides = {"upper": bounds or {}, "lower": lower_bounds or {}}
    asked = tuple(Bound(*item, side, bound_unit) for side, some in sides.items() for item in some.items())
    with contextlib.ExitStack() as stack:
        kept = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = measured(grid, asked, kept)
        if out is not None:
            found.write(kept)
        return found


def measured(grid: Plan, asked: tuple[Any, ...], out: Path, share: tuple[int, int] = (1, 1)) -> SampleComplexities:
    """The points of a grid that are finished in `out`, after measuring those of a share that are not; writes
    OUT/rows.csv, which has all finished points of the folder.

    Says which points were left out, because a series is beyond its budget before. Raises `BadInput` for bounds that
    cannot be had at some point, before anything is measured, and `RunsFailed` if a point failed.
    """
    check_bounds(grid, asked)
    from nail.sweep.finished import finished, table_written
    from nail.sweep.points import run_points
    from nail.sweep.store import open_folder, require_place
    from nail.sweep.table import typed

    out = open_folder(out)
    for name in FILES:
        require_place(out / name)
    series = grid.share(*share)
    with table_written(out):
        run_points(N_STAR, out, series, grid.measure, beyond)
    by_run = {row["run"]: row for row in finished(out) if row.get("run")}
    say_left_out(series, by_run)
    runs = [run_of(point) for point in grid.points]
    planned = pd.DataFrame([{**point, "run": run} for point, run in zip(grid.points, runs, strict=True)])
    return SampleComplexities(typed([by_run[run] for run in runs if run in by_run]), grid.axes, asked, planned)


def beyond(rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether a point's budget did not suffice."""
    return any(int(row["censored"]) for row in rows)


def say_left_out(series: Iterable[Sequence[Mapping[str, Any]]], by_run: Mapping[str, Any]) -> None:
    """One sentence on standard error for each series that ended before its last point."""
    for points in series:
        left = [point for point in points if run_of(point) not in by_run]
        done = [point for point in points if run_of(point) in by_run]
        if not (left and done):
            continue
        (along,) = [name for name in COSTLIER if name in left[0] and left[0][name] != done[-1].get(name)][:1]
        same = [f"{k} {v}" for k, v in left[0].items() if k in ("method", "instance", *COSTLIER) and k != along]
        values = ", ".join(f"{point[along]:g}" for point in left)
        say(
            f"{', '.join(same)}: n* is beyond {done[-1]['max_episodes']:,} episodes at {along} {done[-1][along]:g}; "
            f"left out: {along} {values}"
        )


def check_bounds(grid: Plan, asked: Sequence[Any]) -> None:
    """Raise `BadInput` for a bound that has no value at some point of the grid."""
    if asked:
        from nail.complexity.bounds import check

        check(asked, pd.DataFrame([{**point, **grid.measure.about(point)} for point in grid.points]))


def _values(name: str, value: Any) -> tuple[Any, ...]:
    """The values of an option: those of a sequence, or the one that is given."""
    if isinstance(value, str) or hasattr(value, "_fields") or not isinstance(value, Iterable):
        return (value,)
    values = tuple(value)
    if name == "kernel" and values and all(isinstance(x, (int, float)) for x in values):
        return (values,)
    return values

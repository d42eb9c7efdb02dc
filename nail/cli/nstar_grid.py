"""`nail n-star … --vary …`: a grid of sample complexities in a folder, with fits, bounds and a picture."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nail.checks import BadInput, printable, require, require_known
from nail.cli.programs import set_up_jax
from nail.cli.shares import Shares, given_options
from nail.complexity.plan import Plan, plan
from nail.complexity.points import run_of
from nail.counting.columns import N_STAR

FOLDER = Path("n-star")
"""where a grid is kept that is not told where"""


@dataclass(frozen=True, kw_only=True)
class InGrid(Shares):
    """Options of a grid; without --vary, --bound and --out they are not read."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """an axis of a grid: any option of the measurement as OPTION=VALUE,VALUE,… or OPTION=FROM:TO (integers below TO),
    a law among kernels with blanks between its numbers; may be given again"""
    bound: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """an upper bound on n* that is judged, as 'NAME: EXPRESSION' (docs/bound.md); may be given again"""
    lower_bound: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """a lower bound on n* that is judged; may be given again"""
    bound_unit: str = "episodes"
    """what bounds count: episodes or labels"""
    out: Annotated[Path | None, tyro.conf.arg(help="output folder of a grid; default: n-star")] = None

    @property
    def in_grid(self) -> bool:
        """Whether a grid is asked for, if only of one point."""
        return bool(self.vary or self.bound or self.lower_bound or self.out)

    def refuse_unread(self) -> None:
        """Raise `BadInput` for an option of grids where none is asked for."""
        for field in dataclasses.fields(InGrid):
            value = getattr(self, field.name)
            require(value == field.default, field.name, value, "left out without --vary")

    def plan(self) -> Plan:
        """The product of the axes, the other options being fixed."""
        from nail.sweep.grid import parse_values, split_axis

        fixed = self.measurement()
        hints = typing.get_type_hints(type(self))
        axes: dict[str, Any] = {}
        for text in self.vary:
            name, values = split_axis(text)
            require_known(f"axis of {fixed['instance']}", name, fixed)
            if name in axes:
                raise BadInput(f"vary must name an option once, got {name} twice")
            axes[name] = parse_values(name, _kinds(hints[name]), values)
        return plan({**axes, **{name: (value,) for name, value in fixed.items() if name not in axes}})

    def measurement(self) -> dict[str, Any]:
        """What can be varied, by name, with the values that are given."""
        others = {field.name for field in dataclasses.fields(InGrid)} | {"json"}
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in others}

    def run_grid(self) -> None:
        """Measure, judge, draw, and say in short what was found."""
        from nail.sweep.grid import parse_shard

        share = parse_shard(self.shard)
        set_up_jax()
        from nail.complexity.bounds import parse
        from nail.complexity.grid import check_bounds, measured

        grid = self.plan()
        sides = {"upper": self.bound, "lower": self.lower_bound}
        asked = tuple(parse(text, side, self.bound_unit) for side, texts in sides.items() for text in texts)
        out = self.out or FOLDER
        if self.slurm:
            check_bounds(grid, asked)
            points = {run_of(point): {"figure": N_STAR, **point} for point in grid.points}
            own = [field.name for field in dataclasses.fields(self) if field.name not in _NOT_OF_A_SHARD]
            self.submit(out, points, [N_STAR, *given_options(self, type(self), own)], [], "points")
            print("the same command without --slurm then fits, judges and draws what is there")
            return
        found = measured(grid, asked, out, share)
        if len(found.rows):
            found.write(out)
        print_summary(found)
        print(f"{len(found.rows)} of {len(grid.points)} points in {printable(out)}")


_NOT_OF_A_SHARD = {"out", *(field.name for field in dataclasses.fields(Shares))}


def _kinds(hint: Any) -> list[Any]:
    """The types of an option's values."""
    if typing.get_origin(hint) is typing.Literal:
        return [str]
    return list(typing.get_args(hint)) if isinstance(hint, types.UnionType) else [hint]


def axes_in(arguments: Sequence[str]) -> dict[str, str]:
    """Option → text of its values, of all --vary among the arguments, read before the parser is built."""
    found = {}
    for here, after in zip(arguments, [*arguments[1:], ""], strict=True):
        text = after if here == "--vary" else here.removeprefix("--vary=") if here.startswith("--vary=") else ""
        name, equals, values = text.partition("=")
        if equals:
            found[name.strip().replace("-", "_")] = values
    return found


def print_summary(found: Any) -> None:
    """A line for each fitted series, and one for each bound and series."""
    if not len(found.rows):
        return
    for name, group in _series(found.fits, "fit"):
        print(f"{name}: {_law(group)}")
    for name, group in _series(found.bounds, "bound", "bound", "side", "unit"):
        print(f"{name}: {_judged(group)}")


def _series(table: Any, first: str, *more: str) -> Iterator[tuple[str, Any]]:
    """(what names it, its rows) of each series of a table whose columns before `first` name the series."""
    names = [*table.columns[: table.columns.get_loc(first)], *more]
    if first == "fit" and len(table):
        table = table.assign(joint=table.fit == "joint")
        groups = table.groupby([*names, "joint"], sort=False, dropna=False)
    else:
        groups = table.groupby(names, sort=False, dropna=False) if len(table) else ()
    for key, group in groups:
        known = [(name, value) for name, value in zip(names, key, strict=False) if value == value and value != ""]
        yield ", ".join(str(value) if name in _WORDS else f"{name} {_short(value)}" for name, value in known), group


def _short(value: Any) -> Any:
    """A value of a column that pandas may hold as float: whole numbers without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WORDS = ("instance", "method", "bound", "side", "unit")
"""columns whose values say what they are"""


def _law(fits: Any) -> str:
    """The best law of one axis, or the exponents of all axes together."""
    from nail.complexity.fits import AXES

    rows = list(fits.itertuples())
    if rows[0].fit == "none":
        return rows[0].note
    if rows[0].fit == "joint":
        return f"log n* = c + {' + '.join(f'{_interval(row)}·{AXES[row.axis].words}' for row in rows)}"
    best, *others = sorted(rows, key=lambda row: row.delta_aic)
    beside = ", ".join(f"{row.fit} {row.delta_aic:.1f}" for row in others)
    return f"{best.fit} in {best.axis}, {_interval(best)} (ΔAIC: {beside})"


def _judged(answers: Any) -> str:
    """Verdict, constant and rates of one bound."""
    from nail.complexity.fits import AXES

    said = []
    for row in answers.itertuples():
        if row.question == "holds":
            left_out = f" ({row.left_out} of {row.points + row.left_out} points left out)" if row.left_out else ""
            said.append(row.verdict + left_out)
        elif row.question == "constant":
            said.append(f"constant {row.value:.3g} in [{row.low:.3g}, {row.high:.3g}]")
        else:
            scales = ", ".join(AXES[axis].words for axis in row.axis.split())
            said.append(f"rate in {scales} {row.note if row.value != row.value else _interval(row)}")
    return "; ".join(said)


def _interval(row: Any) -> str:
    return f"{row.value if hasattr(row, 'value') else row.slope:.3g} [{row.low:.3g}, {row.high:.3g}]"

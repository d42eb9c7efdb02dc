"""What a figure is: rows that are computed, a small table, claims with verdicts, a drawing. Plots read rows only."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from nail.checks import BadInput, one_line, require, require_known, say
from nail.figures.claims import HOLDS, UNDECIDED, Claim, print_claims
from nail.registry import document_fields
from nail.sweep.stages import Runs
from nail.sweep.store import Damaged, lock_of, open_folder, parse_csv, read_csv, require_place, to_csv, write_text

if TYPE_CHECKING:  # a list of figures needs none of them
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from nail.figures.configurations import Speed
    from nail.figures.own import Own

PRESETS = ("smoke", "cpu", "laptop", "paper")
"""sizes, from the smallest on; a figure has those that its `cost` names"""
OWN = "own"
"""the preset of rows that are of none"""

Row = dict[str, Any]


class Experiment(NamedTuple):
    """One figure: its rows for each preset, its analysis, its claims."""

    name: str
    summary: str
    cost: dict[str, str]
    """preset → what it takes, in words, for every preset that the figure has"""
    compute: Callable[..., list[Row]]
    """(preset or size, output folder, files that are `given`) → rows; resumes, and computes only what is missing"""
    analyse: "Callable[[DataFrame], DataFrame]"
    """rows, with types → the small table that the figure is drawn from"""
    claims: "Callable[[DataFrame], list[Claim]]"
    """rows, with types → claims"""
    draw: "Callable[..., Figure]"
    """table → figure; where there are `units`, (table, unit) → figure"""
    runs: Callable[[Any], Runs] | None = None
    """preset or size → the training runs, and chains of them, that the figure is computed from, where it is: they can
    be run as a sweep"""
    units: tuple[str, ...] = ()
    """what n* can be counted in; the first is what NAME.png shows, another one U is drawn to NAME_U.png when asked"""
    given: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """preset → names of files and folders of the user's that it is computed from"""
    needs: Callable[[], None] | None = None
    """raises `BadInput` that says what to install, where computing takes more than the base installation"""
    points: Callable[[Any], list[list[Row]]] | None = None
    """preset or size → the points that the figure is computed from, series by series, where it is"""
    sizes: Mapping[str, Any] = MappingProxyType({})
    """preset → its axes and settings (`nail.figures.own`), where the figure can be computed on a grid of one's own"""
    speed: "Callable[[str], Speed | None] | None" = None
    """preset → how fast the figure is computed at it, or None where that was not measured"""


FIGURES: dict[str, Callable[[], Experiment]] = {}
"""name → what loads the figure, in reading order; filled by `add_figure`"""
_ABOUT: dict[str, Callable[[], tuple[str, dict[str, str]]]] = {}
"""name → what gives a figure's summary and cost without loading it"""


def add_figure(
    name: str, load: Callable[[], Experiment], about: Callable[[], tuple[str, dict[str, str]]] | None = None
) -> None:
    """Add a figure to `nail figure`, after those that are there; `load` is called when the figure is wanted.

    `about` gives its summary and its cost, where these can be had without loading it, to be listed at once.
    Raises `BadInput` if another figure has that name.
    """
    if FIGURES.setdefault(name, load) is not load:
        raise BadInput(f"name of a new figure must be one that is not taken, got {name!r}")
    _ABOUT[name] = about or (lambda: (load().summary, load().cost))


def about(name: str) -> tuple[str, dict[str, str]]:
    """Summary and cost of a figure."""
    return _ABOUT[name]()


def names() -> list[str]:
    """All figures, in reading order."""
    return list(FIGURES)


def load(name: str) -> Experiment:
    """The experiment called `name`; raises `BadInput` with the nearest name if there is none."""
    require_known("figure", name, FIGURES)
    return FIGURES[name]()


def size_of(experiment: Experiment, preset: str, own: "Own") -> Any:
    """A preset with axes and settings of one's own, which `compute`, `runs` and `points` take in its place.

    Raises `BadInput` for a figure that has only its presets, and for a grid that the figure cannot be computed on.
    """
    from nail.figures.own import replaced

    require_sizes(experiment, preset)
    size = replaced(experiment.name, experiment.sizes[preset], own)
    for part in (experiment.runs, experiment.points):
        if part is not None:
            part(size)
    return size


def make(
    name: str, preset: str, out: Path, redraw: bool = False, unit: str = "", files: Mapping[str, Path] | None = None,
    *, vary: Mapping[str, Iterable[Any]] | None = None, seeds: int | None = None, steps: int | None = None,
) -> list[Claim]:  # fmt: skip
    """Compute what is missing, then write NAME.{png,pdf,csv}, NAME_rows.csv and NAME_claims.csv into `out`, and the
    folder's README.md. Rows say by a column which preset they are of; `redraw` takes those that are there. In a `unit`
    that is not the figure's first it is drawn to NAME_UNIT.{png,pdf} too. `files` are those that the figure is given.

    With `vary` (axis or setting of the figure → values), `seeds` (their number) or `steps` (updates of a run) it is
    computed on a grid of one's own: the preset with these in the place of its own. Then rows say "own" in the column
    `preset`, and in `options` what gives that grid on the command line.

    Raises `BadInput` for an unknown figure, for a preset or a unit that the figure does not have, for files that it is
    not given or lacks, if there are no rows to draw again, or rows that are damaged or another figure's, and for a grid
    that the figure cannot be computed on.
    """
    from nail.figures.own import Own

    experiment, files = load(name), dict(files or {})
    require_preset(experiment, preset)
    require_unit(experiment, unit)
    own = Own({axis: tuple(values) for axis, values in (vary or {}).items()}, seeds, steps)
    size, made_by = preset, {"preset": preset}
    if own != Own():
        require(not redraw, "vary, seeds, steps", own.options(preset), "left out where nothing is computed")
        size, made_by = size_of(experiment, preset, own), {"preset": OWN, "options": own.options(preset)}
    if not redraw:
        require_given(experiment, preset, files)
    out = open_folder(out)
    rows_path, computed = out / f"{name}_rows.csv", ""
    tables = [out / f"{name}{kind}.csv" for kind in ("", "_rows", "_claims")]
    drawings = [out / f"{picture}.{kind}" for picture in pictures_of(experiment, unit) for kind in ("png", "pdf")]
    for path in (*tables, *drawings, out / "README.md"):
        require_place(path)
    if redraw:
        require(rows_path.exists(), "out", out, f"a folder with {rows_path.name}, to draw from it again")
    else:
        computed = to_csv([{**row, **made_by} for row in experiment.compute(size, out, **files)])
    with lock_of(out / "figures.lock"):
        if computed:
            write_text(rows_path, computed)
        try:
            table, claims, pictures = _drawn(experiment, rows_path, unit)
        except Exception as error:  # rows that somebody changed can be wrong in any way
            if not redraw:
                raise
            raise BadInput(
                f"{rows_path} must hold rows of {name} to draw it again, and cannot be read as such "
                f"({type(error).__name__}: {error}); without --redraw they are computed"
            ) from error
        _write(out, name, table, claims, pictures)
    print_claims(claims)
    done = f"wrote {', '.join(pictures)} (.png, .pdf), {name}.csv, _claims.csv and _rows.csv in {out}"
    print(one_line(done), file=sys.stderr)
    return claims


def _drawn(experiment: Experiment, rows_path: Path, unit: str) -> "tuple[str, list[Claim], dict[str, Figure]]":
    """(table as CSV, claims, picture → drawing) of stored rows; drawings are of the table as it is read again."""
    from nail.figures.plotting import figure_style
    from nail.sweep.table import read_rows, typed

    rows, pictures = read_rows(rows_path), pictures_of(experiment, unit)
    table, claims = experiment.analyse(rows).to_csv(index=False, lineterminator="\n"), experiment.claims(rows)
    shown = parse_csv(table.encode(), rows_path)
    with figure_style():
        return table, claims, {name: experiment.draw(typed(shown), *which) for name, which in pictures.items()}


def pictures_of(experiment: Experiment, unit: str) -> dict[str, tuple[str, ...]]:
    """Name of a picture → what it is drawn in beside the table: nothing, or a unit that is not the figure's first."""
    other = unit not in ("", *experiment.units[:1])
    return {experiment.name: (), **({f"{experiment.name}_{unit}": (unit,)} if other else {})}


def _write(out: Path, name: str, table: str, claims: list[Claim], pictures: "dict[str, Figure]") -> None:
    """Table, claims, pictures, and the folder's README.md."""
    from nail.figures.plotting import figure_style, save

    write_text(out / f"{name}.csv", table)
    verdicts = [{**claim._asdict(), "holds": claim.verdict} for claim in claims]
    if not any(claim.needs for claim in claims):
        verdicts = [{name: cell for name, cell in row.items() if name != "needs"} for row in verdicts]
    write_text(out / f"{name}_claims.csv", to_csv(verdicts))
    with figure_style():
        for picture, drawn in pictures.items():
            save(drawn, out / picture)
    write_text(out / "README.md", index(out))


def require_preset(experiment: Experiment, preset: str) -> None:
    """`BadInput` for a preset that a figure does not have."""
    require_known("preset", preset, PRESETS)
    known = ", ".join(experiment.cost)
    require(preset in experiment.cost, "preset", preset, f"one that {experiment.name} has ({known})")


def require_sizes(experiment: Experiment, preset: str) -> None:
    """`BadInput` for a figure that has only its presets, and for a preset that it does not have."""
    if not experiment.sizes:
        can = ", ".join(name for name in names() if load(name).sizes)
        raise BadInput(f"a grid of your own can be given to {can}, and {experiment.name} has only its presets")
    require_preset(experiment, preset)


def require_given(experiment: Experiment, preset: str, files: Mapping[str, Path]) -> None:
    """`BadInput` for files that a figure is not computed from at a preset, or lacks, or for a package that it lacks."""
    name, wanted = experiment.name, experiment.given.get(preset, ())
    for file in files:
        require(file in wanted, file, files[file], f"left out: {name} at preset {preset} is not computed from it")
    lacking = [file for file in wanted if file not in files]
    if lacking:
        raise BadInput(
            f"{name} at preset {preset} is computed from files of yours: --{', --'.join(lacking)} must be given"
        )
    if experiment.needs:
        experiment.needs()


def require_unit(experiment: Experiment, unit: str) -> None:
    """`BadInput` for a unit in which a figure cannot be drawn; "" is its first one, or none."""
    known = ", ".join(experiment.units) or f"left out: {experiment.name} counts nothing in other units"
    require(not unit or unit in experiment.units, "unit", unit, known)


def index(out: Path) -> str:
    """Which command made what in a folder of figures, and from which rows, as Markdown."""
    lines = [
        "# Figures",
        "",
        "Beside each picture (`NAME.png`, `NAME.pdf`): the table it is drawn from (`NAME.csv`), its claims with their",
        "numbers and verdicts (`NAME_claims.csv`), and the rows behind all of it (`NAME_rows.csv`).",
        "",
        "| figure | what it shows | command | rows | claims that hold | computed by |",
        "|---|---|---|---|---|---|",
    ]
    for name in names():
        if not (out / f"{name}_claims.csv").exists():
            continue
        try:
            rows, claims = read_csv(out / f"{name}_rows.csv"), read_csv(out / f"{name}_claims.csv")
        except (Damaged, OSError) as error:
            say(f"{name} is listed in {out}/README.md as damaged ({error})")
            lines.append(f"| `{name}` | {load(name).summary} | damaged: to be computed again | | | |")
            continue
        made = " or ".join(f"`{each}`" for each in commands(name, rows)) or "?"
        revisions = ", ".join(sorted({row.get("git_revision", "?")[:9] for row in rows}))
        lines.append(
            f"| `{name}` | {load(name).summary} | {made} | {len(rows):,} | "
            f"{counted([claim.get('holds', '') for claim in claims])} | revision {revisions} |"
        )
    return "\n".join(lines) + "\n"


def counted(verdicts: list[str]) -> str:
    """How many claims hold, and how many are undecided where some are, in words."""
    undecided = verdicts.count(UNDECIDED)
    return f"{verdicts.count(HOLDS)} of {len(verdicts)}" + (f", {undecided} undecided" if undecided else "")


def command(name: str, preset: str) -> str:
    """What computes a figure at a preset."""
    files = (f" --{file} {file.upper()}" for file in load(name).given.get(preset, ()))
    return f"nail figure {name} --preset {preset}{''.join(files)}"


def commands(name: str, rows: Iterable[Mapping[str, str]]) -> list[str]:
    """What computed rows of a figure (text), each command once, from the smallest preset on."""
    known = (*PRESETS, OWN)
    made = {(row["preset"], row.get("options", "")) for row in rows if row.get("preset") in known}
    ordered = sorted(made, key=lambda one: (known.index(one[0]), one[1]))
    return [f"nail figure {name} {options}" if preset == OWN else command(name, preset) for preset, options in ordered]


document_fields(__name__)

"""One HTML page about all figures of a folder: pictures, claims with verdicts, fits beside the theory, provenance.

The page is read from the files that `nail figure` wrote (NAME.png, NAME.csv, NAME_claims.csv, NAME_rows.csv), holds its
pictures and its style itself and fetches nothing. A file that is missing or damaged becomes a sentence on the page.
"""

import base64
import csv
import io
import os
import re
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from nail.checks import BadInput, require
from nail.figures import experiment
from nail.sweep.store import Damaged, read_csv, write_text
from nail.training.config import TrainConfig

Row = dict[str, str]
PICTURE_WIDTH = 1400
"""pixels; larger pictures are scaled down"""
COLOURS = 128
"""colours of an embedded picture: line drawings need few"""
FITS = ("form", "slope", "slope_low", "slope_high", "theory_slope", "stated_slope", "exact_slope", "delta_aic")
"""columns of NAME.csv that say how a quantity grows: fitted slope with its interval, and the theory's"""
SIZES = ("method", "seed", "task", "p", "m", "width", "batch", "steps", "n_validation")
"""columns by which the training runs of a preset are recognised (identities change whenever a field is added)"""
VERDICTS = ("holds", "does not hold")


class Fits(NamedTuple):
    """One line per fitted series: what distinguishes it, and its slopes."""

    columns: list[str]
    rows: list[list[str]]


class Section(NamedTuple):
    """What the page says of one figure."""

    name: str
    summary: str
    picture: str | None
    """data URI"""
    size: tuple[int, int]
    claims: list[Row]
    fits: Fits | None
    provenance: list[tuple[str, list[str]]]
    files: list[tuple[str, str]]
    """(name, address relative to the page)"""
    problems: list[str]
    """one sentence each: what is missing or damaged"""

    @property
    def anchor(self) -> str:
        """The name as an identifier within the page."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.name)

    @property
    def held(self) -> int:
        """Number of claims that hold."""
        return sum(claim["holds"] == VERDICTS[0] for claim in self.claims)


def write_report(folder: Path, out: Path) -> list[Section]:
    """Write the page about the figures of `folder` to the file `out`; returns what it says.

    Raises `BadInput` if `folder` is not a folder or has no figures, or if `out` is a folder.
    """
    require(folder.is_dir(), "DIR", folder, "a folder with figures")
    require(not out.is_dir(), "out", out, "a file, not a folder")
    names = figure_names(folder)
    if not names:
        raise BadInput(f"DIR must be a folder with figures (NAME.png, NAME_claims.csv), and {folder} has none")
    sections = [read_section(folder, name, out.parent) for name in names]
    write_text(out, render(sections))
    return sections


def figure_names(folder: Path) -> list[str]:
    """Names of the figures in a folder: those with claims, or with a picture and a table; sorted."""
    claims = {path.name.removesuffix("_claims.csv") for path in folder.glob("*_claims.csv")}
    drawn = {path.stem for path in folder.glob("*.png") if path.with_suffix(".csv").exists()}
    return sorted(claims | drawn)


def render(sections: list[Section]) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("nail"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    held, total = sum(s.held for s in sections), sum(len(s.claims) for s in sections)
    page = environment.get_template("report.html")
    return page.render(sections=sections, held=held, total=total, version=metadata.version("nail")) + "\n"


def read_section(folder: Path, name: str, base: Path) -> Section:
    """Everything that the page says of figure `name`; addresses are relative to the folder `base`."""
    problems: list[str] = []
    picture, size = _picture(folder / f"{name}.png", problems)
    table = _table(folder / f"{name}.csv", problems)
    claims = _table(folder / f"{name}_claims.csv", problems, ("claim", "source", "measured", "holds"))
    if any(claim["holds"] not in VERDICTS for claim in claims):
        problems.append(f"{name}_claims.csv has a verdict that is neither of: {', '.join(VERDICTS)}.")
    rows = _table(folder / f"{name}_rows.csv", problems)
    kinds = (".csv", "_claims.csv", "_rows.csv", ".png", ".pdf")
    files = [folder / f"{name}{kind}" for kind in kinds]
    found = experiment.load(name) if name in experiment.names() else None
    return Section(
        name, found.summary if found else "", picture, size, claims, fits_of(table), _provenance(name, found, rows),
        [(path.name, quote(os.path.relpath(path, base))) for path in files if path.exists()], problems,
    )  # fmt: skip


def _picture(path: Path, problems: list[str]) -> tuple[str | None, tuple[int, int]]:
    """A PNG as a data URI, scaled and with few colours, and its size in pixels."""
    if not path.exists():
        problems.append(f"{path.name} is not there.")
        return None, (0, 0)
    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
    except (OSError, SyntaxError):
        problems.append(f"{path.name} cannot be read as a picture.")
        return None, (0, 0)
    if image.width > PICTURE_WIDTH:
        image = image.resize((PICTURE_WIDTH, round(image.height * PICTURE_WIDTH / image.width)), Image.LANCZOS)
    data = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode(), image.size


def _table(path: Path, problems: list[str], needed: tuple[str, ...] = ()) -> list[Row]:
    """Rows of a CSV file; empty, with a sentence in `problems`, if it is missing, damaged or lacks a column."""
    if not path.exists():
        problems.append(f"{path.name} is not there.")
        return []
    try:
        rows = read_csv(path)
    except (Damaged, OSError, UnicodeDecodeError, csv.Error):
        problems.append(f"{path.name} is damaged and left out.")
        return []
    if not rows:
        problems.append(f"{path.name} is empty.")
        return []
    lacking = [column for column in needed if column not in rows[0]]
    if lacking:
        problems.append(f"{path.name} has no column {lacking[0]!r} and is left out.")
        return []
    return rows


def fits_of(table: list[Row]) -> Fits | None:
    """The fitted slopes of a figure's table beside the theory's, one line a series; None where it has none.

    A series is named by the columns that are constant along it and differ between series.
    """
    if not table or not {"slope", "theory_slope"} <= set(table[0]):
        return None
    slopes = [name for name in FITS if name in table[0]]
    series: dict[tuple[str, ...], list[Row]] = {}
    for row in table:
        if row["slope"]:
            series.setdefault(tuple(row[name] for name in slopes), []).append(row)
    groups = list(series.values())
    if not groups:
        return None
    labels = [
        name
        for name in table[0]
        if name not in FITS
        and not name.endswith("_slope")
        and all(len({row[name] for row in rows}) == 1 for rows in groups)
        and len({rows[0][name] for rows in groups}) > 1
    ]
    lines = [[*(rows[0][name] for name in labels), *(_short(rows[0][name]) for name in slopes)] for rows in groups]
    return Fits([*labels, *slopes], lines)


def _short(text: str) -> str:
    """A number to four digits; other text as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _provenance(name: str, found: experiment.Experiment | None, rows: list[Row]) -> list[tuple[str, list[str]]]:
    """(label, values): where the rows come from; several revisions, devices or versions come with their counts."""
    if not rows:
        return []
    lines = [("rows", [f"{len(rows):,}"])]
    preset = _preset(found, rows)
    if found is not None:
        lines.append(("command", [f"nail figure {name} --preset {preset or 'PRESET'}"]))
        lines.append(("preset", [f"{preset}: {found.cost[preset]}" if preset else "not recorded in the rows"]))
    columns = [c for c in ("git_revision", "source_hash", "device") if c in rows[0]]
    for column in columns:
        lines.append((column.replace("_", " "), _counted(rows, column)))
    versions: dict[str, Any] = {c: _counted(rows, c) for c in rows[0] if c.startswith("version_")}
    if versions:
        lines.append(("versions", [f"{c.removeprefix('version_')} {', '.join(v)}" for c, v in versions.items()]))
    return lines


def _counted(rows: list[Row], column: str) -> list[str]:
    """The values of a column, the commonest first; with their numbers of rows if there are several."""
    counts = Counter(row[column] for row in rows).most_common()
    return (
        [value for value, _ in counts]
        if len(counts) == 1
        else [f"{value} ({n:,} row{'s' if n > 1 else ''})" for value, n in counts]
    )


def _preset(found: experiment.Experiment | None, rows: list[Row]) -> str | None:
    """The preset, where rows record it, or where it alone has training runs of these sizes."""
    if len(recorded := {row.get("preset", "") for row in rows}) == 1 and recorded != {""}:
        preset = recorded.pop()
        return preset if preset in experiment.PRESETS else None
    if found is None or found.runs is None or not set(SIZES) <= set(rows[0]):
        return None
    seen = {tuple(row[name] for name in SIZES) for row in rows}
    fits = [p for p in experiment.PRESETS if {_sizes(config) for config in found.runs(p)} == seen]
    return fits[0] if len(fits) == 1 else None


def _sizes(config: TrainConfig) -> tuple[str, ...]:
    return tuple(str(getattr(config, name)) for name in SIZES)

"""One HTML page about all figures of a folder: pictures, claims with verdicts, fits beside the theory, provenance.

The page is read from the files that `nail figure` wrote (NAME.png, NAME.csv, NAME_claims.csv, NAME_rows.csv), holds its
pictures and its style itself and fetches nothing. A file that is missing or damaged becomes a sentence on the page.
"""

import base64
import io
import os
import re
import warnings
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from nail.checks import BadInput, is_text, require
from nail.figures import experiment
from nail.figures.citations import linked
from nail.figures.claims import HOLDS, REFUTED, UNDECIDED, verdict_of
from nail.methods import METHOD
from nail.sweep.store import Damaged, read_csv, write_text
from nail.sweep.table import typed

Row = dict[str, str]
PICTURE_WIDTH = 1400
"""pixels; larger pictures are scaled down"""
COLOURS = 128
"""colours of an embedded picture: line drawings need few"""
FITS = {
    "form": "form", "slope": "slope", "slope_low": "interval from", "slope_high": "to", "theory_slope": "theory",
    "stated_slope": "as stated", "exact_slope": "exact", "delta_aic": "ΔAIC",
}  # fmt: skip
"""columns of NAME.csv that say how a quantity grows (fitted slope with its interval, the theory's) → their headings"""
VERDICTS = (HOLDS, REFUTED, UNDECIDED)
MADE_BY = "<title>nail: figures and claims</title>"
"""in the head of each page: the mark of a file that may be written again"""
MOST_PIXELS = 10**8
"""of a picture that is read"""


class Section(NamedTuple):
    """What the page says of one figure."""

    name: str
    summary: str
    picture: str | None
    """data URI"""
    size: tuple[int, int]
    full: str
    """address of the picture's file, relative to the page"""
    claims: list[dict[str, Any]]
    """`source` is in pieces (text, address)"""
    fits: pd.DataFrame | None
    """one line a fitted series, as text"""
    provenance: list[tuple[str, list[str]]]
    files: list[tuple[str, str]]
    """(name, address relative to the page)"""
    problems: list[str]
    """one sentence each: what is missing or damaged"""

    @property
    def title(self) -> str:
        """The name as a person reads it: Figure 2; Theory: rare action."""
        words = re.sub(r"^fig(\d+)$", r"Figure \1", self.name).replace("theory_", "theory: ").replace("_", " ")
        return words[:1].upper() + words[1:]

    @property
    def anchor(self) -> str:
        """The name as an identifier within the page."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.name)

    @property
    def held(self) -> int:
        """Number of claims that hold."""
        return sum(claim["holds"] == HOLDS for claim in self.claims)

    @property
    def counted(self) -> str:
        """How many claims hold, and how many are undecided where some are, in words."""
        return experiment.counted([claim["holds"] for claim in self.claims])


def write_report(folder: Path, out: Path) -> list[Section]:
    """Write the page about the figures of `folder` to the file `out`; returns what it says.

    Raises `BadInput` if `folder` is not a folder or has no figures, or if `out` is a folder or a file that is no such
    page.
    """
    require(folder.is_dir(), "DIR", folder, "a folder with figures")
    require(not out.is_dir(), "out", out, "a file, not a folder")
    require(not out.exists() or _is_page(out), "out", out, "a new file, or a page that nail report made")
    names = figure_names(folder)
    if not names:
        raise BadInput(f"DIR must be a folder with figures (NAME.png, NAME_claims.csv), and {folder} has none")
    sections = [read_section(folder, name, out.parent) for name in names]
    write_text(out, render(sections))
    return sections


def _is_page(path: Path) -> bool:
    """Whether a file begins as the template does."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MADE_BY.encode() in file.read(1000)


def figure_names(folder: Path) -> list[str]:
    """Names of the figures in a folder (claims, or picture and table): in reading order, others after them by name."""
    claims = {path.name.removesuffix("_claims.csv") for path in folder.glob("*_claims.csv")}
    drawn = {path.stem for path in folder.glob("*.png") if path.with_suffix(".csv").exists()}
    for name in claims | drawn:
        require(is_text(name), "the name of a figure", repr(name), "one that UTF-8 can write")
    order = {name: place for place, name in enumerate(experiment.names())}
    return sorted(claims | drawn, key=lambda name: (order.get(name, len(order)), name))


def render(sections: list[Section]) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("nail.figures"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    held, total = sum(s.held for s in sections), sum(len(s.claims) for s in sections)
    page = environment.get_template("report.html")
    return page.render(sections=sections, held=held, total=total, version=metadata.version("nail")) + "\n"


def read_section(folder: Path, name: str, base: Path) -> Section:
    """Everything that the page says of figure `name`; addresses are relative to the folder `base`."""
    problems: list[str] = []
    picture, size = _picture(folder / f"{name}.png", problems)
    table = _table(folder / f"{name}.csv", problems)
    told = _table(folder / f"{name}_claims.csv", problems, ("claim", "source", "measured", "holds"))
    claims = [{**claim, "holds": verdict_of(claim["holds"])} for claim in told]
    if any(claim["holds"] not in VERDICTS for claim in claims):
        problems.append(f"{name}_claims.csv has a verdict that is none of: {', '.join(VERDICTS)}.")
    rows = _table(folder / f"{name}_rows.csv", problems)
    files = [folder / f"{name}{kind}" for kind in (".csv", "_claims.csv", "_rows.csv", ".png", ".pdf")]
    found = experiment.load(name) if name in experiment.names() else None
    addresses = {path.name: quote(os.path.relpath(path, base)) for path in files if path.is_file()}
    return Section(
        name, found.summary if found else "", picture, size, addresses.get(f"{name}.png", ""),
        [{**claim, "source": linked(claim["source"], base)} for claim in claims],
        fits_of(table), _provenance(name, found, rows),
        [*addresses.items()], problems,
    )  # fmt: skip


def _picture(path: Path, problems: list[str]) -> tuple[str | None, tuple[int, int]]:
    """A PNG as a data URI, scaled and with few colours, and its size in pixels."""
    if not path.is_file():
        problems.append(f"{path.name} is {'no file' if path.exists() else 'not there'}.")
        return None, (0, 0)
    try:
        with warnings.catch_warnings():
            # that a picture is large is said below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = _small(path)
    except Image.DecompressionBombError:
        image = None
    except Exception as error:  # each format has errors of its own
        problems.append(f"{path.name} cannot be read as a picture ({type(error).__name__}).")
        return None, (0, 0)
    if image is None:
        problems.append(f"{path.name} has more than {MOST_PIXELS:,} pixels and is left out.")
        return None, (0, 0)
    data = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode(), image.size


def _small(path: Path) -> Image.Image | None:
    """A picture at the page's width at most; None if it is too large to be read."""
    with Image.open(path, formats=("PNG",)) as image:
        if image.width * image.height > MOST_PIXELS:
            return None
        image = image.convert("RGB")
    if image.width > PICTURE_WIDTH:
        height = max(1, round(image.height * PICTURE_WIDTH / image.width))
        image = image.resize((PICTURE_WIDTH, height), Image.LANCZOS)
    return image


def _table(path: Path, problems: list[str], needed: tuple[str, ...] = ()) -> list[Row]:
    """Rows of a CSV file; empty, with a sentence in `problems`, if it is missing, damaged or lacks a column."""
    rows: list[Row] = []
    try:
        rows = read_csv(path)
        lacking = [column for column in needed if rows and column not in rows[0]]
        problem = "" if rows else "is empty"
        if lacking:
            rows, problem = [], f"has no column {lacking[0]!r} and is left out"
    except FileNotFoundError:
        problem = "is not there"
    except (Damaged, OSError):
        problem = "is damaged and left out"
    problems += [f"{path.name} {problem}."] if problem else []
    return rows


def fits_of(table: list[Row]) -> pd.DataFrame | None:
    """The fitted slopes of a figure's table beside the theory's, one line a series; None where it has none.

    A series is named by the columns that are constant along it and differ between series.
    """
    fitted = typed([row for row in table if row.get("slope")])
    if "theory_slope" not in fitted:
        return None
    slopes = [name for name in FITS if name in fitted]
    series = fitted.groupby(slopes, sort=False, dropna=False)
    labels = [
        name
        for name in fitted
        if name not in FITS and not name.endswith("_slope")
        and fitted[name].nunique(dropna=False) > 1 and (series[name].nunique(dropna=False) == 1).all()
    ]  # fmt: skip
    lines = fitted.drop_duplicates(slopes)[[*labels, *slopes]]
    return lines.map(_in_words).rename(columns=lambda name: FITS.get(name, name.replace("_", " ")))


def _in_words(cell: Any) -> str:
    """A number to four digits, a method by the paper's name, other text as it is; nothing as a dash."""
    if isinstance(cell, float):
        return f"{cell:.4g}" if cell == cell else "–"
    return METHOD[cell].label if cell in METHOD else str(cell) or "–"


def _provenance(name: str, found: experiment.Experiment | None, rows: list[Row]) -> list[tuple[str, list[str]]]:
    """(label, values): where the rows come from; several revisions, devices or versions come with their counts."""
    if not rows:
        return []
    lines = [("rows", [f"{len(rows):,}"])]
    if found is not None:
        there = {row.get("preset") for row in rows}
        presets = [preset for preset in experiment.PRESETS if preset in there]
        lines.append(("command", experiment.commands(name, rows) or [experiment.command(name, "PRESET")]))
        words = [f"{preset}: {found.cost[preset]}" for preset in presets]
        words += ["own: a grid of the user's own"] if experiment.OWN in there else []
        lines.append(("preset", words or ["not recorded in the rows"]))
    columns = [c for c in ("git_revision", "source_hash", "device") if c in rows[0]]
    lines += [(column.replace("_", " "), _counted(rows, column)) for column in columns]
    versions = {c.removeprefix("version_"): _counted(rows, c) for c in rows[0] if c.startswith("version_")}
    if versions:
        lines.append(("versions", [f"{package} {', '.join(values)}" for package, values in versions.items()]))
    return lines


def _counted(rows: list[Row], column: str) -> list[str]:
    """The values of a column, the commonest first; with their numbers of rows if there are several."""
    counts = Counter(row[column] for row in rows).most_common()
    if len(counts) == 1:
        return [counts[0][0]]
    return [f"{value} ({n:,} row{'s' if n > 1 else ''})" for value, n in counts]

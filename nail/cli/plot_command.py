"""`nail plot DIR`: a picture of the rows of a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nail.checks import BadInput, printable, require


@dataclass(frozen=True)
class Plot:
    """Draw the rows of a folder, of training runs or of n* over a grid: DIR/NAME.png, .pdf, and .csv, the table of it.

    Without options x is the axis with most values, methods are colours, and other axes panels."""

    folder: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="DIR", help="folder of a sweep, of nail train or of nail n-star"),
    ]
    x: str | None = None
    """column on the horizontal axis; episodes: over training"""
    y: str | None = None
    """what is drawn: of training a column of the rows (full_exact, val_loss, …) at the end or over training,
    episodes_to_solve or queries_to_solve (accuracy ≥ 0.95); of a grid n_star or queries"""
    by: str | None = None
    """column whose values are colours"""
    panel: str | None = None
    """column whose values are panels"""
    log: str | None = None
    """axes that are logarithmic: x, y or xy; default: those whose values span a factor of 10"""
    bound: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """bound on n* to draw, as 'NAME: EXPRESSION' in H, A, eta, delta, … (docs/bound.md); may be given again"""
    exact: bool = False
    """draw the exact n* where it is known: LogLossBC on poison-chain; NAIL-F and NAILGUN there and on hidden-path"""
    style: str | None = None
    """matplotlib style file, or the name of a style"""
    name: str = "plot"
    """of the files, without their end"""

    def run(self) -> None:
        require(self.folder.is_dir(), "DIR", self.folder, "a folder with rows")
        from nail.figures.picture import picture
        from nail.sweep.table import read_rows

        try:
            rows = read_rows(self.folder)
        except FileNotFoundError as error:
            raise BadInput(f"DIR must be a folder with rows.csv or with runs, and {self.folder} has neither") from error
        bounds = ()
        if self.bound:
            from nail.complexity.bounds import check, parse

            bounds = tuple(parse(text) for text in self.bound)
            if "n_star" in rows:
                check(bounds, rows)
        picture(
            self.folder, self.name, rows, x=self.x, y=self.y, by=self.by, panel=self.panel, log=self.log,
            bounds=bounds, exact=self.exact, style=self.style,
        )  # fmt: skip
        print(f"wrote {self.name}.png, .pdf and .csv in {printable(self.folder)}")

"""`nail plot DIR`: a picture of the rows of a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nail.checks import BadInput, printable, require, say


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
    episodes_to_solve or queries_to_solve (accuracy ≥ 0.95); of a grid n_star or queries. Of a folder with both the
    rows that have it are drawn, without it those of the grid"""
    by: str | None = None
    """column whose values are colours"""
    panel: str | None = None
    """column whose values are panels"""
    log: str | None = None
    """axes that are logarithmic: x, y or xy; default: those whose values span a factor of 10"""
    bound: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """upper bound on n* to draw, as 'NAME: EXPRESSION' in H, A, eta, delta, … (docs/bound.md); may be given again"""
    lower_bound: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """lower bound on n* to draw; may be given again"""
    bound_unit: str = "episodes"
    """what bounds count: episodes or labels"""
    exact: bool = False
    """draw the exact n* where it is known: LogLossBC on poison-chain; NAIL-F and NAILGUN there and on hidden-path"""
    style: str | None = None
    """matplotlib style file, or the name of a style"""
    name: str = "plot"
    """of the files, without their end"""

    def run(self) -> None:
        require(self.folder.is_dir(), "DIR", self.folder, "a folder with rows")
        from nail.figures.picture import picture
        from nail.figures.shown import kinds_in
        from nail.sweep.table import read_rows

        try:
            rows = read_rows(self.folder)
        except FileNotFoundError as error:
            raise BadInput(f"DIR must be a folder with rows.csv or with runs, and {self.folder} has neither") from error
        kinds, bounds = kinds_in(rows), ()
        if len(kinds) == 2 and self.y is None:
            say(f"{self.folder} has training runs and measured n*: n* is drawn; --y full_exact draws the runs")
        if self.bound or self.lower_bound:
            from nail.complexity.bounds import check, parse

            sides = {"upper": self.bound, "lower": self.lower_bound}
            bounds = tuple(parse(text, side, self.bound_unit) for side, texts in sides.items() for text in texts)
            if True in kinds:
                check(bounds, kinds[True])
        picture(
            self.folder, self.name, rows, x=self.x, y=self.y, by=self.by, panel=self.panel, log=self.log,
            bounds=bounds, exact=self.exact, style=self.style,
        )  # fmt: skip
        print(f"wrote {self.name}.png, .pdf and .csv in {printable(self.folder)}")

"""`nail report` and `nail log`: what is made of stored rows and figures afterwards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nail.checks import printable, require, require_known
from nail.cli.parse import require_file


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about the figures of a folder: claims, fits, provenance."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help="folder with figures")]
    out: Annotated[Path | None, tyro.conf.arg(help="file to write; default: DIR/report.html")] = None

    def run(self) -> None:
        from nail.figures.report import write_report

        out = self.folder / "report.html" if self.out is None else self.out
        require(self.folder.is_dir(), "DIR", self.folder, "a folder with figures")
        require_file(out)
        sections = write_report(self.folder, out)
        held, total = sum(s.held for s in sections), sum(len(s.claims) for s in sections)
        size = f"{out.stat().st_size / 1e6:.1f} MB"
        print(f"{printable(out)}: {len(sections)} figures, {held} of {total} claims hold, {size}")
        for section in sections:
            for problem in section.problems:
                print(f"  {printable(section.name)}: {printable(problem)}")


@dataclass(frozen=True)
class Log:
    """Write the stored rows of training runs as TensorBoard or Weights & Biases logs; needs no network."""

    folder: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help="folder with rows.csv or *_rows.csv")
    ]
    to: str = "tensorboard"
    """tensorboard, or wandb (offline files, to be uploaded with `wandb sync` if wanted)"""
    out: Annotated[Path | None, tyro.conf.arg(help="folder for the logs; default: DIR/TO")] = None

    def run(self) -> None:
        from nail.figures.trackers import WRITERS, write_logs

        require_known("to", self.to, WRITERS)

        out = self.folder / self.to if self.out is None else self.out
        runs, values = write_logs(self.folder, self.to, out)
        print(f"{printable(out)}: {runs} runs, {values:,} values")

"""The table of a folder, rows.csv: the rows of all its finished training runs, and of all finished points of grids of
sample complexities, whichever commands asked for them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nail.checks import BadInput, say
from nail.counting.columns import MEASURED_BY, N_STAR
from nail.sweep.folder import Folder
from nail.sweep.identity import source_hash
from nail.sweep.lot import Rows
from nail.sweep.plan import read_requests
from nail.sweep.store import lock_of, write_rows


def finished(out: Path, source: str | None = None, any_revision: bool = False) -> Rows:
    """Rows of the finished training runs of a folder, then of its points of n*: in the order asked (of several requests
    the largest comes first), by steps.

    Those count that `source` computed (without it the present one), with `any_revision` others where it has none.
    Nothing is written.
    """
    there = Folder.read(out, source=source)
    known = read_requests(out)[0] | {run: fields for seen in there.lots for run, fields in seen.lot.runs.items()}
    trained = there.collect([run for run, fields in known.items() if "figure" not in fields], any_revision)[0]
    points = [run for run, fields in known.items() if fields.get("figure") == N_STAR]
    return trained + (_points(there, points, any_revision) if points else [])


def _points(there: Folder, points: list[str], any_revision: bool) -> Rows:
    """Rows of finished points of n*, of the present revision of what measures them; of the newest one without any."""
    lots = [seen for seen in there.lots if seen.lot.figure == N_STAR]
    source = source_hash((MEASURED_BY,))
    if lots and all(seen.lot.source != source for seen in lots):
        source = max(lots, key=lambda seen: seen.planned).lot.source
    return Folder(tuple(lots), source).collect(points, any_revision)[0]


@contextlib.contextmanager
def table_written(out: Path, any_revision: bool = False, said: bool = False) -> Iterator[None]:
    """Write OUT/rows.csv when what is done in the folder ends, also by an error or an interrupt; not after `BadInput`.

    It is read and written under plan.lock, so that of several processes the last one's table has the rows of all.
    """
    refused = False
    try:
        yield
    except BadInput:
        refused = True
        raise
    finally:
        if not refused:
            with lock_of(out / "plan.lock"):
                rows = finished(out, any_revision=any_revision)
                path = write_rows(out, rows)
            if said and rows:
                say(f"wrote {len(rows)} rows to {path}")

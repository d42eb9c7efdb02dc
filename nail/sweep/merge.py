"""Joining folders that hold parts of a sweep."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from nail.checks import BadInput
from nail.sweep.failures import name_of
from nail.sweep.folder import Folder, Seen, collect
from nail.sweep.identity import provenance
from nail.sweep.lot import Rows
from nail.sweep.plan import asked
from nail.sweep.store import MARKER, open_folder


def merge(parts: Sequence[Path], out: Path, any_revision: bool = False) -> Rows:
    """Join the folders `parts` in `out` and return the rows of all runs that are done and were asked for.

    Unfinished parts may be joined, and a run may lie in several. Raises `BadInput` before anything is copied: if a part
    is no folder of ours, if two parts have different numbers for one run and step of one source, or if they hold
    several sources, none of which is the present one (unless `any_revision`).
    """
    for part in parts:
        if not (Path(part) / MARKER).exists():
            raise BadInput(f"a part must be an output folder of nail, and {part} is not")
        if Path(part).resolve() == Path(out).resolve():
            raise BadInput(f"out must be none of the parts, got {out}")
    out = open_folder(out)
    there = Folder.read(*map(Path, parts), out)
    refuse_conflicts(there.lots)
    source = _source_of({seen.lot.source for seen in there.lots if not seen.lot.figure}, there.source, any_revision)
    with FileLock(out / "plan.lock"):
        for part in map(Path, parts):
            for path in (part / "runs").glob("*/lot.json"):
                _copy_missing(path.parent, out / "runs" / path.parent.name)
            _copy_missing(part / "asked", out / "asked")
    runs = [run for run, fields in asked(out).items() if "figure" not in fields]
    return collect(out, runs, source, any_revision)[0]


def refuse_conflicts(lots: Sequence[Seen]) -> None:
    """Raise `BadInput` naming the run if two lots of one source have different numbers for it."""
    numbers_of, found = {}, {}
    for seen in lots:
        lot = seen.lot
        for k in range(lot.n_segments):
            part = lot.read_rows(k)
            for run, rows in () if part is None else lot.by_run(part).items():
                numbers = [[value for name, value in row.items() if name not in provenance()] for row in rows]
                key = (lot.source, run, k)
                if run not in seen.failed and numbers != numbers_of.setdefault(key, numbers):
                    raise BadInput(
                        f"the run {run} ({name_of(lot.runs[run])}) has different numbers in part {k} of "
                        f"{found[key]} and {lot.folder}"
                    )
                found.setdefault(key, lot.folder)


def _source_of(sources: set[str], present: str, any_revision: bool) -> str:
    """The source whose rows a merged table holds."""
    if present in sources or not sources or any_revision:
        if len(sources) > 1 and not any_revision:
            print(
                f"nail: the parts hold runs of {len(sources)} revisions of the source; the table has those of the "
                f"present one, {present} (--any-revision: of all)",
                file=sys.stderr,
            )
        return present
    if len(sources) > 1:
        raise BadInput(
            f"the parts must be of one revision of the source, and they are of {', '.join(sorted(sources))}; "
            "--any-revision mixes them"
        )
    return sources.pop()


def _copy_missing(source: Path, target: Path) -> None:
    """Copy the files of a folder that are not there yet, each one whole or not at all."""
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_file() and not path.name.startswith(".") and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=there.parent, prefix=f".{there.name}.", delete=False) as file:
                shutil.copyfile(path, file.name)
            Path(file.name).chmod(0o644)
            Path(file.name).replace(there)

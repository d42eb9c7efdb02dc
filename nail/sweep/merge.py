"""Joining folders that hold parts of a sweep."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from filelock import Timeout

from nail.checks import BadInput, require, say
from nail.sweep.failures import name_of
from nail.sweep.finished import finished
from nail.sweep.folder import Folder, Seen
from nail.sweep.identity import provenance
from nail.sweep.lot import Lot, Rows, remove_half_written
from nail.sweep.plan import read_requests
from nail.sweep.store import MARKER, Damaged, lock_of, open_folder, write_rows, write_whole

AGAIN = "run the sweep of that folder again first: it computes again what is damaged"


def merge(parts: Sequence[Path], out: Path, any_revision: bool = False) -> Rows:
    """Join the folders `parts` in `out`; writes OUT/rows.csv, with the rows of all finished runs, and returns them.

    Unfinished parts may be joined, and a run may lie in several. Raises `BadInput` before anything is copied: if a part
    is no folder of ours, holds a symbolic link or something damaged (the sweep itself computes that again), if two
    parts have different numbers for one run and step of one source, or if they hold several sources, none of which is
    the present one (unless `any_revision`).
    """
    for part in parts:
        if not (Path(part) / MARKER).exists():
            raise BadInput(f"a part must be an output folder of nail, and {part} is not")
        if Path(part).resolve() == Path(out).resolve():
            raise BadInput(f"out must be none of the parts, got {out}")
    out = open_folder(out)
    with lock_of(out / "plan.lock"):
        there = Folder.read(*map(Path, parts), out)
        refuse_damage([*map(Path, parts), out], there)
        refuse_conflicts(there.lots)
        sources = {seen.lot.source for seen in there.lots if not seen.lot.figure}
        source = _source_of(sources, there.source, any_revision)
        for part in map(Path, parts):
            _copy_missing(part / "asked", out / "asked")
            for path in (part / "runs").glob("*/lot.json"):
                _copy_lot(path.parent, out / "runs" / path.parent.name)
        rows = finished(out, source, any_revision)
        write_rows(out, rows)
    return rows


def refuse_damage(folders: Sequence[Path], there: Folder) -> None:
    """Raise `BadInput` naming the first file of `folders` that is a symbolic link, damaged or lost."""
    requests = [read_requests(folder) for folder in folders]
    for folder in folders:
        ours = (folder / "runs", folder / "asked")
        for path in ours:
            require(path.is_dir() or not path.exists(), "runs and asked of a part", path, "folders")
        for path in (*ours, *folder.glob("runs/*"), *folder.glob("runs/*/**/*"), *folder.glob("asked/*")):
            if path.is_symlink():
                raise BadInput(f"a part must hold no symbolic links, and {path} is one")
    manifests = [rows.parent / "lot.json" for folder in folders for rows in folder.glob("runs/*/rows")]
    lost = [path for path in manifests if not path.exists()]
    for lot in (seen.lot for seen in there.lots):
        # they are written one after the other
        lost += [lot.part(k) for k in range(lot.parts_done()) if not lot.part(k).exists()]
        if not (lot.figure or any(set(lot.ids) <= found.keys() for found, _ in requests)):
            lost.append(lot.folder.parents[1] / "asked")
    damaged = [*there.damaged.values(), *(damage for _, found in requests for damage in found)]
    sentences = [*map(str, damaged), *(f"{path} is not there, or not all of it" for path in lost)]
    if sentences:
        raise BadInput(f"{sentences[0]}; {AGAIN}")


def refuse_conflicts(lots: Sequence[Seen]) -> None:
    """Raise `BadInput` naming the run if two lots of one source have different numbers for it, or a damaged part."""
    numbers_of, found = {}, {}
    for seen in lots:
        lot = seen.lot
        for k in range(lot.n_segments):
            for run, rows in _rows_by_run(lot, k).items():
                numbers = [[value for name, value in row.items() if name not in provenance()] for row in rows]
                key = (lot.source, run, k)
                if run not in seen.failed and numbers != numbers_of.setdefault(key, numbers):
                    raise BadInput(
                        f"the run {run} ({name_of(lot.runs[run])}) has different numbers in part {k} of "
                        f"{found[key]} and {lot.folder}"
                    )
                found.setdefault(key, lot.folder)


def _rows_by_run(lot: Lot, segment: int) -> dict[str, Rows]:
    try:
        return lot.by_run(lot.read_part(segment)[0])
    except FileNotFoundError:
        return {}
    except Damaged as damage:
        raise BadInput(f"{damage}; {AGAIN}") from damage


def _source_of(sources: set[str], present: str, any_revision: bool) -> str:
    """The source whose rows a merged table holds."""
    if present in sources or not sources or any_revision:
        if len(sources) > 1 and not any_revision:
            say(
                f"the parts hold runs of {len(sources)} revisions of the source; the table has those of the "
                f"present one, {present} (--any-revision: of all)"
            )
        return present
    if len(sources) > 1:
        raise BadInput(
            f"the parts must be of one revision of the source, and they are of {', '.join(sorted(sources))}; "
            "--any-revision mixes them"
        )
    return sources.pop()


def _copy_lot(source: Path, target: Path) -> None:
    _copy_missing(source, target)
    with contextlib.suppress(Timeout), lock_of(target.with_suffix(".lock"), timeout=0):
        remove_half_written(target)


def _copy_missing(source: Path, target: Path) -> None:
    """Copy the files of a folder that are not there yet, each one whole or not at all."""
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        ours = path.is_file() and not path.name.startswith(".") and ".damaged" not in path.suffix
        if ours and not there.exists():
            try:
                write_whole(there, lambda file, path=path: _copy(path, file))
            except FileNotFoundError:
                # a process that is at work on the part removes the checkpoint before its newest
                if path.parent.name != "state":
                    raise


def _copy(path: Path, file: IO[bytes]) -> None:
    """The content of a file and its time: of two revisions the newest counts."""
    with path.open("rb") as source:
        shutil.copyfileobj(source, file)
    file.flush()
    found = path.stat()
    os.utime(file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))

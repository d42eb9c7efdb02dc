"""What a folder holds of a sweep: rows of the runs that are done, errors of those that failed; joining folders."""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from nail.checks import BadInput
from nail.sweep.failures import Failure
from nail.sweep.identity import source_hash
from nail.sweep.lot import Lot, Rows, lots_in
from nail.sweep.plan import asked, held
from nail.sweep.rows import MEASURED
from nail.sweep.store import MARKER, open_folder
from nail.training.config import TrainConfig, run_id


def collect(
    out: Path, runs: Iterable[TrainConfig | str], source: str | None = None, any_revision: bool = False
) -> tuple[Rows, list[Failure]]:
    """Rows of the finished ones of `runs` (configurations or ids), in their order and by steps; errors of the failed.

    They are of `source` (of the present one without it), and with `any_revision` also of others where it has none.
    """
    ids = [run if isinstance(run, str) else run_id(run) for run in runs]
    lots, source = lots_in(out), source or source_hash()
    there, wanted = held(lots, source), set(ids)
    done: dict[str, Rows] = {}
    for lot in lots:
        if any(run in wanted and there.owner.get(run) is lot for run in lot.ids):
            done |= {run: rows for run, rows in lot.rows().items() if there.owner[run] is lot}
    if any_revision:
        done = of_other_sources(lots, wanted - set(done), source) | done
    failures = [there.failed[run] for run in ids if run in there.failed and run not in done]
    return [row for run in ids for row in done.get(run, [])], failures


def of_other_sources(lots: Sequence[Lot], wanted: set[str], source: str) -> dict[str, Rows]:
    """run → its finished rows, of those `wanted` that another source computed; the newest such lot counts."""
    found: dict[str, Rows] = {}
    others = [lot for lot in lots if lot.source != source and wanted & set(lot.ids)]
    for lot in sorted(others, key=lambda lot: (lot.folder / "lot.json").stat().st_mtime_ns):
        found |= {run: rows for run, rows in lot.rows().items() if run in wanted}
    return found


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
    lots = [lot for folder in (*parts, out) for lot in lots_in(Path(folder))]
    refuse_conflicts(lots)
    source = _source_of({lot.source for lot in lots}, any_revision)
    with FileLock(out / "plan.lock"):
        for part in map(Path, parts):
            for lot in lots_in(part):
                _copy_missing(lot.folder, out / "runs" / lot.folder.name)
            _copy_missing(part / "asked", out / "asked")
    return collect(out, asked(out), source, any_revision)[0]


def refuse_conflicts(lots: Sequence[Lot]) -> None:
    """Raise `BadInput` naming the run if two lots of one source have different numbers for the same run and step."""
    seen: dict[tuple[str, str, str], tuple[tuple[str, ...], Path]] = {}
    for lot in lots:
        failed = lot.failures()
        for row in (row for k in range(lot.n_segments) for row in lot.read_rows(k) or []):
            if row["run"] in failed:
                continue
            numbers = tuple(row[name] for name in MEASURED)
            other, folder = seen.setdefault((lot.source, row["run"], row["step"]), (numbers, lot.folder))
            if numbers != other:
                raise BadInput(
                    f"the run {row['run']} ({row['method']}, seed {row['seed']}) has different numbers at step "
                    f"{row['step']} in {folder} and {lot.folder}"
                )


def _source_of(sources: set[str], any_revision: bool) -> str:
    """The source whose rows a merged table holds."""
    present = source_hash()
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

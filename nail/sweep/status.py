"""How far a sweep is: runs that are done, running, missing or failed; rate and time left. It changes nothing."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from nail.checks import BadInput, say
from nail.sweep.failures import Failure
from nail.sweep.folder import Folder, Seen
from nail.sweep.identity import source_hash
from nail.sweep.lot import Lot
from nail.sweep.plan import asked
from nail.sweep.store import MARKER

WINDOW = 600.0
"""seconds before the newest row, over which the rate is measured"""


class Status(NamedTuple):
    """A count of runs and points, and the speed."""

    asked: int
    done: int
    running: int
    missing: int
    failed: int
    rows: int
    """of runs and finished points, on disk"""
    episodes_per_s: float | None
    """over the last minutes; None if fewer than two rows tell"""
    seconds_left: float | None
    """at that rate; None if nothing runs"""
    source_hash: str
    """the source whose runs are counted; of a figure's points its newest one's"""
    other_sources: int
    """runs in lots of other sources, which do not count"""
    failures: list[Failure]
    waiting: int = 0
    """of the missing runs, those that start from one that is not done"""


def status(out: Path) -> Status:
    """The state of a folder, with that of the shards of a job in it; raises `BadInput` if it is none of ours."""
    if not (out / MARKER).exists():
        raise BadInput(f"{out} must be an output folder of nail, and it is not")
    folders = [out, *sorted(path for path in (out / "shards").glob("*") if (path / MARKER).exists())]
    there = Folder.read(*folders)
    for damage in there.damaged.values():
        say(f"{damage}; its runs are computed again when they are next asked for")
    lots = there.lots
    kinds = [[seen for seen in lots if seen.lot.figure == name] for name in dict.fromkeys(s.lot.figure for s in lots)]
    counted = [Folder(tuple(kind), _counted(kind)) for kind in kinds]
    owner = {run: seen for each in counted for run, seen in each.owner.items()}
    failed = {run: failure for each in counted for run, failure in each.failed.items()}
    requests = {run: fields for folder in folders for run, fields in asked(folder).items()}
    runs = {**requests, **{run: seen.lot.runs[run] for run, seen in owner.items()}}
    mine = list({seen.lot.folder: seen for seen in owner.values()}.values())
    worked = {seen.lot.folder for seen in mine if not _complete(seen) and is_held(seen.lot)}
    state = {run: _state(owner[run], run in failed, worked) if run in owner else "missing" for run in runs}
    count = {name: sum(found == name for found in state.values()) for name in ("done", "running", "missing", "failed")}
    training, points = ([seen for seen in mine if bool(seen.lot.figure) == point] for point in (False, True))
    rows = sum(seen.parts * len(seen.lot.ids) for seen in training)
    rows += sum(len(seen.lot.read_rows(0) or ()) for seen in points if _complete(seen))
    speed = rate([seen.lot for seen in training])
    left = sum(
        seen.lot.episodes() - seen.lot.episodes(seen.parts) for seen in training
        if not (_complete(seen) or set(seen.lot.ids) <= set(failed))
    )  # fmt: skip
    return Status(
        len(runs), count["done"], count["running"], count["missing"], count["failed"],
        rows, speed,
        left / speed if speed and count["running"] else None, _counted(training),
        len({run for each in counted for seen in each.lots if seen.lot.source != each.source for run in seen.lot.ids}),
        list(failed.values()),
        sum(found == "missing" and state.get(runs[run].get("start", ""), "done") not in ("done", "failed")
            for run, found in state.items()),
    )  # fmt: skip


def is_held(lot: Lot) -> bool:
    """Whether a process works on a lot; seen without writing, so that a folder may be one that can only be read."""
    try:
        handle = os.open(lot.folder.with_suffix(".lock"), os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def rate(lots: list[Lot]) -> float | None:
    """Training episodes a second, from the times at which the newest rows were written; None if they do not tell."""
    written = []
    for lot in lots:
        for k in range(lot.n_segments):
            with contextlib.suppress(FileNotFoundError):
                written.append((lot.part(k).stat().st_mtime, lot.episodes(k + 1) - lot.episodes(k)))
    written.sort()
    recent = [entry for entry in written if entry[0] >= written[-1][0] - WINDOW]
    seconds = recent[-1][0] - recent[0][0] if recent else 0.0
    return sum(episodes for _, episodes in recent[1:]) / seconds if seconds > 0 else None


def _counted(lots: list[Seen]) -> str:
    """The present source, or that of the newest lot if there is none of the present one (as of points)."""
    present = source_hash()
    if not lots or any(seen.lot.source == present for seen in lots):
        return present
    return max(lots, key=lambda seen: seen.planned).lot.source


def _complete(seen: Seen) -> bool:
    return seen.parts == seen.lot.n_segments


def _state(seen: Seen, failed: bool, worked: set[Path]) -> str:
    if failed:
        return "failed"
    if _complete(seen):
        return "done"
    return "running" if seen.lot.folder in worked else "missing"

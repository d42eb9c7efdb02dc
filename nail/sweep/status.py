"""How far a sweep is: runs that are done, running, missing or failed; rate and time left. It changes nothing."""

from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from nail.checks import BadInput
from nail.sweep.failures import Failure
from nail.sweep.identity import source_hash
from nail.sweep.lot import Lot, lots_in
from nail.sweep.plan import asked, held
from nail.sweep.store import MARKER

WINDOW = 600.0
"""seconds before the newest row, over which the rate is measured"""


class Status(NamedTuple):
    """A count of runs, and the speed."""

    asked: int
    done: int
    running: int
    missing: int
    failed: int
    rows: int
    """rows on disk"""
    episodes_per_s: float | None
    """over the last minutes; None if fewer than two rows tell"""
    seconds_left: float | None
    """at that rate; None if nothing runs"""
    source_hash: str
    """the source that is counted"""
    other_sources: int
    """runs in lots of other sources, which do not count"""
    failures: list[Failure]


def status(out: Path) -> Status:
    """The state of a folder, with that of the shards of a job in it; raises `BadInput` if it is none of ours."""
    if not (out / MARKER).exists():
        raise BadInput(f"{out} must be an output folder of nail, and it is not")
    folders = [out, *sorted(path for path in (out / "shards").glob("*") if (path / MARKER).exists())]
    lots = [lot for folder in folders for lot in lots_in(folder)]
    source = _counted(lots)
    there = held(lots, source)
    runs = dict.fromkeys([*(run for folder in folders for run in asked(folder)), *there.owner])
    mine = list({lot.folder: lot for lot in there.owner.values()}.values())
    complete = {lot.folder for lot in mine if lot.parts_done() == lot.n_segments}
    worked = {lot.folder for lot in mine if lot.folder not in complete and is_held(lot)}
    state = {run: _state(run, there.owner.get(run), there.failed, complete, worked) for run in runs}
    count = {name: sum(found == name for found in state.values()) for name in ("done", "running", "missing", "failed")}
    speed = rate(mine)
    left = sum(_episodes_left(lot) for lot in mine if not (lot.folder in complete or set(lot.ids) <= set(there.failed)))
    return Status(
        len(runs), count["done"], count["running"], count["missing"], count["failed"],
        sum(lot.parts_done() * len(lot.ids) for lot in mine), speed,
        left / speed if speed and count["running"] else None, source,
        len({run for lot in lots if lot.source != source for run in lot.ids}), list(there.failed.values()),
    )  # fmt: skip


def is_held(lot: Lot) -> bool:
    """Whether a process works on a lot."""
    try:
        with lot.lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def rate(lots: list[Lot]) -> float | None:
    """Training episodes a second, from the times at which the newest rows were written; None if they do not tell."""
    written = sorted(
        (lot.part(k).stat().st_mtime, min(k * fields["eval_every"], fields["steps"]) - (k - 1) * fields["eval_every"]
         if k else 0, fields["batch"] * len(lot.ids))
        for lot in lots for fields in lot.fields[:1] for k in range(lot.n_segments) if lot.part(k).exists()
    )  # fmt: skip
    recent = [entry for entry in written if entry[0] >= written[-1][0] - WINDOW]
    seconds = recent[-1][0] - recent[0][0] if recent else 0.0
    return sum(steps * batch for _, steps, batch in recent[1:]) / seconds if seconds > 0 else None


def _counted(lots: list[Lot]) -> str:
    """The present source, or that of the newest lot if there is none of the present one."""
    present = source_hash()
    if not lots or any(lot.source == present for lot in lots):
        return present
    return max(lots, key=lambda lot: (lot.folder / "lot.json").stat().st_mtime_ns).source


def _state(run: str, lot: Lot | None, failed: dict[str, Failure], complete: set[Path], worked: set[Path]) -> str:
    if run in failed:
        return "failed"
    if lot is not None and lot.folder in complete:
        return "done"
    return "running" if lot is not None and lot.folder in worked else "missing"


def _episodes_left(lot: Lot) -> int:
    first = lot.fields[0]
    done = min(max(0, lot.parts_done() - 1) * first["eval_every"], first["steps"])
    return (first["steps"] - done) * first["batch"] * len(lot.ids)

"""Points of a theory figure: each is measured once and kept as a lot of one, until the code that measures changes."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import jax
from filelock import Timeout
from tqdm import tqdm

from nail.checks import BadInput
from nail.counting.spare import lent
from nail.registry import fingerprint
from nail.sources import file_of
from nail.sweep.failures import SAME, Failure, RunsFailed, Teller
from nail.sweep.folder import Folder
from nail.sweep.identity import provenance, source_hash
from nail.sweep.lot import Lot, Rows
from nail.sweep.plan import ask
from nail.sweep.store import lock_of
from nail.training.config import content_hash

Point = dict[str, Any]
Measure = Callable[[Point], list[dict[str, Any]]]
PAUSE = 0.2
"""seconds between two looks at points that another process holds"""


@dataclass
class Series:
    """Points that are measured one after the other, with what came of them."""

    todo: list[tuple[Lot, Point]]
    reached: list[Lot] = field(default_factory=list)
    rows: Rows = field(default_factory=list)
    failure: Failure | None = None


def run_points(
    name: str,
    out: Path,
    series: Sequence[Sequence[Point]],
    measure: Measure,
    stop: Callable[[Rows], bool] = lambda rows: False,
) -> Rows:
    """Rows of all points, in order, as text; each point is measured once by one revision of its code.

    That revision is the hash of the module of `measure` and of all that it imports. A series is measured point by point
    until `stop` says so of a point's rows (the next ones would only be costlier); series run side by side, one on each
    local device, and several processes may work on one folder. A killed figure goes on after its last finished point.
    Rows of one point share their keys; provenance is added to each.
    Raises `RunsFailed` at the end if a point failed (it ends its series); the next call tries it again.
    """
    out, source = Path(out), source_of(measure)
    origin = {**provenance(), "source_hash": source}
    there = Folder.read(out, source=source)
    if there.damaged:
        with lock_of(out / "plan.lock"):
            Folder.read(out, source=source).set_aside_damaged()
    planned = [Series([(_lot(out, name, point, there), point) for point in points]) for points in series]
    lots = [lot for each in planned for lot, _ in each.todo]
    ids = list(dict.fromkeys(lot.ids[0] for lot in lots))
    there.warn_of_other_sources(out, ids, "points")
    request = ask(out, {lot.ids[0]: lot.runs[lot.ids[0]] for lot in lots})
    worker = _Worker(measure, stop, origin, bar=tqdm(
        total=len(lots), unit="point", dynamic_ncols=True, desc=name, disable=len(there.rows(ids)) == len(ids)
    ))  # fmt: skip
    worker.run(planned)
    failures = [each.failure for each in planned if each.failure]
    if failures:
        raise RunsFailed(failures, len(ids), out, SAME, "points")
    reached = {lot.ids[0]: lot.runs[lot.ids[0]] for each in planned for lot in each.reached}
    if len(reached) < len(ids):
        # what was not reached is not missing
        ask(out, reached)
        request.unlink(missing_ok=True)
    return [row for each in planned for row in each.rows]


def source_of(measure: Measure) -> str:
    """The revision of the code of a measurement; without a file (in a notebook) the function itself counts."""
    found = source_hash((measure.__module__,))
    return found if file_of(measure.__module__) else content_hash([found, fingerprint(measure)])


def _lot(out: Path, name: str, point: Point, there: Folder) -> Lot:
    """The lot of a point: the one that is there, or, after a failure and for a new point, the next attempt."""
    fields = {"figure": name, **point}
    run = content_hash(fields)
    if run not in there.owner:
        return Lot.new(out, {run: fields}, there.source)
    lot = there.owner[run].lot
    return Lot.new(out, {run: fields}, there.source, lot.attempt + (run in there.failed))


@dataclass
class _Worker:
    """Measures points in the threads of one process."""

    measure: Measure
    stop: Callable[[Rows], bool]
    origin: dict[str, str]
    bar: tqdm

    def __post_init__(self):
        self.tell, self.killed, self.devices = Teller(self.bar.write), threading.Event(), SimpleQueue()
        for device in jax.local_devices():
            self.devices.put(device)

    def run(self, series: list[Series]) -> None:
        """All series to their ends; what another process is at is left, and waited for when the rest is done."""
        with self.bar, ThreadPoolExecutor(max_workers=jax.local_device_count()) as pool:
            try:
                waiting = False
                while left := [each for each in series if each.todo]:
                    if waiting:
                        time.sleep(PAUSE)
                    for job in [pool.submit(self._advance, each) for each in left]:
                        job.result()
                    if any(each.todo for each in left) and not waiting:
                        self.bar.write("nail: another process is at the points that are left; waiting", file=sys.stderr)
                        waiting = True
            except BaseException:
                self.killed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _advance(self, series: Series) -> None:
        """Measure on, to the end of a series or a point that another process is at."""
        device = self.devices.get()
        try:
            with jax.default_device(device):
                while series.todo and not self.killed.is_set():
                    self._step(series, *series.todo[0])
        except Timeout:
            pass
        finally:
            self.devices.put(device)

    def _step(self, series: Series, lot: Lot, point: Point) -> None:
        found = self._rows(lot, point)
        series.reached.append(lot)
        if found is None:
            series.failure = lot.failures()[lot.ids[0]]
        else:
            series.rows += found
        ended = found is None or self.stop(found)
        self.bar.update(len(series.todo) if ended else 1)
        series.todo = [] if ended else series.todo[1:]

    def _rows(self, lot: Lot, point: Point) -> Rows | None:
        """Rows of a point, read back or measured; None if it failed. Raises `Timeout` if another process is at it."""
        found, manifest = lot.read_rows(0), lot.folder / "lot.json"
        if found is None or not manifest.exists():
            lot.folder.mkdir(parents=True, exist_ok=True)
            with lot.lock.acquire(timeout=0):
                if not manifest.exists():
                    lot.write()
                lot.set_aside_damaged()
                found = lot.read_rows(0)
                if found is None and not lot.failures():
                    self._measure(lot, point)
                    found = lot.read_rows(0)
        return found

    def _free(self) -> Any:
        """A device that no series is at, or None."""
        try:
            return self.devices.get_nowait()
        except Empty:
            return None

    def _measure(self, lot: Lot, point: Point) -> None:
        """Bad input and a disk that fails end the figure; any other error ends the series."""
        try:
            with lent(self._free, self.devices.put):
                rows = [{**row, **self.origin} for row in self.measure(point)]
        except (OSError, BadInput):
            raise
        except Exception as error:
            self.tell.fail(lot.folder, lot.source, lot.runs, error, -1)
        else:
            lot.write_rows(0, rows)
            lot.tidy()

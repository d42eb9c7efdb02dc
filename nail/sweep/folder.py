"""What an output folder holds, read once: which lot counts for a run, rows of the done runs, errors of the failed.

Other processes may write meanwhile, so what is decided is decided under a lock, on a folder that was read under it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nail.checks import say
from nail.sweep.failures import Failure
from nail.sweep.identity import source_hash
from nail.sweep.lot import Lot, Rows
from nail.sweep.seal import set_aside
from nail.sweep.store import Damaged
from nail.training.config import TrainConfig, run_id


@dataclass(frozen=True, eq=False)
class Seen:
    """A lot as it lay on the disk when its folder was read."""

    lot: Lot
    failed: dict[str, Failure]
    """run → why it failed"""
    parts: int
    """segments whose rows are there, judged by name alone"""
    planned: int
    """when it was planned, in nanoseconds"""

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """run → its rows in order of steps, of the runs that are done; read when they are first wanted."""
        return self.lot.rows(self.failed)

    @cached_property
    def has_params(self) -> bool:
        """Whether there are final parameters; read when it is first wanted."""
        return self.lot.has(params=True)

    def settled(self, params: bool = False) -> bool:
        """Whether there is nothing left to do: each run has all its rows (and `params` are there), or has failed."""
        failed, ids = set(self.failed), set(self.lot.ids)
        return ids <= failed or (ids <= failed | set(self.rows) and self.lot.has(params))


@dataclass(frozen=True, eq=False)
class Folder:
    """The lots of one or more output folders, as a revision of the source sees them."""

    lots: tuple[Seen, ...]
    source: str
    """hash of the source whose runs count"""
    damaged: dict[Path, Damaged] = field(default_factory=dict)
    """lot.json → why it cannot be read; its lot is as good as not there"""

    @staticmethod
    def read(*outs: Path, source: str | None = None) -> "Folder":
        """Read the lots of `outs`; without `source` the present one counts."""
        lots, damaged = [], {}
        for path in (path for out in outs for path in sorted((out / "runs").glob("*/lot.json"))):
            try:
                lot = Lot.read(path.parent)
                lots.append(Seen(lot, lot.failures(), lot.parts_done(), path.stat().st_mtime_ns))
            except FileNotFoundError:
                # another process has set it aside
                continue
            except Damaged as damage:
                damaged[path] = damage
        return Folder(tuple(lots), source or source_hash(), damaged)

    def set_aside_damaged(self) -> None:
        """Rename each lot.json that is damaged, saying so; only for who holds plan.lock.

        The same runs in the same lot then find what is there of it.
        """
        for path, damage in self.damaged.items():
            set_aside(path, damage)

    @cached_property
    def owner(self) -> dict[str, Seen]:
        """run → the lot that counts: the latest attempt; of two such (merged folders) the more complete one."""
        found: dict[str, Seen] = {}
        for seen in self.lots:
            for run in seen.lot.ids if seen.lot.source == self.source else ():
                other = found.get(run)
                if other is None or (seen.lot.attempt, seen.parts) > (other.lot.attempt, other.parts):
                    found[run] = seen
        return found

    @cached_property
    def failed(self) -> dict[str, Failure]:
        """run → why it failed, in the lot that counts."""
        return {run: seen.failed[run] for run, seen in self.owner.items() if run in seen.failed}

    def keeper(self, run: str) -> Lot | None:
        """A lot that has all rows and the final parameters of a run; None if there is none."""
        lots = [seen for seen in self.lots if seen.lot.source == self.source and run in seen.lot.runs]
        return next((seen.lot for seen in lots if run in seen.rows and seen.has_params), None)

    @property
    def lost(self) -> set[str]:
        """Failed runs whose error cannot be read: they are tried again."""
        return {run for run, failure in self.failed.items() if failure.unreadable}

    def rows(self, runs: Iterable[str]) -> dict[str, Rows]:
        """run → its rows in order of steps, of those `runs` that are done."""
        return {run: self.owner[run].rows[run] for run in runs if run in self.owner and run in self.owner[run].rows}

    def rows_of_others(self, runs: Collection[str]) -> dict[str, Rows]:
        """run → its finished rows, of those `runs` that another source computed; the newest such lot counts."""
        found: dict[str, Rows] = {}
        for seen in sorted(self._others(runs), key=lambda seen: seen.planned):
            found |= {run: rows for run, rows in seen.rows.items() if run in runs}
        return found

    def collect(self, runs: Collection[str], any_revision: bool = False) -> tuple[Rows, list[Failure]]:
        """Rows of the finished ones of `runs`, in their order and by steps; errors of the failed.

        With `any_revision` rows of other sources count where this one has none.
        """
        done = self.rows(runs)
        if any_revision:
            done |= self.rows_of_others(set(runs) - set(done))
        failures = [self.failed[run] for run in runs if run in self.failed and run not in done]
        return [row for run in runs if run in done for row in done[run]], failures

    def warn_of_other_sources(self, out: Path, runs: Collection[str], what: str = "runs", hint: str = "") -> None:
        """One sentence on standard error if another source has runs that are asked for and not yet there."""
        missing = set(runs) - set(self.owner)
        others = self._others(missing)
        if others:
            count = len({run for seen in others for run in seen.lot.ids} & missing)
            sources = ", ".join(sorted({seen.lot.source for seen in others}))
            say(
                f"{count} of the {len(runs)} {what} lie in {out} from another revision of the source "
                f"({sources}, now {self.source}); they are kept apart and computed again{hint}"
            )

    def _others(self, runs: Collection[str]) -> list[Seen]:
        wanted = set(runs)
        return [seen for seen in self.lots if seen.lot.source != self.source and wanted & set(seen.lot.ids)]


def collect(
    out: Path, runs: Iterable[TrainConfig | str], source: str | None = None, any_revision: bool = False
) -> tuple[Rows, list[Failure]]:
    """`Folder.collect` of what a folder holds now, for configurations or ids."""
    ids = [run if isinstance(run, str) else run_id(run) for run in runs]
    return Folder.read(out, source=source).collect(ids, any_revision)

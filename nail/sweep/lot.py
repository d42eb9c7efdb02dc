"""A lot: runs of one compiled program that are computed together, with their rows and checkpoint on disk.

Layout of an output folder:

    nail-out.json           marks the folder as ours
    asked/HASH.json         runs that were asked for, one file a call (`nail sweep status` counts what is missing)
    plan.lock               held while runs are put into lots
    runs/LOT/lot.json       which runs, of which source, at which attempt; LOT is the hash of that
    runs/LOT/rows/K.csv     the rows of segment K, one per run
    runs/LOT/state/K.npz    the state after K segments (only the newest is kept, none once all rows are there)
    runs/LOT/failed/RUN.json  the error of a run that failed
    runs/LOT/params/        final parameters, where they were asked for
    runs/LOT.lock           held by the process that works on the lot

A row part is complete or absent, and always lies on disk before the checkpoint that comes after it. A failure lies on
disk before the row part that shows it.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from filelock import FileLock

from nail.sweep.failures import Failure, read_failures, write_failure
from nail.sweep.store import Damaged, load_tree, read_arrays, read_csv, save_tree, to_csv, write_arrays, write_text
from nail.training.config import TrainConfig, content_hash, run_id

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Lot:
    """Rows, failures and checkpoint of runs that are computed together."""

    folder: Path
    source: str
    """hash of the source that computes it"""
    attempt: int
    """1, and one more each time that failed runs are tried again"""
    size: int
    """runs that the program is compiled for; if there are fewer, the last one is repeated"""
    fields: tuple[dict[str, Any], ...]
    """configurations of the runs"""

    @staticmethod
    def plan(out: Path, configs: tuple[TrainConfig, ...], source: str, attempt: int, size: int) -> "Lot":
        """A new lot, written down in `out`."""
        name = content_hash([source, attempt, [run_id(c) for c in configs]])
        lot = Lot(out / "runs" / name, source, attempt, size, tuple(vars(c) for c in configs))
        manifest = {"source_hash": source, "attempt": attempt, "size": size, "runs": lot.fields}
        write_text(lot.folder / "lot.json", json.dumps(manifest, indent=1) + "\n")
        return lot

    @staticmethod
    def read(folder: Path) -> "Lot":
        """A lot that was planned before."""
        found = json.loads((folder / "lot.json").read_text())
        return Lot(folder, found["source_hash"], found["attempt"], found["size"], tuple(found["runs"]))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The runs' ids."""
        return tuple(id_of(fields) for fields in self.fields)

    @cached_property
    def configs(self) -> tuple[TrainConfig, ...]:
        """The runs' configurations; only for a lot of the present source."""
        return tuple(TrainConfig(**fields) for fields in self.fields)

    @property
    def lock(self) -> FileLock:
        """Held by the process that works on the lot."""
        return FileLock(self.folder.with_suffix(".lock"))

    @property
    def n_segments(self) -> int:
        """Segments of the whole budget: an evaluation before every `eval_every` updates, and one at the end."""
        return -(-self.fields[0]["steps"] // self.fields[0]["eval_every"]) + 1

    @property
    def episodes(self) -> int:
        """Training episodes of all its runs."""
        return len(self.fields) * self.fields[0]["steps"] * self.fields[0]["batch"]

    def write_rows(self, segment: int, rows: list[dict[str, Any]]) -> None:
        """Store the rows of a segment, replacing an identical earlier attempt."""
        write_text(self.part(segment), to_csv(rows))

    def read_rows(self, segment: int) -> Rows | None:
        """Rows of a segment, one per run; None if they are not there, or damaged (then a line says so)."""
        path = self.part(segment)
        try:
            rows = read_csv(path)
        except FileNotFoundError:
            return None
        except (Damaged, UnicodeDecodeError):
            print(f"nail: {path} is cut off or garbled; its segment is computed again", file=sys.stderr)
            path.unlink(missing_ok=True)
            return None
        return rows if len(rows) == len(self.fields) else None

    def part(self, segment: int) -> Path:
        """Where the rows of a segment lie."""
        return self.folder / "rows" / f"{segment:05d}.csv"

    def parts_done(self) -> int:
        """Segments whose rows are there, judged by name alone (quick)."""
        return sum(self.part(k).exists() for k in range(self.n_segments))

    def failures(self) -> dict[str, Failure]:
        """run → why it failed."""
        return read_failures(self.folder / "failed")

    def fail(self, failure: Failure) -> None:
        """Keep the error of a run."""
        write_failure(self.folder / "failed", failure)

    def complete(self) -> bool:
        """Whether all rows of all runs are there."""
        return all(self.read_rows(k) is not None for k in range(self.n_segments))

    def settled(self) -> bool:
        """Whether there is nothing left to do: it is complete, or all its runs failed."""
        return set(self.ids) <= set(self.failures()) or self.complete()

    def rows(self) -> dict[str, Rows]:
        """run → its rows in order of steps, of the runs that are done."""
        failed = self.failures()
        parts = [self.read_rows(k) for k in range(self.n_segments)]
        if any(part is None for part in parts):
            return {}
        return {run: [part[i] for part in parts] for i, run in enumerate(self.ids) if run not in failed}

    def save_state(self, segment: int, state: Any) -> None:
        """Checkpoint the state after `segment` segments (padding left out) and drop older ones."""
        leaves = [np.asarray(leaf)[: len(self.fields)] for leaf in jax.tree.leaves(jax.device_get(state))]
        write_arrays(self._state(segment), leaves)
        for older in self._segments_with_state():
            if older != segment:
                self._state(older).unlink(missing_ok=True)

    def load_state(self, abstract: Callable[[], Any]) -> tuple[int, Any] | None:
        """The newest checkpoint that has all the rows before it, as (segments done, state); None if there is none.

        `abstract` gives shapes and types, one that has others is left alone.
        """
        for segment in sorted(self._segments_with_state(), reverse=True):
            leaves, tree = jax.tree.flatten(abstract())
            if any(self.read_rows(k) is None for k in range(segment)):
                continue
            try:
                arrays = read_arrays(self._state(segment))
            except Damaged as damage:
                print(f"nail: {damage}; what follows the one before it is computed again", file=sys.stderr)
                continue
            if [(a.shape[1:], a.dtype) for a in arrays] == [(x.shape[1:], x.dtype) for x in leaves]:
                return segment, jax.tree.unflatten(tree, arrays)
        return None

    def save_params(self, params: Any) -> None:
        """Keep the final parameters, with a leading axis of runs."""
        save_tree(self.folder / "params", params)

    def load_params(self, run: str) -> Any:
        """Final parameters of a run."""
        at = self.ids.index(run)
        return jax.tree.map(lambda x: x[at], load_tree(self.folder / "params"))

    def tidy(self) -> None:
        """Remove checkpoints, and what a kill left half written."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        for path in self.folder.glob("*/.*"):
            path.unlink(missing_ok=True)

    def _segments_with_state(self) -> list[int]:
        return [int(path.stem) for path in (self.folder / "state").glob("[!.]*.npz")]

    def _state(self, segment: int) -> Path:
        return self.folder / "state" / f"{segment}.npz"


def lots_in(out: Path) -> list[Lot]:
    """All lots of a folder."""
    return [Lot.read(path.parent) for path in sorted((out / "runs").glob("*/lot.json"))]


def id_of(fields: dict[str, Any]) -> str:
    """The id of a run, also of one whose fields another source had."""
    try:
        return run_id(TrainConfig(**fields))
    except TypeError:
        return content_hash(fields)

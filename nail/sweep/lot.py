"""A lot: runs of one compiled program that are computed together, with their rows and checkpoint on disk; or one point.

Layout of an output folder:

    nail-out.json           marks the folder as ours
    asked/HASH.json         what was asked for, one file a call (`nail sweep status` counts what is missing)
    plan.lock               held while runs are put into lots
    runs/LOT/lot.json       which runs, of which source, at which attempt; LOT is the hash of that
    runs/LOT/rows/K.csv     the rows of segment K, one per run; all rows of a point
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
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from filelock import FileLock

from nail.sweep.failures import Failure, read_failures
from nail.sweep.store import Damaged, load_tree, read_arrays, read_csv, save_tree, to_csv, write_arrays, write_text
from nail.training.config import TrainConfig, content_hash

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Lot:
    """Rows, failures and checkpoint of runs that are computed together, or of one point of a theory figure."""

    folder: Path
    source: str
    """hash of the source that computes it"""
    attempt: int
    """1, and one more each time that failed runs are tried again"""
    size: int
    """runs that the program is compiled for; if there are fewer, the last one is repeated"""
    runs: dict[str, dict[str, Any]]
    """id → fields of its configuration; of a point: its name and values, under `figure` and their own names"""

    @staticmethod
    def new(out: Path, runs: dict[str, dict[str, Any]], source: str, attempt: int = 1, size: int = 1) -> "Lot":
        """A lot of `out`; nothing is written."""
        name = content_hash([source, attempt, list(runs)])
        return Lot(out / "runs" / name, source, attempt, size, runs)

    @staticmethod
    def read(folder: Path) -> "Lot":
        """A lot that was planned before."""
        found = json.loads((folder / "lot.json").read_text())
        runs = found["runs"]
        if isinstance(runs, list):
            # of an older layout without ids: another source's, so that it is told of and never taken
            runs = {content_hash(fields): fields for fields in runs}
        return Lot(folder, found["source_hash"], found["attempt"], found["size"], runs)

    def write(self) -> "Lot":
        """Write down which runs these are; a lot exists from then on."""
        manifest = {"source_hash": self.source, "attempt": self.attempt, "size": self.size, "runs": self.runs}
        write_text(self.folder / "lot.json", json.dumps(manifest, indent=1) + "\n")
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        """The runs' ids."""
        return tuple(self.runs)

    @property
    def figure(self) -> str:
        """The figure whose point it is; "" if it is of training runs."""
        return self._first.get("figure", "")

    @cached_property
    def configs(self) -> tuple[TrainConfig, ...]:
        """The runs' configurations; only for a lot of the present source."""
        return tuple(TrainConfig(**fields) for fields in self.runs.values())

    @property
    def lock(self) -> FileLock:
        """Held by the process that works on the lot."""
        return FileLock(self.folder.with_suffix(".lock"))

    @property
    def n_segments(self) -> int:
        """Segments of the whole budget: an evaluation before every `eval_every` updates, and one at the end."""
        return 1 if self.figure else -(-self._first["steps"] // self._first["eval_every"]) + 1

    def episodes(self, segments: int | None = None) -> int:
        """Training episodes of all its runs until they have rows of so many segments (without it: of all)."""
        if self.figure:
            return 0
        first = self._first
        most = self.n_segments if segments is None else segments
        return len(self.runs) * first["batch"] * min(max(0, most - 1) * first["eval_every"], first["steps"])

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
            print(f"nail: {path} is cut off or garbled; it is computed again", file=sys.stderr)
            path.unlink(missing_ok=True)
            return None
        return rows if self.figure or len(rows) == len(self.runs) else None

    def by_run(self, rows: Rows) -> dict[str, Rows]:
        """run → its rows among those of a segment."""
        return {self.ids[0]: rows} if self.figure else {run: [row] for run, row in zip(self.ids, rows, strict=True)}

    def part(self, segment: int) -> Path:
        """Where the rows of a segment lie."""
        return self.folder / "rows" / f"{segment:05d}.csv"

    def parts_done(self) -> int:
        """Segments whose rows are there, judged by name alone (quick)."""
        return sum(1 for _ in (self.folder / "rows").glob("[!.]*.csv"))

    def failures(self) -> dict[str, Failure]:
        """run → why it failed."""
        return read_failures(self.folder / "failed")

    def settled(self) -> bool:
        """Whether there is nothing left to do: all rows are there, or all its runs failed."""
        failed = set(self.failures())
        return set(self.ids) <= failed or bool(self.rows(failed))

    def rows(self, failed: Container[str]) -> dict[str, Rows]:
        """run → its rows in order of steps, of the runs that are done: none while a part is missing."""
        found: dict[str, Rows] = {run: [] for run in self.ids if run not in failed}
        for k in range(self.n_segments):
            part = self.read_rows(k)
            if part is None:
                return {}
            for run, rows in self.by_run(part).items():
                if run in found:
                    found[run] += rows
        return found

    def save_state(self, segment: int, state: Any) -> None:
        """Checkpoint the state after `segment` segments (padding left out) and drop older ones."""
        leaves = [np.asarray(leaf)[: len(self.runs)] for leaf in jax.tree.leaves(jax.device_get(state))]
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

    @property
    def _first(self) -> dict[str, Any]:
        return next(iter(self.runs.values()))

    def _segments_with_state(self) -> list[int]:
        return [int(path.stem) for path in (self.folder / "state").glob("[!.]*.npz")]

    def _state(self, segment: int) -> Path:
        return self.folder / "state" / f"{segment}.npz"

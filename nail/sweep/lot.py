"""A lot: runs of one compiled program that are computed together, with their rows and checkpoint on disk; or one point.

Layout of an output folder:

    nail-out.json           marks the folder as ours
    asked/HASH.json         what was asked for, one file a call (`nail sweep status` counts what is missing)
    plan.lock               held while runs are put into lots
    runs/LOT/lot.json       which runs, of which source, at which attempt; LOT is the hash of that
    runs/LOT/rows/K.csv     the rows of segment K, one per run; all rows of a point
    runs/LOT/state/K.npz    the state after K segments (only the newest is kept, none once all rows are there)
    runs/LOT/failed/RUN.json  the error of a run that failed
    runs/LOT/params.npz     final parameters, where they were asked for or others start from them
    runs/LOT.lock           held by the process that works on the lot

    */NAME.damaged          what could not be read as what it must be, and was computed again

A row part is complete or absent, and always lies on disk before the checkpoint that comes after it. A failure lies on
disk before the row part that shows it, and is named there. Each of these files is sealed (`nail.sweep.seal`): it ends
in a hash of itself and of its place. A lot's files are written by who holds its lock, but for lot.json of training
runs, which is written under plan.lock.
"""

import shutil
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from filelock import FileLock

from nail.sweep.failures import Failure, read_failures
from nail.sweep.manifest import is_hash, is_manifest
from nail.sweep.seal import (
    read_arrays,
    read_json,
    read_sealed,
    read_tree,
    set_aside,
    write_arrays,
    write_json,
    write_sealed,
    write_tree,
)
from nail.sweep.store import Damaged, lock_of, parse_csv, to_csv
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
    expert: str = ""
    """hash of the trained expert that answers its runs; "" of the oracle"""

    @staticmethod
    def new(
        out: Path, runs: dict[str, dict[str, Any]], source: str, attempt: int = 1, size: int = 1, expert: str = ""
    ) -> "Lot":
        """A lot of `out`; nothing is written."""
        name = content_hash([source, attempt, list(runs)])
        return Lot(out / "runs" / name, source, attempt, size, runs, expert)

    @staticmethod
    def read(folder: Path) -> "Lot":
        """A lot that was planned before; raises `Damaged` if its lot.json is not what was written for this folder.

        Names in it that become paths (of runs) and the folder's own are hashes, whoever wrote it.
        """
        path = folder / "lot.json"
        found = read_json(path)
        if not (is_hash(folder.name) and is_manifest(found)):
            raise Damaged(f"{path} does not say which runs these are")
        lot = Lot(folder, *(found[name] for name in ("source_hash", "attempt", "size", "runs", "expert")))
        if Lot.new(folder, lot.runs, lot.source, lot.attempt).folder.name != folder.name:
            raise Damaged(f"{path} belongs to another folder")
        return lot

    def write(self) -> "Lot":
        """Write down which runs these are; a lot exists from then on."""
        manifest = {"source_hash": self.source, "attempt": self.attempt, "size": self.size, "runs": self.runs}
        write_json(self.folder / "lot.json", {**manifest, "expert": self.expert})
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
        return lock_of(self.folder.with_suffix(".lock"))

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

    def write_rows(self, segment: int, rows: list[dict[str, Any]], failed: Iterable[str] = ()) -> None:
        """Store the rows of a segment, and which runs have `failed` so far, replacing an identical earlier attempt."""
        path = self.part(segment)
        write_sealed(path, to_csv(rows).encode(), self._place(path), " ".join(sorted(failed)))

    def read_rows(self, segment: int) -> Rows | None:
        """Rows of a segment, one per run; None if they are not there, or damaged."""
        try:
            return self.read_part(segment)[0]
        except (FileNotFoundError, Damaged):
            return None

    def read_part(self, segment: int) -> tuple[Rows, list[str]]:
        """(rows of a segment, runs that had failed then); raises `Damaged`, and `FileNotFoundError` without them."""
        path = self.part(segment)
        content, note = read_sealed(path, self._place(path))
        rows = parse_csv(content, path)
        if not self.figure and len(rows) != len(self.runs):
            raise Damaged(f"{path} has {len(rows)} rows, and the lot {len(self.runs)} runs")
        return rows, note.split()

    def set_aside_damaged(self, params: bool = False) -> None:
        """Rename what is damaged of its rows (and `params`), saying so; only for who holds its lock."""
        checks: list[tuple[Path, Callable[[], Any]]] = [
            (self.part(k), lambda k=k: self.read_part(k)) for k in range(self.n_segments)
        ]
        if params:
            checks.append((self._params, lambda: read_arrays(self._params, self._place(self._params))))
        for path, check in checks:
            try:
                check()
            except FileNotFoundError:
                continue
            except Damaged as damage:
                set_aside(path, damage)

    def by_run(self, rows: Rows) -> dict[str, Rows]:
        """run → its rows among those of a segment."""
        return {self.ids[0]: rows} if self.figure else {run: [row] for run, row in zip(self.ids, rows, strict=True)}

    def part(self, segment: int) -> Path:
        """Where the rows of a segment lie."""
        return self.folder / "rows" / f"{segment:05d}.csv"

    def parts_done(self) -> int:
        """Segments whose rows are there, judged by name alone (quick)."""
        there = {path.name for path in (self.folder / "rows").glob("[!.]*.csv")}
        return sum(self.part(k).name in there for k in range(self.n_segments))

    def failures(self) -> dict[str, Failure]:
        """run → why it failed."""
        return read_failures(self.folder / "failed", self.runs)

    def settled(self, params: bool = False) -> bool:
        """Whether there is nothing left to do: each run has all its rows (and `params` are there), or has failed."""
        failed = set(self.failures())
        return set(self.ids) <= failed or (set(self.ids) <= failed | set(self.rows(failed)) and self.has(params))

    def has(self, params: bool) -> bool:
        """Whether there are final parameters, if `params` are wanted."""
        try:
            return not params or bool(read_arrays(self._params, self._place(self._params)))
        except (FileNotFoundError, Damaged):
            return False

    def rows(self, failed: Container[str]) -> dict[str, Rows]:
        """run → its rows in order of steps, of the runs that are done: none while a part is missing.

        A run is not done either if a part says that it had failed and it is not among the `failed`: its error was lost.
        """
        found: dict[str, Rows] = {run: [] for run in self.ids if run not in failed}
        for k in range(self.n_segments):
            try:
                part, lost = self.read_part(k)
            except (FileNotFoundError, Damaged):
                return {}
            for run, rows in self.by_run(part).items():
                if run in lost:
                    found.pop(run, None)
                elif run in found:
                    found[run] += rows
        return found

    def save_state(self, segment: int, state: Any) -> None:
        """Checkpoint the state after `segment` segments (padding left out) and drop older ones."""
        leaves = [np.asarray(leaf)[: len(self.runs)] for leaf in jax.tree.leaves(jax.device_get(state))]
        path = self._state(segment)
        write_arrays(path, {str(i): leaf for i, leaf in enumerate(leaves)}, self._place(path))
        for older in self._segments_with_state():
            if older != segment:
                self._state(older).unlink(missing_ok=True)

    def load_state(self, abstract: Callable[[], Any]) -> tuple[int, Any] | None:
        """The newest checkpoint with all the rows before it, as (segments done, state), or None; one that is damaged,
        or has other shapes and types than `abstract` says, is set aside."""
        for segment in sorted(self._segments_with_state(), reverse=True):
            leaves, tree = jax.tree.flatten(abstract())
            if any(self.read_rows(k) is None for k in range(segment)):
                continue
            path = self._state(segment)
            try:
                arrays = read_arrays(path, self._place(path))
                found = [arrays[str(i)] for i in range(len(arrays))]
                if [(a.shape[1:], a.dtype) for a in found] != [(x.shape[1:], x.dtype) for x in leaves]:
                    raise Damaged(f"{path} holds arrays of other shapes than are wanted")
            except Damaged as damage:
                set_aside(path, damage)
                continue
            return segment, jax.tree.unflatten(tree, found)
        return None

    def save_params(self, params: Any) -> None:
        """Keep the final parameters, with a leading axis of runs."""
        write_tree(self._params, params, self._place(self._params))

    def load_params(self, runs: Container[str], like: Any) -> dict[str, Any]:
        """run → final parameters of some of its runs, which have the shapes and types of `like`.

        Raises `Damaged`, and `FileNotFoundError` if they were not kept.
        """
        stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(self.ids), *x.shape), x.dtype), like)
        found = read_tree(self._params, self._place(self._params), stacked)
        return {run: jax.tree.map(lambda x: x[at], found) for at, run in enumerate(self.ids) if run in runs}  # noqa: B023

    def tidy(self) -> None:
        """Remove checkpoints, and what a kill left half written."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        remove_half_written(self.folder)

    @property
    def _first(self) -> dict[str, Any]:
        return next(iter(self.runs.values()))

    @property
    def _params(self) -> Path:
        return self.folder / "params.npz"

    def _place(self, path: Path) -> str:
        """Of a file, in words that no other one of any lot has."""
        return f"{self.folder.name}/{path.relative_to(self.folder)}"

    def _segments_with_state(self) -> list[int]:
        stems = [path.stem for path in (self.folder / "state").glob("[!.]*.npz")]
        return [int(stem) for stem in stems if stem.isdecimal() and stem == str(int(stem))]

    def _state(self, segment: int) -> Path:
        return self.folder / "state" / f"{segment}.npz"


def remove_half_written(folder: Path) -> None:
    """Remove what a kill left half written in a lot's folder; only for who holds its lock."""
    for path in (*folder.glob("*/.*"), *folder.glob(".lot.json.*"), *folder.glob(".params.npz.*")):
        path.unlink(missing_ok=True)

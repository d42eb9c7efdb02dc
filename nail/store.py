"""Results on disk: tidy rows, written atomically, one part a segment; a checkpoint to go on from.

Layout of an output folder:

    nail-out.json            marks the folder as ours
    runs/GROUP/configs.json  the runs of one compiled program (GROUP is the hash of their configurations)
    runs/GROUP/rows/K.csv    the rows of segment K, one per run
    runs/GROUP/state/K/      the state after K segments (only the newest is kept, none once all rows are there)
    runs/GROUP/params/       final parameters, where they were asked for
    runs/GROUP.lock          held by the process that works on the group

A row part is complete or absent, and always lies on disk before the checkpoint that comes after it.
"""

import csv
import dataclasses
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from nail.checks import BadInput
from nail.config import TrainConfig, content_hash, run_id

MARKER = "nail-out.json"
LONE = "array"
"""the name under which a pytree that is one array is stored"""


class Damaged(Exception):
    """A file of the store that cannot be read as what it must be."""


def open_folder(out: Path) -> Path:
    """Create or reopen an output folder; raises `BadInput` if it is not writable or holds something else."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise BadInput(f"out must be a folder, and {out} is a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInput(f"out must be a folder that can be written to, and {out} is not ({error.strerror})") from error
    if not (out / MARKER).exists():
        if any(out.iterdir()):
            raise BadInput(f"out must be an empty folder or one that nail made, and {out} holds other files")
        write_text(out / MARKER, json.dumps({"made_by": "nail", "layout": 1}) + "\n")
    return out


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Rows with equal keys as CSV text; floats are written so that they read back to the same number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text values; raises `Damaged` if it is cut off or its rows are ragged."""
    text = path.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    if not text.endswith("\n") or any(None in row or None in row.values() for row in rows):
        raise Damaged(f"{path} is cut off or garbled")
    return rows


def save_tree(folder: Path, tree: Any) -> None:
    """Write a pytree of arrays with Orbax, replacing what was there."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), _boxed(tree), force=True)


def load_tree(folder: Path, abstract: Any = None) -> Any:
    """Read a pytree back, with the shapes, types and placement of `abstract` (as stored without it)."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(folder.resolve(), None if abstract is None else _boxed(abstract))
    return tree[LONE] if isinstance(tree, dict) and set(tree) == {LONE} else tree


def _boxed(tree: Any) -> Any:
    """Orbax takes containers only: a lone array (the table of a tabular policy) goes into a dictionary."""
    return {LONE: tree} if jax.tree_util.all_leaves([tree]) else tree


class GroupStore:
    """Rows and checkpoints of the runs that share one compiled program."""

    def __init__(self, out: Path, configs: tuple[TrainConfig, ...]):
        self.configs = configs
        self.name = content_hash([run_id(c) for c in configs])
        self.folder = out / "runs" / self.name
        self.lock_path = out / "runs" / f"{self.name}.lock"

    @property
    def n_segments(self) -> int:
        """Segments of the whole budget: an evaluation before every `eval_every` updates, and one at the end."""
        config = self.configs[0]
        return -(-config.steps // config.eval_every) + 1

    def create(self) -> None:
        """Make the folder and write down what runs in it."""
        fields = [dataclasses.asdict(c) for c in self.configs]
        write_text(self.folder / "configs.json", json.dumps(fields, indent=1) + "\n")

    def write_rows(self, segment: int, rows: list[dict[str, Any]]) -> None:
        """Store the rows of a segment, replacing an identical earlier attempt."""
        write_text(self._part(segment), to_csv(rows))

    def read_rows(self, segment: int) -> list[dict[str, str]] | None:
        """Rows of a segment, one per run; None if they are not there, or damaged (then a line says so)."""
        path = self._part(segment)
        try:
            rows = read_csv(path) if path.exists() else None
        except Damaged as damage:
            print(f"nail: {damage}; its segment is computed again", file=sys.stderr)
            path.unlink()
            return None
        return rows if rows is not None and len(rows) == len(self.configs) else None

    def complete(self) -> bool:
        """Whether all rows of all runs are there."""
        return all(self.read_rows(k) is not None for k in range(self.n_segments))

    def all_rows(self) -> list[dict[str, str]]:
        """All rows present, run by run and in order of steps."""
        parts = [rows for k in range(self.n_segments) if (rows := self.read_rows(k)) is not None]
        return [part[i] for i in range(len(self.configs)) for part in parts]

    def save_state(self, segment: int, state: Any) -> None:
        """Checkpoint the state after `segment` segments and drop older ones."""
        save_tree(self._state(segment), state)
        for older in self._segments_with_state():
            if older != segment:
                shutil.rmtree(self._state(older), ignore_errors=True)

    def load_state(self, abstract: Any) -> tuple[int, Any] | None:
        """The newest checkpoint that has all the rows before it, as (segments done, state); None if there is none."""
        for segment in sorted(self._segments_with_state(), reverse=True):
            if all(self.read_rows(k) is not None for k in range(segment)):
                return segment, load_tree(self._state(segment), abstract)
        return None

    def save_params(self, params: Any) -> None:
        """Keep the final parameters, with a leading axis of runs."""
        save_tree(self.folder / "params", params)

    def load_params(self, i: int = 0) -> Any:
        """Final parameters of run `i`."""
        return jax.tree.map(lambda x: x[i], load_tree(self.folder / "params"))

    def drop_state(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def _segments_with_state(self) -> list[int]:
        """Orbax writes under another name and renames at the end, so a folder with a plain number is whole."""
        return [int(path.name) for path in (self.folder / "state").glob("*") if path.name.isdigit()]

    def _state(self, segment: int) -> Path:
        return self.folder / "state" / str(segment)

    def _part(self, segment: int) -> Path:
        return self.folder / "rows" / f"{segment:05d}.csv"


def refuse_other_configurations(out: Path, configs: tuple[TrainConfig, ...]) -> None:
    """Raise `BadInput` if `out` holds runs of another configuration; the sentence names the first difference."""
    mine = GroupStore(out, configs)
    for path in sorted((out / "runs").glob("*/configs.json")):
        if path.parent.name == mine.name:
            continue
        theirs, ours = json.loads(path.read_text()), [dataclasses.asdict(c) for c in configs]
        difference = f"{len(theirs)} runs there, {len(ours)} asked for"
        for field, value in ours[0].items():
            if theirs[0].get(field) != value:
                difference = f"{field} is {theirs[0].get(field)} there and {value} here"
                break
        raise BadInput(f"out {out} holds runs of another configuration ({difference}); choose another folder")

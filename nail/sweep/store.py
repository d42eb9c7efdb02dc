"""Files on disk: folders that are ours, text and arrays that are written whole or not at all, tables, pytrees."""

import csv
import errno
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from nail.checks import BadInput

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
        # another process may be making the folder at this very moment
        if any(MARKER not in path.name for path in out.iterdir()):
            raise BadInput(f"out must be an empty folder or one that nail made, and {out} holds other files")
        write_text(out / MARKER, json.dumps({"made_by": "nail", "layout": 1}) + "\n")
    return out


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none, also after a crash."""
    _write_whole(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: list[np.ndarray]) -> None:
    """Write arrays to one .npz file, whole or not at all."""
    _write_whole(path, lambda file: np.savez(file, *arrays))


def read_arrays(path: Path) -> list[np.ndarray]:
    """The arrays of a .npz file, in order; raises `Damaged` if it cannot be read."""
    try:
        with np.load(path) as file:
            return [file[f"arr_{i}"] for i in range(len(file.files))]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path} is cut off or garbled") from error


def _write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write under another name, flush to the disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
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


def write_rows(out: Path, rows: list[dict[str, Any]]) -> Path:
    """Write OUT/rows.csv, whole or not at all; without rows nothing is written."""
    path = out / "rows.csv"
    if rows:
        write_text(path, to_csv(rows))
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text values; raises `Damaged` if it is cut off or its rows are ragged."""
    text = path.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    if not text.endswith("\n") or any(None in row or None in row.values() for row in rows):
        raise Damaged(f"{path} is cut off or garbled")
    return rows


def save_tree(folder: Path, tree: Any) -> None:
    """Write a pytree of arrays with Orbax, replacing what was there; a full disk is an `OSError`."""
    import orbax.checkpoint as ocp

    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.resolve(), _boxed(tree), force=True)
    except Exception as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def load_tree(folder: Path, abstract: Any = None) -> Any:
    """Read a pytree back, with the shapes, types and placement of `abstract` (as stored without it)."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(folder.resolve(), None if abstract is None else _boxed(abstract))
    return tree[LONE] if isinstance(tree, dict) and set(tree) == {LONE} else tree


def _boxed(tree: Any) -> Any:
    """Orbax takes containers only: a lone array (the table of a tabular policy) goes into a dictionary."""
    import jax

    return {LONE: tree} if jax.tree_util.all_leaves([tree]) else tree

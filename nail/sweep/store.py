"""Files on disk: folders that are ours, files that are written whole or not at all, tables."""

import csv
import io
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from nail.checks import BadInput

MARKER = "nail-out.json"
csv.field_size_limit(2**31 - 1)  # a row of a long chain has a long cell


class Damaged(BadInput):
    """A file of the store that cannot be read as what it must be."""


def open_folder(out: Path) -> Path:
    """Create or reopen an output folder; raises `BadInput` if it is not writable or holds something else.

    So it does if the place of the folder's table is taken by what is no file.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise BadInput(f"out must be a folder, and {out} is a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out, prefix=f".{MARKER}."):
            pass
    except OSError as error:
        raise BadInput(f"out must be a folder that can be written to, and {out} is not ({error.strerror})") from error
    if not (out / MARKER).exists():
        others = [path for path in out.iterdir() if not path.name.startswith(f".{MARKER}.")]
        # another process may be making the folder at this very moment: its marker comes before all else
        if others and not (out / MARKER).exists():
            raise BadInput(f"out must be an empty folder or one that nail made, and {out} holds other files")
        write_text(out / MARKER, json.dumps({"made_by": "nail", "layout": 1}) + "\n")
    require_place(out / "rows.csv")
    return out


def require_place(path: Path) -> None:
    """Raise `BadInput` if a file cannot be put at `path`: a folder, a pipe, a device or a socket is there.

    A symbolic link to a file, or to nothing, is no hindrance: `write_whole` puts the file in place of the link. One
    into /proc is: it stands for an open file, as /dev/stdout does.
    """
    opened = path.is_symlink() and os.readlink(path).startswith("/proc/")
    if opened or (path.exists() and not path.is_file()):
        raise BadInput(f"{path} must be a file that can be written, and it is {kind_of(path)}")


def kind_of(path: Path) -> str:
    """What is there, for people."""
    kinds = {"a folder": path.is_dir(), "a pipe": path.is_fifo(), "a socket": path.is_socket()}
    return next((kind for kind, found in kinds.items() if found), "a device")


def lock_of(path: Path, **options: Any) -> FileLock:
    """A lock on a file; raises `BadInput` if `path` is a symbolic link or no file.

    Some versions of the lock empty what a link points at.
    """
    if path.is_symlink():
        raise BadInput(f"{path} must be a file of nail, and it is a symbolic link")
    require_place(path)
    return FileLock(path, **options)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none, also after a crash."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none, also after a crash."""
    write_whole(path, lambda file: file.write(content))


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under another name beside it, flush it to the disk, rename it: all writing goes through here.

    A symbolic link at `path` is replaced, and what the link points at stays as it is; permissions are those of the
    umask. Raises `BadInput` if something is there that is no file.
    """
    require_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInput(f"{path} must lie in a folder, and {error.filename} is none") from error
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def content_of(path: Path) -> bytes:
    """The bytes of a file; raises `Damaged` if something else has its name (a pipe would be waited for)."""
    require_file(path)
    return path.read_bytes()


def require_file(path: Path) -> None:
    """Raise `Damaged` if something is there that is no file."""
    if path.exists() and not path.is_file():
        raise Damaged(f"{path} is not a file")


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV text, with empty cells for columns that one lacks; floats and texts read back as they are."""

    def text(quoting: int) -> str:
        found = io.StringIO()
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(found, list(columns), lineterminator="\n", quoting=quoting)
        writer.writeheader()
        writer.writerows(rows)
        return found.getvalue()

    plain = text(csv.QUOTE_MINIMAL)
    # before Python 3.13 a carriage return alone is not quoted, and ends the line when it is read
    return text(csv.QUOTE_ALL) if "\r" in plain else plain


def write_rows(out: Path, rows: list[dict[str, Any]]) -> Path:
    """Write OUT/rows.csv, whole or not at all; without rows nothing is written."""
    path = out / "rows.csv"
    if rows:
        write_text(path, to_csv(rows))
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text values; raises `Damaged` if it is cut off, garbled, or its rows are ragged."""
    return parse_csv(content_of(path), path)


def parse_csv(content: bytes, path: Path) -> list[dict[str, str]]:
    """Rows of the content of a CSV file as text values; raises `Damaged`."""
    try:
        text = content.decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows, names = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise Damaged(f"{path} is cut off or garbled") from error
    whole = text.endswith("\n") and all(names) and len(set(names)) == len(names)
    if not whole or any(None in row or None in row.values() for row in rows):
        raise Damaged(f"{path} is cut off or garbled")
    return rows

"""Files that show by themselves whether they are whole: each ends in a hash of its content and of the place it is for.

A file that was cut, changed or put in another's place is `Damaged`. It is never taken, and never removed either: who is
about to compute it again renames it first.
"""

import hashlib
import io
import json
import re
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from nail.checks import BadInput, say
from nail.sweep.store import Damaged, content_of, require_file, write_bytes, write_text, write_whole

KEY = "sha256"
"""of a JSON object: the hash of the rest"""
SEAL = re.compile(rb"#([0-9a-f]{64})((?: [0-9a-f]+)*)\n")
"""the last line of other files: the hash, then the note"""
LENGTH = 66
"""bytes of a seal without a note"""
CHUNK = 2**20


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an object with its hash, whole or not at all."""
    write_text(path, json.dumps({**value, KEY: _hash(json.dumps(value).encode())}, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """An object, without its hash.

    Raises `Damaged` if it is not what was written, `FileNotFoundError` if there is none.
    """
    content = content_of(path)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is cut off or garbled") from error
    if not (isinstance(value, dict) and value.pop(KEY, None) == _hash(json.dumps(value).encode())):
        raise Damaged(f"{path} is not as it was written")
    return value


def write_sealed(path: Path, content: bytes, place: str, note: str = "") -> None:
    """Write content that belongs to `place`, whole or not at all; `note` is hexadecimal words that are kept with it."""
    tail = f" {note}" if note else ""
    write_bytes(path, content + f"#{_hash(content, place + tail)}{tail}\n".encode())


def read_sealed(path: Path, place: str) -> tuple[bytes, str]:
    """(content, note) of a file of `place`.

    Raises `Damaged` if it is not what was written for that place, `FileNotFoundError` if there is none.
    """
    found = content_of(path)
    at = found.rfind(b"#")
    seal = SEAL.fullmatch(found[at:]) if at >= 0 else None
    if seal is None:
        raise Damaged(f"{path} is cut off or garbled")
    content, tail = found[:at], seal[2].decode()
    if _hash(content, place + tail).encode() != seal[1]:
        raise Damaged(f"{path} is not as it was written, or belongs elsewhere")
    return content, tail.strip()


def write_arrays(path: Path, arrays: dict[str, Any], place: str) -> None:
    """Write named arrays as a sealed .npz file, whole or not at all."""

    def write(file: IO[bytes]) -> None:
        np.savez(file, **jax.device_get(arrays))
        end = file.seek(0, io.SEEK_END)
        seal = f"#{_hash_of_file(file, end, place)}\n"
        file.seek(end)
        file.write(seal.encode())

    write_whole(path, write)


def read_arrays(path: Path, place: str) -> dict[str, np.ndarray]:
    """Named arrays of a sealed .npz file; raises what `read_sealed` raises."""
    require_file(path)
    with path.open("rb") as file:
        end = file.seek(0, io.SEEK_END) - LENGTH
        file.seek(max(0, end))
        seal = SEAL.fullmatch(file.read())
        if seal is None or _hash_of_file(file, end, place).encode() != seal[1]:
            raise Damaged(f"{path} is not as it was written, or belongs elsewhere")
        file.seek(0)
        with np.load(file) as found:
            return {name: found[name] for name in found.files}


def write_tree(path: Path, tree: Any, place: str) -> None:
    """Write a pytree of arrays by the names of its leaves, from whatever devices they are on."""
    write_arrays(path, _named(tree), place)


def read_tree(path: Path, place: str, like: Any) -> Any:
    """A pytree with the structure, shapes and types of `like`, as numpy arrays: any device may take them.

    Raises `Damaged` also if it was written for other shapes.
    """
    arrays, wanted = read_arrays(path, place), _named(like)
    if {n: (a.shape, a.dtype) for n, a in arrays.items()} != {n: (a.shape, a.dtype) for n, a in wanted.items()}:
        raise Damaged(f"{path} holds arrays of other shapes than are wanted")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])


def hash_of(tree: Any) -> str:
    """12 hexadecimal digits of SHA-256 over the arrays of a pytree and their names."""
    found = hashlib.sha256()
    for name, leaf in _named(jax.device_get(tree)).items():
        found.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:12]


def set_aside(path: Path, damage: BadInput) -> None:
    """Rename a damaged file to `NAME.damaged`, and say so; only for who holds the lock under which it is written."""
    aside, n = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        n += 1
        aside = path.with_name(f"{path.name}.damaged{n}")
    path.replace(aside)
    say(f"{damage}; it is kept as {aside.name} and computed again")


def _named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(at) or "array": leaf for at, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _hash_of_file(file: IO[bytes], end: int, place: str) -> str:
    """`_hash` of the first `end` bytes of a file, which may be large."""
    found = hashlib.sha256(f"{place}\n".encode())
    file.seek(0)
    for at in range(0, end, CHUNK):
        found.update(file.read(min(CHUNK, end - at)))
    return found.hexdigest()


def _hash(content: bytes, place: str = "") -> str:
    return hashlib.sha256(f"{place}\n".encode() + content).hexdigest()

"""Sealed files: each bit counts, and so does the place."""

import os

import numpy as np
import pytest

from nail.sweep.seal import read_json, read_sealed, read_tree, set_aside, write_json, write_sealed, write_tree
from nail.sweep.store import Damaged

TREE = {"a": np.arange(5.0), "b": {"c": np.ones((2, 3), np.float32)}}
VALUE = {"first": [1, 2.5, None], "second": {"text": "é"}}
KINDS = {
    "arrays": (lambda path: write_tree(path, TREE, "here"), lambda path, place="here": read_tree(path, place, TREE)),
    "rows": (
        lambda path: write_sealed(path, b"x,y\n1,2\n", "here", "0a f"),
        lambda path, place="here": read_sealed(path, place),
    ),
    "object": (lambda path: write_json(path, VALUE), lambda path: read_json(path)),
}  # fmt: skip


def worse(content):
    """The content cut at a hundred of its bytes and at the last, and with a bit flipped in each of these."""
    at = [*range(0, len(content) - 1, 1 + len(content) // 100), len(content) - 1]
    yield from (content[:i] for i in at)
    yield from (content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :] for i in at)


@pytest.mark.parametrize("kind", KINDS)
def test_each_byte_counts(tmp_path, kind):
    """What is read is what was written, or nothing: of an object the space around its parts does not count."""
    (write, read), path = KINDS[kind], tmp_path / "file"
    write(path)
    content, taken = path.read_bytes(), []
    for other in worse(content):
        path.write_bytes(other)
        try:
            taken.append(read(path))
        except Damaged:
            continue
    assert all(kind == "object" and value == VALUE for value in taken)
    assert len(taken) <= 20
    path.write_bytes(content)
    read(path)


@pytest.mark.parametrize("kind", ["arrays", "rows"])
def test_a_file_belongs_to_its_place(tmp_path, kind):
    write, read = KINDS[kind]
    write(tmp_path / "file")
    with pytest.raises(Damaged, match="belongs elsewhere"):
        read(tmp_path / "file", "there")


def test_what_is_set_aside_is_kept(tmp_path, capsys):
    """Each time under another name."""
    path = tmp_path / "file"
    for content in ("one", "two", "three"):
        path.write_text(content)
        set_aside(path, Damaged(f"{path} is garbled"))
    assert [(tmp_path / f"file.damaged{n}").read_text() for n in ("", 2, 3)] == ["one", "two", "three"]
    assert not path.exists()
    assert capsys.readouterr().err.count("computed again\n") == 3


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in tmp_path.iterdir():
        for read in (read_json, lambda path: read_sealed(path, ""), lambda path: read_tree(path, "", TREE)):
            with pytest.raises(Damaged, match="is not a file"):
                read(path)

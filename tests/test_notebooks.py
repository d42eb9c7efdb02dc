"""The notebooks run from top to bottom as they are stored, and were stored with their outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def kinds(notebook):
    """Per cell the kinds of its outputs, with the form of the picture where there is one. Text that a cell prints in
    one go may reach the notebook in several pieces: they count once."""
    cells = (cell.get("outputs", ()) for cell in notebook.cells)
    each = ([(o.output_type, sorted(o.get("data", {}))) for o in cell if o.get("name") != "stderr"] for cell in cells)
    return [
        [kind for at, kind in enumerate(cell) if kind[0] != "stream" or kind not in cell[at - 1 : at]] for cell in each
    ]


def test_text_in_pieces_is_one_kind():
    """Two pieces of one text are one; a picture between them parts them, and two pictures are two."""
    text, picture = new_output("stream", text="a"), new_output("display_data", data={"image/png": ""})
    cells = [new_code_cell(outputs=list(found)) for found in ((text, text), (text, picture, picture, text))]
    stream, image = ("stream", []), ("display_data", ["image/png"])
    assert kinds(new_notebook(cells=cells)) == [[stream], [stream, image, image, stream]]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_gives_what_kinds_are_stored(path, tmp_path):
    """No cell fails, and every cell gives outputs of the kinds that are stored with it."""
    stored = nbformat.read(path, 4)
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert kinds(notebook) == kinds(stored)
    assert any("image/png" in data for cell in kinds(stored) for _, data in cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_small_and_clean(path):
    text = path.read_text()
    assert len(text) < 200_000
    assert not [word for word in ("/tmp/", "/home/", "/root/", "Warning", "Traceback") if word in text]
    for cell in nbformat.read(path, 4).cells:
        assert not [o for o in cell.get("outputs", ()) if o.output_type == "error" or o.get("name") == "stderr"]
        assert cell.cell_type != "code" or cell.execution_count

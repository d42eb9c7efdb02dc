"""Pictures that a report finds in a folder: damaged, huge or of another format, each is one sentence on the page."""

import zlib

import pytest
from matplotlib.text import Text
from PIL import Image
from refuting import FIGURES

from nail.cli.main import main
from nail.figures import experiment
from nail.figures.plotting import TEXT_WIDTH, figure_style
from nail.sweep.store import to_csv
from nail.sweep.table import read_rows


@pytest.fixture
def folder(tmp_path):
    """A figure without a picture."""
    claim = {"claim": "c", "source": "s", "refutes": "r", "measured": "m", "holds": "holds"}
    (tmp_path / "theory_horizon_claims.csv").write_text(to_csv([claim]))
    return tmp_path


def chunk(kind, body):
    """A chunk of a PNG file."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def header(width, height):
    """The beginning of a PNG file of this size."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\x02\0\0\0")


END = chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (header(60_000, 60_000) + END, "has more than 100,000,000 pixels and is left out"),
        (header(13_000, 13_000) + END, "has more than 100,000,000 pixels and is left out"),
        (header(10, 10) + chunk(b"IDAT", b"no deflated bytes") + chunk(b"IEND", b""), "cannot be read as a picture"),
        (header(10, 10) + chunk(b"IDAT", zlib.compress(b"\0" * 5)), "cannot be read as a picture"),
        (header(10, 10)[:-4] + b"\0\0\0\0" + END, "cannot be read as a picture"),
        (header(9, 9) + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**22))) + END, "cannot be read as a picture"),
        (header(0, 10), "cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as a picture"),
    ],
)
def test_a_picture_that_cannot_be_shown_is_one_sentence(folder, content, sentence, capsys):
    (folder / "theory_horizon.png").write_bytes(content)
    assert main(["report", str(folder)]) == 0
    assert f"theory_horizon.png {sentence}" in capsys.readouterr().out


def test_a_picture_that_is_a_line_is_shown(folder, capsys):
    Image.new("RGB", (4_000, 1)).save(folder / "theory_horizon.png")
    assert main(["report", str(folder)]) == 0
    assert "theory_horizon.png" not in capsys.readouterr().out


CROWDED = ("stages", "self_distillation", "estimator_variance")
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in experiment.names() if name not in CROWDED]


@pytest.mark.parametrize("name", [*CROWDED, *OTHERS])
def test_letters_can_be_read_at_the_width_of_a_page(name):
    """At least 7 points where the picture fills the text's width (exponents and indices aside)."""
    with figure_style():
        figure = experiment.load(name).draw(read_rows(FIGURES / f"{name}.csv"))
    assert figure.get_figwidth() == TEXT_WIDTH
    small = [found.get_text() for found in figure.findobj(Text) if found.get_text() and found.get_fontsize() < 7]
    assert not small

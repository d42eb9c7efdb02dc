"""The page about a folder of figures: complete, self-contained, escaped, tolerant of damage, and sound in a browser."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote, urlparse

import nail_experiments  # noqa: F401 (its figures are the known ones)
import numpy as np
import pytest
from PIL import Image

from nail.cli.main import main
from nail.figures import experiment
from nail.figures.report import figure_names, fits_of, read_section
from nail.sweep.store import to_csv

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OFFLINE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
NASTY = '<script>alert("η & β")</script>'
CLAIMS = [
    {
        "claim": "n* grows & grows",
        "source": "docs/theory.md §5",
        "refutes": "an n* that <falls>",
        "measured": NASTY,
        "holds": "holds",
    },
    {
        "claim": "x < y",
        "source": "paper, Fig. 2; arXiv 1011.0686",
        "refutes": "a y below x",
        "measured": "12345.678" * 30,
        "holds": "does not hold",
    },
]


REFERS = ("src", "href", "srcset", "data", "action")


class Page(HTMLParser):
    """Everything that a page refers to, its text outside styles, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.text, self.tags, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in REFERS]
        self.open.append(tag)

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


def local_files(page):
    return [unquote(a) for a in page.addresses if not a.startswith(("#", "data:", "https:"))]


def rows(revisions=("aaa", "bbb", "bbb")):
    return [{"method": "nail-f", "git_revision": r, "device": "cpu x2", "version_jax": "1"} for r in revisions]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two figures, one of them the package's own, with fits, nasty texts and a name that needs escaping."""
    out = tmp_path_factory.mktemp("made")
    curves = [
        {"method": m, "horizon": h, "slope": s, "slope_low": s - 0.1, "slope_high": s + 0.1, "theory_slope": 1}
        for m, s in (("nail-f", 1.01), ("opd-f", 0.97))
        for h in (2, 4)
    ]
    for name in ("theory_horizon", "mine & <b>"):
        (out / f"{name}.csv").write_text(to_csv(curves))
        (out / f"{name}_claims.csv").write_text(to_csv(CLAIMS))
        (out / f"{name}_rows.csv").write_text(to_csv(rows()))
        Image.fromarray(np.linspace(0, 255, 1600).astype(np.uint8)[None].repeat(16, 0)).save(out / f"{name}.png")
    return out


@pytest.fixture
def folder(made, tmp_path):
    """A copy to damage."""
    return shutil.copytree(made, tmp_path / "with space")


def report(folder, *more):
    assert main(["report", str(folder), *more]) == 0
    return folder / "report.html"


def test_every_figure_claim_and_file_is_on_the_page(folder, capsys):
    path = report(folder)
    page = Page(path.read_text())
    words = page.words()
    for claim in CLAIMS:
        assert all(words.count(text) == 2 for text in (claim["claim"], claim["refutes"], claim["measured"]))
    assert words.count("1 of 2") == 2
    assert "2 of 4 claims hold" in words
    assert "aaa (1 row)" in words
    assert "bbb (2 rows)" in words
    local = local_files(page)
    assert len(local) == 10  # each picture is linked twice
    assert all((folder / address).exists() for address in local)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {unquote(a[1:]) for a in page.addresses if a.startswith("#")} <= set(ids)
    assert "2 figures, 2 of 4 claims hold" in capsys.readouterr().out


def test_a_picture_is_a_link_to_its_file(folder):
    page = Page(report(folder).read_text())
    around = [before for before, here in zip(page.tags, page.tags[1:], strict=False) if here[0] == "img"]
    assert [(tag, unquote(attrs["href"])) for tag, attrs in around] == [
        ("a", "theory_horizon.png"), ("a", "mine & <b>.png")
    ]  # fmt: skip


def test_nothing_is_fetched_and_nothing_can_run(folder):
    text = report(folder).read_text()
    page = Page(text)
    loaded = [a for tag, attrs in page.tags for n, a in attrs.items() if n in REFERS and (tag, n) != ("a", "href")]
    assert len(loaded) == 3  # the icon and two pictures
    for address in loaded:
        parts = urlparse(address)
        assert parts.scheme in ("", "data")
        assert not parts.netloc
    assert not {"script", "iframe", "object", "embed", "b"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\(", text)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 2
    assert all(len(attrs["alt"]) > 20 and attrs["src"].startswith("data:image/png;base64,") for attrs in pictures)
    assert all(int(attrs["width"]) == 1400 and int(attrs["height"]) == 14 for attrs in pictures)


def test_links_are_relative_to_the_page(folder, tmp_path):
    out = tmp_path / "elsewhere" / "page.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    local = local_files(Page(out.read_text()))
    assert len(local) == 10  # each picture is linked twice
    assert all((out.parent / address).exists() for address in local)


def test_sources_are_links_where_they_can_be_followed(folder):
    """arXiv numbers and the paper always; sections of docs/ where that folder is above the page, else they are text."""
    arxiv = [f"https://arxiv.org/abs/{number}" for number in ("2606.30923", "1011.0686")]

    def sources(page):
        return [a for a in page.addresses if "docs/theory" in a or a.startswith("http")]

    assert sources(Page(report(folder).read_text())) == 2 * arxiv
    (folder.parent / "docs").mkdir()
    (folder.parent / "docs/theory.md").write_text("## 4. Before\n\n## 5. What n* is, and η\n")
    page = Page(report(folder).read_text())
    assert sources(page) == 2 * ["../docs/theory.md#5-what-n-is-and-%CE%B7", *arxiv]
    assert page.words().count("docs/theory.md §5") == 2


def test_figures_stand_in_reading_order(folder):
    for name in ("fig10", "theory_garnet", "fig2", "fig1"):
        shutil.copy(folder / "theory_horizon_claims.csv", folder / f"{name}_claims.csv")
    known = [name for name in experiment.names() if name in ("fig1", "fig2", "theory_garnet", "theory_horizon")]
    assert known == ["fig1", "fig2", "theory_horizon", "theory_garnet"]
    assert figure_names(folder) == [*known, "fig10", "mine & <b>"]
    titles = [read_section(folder, name, folder).title for name in ("fig10", "theory_own_law")]
    assert titles == ["Figure 10", "Theory: own law"]


def test_the_same_files_give_the_same_page(folder):
    first = report(folder).read_bytes()
    assert report(folder).read_bytes() == first


@pytest.mark.parametrize("kind", [".csv", "_claims.csv", "_rows.csv", ".png"])
@pytest.mark.parametrize("how", ["cut", "empty", "bytes", "gone", "headless"])
def test_damage_is_one_sentence_and_the_rest_stands(folder, kind, how):
    path = folder / f"theory_horizon{kind}"
    whole = path.read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "empty": b"", "bytes": b"\xff\xfe\x00,\n", "headless": b"1\n2\n"}
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[how])
    section = read_section(folder, "theory_horizon", folder)
    if how == "headless" and kind in (".csv", "_rows.csv"):
        assert section.problems == []
    else:
        (problem,) = section.problems
        assert problem.startswith(path.name)
        assert problem.count(".") == path.name.count(".") + 1
        assert problem in Page(report(folder).read_text()).words()
    assert len(section.claims) == (0 if kind == "_claims.csv" else 2)
    assert (section.picture is None) == (kind == ".png")
    assert (section.fits is None) == (kind == ".csv")
    other = read_section(folder, "mine & <b>", folder)
    assert other.problems == []


def test_fits_are_one_line_a_series():
    fixed = {"slope_low": "0", "slope_high": "2", "theory_slope": "1"}
    table = [
        {"method": m, "horizon": str(h), "eta": "0.5", "episodes": str(h * 3), "slope": s, **fixed}
        for m, s in (("nail-f", "1.23456789"), ("b", "0.5"), ("c", ""))
        for h in (2, 4)
    ]
    fits = fits_of(table)
    assert fits.columns.tolist() == ["method", "slope", "interval from", "to", "theory"]
    assert fits.to_numpy().tolist() == [["NAIL-F", "1.235", "0", "2", "1"], ["b", "0.5", "0", "2", "1"]]
    assert fits_of([{"x": "1"}]) is None
    assert fits_of([]) is None


def test_the_preset_is_what_rows_record(folder):
    def preset(*recorded):
        (folder / "theory_horizon_rows.csv").write_text(to_csv([{"x": 1, "preset": name} for name in recorded]))
        return [
            words.split()[-1] for words in dict(read_section(folder, "theory_horizon", folder).provenance)["command"]
        ]

    assert preset("smoke", "smoke") == ["smoke"]
    assert preset("paper", "smoke") == ["smoke", "paper"]
    assert preset("huge") == ["PRESET"]


def test_bad_input_is_one_sentence(tmp_path, folder, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    for words in ([str(empty)], [str(tmp_path / "nowhere")], [str(folder), "--out", str(empty)]):
        assert main(["report", *words]) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1
        assert not printed.out
    assert not list(empty.iterdir())


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_a_browser_nothing_is_wider_than_the_window(folder, tmp_path):
    """Desktop and phone widths, as frames of one page: the page fits, wide tables scroll inside, pictures are drawn."""
    page = html.escape(report(folder).read_text())
    frames = "".join(
        f'<iframe style="border:0;width:{w}px;height:900px" srcdoc="{page}"></iframe>' for w in (1280, 390)
    )
    script = """<script>addEventListener("load", () => {
      document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(f => { const d = f.contentDocument;
        return {width: f.clientWidth, scroll: d.documentElement.scrollWidth,
                drawn: [...d.images].every(i => i.naturalWidth === 1400),
                outside: [...d.querySelectorAll("main *")].filter(e => !e.closest(".wide table, .stack thead") &&
                  e.getBoundingClientRect().right > f.clientWidth + 1).length}}))})</script>"""
    outer = tmp_path / "outer.html"
    outer.write_text(f'<!doctype html><meta charset="utf-8"><title></title><body>{frames}{script}</body>')
    command = [CHROMIUM, *OFFLINE, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", outer.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    desktop, phone = json.loads(html.unescape(re.search("<title>(.*?)</title>", found).group(1)))
    for seen, width in ((desktop, 1280), (phone, 390)):
        assert seen["scroll"] <= seen["width"] == width
        assert seen["drawn"]
        assert seen["outside"] == 0


def test_only_its_own_page_is_written_again(folder, capsys):
    """A file of somebody else stays as it is, and so does a page that was changed beyond recognition."""
    foreign, page = folder / "notes.html", folder / "report.html"
    foreign.write_text("<title>notes</title>")
    assert main(["report", str(folder), "--out", str(foreign)]) == 2
    assert "out must be a new file, or a page that nail report made" in capsys.readouterr().err
    assert foreign.read_text() == "<title>notes</title>"
    first = report(folder).read_text()
    page.write_text(first.replace("holds", "falls"))
    assert report(folder).read_text() == first
    page.write_text("mine now")
    assert main(["report", str(folder)]) == 2
    assert page.read_text() == "mine now"

"""The page about a folder of figures: complete, self-contained, escaped, tolerant of damage, and sound in a browser."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote, urlparse

import matplotlib.image
import numpy as np
import pytest

from nail.cli.main import main
from nail.figures import experiment
from nail.figures.report import fits_of, read_section
from nail.sweep.store import to_csv

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OFFLINE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
NASTY = '<script>alert("η & β")</script>'
CLAIMS = [
    {"claim": "n* grows & grows", "source": "docs/theory.md §5", "measured": NASTY, "holds": "holds"},
    {"claim": "x < y", "source": "paper, Fig. 2", "measured": "12345.678" * 30, "holds": "does not hold"},
]


class Page(HTMLParser):
    """Everything that a page refers to, its text outside styles, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.text, self.tags, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.open.append(tag)

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


def rows(revisions=("aaa", "bbb", "bbb")):
    return [{"method": "nail-f", "git_revision": r, "device": "cpu x2", "version_jax": "1"} for r in revisions]


@pytest.fixture
def folder(tmp_path):
    """Two figures, one of them the package's own, with fits, nasty texts and a name that needs escaping."""
    out = tmp_path / "with space"
    out.mkdir()
    curves = [
        {"method": m, "horizon": h, "slope": s, "slope_low": s - 0.1, "slope_high": s + 0.1, "theory_slope": 1}
        for m, s in (("nail-f", 1.01), ("opd-f", 0.97))
        for h in (2, 4)
    ]
    for name in ("theory_horizon", "mine & <b>"):
        (out / f"{name}.csv").write_text(to_csv(curves))
        (out / f"{name}_claims.csv").write_text(to_csv(CLAIMS))
        (out / f"{name}_rows.csv").write_text(to_csv(rows()))
        matplotlib.image.imsave(out / f"{name}.png", np.linspace(0, 1, 1600).reshape(1, -1).repeat(300, 0))
    return out


def report(folder, *more):
    assert main(["report", str(folder), *more]) == 0
    return folder / "report.html"


def test_every_figure_claim_and_file_is_on_the_page(folder, capsys):
    path = report(folder)
    page = Page(path.read_text())
    words = page.words()
    for claim in CLAIMS:
        assert all(words.count(text) == 2 for text in (claim["claim"], claim["measured"]))
    assert words.count("1 of 2") == 2
    assert "2 of 4 claims hold" in words
    assert "aaa (1 row)" in words
    assert "bbb (2 rows)" in words
    local = [a for a in page.addresses if not a.startswith(("#", "data:"))]
    assert len(local) == 8
    assert all((folder / unquote(address)).exists() for address in local)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {unquote(a[1:]) for a in page.addresses if a.startswith("#")} <= set(ids)
    assert "2 figures, 2 of 4 claims hold" in capsys.readouterr().out


def test_nothing_is_fetched_and_nothing_can_run(folder):
    text = report(folder).read_text()
    page = Page(text)
    for address in page.addresses:
        parts = urlparse(address)
        assert parts.scheme in ("", "data")
        assert not parts.netloc
    assert not {"script", "iframe", "object", "embed", "b"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\(", text)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 2
    assert all(len(attrs["alt"]) > 20 and attrs["src"].startswith("data:image/png;base64,") for attrs in pictures)
    assert all(int(attrs["width"]) == 1400 and int(attrs["height"]) == 262 for attrs in pictures)


def test_links_are_relative_to_the_page(folder, tmp_path):
    out = tmp_path / "elsewhere" / "page.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    local = [a for a in Page(out.read_text()).addresses if not a.startswith(("#", "data:"))]
    assert len(local) == 8
    assert all((out.parent / unquote(address)).exists() for address in local)


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
        for m, s in (("a", "1.23456789"), ("b", "0.5"), ("c", ""))
        for h in (2, 4)
    ]
    fits = fits_of(table)
    assert fits.columns == ["method", "slope", "slope_low", "slope_high", "theory_slope"]
    assert fits.rows == [["a", "1.235", "0", "2", "1"], ["b", "0.5", "0", "2", "1"]]
    assert fits_of([{"x": "1"}]) is None
    assert fits_of([]) is None


def test_the_preset_is_what_rows_record_or_what_their_sizes_show(folder):
    def preset(rows):
        (folder / "fig2_claims.csv").write_text(to_csv(CLAIMS))
        (folder / "fig2_rows.csv").write_text(to_csv(rows))
        return dict(read_section(folder, "fig2", folder).provenance)["command"][0].split()[-1]

    smoke = [dataclasses.asdict(config) for config in experiment.load("fig2").runs("smoke")]
    assert preset(smoke) == "smoke"
    assert preset([row for row in smoke if row["seed"] != 0]) == "PRESET"
    assert preset([{**row, "preset": "paper"} for row in smoke]) == "paper"
    assert preset([{**row, "preset": "huge"} for row in smoke]) == "PRESET"


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

"""Every citation in code, notebooks, texts and claims leads to a heading, or a file, that exists."""

import csv
import io
import itertools
import json
import re
import tokenize
from pathlib import Path

import pytest

from nail.figures.citations import anchor, citations, headings
from nail.sweep.store import read_csv

ROOT = Path(__file__).parent.parent
PLACES = (
    "*.md", "docs/*.md", "figures/*.md", "figures/*_claims.csv", "benchmarks/*.md", "notebooks/*.ipynb",
    "nail/**/*.py", "nail/**/*.html", "experiments/**/*.py", "tests/**/*.py",
)  # fmt: skip
EXAMPLES = {Path(__file__), Path(__file__).with_name("test_map.py")}
"""tests with citations that lead nowhere"""
TEXT = {tokenize.STRING, tokenize.COMMENT, tokenize.NL}
OPENS, CLOSES = (getattr(tokenize, f"FSTRING_{part}", None) for part in ("START", "END"))
"""of an f-string, which is one token before Python 3.12"""


def python_units(text):
    """Strings and comments that follow each other with no code between them; code in an f-string is part of it."""
    units, depth = [[]], 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        depth += (token.type == OPENS) - (token.type == CLOSES)
        if depth or token.type in {*TEXT, CLOSES}:
            units[-1].append(token.string)
        else:
            units.append([])
    return [" ".join(unit) for unit in units if unit]


def prose_units(text):
    """Paragraphs, list items and table rows."""
    return re.split(r"\n\s*\n|\n(?=\s*[-|])", text)


def units(kind, text):
    """The parts of a file within which a § belongs to the document that was named before it."""
    if kind == ".py":
        return python_units(text)
    if kind == ".csv":
        return list(itertools.chain(*csv.reader(io.StringIO(text))))
    if kind == ".ipynb":
        return [unit for cell in json.loads(text)["cells"] for unit in prose_units("".join(cell["source"]))]
    return prose_units(text)


def broken(text, own=""):
    """What of a text's citations leads nowhere, in words; a § without a document is one of the file `own`."""
    found = []
    for cited in citations(text):
        words, document = " ".join(text[cited.start : cited.end].split()), cited.document or own
        if not document:
            found.append(f"{words} has no document before it")
        elif not document.startswith("arXiv "):
            if not (ROOT / document).exists():
                found.append(f"{words}: no file {document}")
            elif cited.section and cited.section not in headings((ROOT / document).read_text()):
                found.append(f"{words}: no heading {cited.section} in {document}")
    texts = re.findall(r"(?<![\w/.-])(?:\.\./)*((?:\w[\w.-]*/)*[\w-]+\.md)\b", text)
    places = (ROOT, ROOT / "docs") if own else (ROOT,)  # pages of docs/ link to each other by name
    return found + [f"{name} is not a file of docs/" for name in texts if not any((p / name).exists() for p in places)]


@pytest.mark.quick
def test_every_citation_is_found():
    paths = sorted({path for place in PLACES for path in ROOT.glob(place)} - EXAMPLES)
    found = [
        f"{path.relative_to(ROOT)}: {words}"
        for path in paths
        for unit in units(path.suffix, path.read_text())
        for words in broken(unit, str(path.relative_to(ROOT)) if path.parent.name == "docs" else "")
    ]
    assert not found, "\n".join(["citations that lead nowhere:", *dict.fromkeys(found)])


def test_every_claim_names_a_source_that_can_be_followed():
    for path in ROOT.glob("figures/*_claims.csv"):
        for claim in read_csv(path):
            assert list(citations(claim["source"])), f"{path.name}: {claim['claim']} ({claim['source']})"


def test_links_inside_a_text_of_docs_lead_to_its_headings():
    for path in ROOT.glob("docs/*.md"):
        text = path.read_text()
        anchors = {anchor(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
        linked = re.findall(r"\]\(#([^)]*)\)", text)
        assert linked or not headings(text)
        assert set(linked) <= anchors, sorted(set(linked) - anchors)
        assert {f"§{number}" for number in headings(text)} <= set(re.findall(r"\[(§[\d.]+)", text)), "contents"


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("docs/theory.md §4.1, §4.2 and §5; docs/paper.md §1", 0),
        ("docs/theory.md\n    §4.2, for the margin §4.6 (arXiv 1011.0686, §33)", 0),
        ("nail/methods.py and README.md; see ../docs/paper.md", 0),
        ("docs/theory.md §4.1, §4.99 and §12", 2),
        ("docs/paper.md §4.2", 1),
        ("docs/nowhere.md", 2),
        ("theory.md §4.1", 2),
        ("paper_protocol.md", 1),
        ("§4.1 comes before docs/theory.md §4.2", 1),
        ("nail/nowhere.py", 1),
    ],
)
def test_broken_citations_are_seen(text, complaints):
    assert len(broken(text)) == complaints


def test_a_section_belongs_to_the_document_named_in_the_same_unit():
    code = '"""docs/theory.md §4.1,\n§4.2."""\nx = f("docs/theory.md "\n  "§5")  # and §6\ny = 2  # §3\n'
    assert [len(broken(unit)) for unit in units(".py", code)] == [0, 0, 1, 1]
    table = "source,measured\ndocs/theory.md §5,§5\n"
    assert [len(broken(unit)) for unit in units(".csv", table)] == [0, 0, 0, 1]
    notebook = json.dumps({"cells": [{"source": ["docs/theory.md §5\n", "\n", "§4\n"]}]})
    assert [len(broken(unit)) for unit in units(".ipynb", notebook)] == [0, 1]
    own = [broken(unit, "docs/theory.md") for unit in units(".md", "arXiv 1011.0686, §7\n- §4.2\n\n§9")]
    assert own == [[], [], ["§9: no heading 9 in docs/theory.md"]]

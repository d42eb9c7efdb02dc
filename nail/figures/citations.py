"""Citations in a text, and where they lead: `docs/theory.md §4.2` to its heading, an arXiv number to its abstract.

A § belongs to the last document named before it: "docs/theory.md §4.1, §4.2 and §5" cites three sections of one.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

PAPER = "arXiv 2606.30923"
CITED = re.compile(
    r"(?:(?P<file>\b(?:docs|nail|experiments|tests)/[\w/]+\.(?:md|py)\b)|arXiv[: ](?P<number>\d{4}\.\d{4,5}))"
    r"(?:,?\s+§(?P<first>\d+(?:\.\d+)*))?|(?P<paper>\bpaper(?=, ))|§(?P<later>\d+(?:\.\d+)*)"
)


class Citation(NamedTuple):
    """One place of a text that names a source."""

    start: int
    end: int
    document: str
    """`docs/theory.md`, `arXiv 1011.0686`; empty for a § with no document before it"""
    section: str
    """`4.2`; empty for the whole document"""


def citations(text: str) -> Iterator[Citation]:
    """The citations of a text in order; a document and a § right after it are one. "paper, Fig. 2" cites `PAPER`."""
    document = ""
    for found in CITED.finditer(text):
        if found["paper"]:
            yield Citation(*found.span(), PAPER, "")
            continue
        document = found["file"] or (f"arXiv {found['number']}" if found["number"] else document)
        yield Citation(*found.span(), document, found["first"] or found["later"] or "")


def headings(text: str) -> dict[str, str]:
    """Section number → anchor of its heading in a Markdown text, made as GitHub makes them."""
    found = re.findall(r"^#+ ((\d+(?:\.\d+)*)\.? .*)$", text, re.MULTILINE)
    return {number: anchor(title) for title, number in found}


def anchor(title: str) -> str:
    """The anchor of a heading: lower case, punctuation left out, blanks as hyphens."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def linked(text: str, page: Path) -> list[tuple[str, str]]:
    """The text in pieces, each with its address: "" where there is none, relative to the folder `page` for files.

    Files are looked for beside the nearest folder `docs` above the page; without one they are text only.
    """
    page = page.resolve()
    root = next((folder for folder in (page, *page.parents) if (folder / "docs/theory.md").exists()), None)
    pieces, at = [], 0
    for cited in citations(text):
        pieces += [(text[at : cited.start], ""), (text[cited.start : cited.end], _address(cited, root, page))]
        at = cited.end
    return [piece for piece in [*pieces, (text[at:], "")] if piece[0]]


def _address(cited: Citation, root: Path | None, page: Path) -> str:
    if cited.document.startswith("arXiv "):
        return f"https://arxiv.org/abs/{cited.document.removeprefix('arXiv ')}"
    if root is None or not cited.document or not (file := root / cited.document).exists():
        return ""
    place = headings(file.read_text(encoding="utf-8")).get(cited.section, "") if cited.section else ""
    return quote(os.path.relpath(file, page)) + (f"#{quote(place)}" if place else "")

"""The code of the task pages in docs/ runs as it stands there.

Blocks of a page run one after the other: Python in one module, and of the shell only lines that begin with `nail `. A
block after the comment <!-- not run: WHY --> is left out.
"""

import re
import shlex
import sys
import types
from pathlib import Path

import pytest

from nail.cli.main import main

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    path
    for name in ("bound", "mdp", "learner", "loss", "noise", "figures", "plot")
    if (path := DOCS / f"{name}.md").exists()
]
BLOCK = re.compile(r"(<!-- not run: [^>]+-->\n+)?^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = [code for language, code in blocks((DOCS.parent / "README.md").read_text(encoding="utf-8"))]
    assert code
    exec("\n".join(code), {"__name__": "readme"})


def blocks(text):
    """(language, code) of a page's blocks that are to be run, in their order."""
    return [(language, code) for left_out, language, code in BLOCK.findall(text) if not left_out]


def test_blocks_are_found_and_left_out():
    page = "a\n```python\nx = 1\n```\n<!-- not run: too long -->\n```sh\nnail train\n```\n\n```sh\nnail list\n```\n"
    assert blocks(page) == [("python", "x = 1\n"), ("sh", "nail list\n")]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_it_runs(page, tmp_path, monkeypatch, tables):
    """No block raises, and every command ends with exit code 0."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page_of_docs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = blocks(page.read_text(encoding="utf-8"))
    assert found, f"{page} has no code"
    for language, code in found:
        if language == "python":
            exec(compile(code, str(page), "exec"), module.__dict__)
        else:
            commands = [line for line in code.replace("\\\n", " ").splitlines() if line.startswith("nail ")]
            assert [(line, main(shlex.split(line, comments=True)[1:])) for line in commands] == [
                (line, 0) for line in commands
            ]

"""The map in docs/ is what the code, the claims and the tests say now, and nothing of the paper is left out of it."""

import re

import pytest
from nail_experiments import _map

from nail.figures.citations import headings


def test_the_map_is_up_to_date():
    assert (_map.ROOT / "docs/map.md").read_text() == _map.render(), "run `make map`"


def test_every_statement_is_tested_by_claims_that_exist_or_said_to_be_untested():
    claims = _map.stored_claims(_map.ROOT)
    for statement in _map.STATEMENTS:
        for link in statement.claims:
            assert _map.claims_of(statement._replace(claims=(link,)), claims), link


def test_every_section_is_on_the_map():
    theory = headings((_map.ROOT / _map.THEORY).read_text())
    assert list(theory) == re.findall(r"^### \[docs/theory.md §([\d.]+)\]", _map.render(), re.MULTILINE)


@pytest.fixture
def small(tmp_path):
    """A repository of one section, one function, its test, and a claim."""
    files = {
        "docs/theory.md": "# T\n\n## 1. One\n\n### 1.1 Small\n\n### 1.2 Bare\n\n## 2. Cited\n",
        "nail/one.py": 'def f():\n    """docs/theory.md §1.1."""\n\ndef g():\n    """docs/theory.md §1.1."""\n',
        "tests/test_one.py": 'def helper():\n    return f()\n\n\ndef test_f():\n    helper()\n\n\n'
        'def test_g():\n    """docs/theory.md §2."""\n',
        "figures/x_claims.csv": "claim,source,refutes,measured,holds\n"
        "f | small,docs/theory.md §1.1,f large,1,does not hold\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_a_section_is_shown_with(small):
    text = _map.render(small)
    assert "- `f` (nail/one.py): `test_one.py::test_f`\n" in text
    assert "- `g` (nail/one.py): **not tested by name**\n" in text
    assert "- figure `x`\n  - ✗ f ∣ small\n" in text
    assert text.count("**not tested**: no function, no claim") == 1
    assert "- tested in `test_one.py::test_g`" in text


def test_a_statement_without_claims_is_said_to_be_untested(small, monkeypatch):
    statements = (_map.Statement("abstract", "s", (("x", "f"),)), _map.Statement("Fig. 9", "t"))
    monkeypatch.setattr(_map, "STATEMENTS", statements)
    text = _map.render(small)
    assert "| abstract | s | `x`: ✗ f ∣ small |" in text
    assert "| Fig. 9 | t | **not tested** |" in text

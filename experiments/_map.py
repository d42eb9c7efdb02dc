"""A map of the project: what is stated, where it is computed, which figure shows it, whether it holds, what tests it.

`make map` (in a clone) writes it from the sections of docs/theory.md, the docstrings that cite them, the quantities of
`nail theory`, the claims in figures/, and the tests that call the functions or cite the section. Only the statements of
the paper are written by hand, in `STATEMENTS`, each with the claims that test it.
"""

import ast
import itertools
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from nail.cli.theory_command import QUANTITIES
from nail.figures.citations import citations, headings
from nail.figures.claims import HOLDS, REFUTED, UNDECIDED, verdict_of
from nail.sweep.store import read_csv, write_text

THEORY = "docs/theory.md"
MARKS = {HOLDS: "✓", REFUTED: "✗", UNDECIDED: "?"}
ROOT = Path(__file__).parent.parent


class Statement(NamedTuple):
    """What the paper states, in our words."""

    place: str
    """abstract, or the figure whose caption says it"""
    text: str
    claims: tuple[tuple[str, str], ...] = ()
    """(figure, part of a claim's statement): all claims that contain the part test it; none: not tested"""


STATEMENTS = (
    Statement(
        "abstract",
        "offline learning from a noisy expert needs samples exponential in the horizon",
        (
            ("theory_horizon", "hidden path: n* of LogLossBC is exponential"),
            ("theory_horizon", "genie's number"),
            ("theory_offline_best", "uniform ν: n* of the best offline learner"),
            ("theory_offline_best", "no offline learner that was tried"),
            ("fig4", "any cell where a clean trajectory"),
            ("fig4", "episodes LogLossBC takes"),
        ),
    ),
    Statement(
        "abstract",
        "rolling out the learner's own greedy policy and asking the noisy expert there (NAIL) needs polynomially many",
        (
            ("theory_online_exact", "μH + z·σ√H + a with the exact μ"),
            ("theory_online_exact", "R^H 1"),
            ("theory_horizon", "n* of NAIL-F is not exponential"),
            ("theory_horizon", "n* of NAIL-R"),
            ("fig4", "NAIL-F solves every cell"),
        ),
    ),
    Statement(
        "abstract",
        "standard on-policy distillation, which samples its rollouts, does not get there",
        (
            ("theory_horizon", "n* of OPD"),
            ("theory_sampling", "n* of OPD-F"),
            ("fig2", "η=0.5: OPD"),
            ("fig4", "OPD-F does not solve"),
        ),
    ),
    Statement(
        "abstract",
        "NAIL in the forward, the reverse and every interpolated KL",
        (("fig2", "η=0.5: NAIL"), ("fig5", "every mixture between the ends")),
    ),
    Statement(
        "abstract",
        "unknown corruption: NAILGUN needs no η and no ν",
        (("theory_unknown_noise", "NAILGUN, told nothing"), ("theory_unknown_noise", "n* of NAILGUN over H and η")),
    ),
    Statement(
        "Fig. 1",
        "offline cloning, standard on-policy distillation and NAIL compared",
        (("fig1", "every seed of NAIL-F"),),
    ),
    Statement(
        "Fig. 2",
        "η = 0: NAIL drives the validation loss to zero and reaches perfect accuracy",
        (("fig2", "η=0: NAIL"),),
    ),
    Statement("Fig. 2", "η = 0: OPD-F plateaus", (("fig2", "OPD-F plateaus"),)),
    Statement(
        "Fig. 2",
        "η = 0: LogLossBC learns fastest (expected)",
        (("fig2", "LogLossBC learns faster"), ("fig2", "DAgger is")),
    ),
    Statement(
        "Fig. 2",
        "with noise NAIL solves the task, LogLossBC and the methods that sample do not",
        (("fig2", "η=0.5:"),),
    ),
    Statement(
        "Fig. 3",
        "the temperature of the student's rollout, from greedy to sampled",
        (("fig3", "the hotter"), ("fig3", "no seed"), ("fig3", "sampled at T = 1")),
    ),
    Statement("Fig. 4", "chain length × corruption rate", (("fig4", ""),)),
    Statement("Fig. 5", "every mixture solves the task, without noise and with it", (("fig5", "every mixture"),)),
    Statement(
        "Fig. 5", "speed depends strongly on β", (("fig5", "speed depends on β"), ("fig5", "dependence is strong"))
    ),
    Statement(
        "Fig. 6",
        "language models (GSM8K; here word problems and small models): at t = 1 forward-heavy objectives learn "
        "fastest and reach the highest accuracy",
        (("fig6", "the more forward"), ("fig6", "best forward-heavy")),
    ),
)


class Definition(NamedTuple):
    """A function or class of the package that cites a section."""

    name: str
    file: str


def sections(text: str) -> dict[str, str]:
    """Section number → its title, in order."""
    lines = (line.lstrip("#").strip() for line in text.splitlines() if line.startswith("##"))
    return {number: next(line for line in lines if line.startswith(number)) for number in headings(text)}


def cited(text: str) -> set[str]:
    """Sections of docs/theory.md that a text cites."""
    return {found.section for found in citations(text) if found.document == THEORY and found.section}


def definitions(root: Path) -> dict[str, list[Definition]]:
    """Section → public functions and classes of nail/ whose docstring cites it."""
    found = defaultdict(list)
    for path in sorted((root / "nail").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                for section in cited(ast.get_docstring(node) or ""):
                    found[section].append(Definition(node.name, str(path.relative_to(root))))
    return found


def uses(root: Path) -> dict[str, list[str]]:
    """Name → tests (file::function) whose code, or that of a helper in their file, mentions it."""
    found = defaultdict(set)
    for path in sorted((root / "tests").glob("test_*.py")):
        bodies = {
            node.name: node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        names = {name: _mentioned(node) for name, node in bodies.items()}
        for name in bodies:
            if name.startswith("test_"):
                helpers = names[name] & names.keys()
                for used in names[name].union(*(names[helper] for helper in helpers)):
                    found[used].add(f"{path.name}::{name}")
    return {name: sorted(tests) for name, tests in found.items()}


def citing_tests(root: Path) -> dict[str, list[str]]:
    """Section → tests (file::function) whose docstring cites it."""
    found = defaultdict(list)
    for path in sorted((root / "tests").glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                for section in cited(ast.get_docstring(node) or ""):
                    found[section].append(f"{path.name}::{node.name}")
    return found


def _mentioned(node: ast.AST) -> set[str]:
    parts = list(ast.walk(node))
    return {part.id for part in parts if isinstance(part, ast.Name)} | {
        part.attr for part in parts if isinstance(part, ast.Attribute)
    }


def stored_claims(root: Path) -> list[tuple[str, dict[str, str]]]:
    """(figure, claim) of all claims in figures/."""
    paths = sorted((root / "figures").glob("*_claims.csv"))
    return [(path.name.removesuffix("_claims.csv"), claim) for path in paths for claim in read_csv(path)]


def claims_of(statement: Statement, claims: list[tuple[str, dict[str, str]]]) -> list[tuple[str, dict[str, str]]]:
    """The claims that test a statement."""
    return [(figure, claim) for figure, claim in claims
            if any(figure == name and part in claim["claim"] for name, part in statement.claims)]  # fmt: skip


def render(root: Path = ROOT) -> str:
    """The text of the map."""
    theory, claims = (root / THEORY).read_text(encoding="utf-8"), stored_claims(root)
    anchors, found, tests, citing = headings(theory), definitions(root), uses(root), citing_tests(root)
    lines = [
        "# Map: statement → quantity → figure → claim → test",
        "",
        "[What the paper states](#what-the-paper-states) · [the sections](#the-sections-of-docstheorymd)",
        "",
        "Made by `make map` from docs/theory.md, the docstrings that cite it, the claims in `figures/` and the tests,",
        "and held against them by a test. ✓ the claim holds, ✗ it is refuted, ? the rows do not decide it. What would",
        "refute it stands beside it in `figures/NAME_claims.csv`, and tests/test_refuting.py sees to it that each",
        "is fed rows that do.",
        "",
        "## What the paper states",
        "",
        "Its abstract and captions, in our words (docs/paper.md §1.3).",
        "",
        "| place | statement | claims that test it |",
        "|---|---|---|",
    ]
    for statement in STATEMENTS:
        verdicts = _verdicts(claims_of(statement, claims))
        lines.append(f"| {statement.place} | {statement.text} | {verdicts or '**not tested**'} |")
    lines += ["", "## The sections of docs/theory.md", ""]
    for number, title in sections(theory).items():
        lines += [
            f"### [{THEORY} §{number}](../{THEORY}#{anchors[number]}) {title.removeprefix(number).lstrip('. ')}",
            "",
        ]
        if not any(other.startswith(f"{number}.") for other in anchors):
            here = [pair for pair in claims if number in cited(pair[1]["source"])]
            lines += _section(number, found[number], tests, citing[number], here)
    return "\n".join(lines).rstrip() + "\n"


def _section(number, found, tests, citing, claims):
    """Quantities, functions with their tests, tests that cite it, and claims of a section, as a list."""
    lines = [f"- `nail theory {row.name}`: {row.meaning}" for row in QUANTITIES if number in cited(row.source)]
    lines += [f"- `{name}` ({file}): {_tests(tests.get(name, []))}" for name, file in found]
    lines += [f"- tested in {_tests(citing)}"] if citing else []
    for figure, group in itertools.groupby(claims, key=lambda pair: pair[0]):
        lines += [f"- figure `{figure}`", *(f"  - {_verdict(claim)}" for _, claim in group)]
    return [*(lines or ["- **not tested**: no function, no claim"]), ""]


def _tests(tests: list[str], most: int = 3) -> str:
    rest = f" and {len(tests) - most} more" if len(tests) > most else ""
    return ", ".join(f"`{test}`" for test in tests[:most]) + rest if tests else "**not tested by name**"


def _verdicts(claims) -> str:
    return "<br>".join(f"`{figure}`: {_verdict(claim)}" for figure, claim in claims)


def _verdict(claim: dict[str, str]) -> str:
    text = claim["claim"].replace("|", "∣")
    return f"{MARKS[verdict_of(claim['holds'])]} {text}"


if __name__ == "__main__":
    write_text(ROOT / "docs/map.md", render())

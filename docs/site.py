"""Writes the pages of the documentation site to build/docs, for `make docs`.

Pages of docs/, the README and the change log, with their links mended; and pages that are made of the code: the table of
methods, the gallery of figures with their claims, the reference.
"""

import csv
import inspect
import re
import shutil
from pathlib import Path

import nail
from nail.figures import experiment
from nail.methods import METHOD

ROOT = Path(__file__).parent.parent
MODULES = {
    "Noise": ("nail.noise",),
    "Methods and rollout rules": ("nail.methods", "nail.rules"),
    "Finite MDPs": ("nail.envs.instances", "nail.envs.mdp"),
    "Theory": ("nail.theory.exact", "nail.theory.online", "nail.theory.bounds", "nail.theory.plurality",
               "nail.theory.scaling", "nail.stats"),
    "Losses": ("nail.training.losses",),
}  # fmt: skip
"""modules whose public names are in the reference, beside those of `nail` itself"""


def main() -> None:
    """Write all pages and copy the pictures; what builds the site (mkdocs.yml) refuses links that lead nowhere."""
    source = ROOT / "build" / "docs"
    shutil.rmtree(source, ignore_errors=True)
    (source / "figures").mkdir(parents=True)
    for path in (ROOT / "docs").glob("*.md"):
        (source / path.name).write_text(linked(path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in (ROOT / "figures").glob("**/*.png"):
        place = source / "figures" / path.relative_to(ROOT / "figures")
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    made = {
        "index": linked((ROOT / "README.md").read_text(encoding="utf-8")),
        "changelog": linked((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
        "contributing": linked((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")),
        "methods": methods(),
        "gallery": gallery(),
        "reference": reference(),
    }
    for name, text in made.items():
        (source / f"{name}.md").write_text(text, encoding="utf-8")


def linked(text: str) -> str:
    """Links between files of the repository, as links between pages of the site."""
    text = re.sub(r"\]\((?:\.\./)?docs/", "](", text)
    text = re.sub(r"\]\((?:\.\./)?(CHANGELOG|CONTRIBUTING)\.md", lambda found: f"]({found[1].lower()}.md", text)
    return text.replace("](../figures/", "](figures/").replace("](../README.md", "](index.md")


def methods() -> str:
    """The table of methods, from its rows."""
    lines = ["# Methods", "", "A method is a row of `nail/methods.py`; the training of a network and the count-based",
             "learners read nothing else of it.", "",
             "| name | | prefixes come from | reads | trains a network | in one line |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in METHOD.values():
        played = "sampled" if row.temperature else "greedy" if row.rule is None else row.rule.name
        drives = {"expert": "the noisy expert", "mixture": f"expert or {played} student"}
        reads = {"labels": "labels", "laws": "the noisy expert's probabilities", "reward": "a reward"}[row.signal]
        cells = (f"`{row.name}`", row.label, drives.get(row.driver, f"student, {played}"), reads,
                 "yes" if row.trains else "no", row.summary)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Objectives and their estimators: [theory §2](theory.md)."]) + "\n"


def gallery() -> str:
    """Every figure of figures/ with its claims."""
    parts = [
        "# Gallery",
        "",
        "Each figure with its claims. What would refute a claim stands in `figures/NAME_claims.csv`.",
        "",
    ]
    for name in experiment.names():
        claims = ROOT / "figures" / f"{name}_claims.csv"
        if not claims.exists():
            continue
        summary = experiment.about(name)[0]
        parts += [f"## {name}", "", f"{summary[:1].upper()}{summary[1:]}.", "",
                  f"![{name}: {summary}](figures/{name}.png)", "",
                  "| verdict | claim | measured |", "|---|---|---|"]  # fmt: skip
        with open(claims, encoding="utf-8", newline="") as file:
            parts += [f"| {c['holds']} | {cell(c['claim'])} | {cell(c['measured'])} |" for c in csv.DictReader(file)]
        parts.append("")
    return "\n".join(parts)


def cell(text: str) -> str:
    """A text as it may stand in a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")


def reference() -> str:
    """What `nail` exports, then the public functions and classes of `MODULES`, by mkdocstrings."""
    parts = ["# Reference", "", "## nail", ""]
    for name in nail.__all__:
        found = getattr(nail, name)
        parts += [f"::: {found.__module__}.{found.__qualname__}", ""]
    for title, modules in MODULES.items():
        parts += [f"## {title}", ""]
        for module in modules:
            members = vars(__import__(module, fromlist=["x"])).items()
            own = [n for n, value in members if (inspect.isfunction(value) or inspect.isclass(value))
                   and value.__module__ == module and not n.startswith("_")]  # fmt: skip
            parts += [line for n in own for line in (f"::: {module}.{n}", "")]
    return "\n".join(parts)


if __name__ == "__main__":
    main()

"""constraints.txt has the versions with which the committed figures were computed."""

from pathlib import Path

from nail.sweep.store import read_csv

ROOT = Path(__file__).parent.parent


def test_the_versions_are_those_of_the_rows():
    """All that a row names, but for nail's own, and the engine of language models, whose versions are in its extra."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line[0] != "#")
    known = {f"version_{name.replace('-', '_')}": version for name, version in pinned.items()}
    python = next(word for word in lines[0].split() + lines[1].split() if word[:2] == "3.")
    known["version_python"] = python.rstrip(",")
    for path in ROOT.glob("figures/*_rows.csv"):
        found = {(name, row[name]) for row in read_csv(path) for name in row if name in known}
        assert found <= set(known.items()), path.name
        assert {"version_jax", "version_jaxlib", "version_numpy"} <= {name for name, _ in found}

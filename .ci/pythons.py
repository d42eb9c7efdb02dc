"""The tests on every Python of this machine, each with the newest dependencies, and once with the lowest.

    python3 .ci/pythons.py              # a line for each, as `make test-pythons`; 1 if a test failed
    python3 .ci/pythons.py --newest     # the newest Python that is here

A Python is found in pyenv's versions and on PATH; of each minor version the newest counts. Environments and the tests'
output are .venv-py312, .venv-py312.log and the like, made anew each time.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
SHOWN = "jax jaxlib flax optax numpy scipy pandas matplotlib tyro pytest".split()
VERSION = "import sys; print(*sys.version_info[:3]); sys.exit(sys.version_info.releaselevel != 'final')"
TAKEN = f"from importlib.metadata import version; print(*(f'{{n}} {{version(n)}}' for n in {SHOWN}), sep=', ')"


def pythons() -> dict[tuple[int, int], tuple[tuple[int, ...], str]]:
    """(3, minor) → (version, path) of the newest of each minor version, in order."""
    roots = {os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv")), os.path.expanduser("~/.pyenv")}
    named = [path for root in roots for path in glob.glob(f"{root}/versions/*/bin/python")]
    folders = os.environ.get("PATH", "").split(os.pathsep)
    named += [path for folder in folders for path in glob.glob(f"{folder}/python3") + glob.glob(f"{folder}/python3.*")]
    found = {}
    for path in named:
        # a shim of pyenv fails for a version that is not selected; python3.12-config is no Python
        if not re.fullmatch(r"python(3(\.\d+)?)?", os.path.basename(path)):
            continue
        done = subprocess.run([path, "-c", VERSION], capture_output=True, text=True)
        version = tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()
        if version[:2] >= OLDEST and version > found.get(version[:2], ((), ""))[0]:
            found[version[:2]] = (version, path)
    return dict(sorted(found.items()))


def lowest() -> str:
    """Constraints: the lowest version of every dependency that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return "".join(f"{name.replace('>=', '==')}\n" for name in named)


def tested(name: str, python: str, constraints: str, warnings: str) -> tuple[bool, str]:
    """Whether the tests pass in a new environment of a Python, and a line on it."""
    venv, log = ROOT / f".venv-{name}", ROOT / f".venv-{name}.log"
    shutil.rmtree(venv, ignore_errors=True)
    command = ["make", "test", f"PYTHON={python}", f"VENV={venv.name}", f"CONSTRAINTS={constraints}"]
    options = {"PYTEST_ADDOPTS": f"{os.environ.get('PYTEST_ADDOPTS', '')} {warnings}"}
    with log.open("w") as out:
        done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=out, env={**os.environ, **options})
    taken = subprocess.run([venv / "bin/python", "-c", TAKEN], capture_output=True, text=True).stdout.strip()
    ends = re.findall(r"^.*(?:passed|failed|error).* in [\d.]+s.*$", log.read_text(), re.MULTILINE)
    result = ends[-1].strip("= ") if ends else "no test ran"
    return done.returncode == 0, f"{taken or 'not installed'}: {result}; {log.name}"


def main() -> int:
    """Test on each Python, and on the oldest with the lowest versions, whose own deprecations pass there."""
    found = pythons()
    if "--newest" in sys.argv[1:]:
        print(next(reversed(found.values()))[1])
        return 0
    cases = [(f"py{major}{minor}", version, path, "", "") for (major, minor), (version, path) in found.items()]
    if OLDEST in found:
        constraints = ROOT / "build/lowest.txt"
        constraints.parent.mkdir(exist_ok=True)
        constraints.write_text(lowest())
        old = "-W ignore::DeprecationWarning -W ignore::FutureWarning"
        cases.append(("lowest", *found[OLDEST], str(constraints.relative_to(ROOT)), old))
    passed = []
    for name, version, path, constraints, warnings in cases:
        ok, line = tested(name, path, constraints, warnings)
        which = " lowest versions" if constraints else ""
        print(f"Python {'.'.join(map(str, version))}{which} {'passes' if ok else 'FAILS'} ({line})", flush=True)
        passed.append(ok)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The revision of what computed a row: it follows the code that computes, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from nail.sources import file_of
from nail.sweep import identity
from nail.sweep.identity import CHECKOUT, git_revision, source_hash

PACKAGE = {
    "__init__.py": "",
    "train.py": "from .losses import loss\nimport mini.policies.table\ndef later():\n    from . import lazy\n",
    "losses.py": '"""Doc."""\nimport numpy\ndef loss(x):\n    """Doc."""\n    return 2 * x\n',
    "policies/__init__.py": "",
    "policies/table.py": "from ..deep import C\n",
    "deep.py": "C = 1\n",
    "lazy.py": "B = 1\n",
    "cli.py": "from .train import loss\n",
}


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """The hash of the root `mini.train`, and the modules that count, after files of the package `mini` have changed."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(changes=()):
        for path, text in {**PACKAGE, **dict(changes)}.items():
            (tmp_path / "mini" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mini" / path).write_text(text)
        return source_hash.__wrapped__(("mini.train",)), set(identity._imported(("mini.train",)))

    return make


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        ("losses.py", '"""New."""\n\nimport numpy\ndef loss(x):  # why\n    return 2 * x\n', False),
        ("cli.py", "print('new')\n", False),
        ("losses.py", "import numpy\ndef loss(x):\n    return 3 * x\n", True),
        ("deep.py", "C = 2\n", True),
        ("lazy.py", "B = 2\n", True),
    ],
)
def test_the_hash_follows_what_computes(hashed, file, text, counts):
    """Imports of any form: relative, absolute, inside a function; not comments, docstrings, or who imports the root."""
    first, modules = hashed()
    assert modules >= {"mini.train", "mini.losses", "mini.policies.table", "mini.deep", "mini.lazy"}
    assert "mini.cli" not in modules
    assert (hashed({file: text})[0] != first) == counts


def test_what_counts_for_runs_and_for_points():
    """Runs hang on no count-based learner, points of n* do; neither on the sweep engine or a figure's style."""
    runs, points = (set(identity._imported((root,))) for root in ("nail.training.train", "nail_experiments._nstar"))
    assert runs >= {"nail.training.update", "nail.methods", "nail.envs.modadd"}
    assert not any(name.startswith("nail.counting") for name in runs)
    assert points >= {"nail_experiments._nstar", "nail.counting.nstar", "nail.counting.paths", "nail.envs.mdp"}
    drawn = ("nail.sweep", "nail.cli", "nail.figures.plotting")
    assert not any(name.startswith(drawn) for name in runs | points)
    assert source_hash() != source_hash(("nail_experiments._nstar",))


def test_a_door_leads_to_what_is_behind_it(tmp_path, monkeypatch):
    """`from nail import n_star` in a file of a user's own counts all that n* is computed by."""
    (tmp_path / "my_measurement.py").write_text("def measure(point):\n    from nail import n_star\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"my_measurement", "nail.counting.nstar", "nail.counting.paths"} <= set(
        identity._imported(("my_measurement",))
    )


@pytest.mark.parametrize("folder", ["mine", "site-packages", "target"])
def test_own_code_and_what_lies_beside_it_counts_and_no_library(folder, tmp_path, monkeypatch):
    """A root of one file: modules beside it count, but in a folder of installed packages; elsewhere none does."""
    texts = {
        f"{folder}/my_root.py": "import my_helper\nimport my_package.part\nimport a_library\nimport nail.checks\n",
        f"{folder}/my_helper.py": "import another_library\n", f"{folder}/my_package/__init__.py": "",
        f"{folder}/my_package/part.py": "", "pythonpath/a_library.py": "", "pythonpath/another_library.py": "",
    }  # fmt: skip
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    if folder == "target":
        (tmp_path / folder / "my_root-1.0.dist-info").mkdir()
    for entry in ("pythonpath", folder):
        monkeypatch.syspath_prepend(tmp_path / entry)
    beside = {"my_helper", "my_package.part"} if folder == "mine" else set()
    assert set(identity._imported(("my_root",))) == {"my_root", "nail.checks", *beside}


def test_the_hash_does_not_depend_on_where_packages_are_installed():
    """The same packages on PYTHONPATH, for an interpreter that has none: the same modules, and so the same time."""
    code = "from nail.sweep import identity as i; print(i.source_hash(), *sorted(i._imported(i.ROOTS)))"
    path = os.pathsep.join([str(CHECKOUT), str(Path(jax.__file__).parents[1])])
    done = subprocess.run(
        [sys._base_executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.stdout.split() == [source_hash(), *sorted(identity._imported(identity.ROOTS))], done.stderr


def test_files_of_modules():
    assert file_of("nail.noise") == CHECKOUT / "nail" / "noise.py"
    assert file_of("nail_experiments.fig2") == CHECKOUT / "experiments" / "fig2.py"
    assert file_of("nail.noise.HuberChannel") is None
    assert file_of("sys") is None
    assert file_of("no_such_module") is None


def test_the_commit_is_that_of_the_checkout():
    head = subprocess.run(["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        pytest.skip("these tests do not run in a checkout")
    assert git_revision().split("+")[0] in subprocess.run(
        ["git", "-C", str(CHECKOUT), "rev-list", "--all"], capture_output=True, text=True, check=True
    ).stdout.split()  # fmt: skip


def test_the_hash_does_not_depend_on_the_locale():
    """Source is read as UTF-8 where the system's own encoding is another."""
    done = subprocess.run(
        [sys.executable, "-c", "from nail.sweep.identity import source_hash; print(source_hash())"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == [source_hash()], done.stderr


@pytest.mark.quick
def test_the_hash_is_the_same_on_every_python(hashed):
    """Pythons print f-strings, empty fields and quotes in their own ways: what is hashed follows from none of them."""
    strings = """f"{x:>{y or 3}} {', '.join(['a'])!r}" 'b', f"{{x}}{x}{{" f'{y}' """
    text = f"def loss(x: int, /, *, y=None):\n    return {strings}, '', -1e-9, [*x], lambda: ...\n"
    assert hashed({"losses.py": text})[0] == "0939f85dab7f"

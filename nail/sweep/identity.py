"""Where a row comes from: versions, device, commit, and a hash of the source that computed its numbers."""

import ast
import functools
import hashlib
import importlib.util
import platform
import subprocess
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from nail.sources import HOUSES, file_of, own_code

PACKAGES = ("nail", "jax", "jaxlib", "flax", "optax", "numpy")
ROOTS = ("nail.training.train",)
"""the compiled program of a run; whatever it imports can change a number"""
STORED_OR_DRAWN = ("nail.sweep", "nail.cli", "nail.figures.experiment", "nail.figures.plotting")
"""what keeps and shows numbers and makes none: not followed"""
CHECKOUT = Path(__file__).resolve().parents[2]
NOTHING = (None, [])
"""what a field of a tree holds that an older Python does not have, where that one can read the source"""
READING = threading.Lock()
"""one thread at a time parses: some Pythons count the depth of trees for all threads together (cpython issue 106905)"""


@functools.cache
def provenance() -> dict[str, str]:
    """Columns that every row carries: the source revision, the device, the versions of what computed it."""
    import jax

    device = jax.local_devices()[0]
    versions = {f"version_{name.replace('-', '_')}": metadata.version(name) for name in PACKAGES}
    return {
        "git_revision": git_revision(),
        "source_hash": source_hash(),
        "device": f"{device.device_kind} x{jax.local_device_count()}",
        "version_python": platform.python_version(),
        **versions,
    }


@functools.cache
def source_hash(roots: tuple[str, ...] = ROOTS) -> str:
    """12 hexadecimal digits of SHA-256 over the code that numbers depend on: its revision.

    That code is the modules `roots` and all that they import, directly or not, of this package, of a root's own and of
    modules beside it (`nail.sources.own_code`); other packages do not count, wherever they are installed, nor do
    comments, docstrings and layout. The commit would be the wrong measure: a word in the README, or an edit of the
    sweep engine would throw hours of finished runs away, and outside a checkout there is none. A root without a file (a
    notebook) counts for nothing.
    """
    found = hashlib.sha256()
    with READING:
        for name, tree in sorted(_imported(roots).items()):
            found.update(f"{name}\n{_in_words(_without_docstrings(tree))}\n".encode())
    return found.hexdigest()[:12]


def _imported(roots: tuple[str, ...]) -> dict[str, ast.Module]:
    """The modules `roots` and all of their own code that they import, by name."""
    trees: dict[str, ast.Module] = {}
    followed = own_code({*HOUSES, *(root.split(".")[0] for root in roots)})
    todo = list(roots)
    while todo:
        name = todo.pop()
        skipped = name in trees or f"{name}.".startswith(tuple(f"{s}." for s in STORED_OR_DRAWN))
        path = None if skipped or not followed(name.split(".")[0]) else file_of(name)
        if path is not None:
            trees[name] = ast.parse(path.read_text(encoding="utf-8"))
            todo += _imports(trees[name], name if path.name == "__init__.py" else name.rpartition(".")[0])
    return trees


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Names that a module of `package` imports, also inside functions: modules, and what may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (found, *(f"{found}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and package in HOUSES and str(node.value).startswith(f"{package}."):
            # a name that `nail` itself loads when it is asked for
            yield str(node.value)


def _in_words(node: Any) -> str:
    """A tree as every Python writes it; of `ast.unparse` and `ast.dump` each has its own."""
    if isinstance(node, list):
        return f"[{', '.join(map(_in_words, node))}]"
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 ends some with an empty text
        node.values = [part for part in node.values if getattr(part, "value", None) != ""]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = (f"{name}={_in_words(value)}" for name, value in ast.iter_fields(node) if value not in NOTHING)
    return f"{type(node).__name__}({', '.join(fields)})"


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without statements that are a lone string: they do nothing."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept or [ast.Pass()]
    return tree


@functools.cache
def git_revision() -> str:
    """Commit of the checkout that this package runs from, "+changes" if tracked files differ; "none" outside one."""
    if not (CHECKOUT / ".git").exists():
        return "none"
    try:
        commit = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "nail", "experiments").strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return commit + ("+changes" if changed else "")


def _git(*command: str) -> str:
    done = subprocess.run(["git", "-C", str(CHECKOUT), *command], capture_output=True, text=True, check=True)
    return done.stdout

"""Where a row comes from: versions, device, commit, and a hash of the source that computed its numbers."""

import ast
import functools
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("nail", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
ROOT = "nail.training.train"
"""the compiled program of a run; whatever it imports can change a number"""
HERE = Path(__file__).resolve().parent


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
def source_hash() -> str:
    """12 hexadecimal digits of SHA-256 over the code that a run's numbers depend on: its revision.

    That code is `nail.training.train` and every module of the package that it imports, directly or not; comments, docstrings and
    layout do not count. The commit would be the wrong measure: a word in the README, a colour of a figure or an edit of
    the sweep engine would throw hours of finished runs away, and outside a checkout there is none.
    """
    found = hashlib.sha256()
    for name, tree in sorted(_imported(ROOT).items()):
        found.update(f"{name}\n{ast.unparse(_without_docstrings(tree))}\n".encode())
    return found.hexdigest()[:12]


def _imported(root: str) -> dict[str, ast.Module]:
    """The module `root` of this package and all that it imports from the package, by name."""
    trees: dict[str, ast.Module] = {}
    todo = [root]
    while todo:
        name = todo.pop()
        path = HERE.parent.joinpath(*name.split(".")).with_suffix(".py")
        if name in trees or not path.exists():
            continue
        trees[name] = ast.parse(path.read_text())
        for node in ast.walk(trees[name]):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
        todo = [name for name in todo if name.split(".")[0] == HERE.name]
    return trees


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
    root = HERE.parent
    if not (root / ".git").exists():
        return "none"
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "nail", "experiments").strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return commit + ("+changes" if changed else "")


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True)
    return done.stdout

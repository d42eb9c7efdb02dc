"""Where a row comes from: versions, device and source revision."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("nail", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@functools.cache
def provenance() -> dict[str, str]:
    """Columns that every row carries: the source revision, the device, the versions of what computed it."""
    import jax

    device = jax.devices()[0]
    versions = {f"version_{name.replace('-', '_')}": metadata.version(name) for name in PACKAGES}
    return {
        "git_revision": git_revision(),
        "device": f"{device.device_kind} x{jax.local_device_count()}",
        "version_python": platform.python_version(),
        **versions,
    }


@functools.cache
def git_revision() -> str:
    """Commit of the checkout that this package runs from, "+changes" if tracked files differ; "none" outside one."""
    root = Path(__file__).resolve().parent.parent
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

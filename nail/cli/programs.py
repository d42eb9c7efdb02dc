"""Compiled programs outlast a command: JAX keeps them in the user's cache folder, and later commands read them there.

A program is kept under a hash of itself, of the compiler's options and of JAX's version, and is the same machine code
whether it is read or compiled: no number depends on it. Each kind of processor has a folder of its own, because what
was compiled for one may not run on another that shares the home folder.
"""

import contextlib
import functools
import os
import platform
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from nail.training.config import content_hash

MOST_BYTES = 2**30
"""of all programs of a processor when a command starts; those that were used longest ago go first"""
LEAST_SECONDS = 0.2
"""of compiling, from which a program is kept"""
EIGEN = "--xla_cpu_multi_thread_eigen=false"
"""flag of XLA: a product takes one thread"""
EIGEN_UNTIL = (0, 13)
"""JAX before which XLA is known to have that flag; from there on it is asked"""


def set_up_jax(begin: bool = True) -> None:
    """What a command does before it computes: take all cores, and keep programs.

    `begin` starts JAX on its devices; without it that is left to a job that is to be joined first. Raises `BadInput`
    if there is no device of the kind that JAX is told to use.
    """
    use_all_cores()
    keep_programs()
    if begin:
        from nail.training.devices import require_devices

        require_devices()


def use_all_cores() -> None:
    """One host device a core, products single-threaded; call it before JAX is first used, elsewhere it does nothing.

    What the user set wins: in XLA_FLAGS, in JAX_NUM_CPU_DEVICES, or in a module of the user's by `jax.config`.
    """
    import jax

    wanted = _all_cores()
    os.environ["XLA_FLAGS"] = wanted["XLA_FLAGS"]
    if "JAX_NUM_CPU_DEVICES" in wanted and jax.config.jax_num_cpu_devices == -1:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", int(wanted["JAX_NUM_CPU_DEVICES"]))


@contextlib.contextmanager
def all_cores_for_plugins() -> Iterator[None]:
    """While modules are imported that may import JAX and run it: it then begins as `use_all_cores` has it begin.

    By variables of the environment, which are put back: JAX is not imported for those that do without, and jobs that
    are started from here count their own cores.
    """
    wanted = _all_cores()
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _all_cores() -> dict[str, str]:
    """The variables of the environment by which JAX begins so, those that the user has set left out."""
    flags = os.environ.get("XLA_FLAGS", "")
    version = tuple(map(int, metadata.version("jax").split(".")[:2]))
    single = "" if "xla_cpu_multi_thread_eigen" in flags else EIGEN if version < EIGEN_UNTIL else known_flags(EIGEN)
    found = {"XLA_FLAGS": f"{flags} {single}".strip()}
    if "host_platform_device_count" not in flags and "JAX_NUM_CPU_DEVICES" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        found["JAX_NUM_CPU_DEVICES"] = str(cores)
    return found


@functools.cache
def known_flags(*flags: str) -> str:
    """Those of `flags` that XLA has, for XLA_FLAGS: each is tried in a process of its own, which XLA ends otherwise."""
    ask = [sys.executable, "-P", "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"]

    def known(flag: str) -> bool:
        return not subprocess.run(ask, env={**os.environ, "XLA_FLAGS": flag}, capture_output=True).returncode

    return " ".join(filter(known, flags))


def keep_programs() -> None:
    """Have JAX keep what it compiles and read what it finds; without a folder that can be written to nothing is kept.

    What the user set wins: JAX_COMPILATION_CACHE_DIR is another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps
    nothing. Several processes may share the folder. A program that cannot be read or written is compiled, silently.
    """
    import jax

    config = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        tidy(folder, MOST_BYTES)
    except (OSError, RuntimeError):
        return
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_enable_xla_caches", "none")
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def cache_folder() -> Path:
    """Where programs for this processor are kept, in $XDG_CACHE_HOME or ~/.cache; `RuntimeError` without a home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = given if given.is_absolute() else Path.home() / ".cache"
    return root / "nail" / "programs" / content_hash(_processor())


def tidy(folder: Path, most: int) -> None:
    """Remove programs that are cut off, and those used longest ago until all together have `most` bytes.

    JAX writes a program in its place and never again, so that what a kill left of one would stay. Only those are looked
    into that were written since the last time.
    """
    stamp = folder / "looked-at"
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    stamp.touch()
    room = most
    for path, found in sorted(_entries(folder), key=lambda entry: max(entry[1].st_atime, entry[1].st_mtime))[::-1]:
        room -= found.st_size
        with contextlib.suppress(FileNotFoundError):
            # another process may have removed it, or be writing it just now; then that one is lost
            if room < 0 or (found.st_mtime >= since and not _is_whole(path.read_bytes())):
                path.unlink()


def _entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


def _is_whole(entry: bytes) -> bool:
    """Whether an entry unpacks, by zlib or by the zstd that JAX prefers where there is one."""
    try:
        (zlib.decompress if entry[:1] == b"\x78" else _zstd())(entry)
    except Exception:  # each library has an error of its own
        return False
    return True


def _zstd() -> Callable[[bytes], bytes]:
    """As JAX looks for it: in Python 3.14, or an installed package; `ImportError` if there is none."""
    try:
        from compression import zstd
    except ImportError:
        import zstandard

        return zstandard.ZstdDecompressor().decompress
    return zstd.decompress


def _processor() -> list[str]:
    """What tells processors apart: their names and features, where the system lists them."""
    named = ("model name", "flags", "Features", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return [platform.machine(), platform.processor(), *sorted({line for line in lines if line.startswith(named)})]

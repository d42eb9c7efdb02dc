"""What the tests of sweeps share: a sweep that takes a second, other processes that run it, a cache of its program."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from nail.sweep.engine import Options, sweep
from nail.sweep.grid import grid
from nail.sweep.store import to_csv
from nail.training.config import TrainConfig

BASE = TrainConfig(
    task="poison-chain", method="dagger", p=3, m=2, eta=0.3, batch=4, steps=30, eval_every=2, n_validation=4, lr=0.1,
    warmup=0,
)  # fmt: skip
CONFIGS = grid(BASE, seed=range(4))
SEGMENTS = 16
QUICK = Options(checkpoint_seconds=0.0, runs_per_lot=2)
"""a checkpoint after each segment, two lots"""

WORKER = """
import json, os, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from sweeping import CONFIGS, QUICK
from nail.sweep import store
from nail.sweep.store import open_folder
from nail.sweep.store import to_csv
from nail.sweep.engine import sweep
replace, calls = os.replace, []
def replace_or_die(*paths):
    calls.append(paths)
    if len(calls) == {die_at}:
        os.kill(os.getpid(), 9)
    replace(*paths)
store.os.replace = replace_or_die
outcome = sweep(CONFIGS[{first}:], open_folder(Path(sys.argv[1])), QUICK)
print(json.dumps(outcome.lots))
"""


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from nail.cli.main import main
sys.exit(main())
"""


def nail(*arguments, cached=True):
    """Another process with a command."""
    return start([sys.executable, "-c", COMMAND, *map(str, arguments)], cached)


OPTIONS = [
    f"--{field.name.replace('_', '-')}={getattr(BASE, field.name)}"
    for field in dataclasses.fields(BASE) if getattr(BASE, field.name) != field.default
]  # fmt: skip
"""`BASE` on the command line"""


@contextlib.contextmanager
def program_cache(folder):
    """Programs are compiled once for this process and those that it starts (kills must not cost a compilation)."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    values = (str(folder), 0.0)
    for name, value in zip(names, values, strict=True):
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)
            del os.environ[name.upper()]
        compilation_cache.reset_cache()


def worker(out, die_at=0, first=0, cached=True, devices=2):
    """Another process that runs `CONFIGS[first:]` in `out`, and kills itself at the `die_at`-th file it puts there."""
    script = WORKER.format(tests=str(Path(__file__).parent), die_at=die_at, first=first)
    return start([sys.executable, "-c", script, str(out)], cached, JAX_NUM_CPU_DEVICES=str(devices))


def start(command, cached=True, **variables):
    """Another process, with the compiled programs of this one or without."""
    environment = {k: v for k, v in os.environ.items() if cached or "CACHE" not in k} | variables
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lots_of(process):
    """Lots that a worker worked on."""
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(printed)


def parts(out):
    """Row parts on disk."""
    return sorted(Path(out).glob("runs/*/rows/*.csv"))


def table(rows, but=("git_revision",)):
    """Rows as text, all but the commit: that may change while the tests run, and says nothing about numbers."""
    return to_csv([{name: value for name, value in row.items() if name not in but} for row in rows])


def rows_of(out, configs=CONFIGS, **options):
    """All rows of a sweep, after finishing it."""
    outcome = sweep(configs, out, dataclasses.replace(QUICK, **options))
    assert not outcome.failures
    return outcome.rows

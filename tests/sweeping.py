"""What the tests of sweeps share: a sweep that takes no time, faults in this process, other processes that run it."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from nail.sweep import program, store
from nail.sweep.engine import Options, sweep
from nail.sweep.grid import grid
from nail.sweep.lot import Lot
from nail.sweep.store import to_csv
from nail.training.config import TrainConfig, group_key, run_id

BASE = TrainConfig(
    task="poison-chain", method="dagger", A=3, H=2, eta=0.3, batch=4, steps=30, eval_every=2, n_validation=4, lr=0.1,
    warmup=0,
)  # fmt: skip
CONFIGS = grid(BASE, seed=range(4))
IDS = [run_id(config) for config in CONFIGS]
SEGMENTS = 16
QUICK = Options(checkpoint_seconds=0.0, runs_per_lot=2)
"""a checkpoint after each segment, two lots"""
SOURCE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
"""
WORKER = (
    SOURCE
    + """
import json, os
from pathlib import Path
from sweeping import CONFIGS, QUICK, dying
from nail.sweep.engine import sweep
from nail.sweep.store import open_folder
with dying({die_at}, lambda: os.kill(os.getpid(), 9)):
    outcome = sweep(CONFIGS[{first}:], open_folder(Path(sys.argv[1])), QUICK)
print(json.dumps(outcome.lots))
"""
)
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from nail.cli.main import main
sys.exit(main())
"""
OPTIONS = [
    f"--{field.name.replace('_', '-')}={getattr(BASE, field.name)}"
    for field in dataclasses.fields(BASE) if field.name == "task" or getattr(BASE, field.name) != field.default
]  # fmt: skip
"""`BASE` on the command line"""


class Killed(BaseException):
    """What a kill is inside a process: no handler of errors sees it."""


def die():
    raise Killed


@contextlib.contextmanager
def dying(at, death=die, name="replace"):
    """The `at`-th file that the store puts in its place is not put there: this process dies (by `death`) before."""
    real, calls = getattr(os, name), []

    def or_die(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            death()
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.os, name, or_die)
        yield calls


@contextlib.contextmanager
def in_time(seconds=30):
    """What waits for ever is an error."""

    def late(*_):
        raise Killed  # no handler of errors sees it

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def prepared_once():
    """In this process a program of the sweep engine is traced and compiled once."""
    real, prepared = program.prepare, {}

    def prepare(configs, expert=None, size=None):
        key = (group_key(configs[0]), max(size or 0, len(configs)), jax.local_device_count())
        if key not in prepared:
            prepared[key] = real(configs, expert, size)
        return prepared[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "prepare", prepare)
        yield


def nail(*arguments):
    """Another process with a command."""
    return start([sys.executable, "-c", COMMAND, *map(str, arguments)])


def worker(out, die_at=0, first=0):
    """Another process that runs `CONFIGS[first:]` in `out`, and kills itself at the `die_at`-th file it puts there."""
    return start([sys.executable, "-c", WORKER.format(die_at=die_at, first=first), str(out)])


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lots_of(process):
    """Lots that a worker worked on."""
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(printed)


def parts(out):
    """Row parts on disk."""
    return sorted(path for path in Path(out).rglob("rows/*.csv") if not path.name.startswith("."))


def rows_in(part):
    """Rows of a row part."""
    lot = Lot.read(part.parent.parent)
    return lot.read_part(int(part.stem))[0]


def rewrite(part, change):
    """Change the rows of a part as if they had been computed so."""
    lot, rows = Lot.read(part.parent.parent), rows_in(part)
    change(rows)
    lot.write_rows(int(part.stem), rows)


def times(paths):
    return {path: path.stat().st_mtime_ns for path in paths}


def checkpointed(out):
    """Row parts that lie before a lot's checkpoint: all but its newest; when they were written."""
    lots = [parts(path) for path in Path(out).glob("runs/*") if path.is_dir()]
    return times(path for lot in lots for path in lot[:-1])


def table(rows, but=("git_revision",)):
    """Rows as text, all but the commit: that may change while the tests run, and says nothing about numbers."""
    return to_csv([{name: value for name, value in row.items() if name not in but} for row in rows])


def finished(out, configs=CONFIGS, **options):
    """All rows of a sweep, after finishing it."""
    outcome = sweep(configs, out, dataclasses.replace(QUICK, **options))
    assert not outcome.failures
    return outcome.rows

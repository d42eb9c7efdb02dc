"""What tests of training share: compiled programs, each made once in a process, and runs of them to their end."""

import functools
import os

import jax
import numpy as np
from filelock import FileLock

from nail.training.config import content_hash, static_part
from nail.training.devices import known_options, pad_runs
from nail.training.problem import numbers_of
from nail.training.train import make_train

_PROGRAMS = {}
UNOPTIMISED = (("xla_backend_optimization_level", 0),)
"""for the compiler: half the time for it, and numbers that depend on the program by their rounding"""


def program_of(config):
    """`make_train`, once for all runs that share a program."""
    key = content_hash(static_part(config))
    if key not in _PROGRAMS:
        _PROGRAMS[key] = make_train(config)
    return _PROGRAMS[key]


@functools.cache
def finished(*configs, options=()):
    """Last state and all rows of a batch of runs of one program, segment by segment; computed once.

    `options` are the compiler's, as pairs.
    """
    program, numbers = program_of(configs[0]), pad_runs(numbers_of(configs))
    segment = program.segment
    if options:
        segment = segment.lower(jax.eval_shape(program.init, numbers), numbers).compile(known_options(options))
    state, rows = program.init(numbers), []
    while not rows or int(rows[-1].step[0]) < configs[0].steps:
        state, row = segment(state, numbers)
        rows.append(jax.device_get(row))
    return jax.device_get(state), rows


def one(tree, run=0):
    """One run out of a batch."""
    return jax.tree.map(lambda x: x[run], tree)


def equal(first, second):
    """Whether two trees of arrays are the same bit for bit."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def made_once(tmp_path_factory, name, make):
    """A folder that `make` fills, once for all workers of a test run."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    out, done = root / name, root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            out.mkdir(exist_ok=True)
            make(out)
            done.touch()
    return out

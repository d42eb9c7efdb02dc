"""What the tests of stages share: chains that take no time, and a sweep of them."""

import dataclasses

from sweeping import BASE, QUICK

from nail.sweep.engine import sweep
from nail.sweep.folder import Folder
from nail.sweep.grid import grid
from nail.sweep.stages import flat
from nail.training.config import run_id

SHORT = dataclasses.replace(BASE, steps=4)
FIRST = grid(dataclasses.replace(SHORT, method="loglossbc"), seed=range(3))
SECOND = grid(dataclasses.replace(SHORT, steps=6), seed=range(3))
THIRD = grid(dataclasses.replace(SHORT, method="loglossbc", lr=0.2), seed=range(3))
CHAINS = tuple(zip(FIRST, SECOND, THIRD, strict=True))
"""three stages, of which the first and the last share a program"""
RUNS = flat(CHAINS)


def finished(out, configs=CHAINS, **options):
    outcome = sweep(configs, out, dataclasses.replace(QUICK, **options))
    assert not outcome.failures
    return outcome.rows


def lot_of(out, config):
    return Folder.read(out).owner[run_id(config)].lot

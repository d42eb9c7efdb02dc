"""How many runs a lot has: as many as memory allows on an accelerator, a few a device on a CPU."""

import math
import os
from typing import Any

import jax

from nail.training.config import TrainConfig
from nail.training.devices import pad_runs
from nail.training.problem import numbers_of
from nail.training.train import make_train

RUNS_PER_CORE = 4
"""on a CPU the runs of a device go one after the other: a larger lot saves nothing, and a smaller one can be left to
another process"""
SHARE = 0.8
"""of a device's memory that a lot may take"""
HOST_SHARE = 0.5
"""of the host's memory, which its devices share"""


def most_runs(config: TrainConfig, expert: Any = None) -> int:
    """Runs that a lot of the group of `config` may have; raises `BadInput` if the configuration has no program."""
    fitting = max(1, int(memory_limit() / run_bytes(config, expert)))
    on_each = min(fitting, RUNS_PER_CORE) if jax.default_backend() == "cpu" else fitting
    return on_each * jax.local_device_count()


def lot_size(runs: int, most: int) -> int:
    """Into lots of how many a group of `runs` is cut on this machine, where `most` runs may go into one."""
    return even(runs, most, jax.local_device_count(), jax.default_backend() == "cpu")


def even(runs: int, most: int, devices: int, one_by_one: bool) -> int:
    """The size, a multiple of `devices` and at most `most`, into which `runs` are best cut.

    Lots are padded to one size. Where the runs of a device go `one_by_one` padding costs most, so there is as little of
    it as can be and then as few lots; where they are batched it is the other way round.
    """
    sizes = range(devices, max(devices, min(most, runs + devices - 1)) + 1, devices)

    def cost(size: int) -> tuple[int, int]:
        lots = math.ceil(runs / size)
        return (lots * size, lots) if one_by_one else (lots, lots * size)

    return min(sizes, key=cost)


def run_bytes(config: TrainConfig, expert: Any = None) -> int:
    """Memory that one run takes on its device, in bytes.

    Its state, and where runs are batched what the compiled program of one run a device needs besides (XLA's memory
    analysis).
    """
    program, devices = make_train(config, expert), jax.local_device_count()
    numbers = pad_runs(numbers_of((config,)))
    state = jax.eval_shape(program.init, numbers)
    held = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) // devices
    if jax.default_backend() == "cpu":
        return held
    needs = program.segment.lower(state, numbers).compile().memory_analysis()
    return held if needs is None else max(held, needs.temp_size_in_bytes + needs.output_size_in_bytes)


def memory_limit() -> float:
    """Bytes that the runs of one local device may take together."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return SHARE * stats["bytes_limit"]
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HOST_SHARE * host / jax.local_device_count()

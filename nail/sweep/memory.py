"""How many runs a lot has: as many as memory allows on an accelerator, a few a device on a CPU. And whether one run can
have the memory that it needs, before anything of it is made."""

import contextlib
import dataclasses
import math
import os
import resource
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from nail.checks import BadInput
from nail.methods import METHOD
from nail.training.config import TrainConfig
from nail.training.devices import pad_runs
from nail.training.privileged import began_with
from nail.training.problem import make_setup, numbers_of
from nail.training.products import products
from nail.training.train import make_train
from nail.training.update import buffer_shape

RUNS_PER_CORE = 4
"""on a CPU the runs of a device go one after the other: a larger lot saves nothing, and a smaller one can be left to
another process"""
SHARE = 0.8
"""of a device's memory that a lot may take"""
HOST_SHARE = 0.5
"""of the host's memory, which its devices share"""
SIZES = ("width", "layers", "p", "m", "S", "A", "H", "batch", "steps", "dagger_buffer")
"""fields that a run's memory follows from"""
GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""files of Linux that limit a container's memory"""


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


def require_room(config: TrainConfig) -> None:
    """Raise `BadInput` with the estimate and what there is if a run cannot fit, before anything of it is made.

    On a CPU a run on each device is the least that is computed at once, and all share the host's memory.
    """
    there, on_cpu = memory_there(), jax.default_backend() == "cpu"
    together = jax.local_device_count() if on_cpu else 1
    needed = together * least_bytes(config)
    if needed > there:
        shapes = [name for name in SIZES if hasattr(config, name)]
        said = ", ".join(f"{name} {getattr(config, name)}" for name in shapes)
        at_once = f" (one on each of {together} devices)" if together > 1 else ""
        raise BadInput(
            f"a run must fit into the {in_words(there)} of memory that there are, and one with {said} takes at least "
            f"{in_words(needed)}{at_once}"
        )


def least_bytes(config: TrainConfig) -> int:
    """Bytes that a run takes at least, from shapes alone: parameters with their gradient, two moments and those that a
    teacher or the rows read besides, DAgger's data set, and what the forward pass of one batch leaves for its gradient
    (the results of its matrix products)."""
    task, student = type(config).definitions
    options = [field.name for kind in (task.options, student.options) for field in dataclasses.fields(kind)]
    key = (task, student, config.batch, *(getattr(config, name) for name in options))
    if key not in _PASSES:
        _PASSES[key] = _pass_bytes(config)
    (params, kept), row = _PASSES[key], METHOD.find(config.method)
    copies = 4 + began_with(config, row.reward == "pairs") + (config.teacher == "average")
    return copies * params + kept + (data_bytes(config) if row.aggregate else 0)


def data_bytes(config: TrainConfig) -> int:
    """Bytes of DAgger's data set."""
    return sum(map(_bytes, jax.tree.leaves(buffer_shape(make_setup(config)))))


_PASSES: dict[Any, tuple[int, int]] = {}
"""what a run's memory follows from → `_pass_bytes` of it, which takes a trace"""


def _pass_bytes(config: TrainConfig) -> tuple[int, int]:
    """Bytes of (the parameters once, what a forward pass leaves)."""
    setup = make_setup(config)
    env, policy = setup.env, setup.policy

    def forward(params, index):
        contexts = jax.vmap(env.train_context)(index)
        observations = jnp.zeros((config.batch, env.horizon), jnp.int32)
        return policy.forward(params, contexts, observations)[0]

    params = jax.eval_shape(lambda: policy.init(jax.random.key(0)))
    index = jax.ShapeDtypeStruct((config.batch,), jnp.uint32)
    trace = jax.make_jaxpr(forward)(params, index)
    results = [v.aval for equation, _ in products(trace.jaxpr, trips=1) for v in equation.outvars]  # of a loop once
    kept = sum(map(_bytes, [*trace.out_avals, *results]))
    return sum(map(_bytes, jax.tree.leaves(params))), kept


def memory_there() -> int:
    """Bytes of a device, or on a CPU of this machine, as far as its processes may have them."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), resource.getrlimit(resource.RLIMIT_AS)[0]]
    for path in GROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text()))
    return min(limit for limit in limits if limit > 0)


def in_words(size: int | float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"


def _bytes(shaped: Any) -> int:
    return math.prod(shaped.shape) * shaped.dtype.itemsize

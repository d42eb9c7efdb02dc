"""How a batch of runs is laid over the devices: runs are sharded over all of them, and stacked on each.

On an accelerator the runs of one device are one `vmap`. On a CPU batched small products are slow, so the runs of a
device go one after the other, and there is one host device a core.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nail.checks import BadInput, require

MOST_DEVICES = 1024
"""host devices of one process"""
SETTINGS = {
    "jax_random_seed_offset": 0, "jax_threefry_partitionable": True, "jax_default_prng_impl": "threefry2x32",
    "jax_default_matmul_precision": None, "jax_enable_x64": False, "jax_disable_jit": False,
}  # fmt: skip
"""settings of JAX on which the numbers of a run depend, or without which it has none, as all runs have them"""
SHORT = 2_000
"""updates of a run, up to which its program is compiled quickly instead of well"""
QUICK = (("xla_cpu_use_fusion_emitters", False), ("xla_backend_optimization_level", 1))
"""options of XLA with which it compiles quickly, as far as it has them (jaxlib 0.11.1 lost the first)"""


@functools.cache
def known_options(options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """Those of `options` that XLA has: each is tried on a program of one number."""
    one = jax.jit(lambda x: x).lower(0.0)

    def known(option: tuple[str, Any]) -> bool:
        try:
            one.compile(dict([option]))
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return dict(filter(known, options))


def require_settings() -> None:
    """Raise `BadInput` if a setting of JAX is another than the one that stored runs were computed with."""
    for name, wanted in SETTINGS.items():
        found = getattr(jax.config, name)
        require(found == wanted, name.upper(), found, f"left at {wanted}: runs depend on it, and their ids do not")


def require_devices() -> None:
    """Raise `BadInput` if JAX has no device of the kind that it is told to use, or is to make none or too many."""
    require_settings()
    own = jax.config.jax_num_cpu_devices
    require(own == -1 or 1 <= own <= MOST_DEVICES, "JAX_NUM_CPU_DEVICES", own, f"an integer in 1..{MOST_DEVICES}")
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        # JAX asserts that one kind of all that it may use is there
        sentence = next(iter(str(error).splitlines()), "none of these")
        asked = jax.config.jax_platforms or "unset"
        raise BadInput(f"JAX_PLATFORMS must name a kind of device that is here, got {asked} ({sentence})") from error


def over_runs(one_run: Callable, donate: int | None = None) -> Callable:
    """`one_run` over a leading axis of runs, a multiple of the local devices; compiled once per number of runs."""
    stacked = _one_after_another(one_run) if jax.default_backend() == "cpu" else jax.vmap(one_run)
    spec = PartitionSpec("runs")
    sharded = jax.shard_map(stacked, mesh=_mesh(), in_specs=spec, out_specs=spec, check_vma=False)
    donated = () if donate is None else (donate,)
    return jax.jit(sharded, donate_argnums=donated, in_shardings=runs_sharding(), out_shardings=runs_sharding())


def compiler_options(updates: int) -> dict[str, Any]:
    """XLA's options for a program that will do this many updates: on a CPU a short program is not worth optimising.

    Optimised code is about 7 % faster there and takes twice as long to compile (a sixth to a third longer where XLA has
    lost the first of `QUICK`).
    """
    return {} if jax.default_backend() != "cpu" or updates > SHORT else known_options(QUICK)


def runs_sharding() -> NamedSharding:
    """The leading axis of runs laid over all local devices."""
    return NamedSharding(_mesh(), PartitionSpec("runs"))


def place(tree: Any) -> Any:
    """Put arrays with a leading axis of runs where `over_runs` wants them."""
    return jax.device_put(tree, runs_sharding())


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("runs",))


def pad_runs(tree: Any, least: int = 0) -> Any:
    """Repeat the last run until there are `least` runs and a multiple of the local devices, and place them there."""

    def longer(x):
        size = max(len(x), least)
        missing = size + -size % jax.local_device_count() - len(x)
        # by NumPy: each operation of JAX outside a program is a program of its own, to be compiled
        return np.concatenate([x, np.repeat(np.asarray(x)[-1:], missing, axis=0)]) if missing else x

    return place(jax.tree.map(longer, tree))


def _one_after_another(one_run: Callable) -> Callable:
    return lambda *stacked: jax.lax.map(lambda args: one_run(*args), stacked)

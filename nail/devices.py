"""How a batch of runs is laid over the devices: runs are sharded over all of them, and stacked on each.

On an accelerator the runs of one device are one `vmap`. On a CPU batched small products are slow, so the runs of a
device go one after the other, and there is one host device a core.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def use_all_cores() -> None:
    """One host device a core, products single-threaded; call it before JAX is first used, elsewhere it does nothing.

    A setting of the user's own in XLA_FLAGS or JAX_NUM_CPU_DEVICES wins.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if "host_platform_device_count" not in flags and "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def over_runs(one_run: Callable, donate: int | None = None) -> Callable:
    """`one_run` over a leading axis of runs, compiled once per number of runs.

    Runs are padded with copies of the last up to a multiple of the devices, and the copies dropped again.
    """
    stacked = _one_after_another(one_run) if jax.default_backend() == "cpu" else jax.vmap(one_run)
    mesh = Mesh(np.array(jax.local_devices()), ("runs",))
    spec = PartitionSpec("runs")
    sharded = jax.shard_map(stacked, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    donated = () if donate is None else (donate,)
    return jax.jit(sharded, donate_argnums=donated, in_shardings=NamedSharding(mesh, spec))


def pad_runs(tree: Any) -> Any:
    """Repeat the last run until the number of runs is a multiple of the local devices."""

    def pad(x):
        missing = -x.shape[0] % jax.local_device_count()
        return jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)]) if missing else x

    return jax.tree.map(pad, tree)


def _one_after_another(one_run: Callable) -> Callable:
    return lambda *stacked: jax.lax.map(lambda args: one_run(*args), stacked)

"""Data parallel over the batch: each device has some rows of it and all weights; sums go over all devices.

Devices may belong to several processes (`jax.distributed`): each holds the rows of its own devices only. What is drawn
for a row depends on its place in the whole batch, so that the number of devices changes a result by rounding alone.
Weights are replicated: enough for adapters, whose gradients and moments are small.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, Key, PRNGKeyArray

from nail.checks import BadInput, one_line, require
from nail.sweep.stop import Stopped

ROWS = "rows"
"""the axis of devices, and of a batch, that rows are divided over"""
EACH, ALL = PartitionSpec(ROWS), PartitionSpec()
"""of an array whose rows are divided, and of one that every device has"""
MOST_TEXT = 2000
"""bytes of a sentence that processes tell each other"""


def one_device() -> Mesh:
    """The first device of this process."""
    return Mesh(np.array(jax.local_devices()[:1]), (ROWS,))


def team(devices: int | None = None, batch: int | None = None, micro: int = 1) -> Mesh:
    """`devices` of each process of the job; none given: all, or as many as `batch` can be divided over.

    Raises `BadInput` if the processes have different numbers of devices, if there are fewer than `devices`, or if
    `batch` is no multiple of all that are to be used, whose shares are to be multiples of `micro` or at most that.
    """
    processes, here = jax.process_count(), jax.local_device_count()
    if jax.device_count() != processes * here:
        raise BadInput(f"the {processes} processes must have the same number of devices, and one has {here} of "
                       f"{jax.device_count()}")  # fmt: skip
    require(devices is None or 1 <= devices <= here, "devices", devices, f"an integer in 1..{here}, those of a process")
    if batch is None:
        used = devices or here
    else:
        require(batch % processes == 0, "batch", batch, f"a multiple of the number of processes ({processes})")
        fitting = [n for n in range(1, here + 1) if _fits(batch, processes * n, micro)]
        used = devices or max(fitting, default=1)
        total = processes * used
        require(batch % total == 0, "batch", batch, f"a multiple of the number of devices ({total})")
        share = batch // total
        require(_fits(batch, total, micro), "micro", micro, f"a divisor of a device's {share} prompts, or more")
    places = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array([place for i, place in enumerate(places) if i % here < used]), (ROWS,))


def _fits(batch: int, devices: int, micro: int) -> bool:
    share = batch // devices
    return batch % devices == 0 and share % min(micro, share) == 0


def on_each(function: Callable, mesh: Mesh, specs: Any, out: Any, **options: Any) -> Any:
    """`function` on each device with its rows, compiled; it adds up over the axis `ROWS` what all are to have."""
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False), **options)


def own_rows(share: int) -> Int[jax.Array, " share"]:
    """Places in the whole batch of a device's `share` rows; within `on_each`."""
    return jax.lax.axis_index(ROWS) * share + jnp.arange(share)


def row_keys(key: PRNGKeyArray, rows: Int[jax.Array, " rows"]) -> Key[jax.Array, " rows"]:
    """A key for each row, by its place in the whole batch."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(rows)


def everywhere(tree: Any, mesh: Mesh) -> Any:
    """Arrays, the same ones in all processes, as arrays that every device of the mesh has."""
    here = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]

    def put(x: Any) -> jax.Array:
        copies = [jax.device_put(x, device) for device in here]
        return jax.make_array_from_single_device_arrays(np.shape(x), NamedSharding(mesh, ALL), copies)

    return jax.tree.map(put, tree)


def share_of(rows: Any, mesh: Mesh) -> Any:
    """Those of a sequence of rows, one for each place in the batch, that this process has."""
    each = len(rows) // mesh.size
    mine = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
    return rows[mine[0] * each : (mine[-1] + 1) * each]


def divided(tree: Any, mesh: Mesh) -> Any:
    """Arrays of this process's own rows as arrays of all rows, divided over the devices."""
    sharding = NamedSharding(mesh, EACH)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def own(x: jax.Array) -> np.ndarray:
    """The rows of this process of an array whose rows are divided."""
    parts = sorted(x.addressable_shards, key=lambda part: part.index[0].start or 0)
    return np.concatenate([np.asarray(part.data) for part in parts])


def added_up(numbers: Any) -> np.ndarray:
    """Numbers of this process, added up over all processes."""
    return np.asarray(multihost_utils.process_allgather(np.asarray(numbers, np.float64))).sum(0) \
        if jax.process_count() > 1 else np.asarray(numbers, np.float64)  # fmt: skip


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """End this process at once, with one sentence, if it is interrupted or fails, unless all processes fail alike.

    The others wait for its numbers and end when the connection does. JAX alone would wait for them first.
    """
    try:
        yield
    except (BadInput, ArithmeticError):
        # raised by all processes
        raise
    except BaseException as error:
        lost = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
        if not lost and not isinstance(error, KeyboardInterrupt | Stopped):
            traceback.print_exc()
        reason = "another process was lost" if lost else one_line(f"{type(error).__name__} {error}")
        print(f"nail: process {jax.process_index()} ends ({reason}); the same commands go on from the last checkpoint",
              file=sys.stderr, flush=True)  # fmt: skip
        os._exit(130 if isinstance(error, KeyboardInterrupt) else getattr(error, "code", 1))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def told(content: bytes) -> bytes:
    """What the first process says, in all of them."""
    if jax.process_count() == 1:
        return content
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    line = np.zeros(length, np.uint8)
    if is_first():
        line[:] = np.frombuffer(content, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(line), np.uint8).tobytes()


def together(do: Callable[[], Any]) -> Any:
    """What `do` gives here; raises `BadInput` in all processes, with the first one's sentence, if it does in any."""
    if jax.process_count() == 1:
        return do()
    found, problem = None, ""
    try:
        found = do()
    except BadInput as error:
        problem = str(error)
    line = np.zeros(MOST_TEXT, np.uint8)
    text = np.frombuffer(problem.encode()[:MOST_TEXT], np.uint8)
    line[: len(text)] = text
    problems = [bytes(one).rstrip(b"\0") for one in np.asarray(multihost_utils.process_allgather(line), np.uint8)]
    first = next((one for one in problems if one), b"")
    if first:
        raise BadInput(first.decode(errors="ignore"))
    return found


def require_agreement(text: str) -> None:
    """Raise `BadInput` in all processes unless all have the same text, which names the options and files of a run."""

    def compare() -> None:
        if told(text.encode()) != text.encode():
            raise BadInput("all processes of a job must be given the same options, models and files")

    together(compare)

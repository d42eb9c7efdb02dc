"""`nail bench --preset sweep`: the sweep engine beside the same runs one after the other on one device.

Both are processes of their own that begin with nothing compiled. The reference is no straw man: it is the engine with
one run at a time, so it too compiles a program only once; on a CPU it has one device and one core.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nail.cli.bench import tell
from nail.sweep.grid import grid
from nail.sweep.store import open_folder
from nail.training.config import TrainConfig

BASE = TrainConfig(
    p=3, width=16, heads=2, batch=16, steps=2_000, eval_every=200, lr=1e-3, warmup=50, n_validation=2, init_std=0.1
)
LENGTHS = (3, 6, 9)
"""chains m: one program each"""


def runs(lengths: Sequence[int] = LENGTHS, steps: int = BASE.steps) -> tuple[TrainConfig, ...]:
    """The runs: lengths × three η × five seeds."""
    return grid(BASE, steps=(steps,), m=lengths, eta=(0.0, 0.25, 0.5), seed=range(5))


def bench_sweep(out: Path | None = None, steps: int = BASE.steps, lengths: Sequence[int] = LENGTHS) -> dict[str, Any]:
    """Print a line each number and return them as one row; also write it to `out` as CSV.

    Seconds are wall time of the sweep in a process that has JAX at hand. "compiling" is the time in which it waited for
    a compiler and did nothing else; ratios are given with it and without. "store" is the time spent writing rows,
    checkpoints and failures, flushes to the disk included.
    """
    load = os.getloadavg()[0]
    one, engine = _measure("one", steps, lengths), _measure("engine", steps, lengths)
    work = {name: found["seconds"] - found["wait_seconds"] for name, found in (("one", one), ("engine", engine))}
    row = {
        "runs": len(runs(lengths)), "steps": steps, "programs": engine["programs"],
        "compilations": engine["compilations"], "seconds": engine["seconds"], "seconds_one": one["seconds"],
        "compiling": engine["wait_seconds"], "compiling_one": one["wait_seconds"],
        "ratio": one["seconds"] / engine["seconds"], "ratio_without_compiling": work["one"] / work["engine"],
        "store_share": engine["store_seconds"] / engine["seconds"], "devices": engine["devices"], "load_before": load,
    }  # fmt: skip
    tell([row], engine["provenance"], out)
    return row


def _measure(mode: str, steps: int, lengths: Sequence[int]) -> dict[str, Any]:
    """What a fresh process measures; it uses no cache of programs."""
    left_out = ("JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "nail.cli.bench.sweeps", mode, folder, str(steps), *map(str, lengths)],
            env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _child(mode: str, out: Path, steps: int, *lengths: int) -> dict[str, Any]:
    """Run the runs in this process, counting the programs that JAX is asked to compile."""
    from nail.cli.programs import use_all_cores

    if mode == "one" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    use_all_cores()
    import jax

    from nail.sweep.engine import Options, sweep
    from nail.sweep.failures import RunsFailed
    from nail.sweep.identity import provenance
    from nail.training.devices import compiler_options

    # XLA is asked for its options beforehand: by programs that are none of the sweep's
    compiler_options(steps)
    compiled, compile_ = [], jax.stages.Lowered.compile

    def counted(lowered: jax.stages.Lowered, *options: Any) -> jax.stages.Compiled:
        compiled.append(lowered)
        return compile_(lowered, *options)

    jax.stages.Lowered.compile = counted
    configs, origin = runs(lengths, steps), provenance()
    begun = time.perf_counter()
    outcome = sweep(configs, open_folder(out), Options(runs_per_lot=1 if mode == "one" else None))
    seconds = time.perf_counter() - begun
    if outcome.failures:
        raise RunsFailed(outcome.failures, len(configs), out)
    return {
        "seconds": seconds, "wait_seconds": outcome.wait_seconds, "store_seconds": outcome.store_seconds,
        "programs": outcome.programs, "compilations": len(compiled), "devices": jax.local_device_count(),
        "provenance": origin,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))))

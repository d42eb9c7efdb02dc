"""`nail bench --plan`: what a program will ask of a device, without running it: operations, memory, time to compile."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from nail.cli.bench import tell
from nail.cli.bench.products import products_of, total_flops
from nail.cli.bench.steps import SIZES, runs_at_once
from nail.sweep.identity import provenance
from nail.training.config import TrainConfig
from nail.training.devices import pad_runs
from nail.training.problem import make_setup, numbers_of
from nail.training.ranges import check
from nail.training.train import make_train
from nail.training.update import update


def bench_plan(
    size: str, methods: tuple[str, ...], precision: str, reuse: str, out: Path | None
) -> list[dict[str, Any]]:
    """Print a column per method and return them as rows; also write them to `out` as CSV.

    It has the floating-point operations of the matrix products of one update, the operations and bytes that XLA
    counts for one pass through the compiled segment's code (loop bodies once), its memory, and how long compiling took.
    """
    base = check(dataclasses.replace(SIZES[size], precision=precision, reuse=reuse))
    rows = [{"size": size, **_plan(dataclasses.replace(base, method=method))} for method in tqdm(methods)]
    tell(rows, provenance(), out)
    return rows


def _plan(config: TrainConfig) -> dict[str, Any]:
    runs = runs_at_once()
    numbers = pad_runs(numbers_of(tuple(dataclasses.replace(config, seed=seed) for seed in range(runs))))
    setup, program = make_setup(config), make_train(config)
    state = jax.eval_shape(program.init, numbers)
    begun = time.perf_counter()
    compiled = program.segment.lower(state, numbers).compile()
    seconds = time.perf_counter() - begun
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (state, numbers))
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "method": config.method,
        "precision": config.precision,
        "reuse": config.reuse,
        "runs_in_batch": runs,
        "gflop_per_step": total_flops(products_of(lambda state, numbers: update(setup, numbers, state), *one)) / 1e9,
        "xla_gflop": cost.get("flops", float("nan")) / 1e9,
        "xla_gigabytes": cost.get("bytes accessed", float("nan")) / 1e9,
        "state_mib": memory.argument_size_in_bytes / 2**20,
        "scratch_mib": memory.temp_size_in_bytes / 2**20,
        "compile_seconds": seconds,
    }

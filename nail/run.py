"""Run groups of configurations to their end: chunks, progress, checkpoints, rows; resume where a kill left off."""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from nail.config import TrainConfig, check, group, run_id
from nail.devices import compiler_options, pad_runs, place
from nail.problem import Numbers, numbers_of
from nail.provenance import provenance
from nail.store import GroupStore
from nail.train import Metrics, TrainState, make_train
from nail.trained_expert import load_expert

CHECKPOINT_SECONDS = 10.0
"""a chunk: at least this much work lies between two checkpoints, so that writing them costs little"""


class NotFinite(ArithmeticError):
    """A training loss became NaN or infinite; rows up to then are on disk."""


def run_all(
    configs: Iterable[TrainConfig],
    out: Path,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    keep_params: bool = False,
) -> list[dict[str, str]]:
    """Run what is missing of `configs` in the folder `out` and return all their rows, in the order given.

    Runs of one compiled program run as one batch. Work that another process is doing is left to it and waited for.
    Raises `BadInput` before anything is compiled, `NotFinite` when a loss is not finite.
    """
    configs = tuple(check(config) for config in configs)
    stores = [GroupStore(out, members) for members in group(configs)]
    todo = [store for store in stores if not store.complete()]
    experts = [load_expert(store.configs[0]) for store in todo]
    bar = tqdm(
        total=sum(len(s.configs) * s.configs[0].steps * s.configs[0].batch for s in todo),
        unit="ep", unit_scale=True, dynamic_ncols=True, disable=not todo, smoothing=0.1,
    )  # fmt: skip
    compilers = ThreadPoolExecutor(max_workers=os.cpu_count())
    compiling = [compilers.submit(prepare, s.configs, expert) for s, expert in zip(todo, experts, strict=True)]
    try:
        with bar:
            for patience in (0.0, -1.0):
                for store, prepared in zip(todo, compiling, strict=True):
                    _run_or_leave(store, prepared, patience, bar, checkpoint_seconds, keep_params)
    finally:
        compilers.shutdown(wait=False, cancel_futures=True)
    rows = {row_key(row): row for store in stores for row in store.all_rows()}
    order = {run_id(config): i for i, config in enumerate(configs)}
    return sorted(rows.values(), key=lambda row: (order[row["run"]], int(row["step"])))


def _run_or_leave(
    store: GroupStore,
    prepared: "Future[Prepared]",
    patience: float,
    bar: tqdm,
    checkpoint_seconds: float,
    keep_params: bool,
) -> None:
    """Run a group unless it is done, or another process holds it for longer than `patience` seconds (−1: wait)."""
    store.lock_path.parent.mkdir(parents=True, exist_ok=True)
    name = f"{store.configs[0].method}, {len(store.configs)} runs"
    try:
        with FileLock(store.lock_path, timeout=patience):
            if not store.complete():
                bar.set_description(f"{name}, compiling")
                program = prepared.result()
                bar.set_description(name)
                _run_group(store, program, bar, checkpoint_seconds, keep_params)
    except Timeout:
        bar.write(f"nail: {name}: another process is at it; going on with the rest", file=sys.stderr)


def row_key(row: dict[str, str]) -> tuple[str, int]:
    """What identifies a row: its run and its step."""
    return row["run"], int(row["step"])


class Prepared(NamedTuple):
    """A compiled program and the numbers that it is run with."""

    init: Callable[[Numbers], TrainState]
    segment: Callable[[TrainState, Numbers], tuple[TrainState, Metrics]]
    numbers: Numbers


def prepare(configs: tuple[TrainConfig, ...], expert_params: Any = None) -> Prepared:
    """Compile the program of `configs` (in a thread of its own: programs compile while others run)."""
    program = make_train(configs[0], expert_params)
    numbers = pad_runs(numbers_of(configs))
    state = jax.eval_shape(program.init, numbers)
    options = compiler_options(len(configs) * configs[0].steps)
    return Prepared(program.init, program.segment.lower(state, numbers).compile(options), numbers)


def _run_group(store: GroupStore, program: Prepared, bar: tqdm, checkpoint_seconds: float, keep_params: bool) -> None:
    """Run one group from its newest checkpoint to its end."""
    configs, config, numbers = store.configs, store.configs[0], program.numbers
    store.create()
    resumed = store.load_state(jax.eval_shape(program.init, numbers))
    segment, state = (resumed[0], place(resumed[1])) if resumed is not None else (0, program.init(numbers))
    per_segment = len(configs) * config.batch * config.eval_every
    bar.update(min(segment * per_segment, len(configs) * config.batch * config.steps))
    saved = time.monotonic()
    while segment < store.n_segments:
        done = int(np.asarray(state.step)[0])
        state, metrics = program.segment(state, numbers)
        metrics = jax.device_get(metrics)
        store.write_rows(segment, [make_row(c, metrics, i) for i, c in enumerate(configs)])
        segment += 1
        bar.set_description(f"{config.method}, {len(configs)} runs")
        bar.update(len(configs) * config.batch * (int(np.asarray(state.step)[0]) - done))
        _stop_if_not_finite(configs, jax.device_get(state.bad_step))
        if time.monotonic() - saved >= checkpoint_seconds and segment < store.n_segments:
            store.save_state(segment, state)
            saved = time.monotonic()
    if keep_params:
        store.save_params(jax.tree.map(lambda x: x[: len(configs)], state.params))
    store.drop_state()


def make_row(config: TrainConfig, metrics: Metrics, i: int) -> dict[str, Any]:
    """The row of run `i` of a batch: what it is, what was measured, where it comes from."""
    step = int(metrics.step[i])
    seen = metrics.evaluation
    fields = dataclasses.asdict(config)
    episodes = step * config.batch
    return {
        "run": run_id(config),
        "method": fields.pop("method"),
        "seed": fields.pop("seed"),
        "step": step,
        "episodes": episodes,
        "expert_queries": episodes * seen.position_accuracy.shape[-1],
        "full_exact": float(seen.full_exact[i]),
        "answer_exact": float(seen.answer_exact[i]),
        "val_loss": float(seen.val_loss[i]),
        "train_loss": float(metrics.train_loss[i]),
        "position_accuracy": " ".join(f"{x:.6g}" for x in seen.position_accuracy[i]),
        **{**fields, "temperature": config.rollout_temperature, "init_std": config.initial_std},
        **provenance(),
    }


def _stop_if_not_finite(configs: tuple[TrainConfig, ...], bad_step: np.ndarray) -> None:
    for config, step in zip(configs, bad_step, strict=False):
        if step >= 0:
            raise NotFinite(
                f"the training loss of {config.method}, seed {config.seed}, eta {config.eta}, lr {config.lr} is not "
                f"finite at update {step}; rows up to there are kept, try a smaller lr"
            )

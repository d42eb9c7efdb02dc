"""`run(configs, out)`: run configurations to their end, and have their rows. See `nail.sweep.engine`."""

import contextlib
from pathlib import Path
from typing import Any

import pandas as pd

from nail.sweep.engine import CHECKPOINT_SECONDS, Options, sweep
from nail.sweep.failures import COMMAND, PYTHON, SAME, RunsFailed
from nail.sweep.finished import table_written
from nail.sweep.lot import Rows
from nail.sweep.stages import Runs, flat
from nail.sweep.store import open_folder
from nail.sweep.table import by_columns, typed
from nail.training.config import TrainConfig


def run(
    configs: TrainConfig | Runs,
    out: Path | str,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    keep_params: bool = False,
    *,
    retry_failed: bool = False,
    any_revision: bool = False,
    runs_per_lot: int | None = None,
) -> pd.DataFrame:
    """Run what is missing of `configs` in the folder `out` and return their rows with types.

    OUT/rows.csv is written too: it has the rows of all finished runs of the folder, those of other calls with them.

    A tuple among `configs` is a chain of stages, each of which begins with the final parameters of the one before it
    (docs/stages.md); chains with the same first stages share those:

        first, second = grid(base, method=("loglossbc",), seed=range(5)), grid(base, method=("nail-f",), seed=range(5))
        rows = run(zip(first, second), "out/stages")

    One row a run and evaluation, in the order given and by steps. Runs of one compiled program run as one batch. Work
    that another process is doing is left to it and waited for; a killed call goes on from its last checkpoint.
    Raises `BadInput` before anything is compiled, `RunsFailed` at the end if runs failed. No option changes a number:

    - `checkpoint_seconds`: least time between two checkpoints, in seconds; they are written at evaluations, and what
      was computed since the last one is what a kill loses;
    - `keep_params`: keep the final parameters of each run in the folder, for `nail.sweep.plan.load_params` and for runs
      that start from it; runs whose parameters were not kept are computed again;
    - `retry_failed`: try runs again that failed;
    - `any_revision`: take finished rows that another revision of the source computed, which are left apart otherwise;
    - `runs_per_lot`: most runs of one program that are computed together, ≥ 1; None: what memory allows, on a CPU 4 a
      core.

        >>> base = TrainConfig(task="poison-chain", A=3, H=3, batch=8, steps=20, eval_every=10, n_validation=4)
        >>> rows = run([base], "out/example")
        >>> rows[["step", "episodes", "expert_queries"]].values.tolist()
        [[0, 0, 0], [10, 80, 240], [20, 160, 480]]
    """
    configs = (configs,) if isinstance(configs, TrainConfig) else configs
    options = Options(checkpoint_seconds, keep_params, retry_failed, any_revision, runs_per_lot)
    with table_written(out := open_folder(Path(out)), any_revision):
        return by_columns(typed(_rows(configs, out, options, SAME if retry_failed else PYTHON)))


def rows_of(configs: Runs, out: Path, *, retry_failed: bool = False, **options: Any) -> Rows:
    """The rows of `run` as text, for commands; a table that is in `out`, a folder of ours, is written again."""
    there = (out / "rows.csv").exists()
    with table_written(out, options.get("any_revision", False)) if there else contextlib.nullcontext():
        return _rows(configs, out, Options(retry_failed=retry_failed, **options), COMMAND)


def _rows(configs: Runs, out: Path, options: Options, again: str) -> Rows:
    configs = flat(configs)
    outcome = sweep(configs, out, options)
    if outcome.failures:
        raise RunsFailed(outcome.failures, len(configs), out, again)
    return outcome.rows

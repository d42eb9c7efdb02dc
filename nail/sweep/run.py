"""`run_all(configs, out)`: run configurations to their end, and have their rows. See `nail.sweep.engine`."""

from collections.abc import Iterable
from pathlib import Path

from nail.sweep.engine import CHECKPOINT_SECONDS, Options, sweep
from nail.sweep.failures import RunsFailed
from nail.sweep.lot import Rows
from nail.sweep.program import Prepared, prepare
from nail.training.config import TrainConfig

__all__ = ["CHECKPOINT_SECONDS", "Prepared", "RunsFailed", "prepare", "run_all"]


def run_all(
    configs: Iterable[TrainConfig],
    out: Path,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    keep_params: bool = False,
    *,
    retry_failed: bool = False,
    any_revision: bool = False,
    runs_per_lot: int | None = None,
) -> Rows:
    """Run what is missing of `configs` in the folder `out` and return all their rows, in the order given.

    Runs of one compiled program run as one batch. Work that another process is doing is left to it and waited for.
    Raises `BadInput` before anything is compiled, `RunsFailed` at the end if runs failed; `retry_failed` tries
    those again. Rows that another revision of the source computed count with `any_revision` only.
    """
    configs = tuple(configs)
    options = Options(checkpoint_seconds, keep_params, retry_failed, any_revision, runs_per_lot)
    outcome = sweep(configs, out, options)
    if outcome.failures:
        raise RunsFailed(outcome.failures, len(configs), out)
    return outcome.rows

"""Training logs for TensorBoard or Weights & Biases, written from the stored rows of runs after the fact.

Rows stay the only source: a log can be thrown away and written again. Neither writer is needed for anything else, so
both are extras; Weights & Biases writes in its offline mode, without an account or a network.
"""

import re
import shutil
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nail.checks import BadInput, require
from nail.sweep.store import Damaged, read_csv, write_bytes
from nail.sweep.table import BY_POSITION, typed

METRICS = ("full_exact", "answer_exact", "val_loss", "train_loss", "expert_queries", "accuracy", "test_loss")
"""columns that become curves against the number of episodes, where they are there"""
CHANGING = {*METRICS, "run", "step", "episodes", *BY_POSITION, "validation_contexts"}
"""columns that are not a run's configuration or provenance, as `nail.sweep.rows.make_row` writes them"""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,99}")
"""of a run and of a method, as they may stand in the name of a file"""
Curves = dict[str, list[tuple[int, int, int | float]]]
"""metric → (update, episodes, value)"""


def write_logs(folder: Path, to: str, out: Path) -> tuple[int, int]:
    """Write one log a training run of `folder` into `out`; returns the numbers of runs and of values.

    Tags are the names of the metrics; a run's log is named METHOD-RUN and carries its configuration. Raises `BadInput`
    if there are no rows of training runs, if a row is none of ours (its names would be those of files), if `out` holds
    something already, or if the extra `to` is not installed.
    """
    require(folder.is_dir(), "DIR", folder, "a folder with rows.csv or NAME_rows.csv")
    runs = read_runs(folder)
    if not runs:
        raise BadInput(f"DIR must hold rows of training runs (rows.csv or NAME_rows.csv), and {folder} has none")
    empty = out.is_dir() and not any(out.iterdir())
    require(empty or not (out.exists() or out.is_symlink()), "out", out, "a new or empty folder")
    write = WRITERS[to]()
    values = 0
    try:
        for run, rows in runs.items():
            found, fields = curves(rows), configuration(rows)
            values += sum(map(len, found.values()))
            write(out, f"{fields['method']}-{run}", fields, found)
    except BaseException:
        # half a log is none, and would have the next call refused
        shutil.rmtree(out, ignore_errors=True)
        raise
    return len(runs), values


def read_runs(folder: Path) -> dict[str, pd.DataFrame]:
    """Rows of training runs by run id, in order of steps; a run that several files hold is taken once, and rows of a
    figure that are of no run are left out.

    Raises `BadInput` for a damaged file, and for rows that no run can have written.
    """
    tables = []
    for path in sorted({*folder.glob("rows.csv"), *folder.glob("*_rows.csv")}):
        try:
            rows = _of_runs(read_csv(path))
        except Damaged as error:
            raise BadInput(f"{path} is damaged; compute it again before writing logs") from error
        if {"run", "method", "step", "episodes"} <= set(rows):
            _check_rows(path, rows)
            tables.append(rows)
    if not tables:
        return {}
    rows = pd.concat(tables).drop_duplicates(["run", "step"], keep="last").sort_values("step")
    return dict(iter(rows.groupby("run")))


def _of_runs(rows: list[dict[str, str]]) -> pd.DataFrame:
    """With types; a file without a single row of a run is taken whole, to be refused or skipped."""
    return typed([row for row in rows if row.get("run")] or rows)


def _check_rows(path: Path, rows: pd.DataFrame) -> None:
    """`BadInput` for a name that is not plain enough for a file, and for numbers that do not count updates."""
    for column in ("run", "method"):
        bad = [value for value in rows[column].astype(str).unique() if not NAME.fullmatch(value)]
        if bad:
            raise BadInput(f"{column} in {path} must be a plain name (letters, digits, - and _), got {bad[0]!r}")
    for column in ("step", "episodes"):
        counts = rows[column]
        whole = pd.api.types.is_integer_dtype(counts) and bool(counts.between(0, 2**63 - 1).all())
        if not whole:
            raise BadInput(f"{column} in {path} must be integers in 0..2^63 − 1, and one of them is not")
    for column in set(METRICS) & set(rows):
        if not pd.api.types.is_numeric_dtype(rows[column]):
            raise BadInput(f"{column} in {path} must be numbers, and one of them is not")


def curves(rows: pd.DataFrame) -> Curves:
    """Each metric of a run against updates and episodes; values that are not finite are left out."""
    numbers = rows.select_dtypes("number")
    found = {
        name: [*rows.loc[np.isfinite(rows[name]), ["step", "episodes", name]].itertuples(index=False, name=None)]
        for name in METRICS
        if name in numbers
    }
    return {name: points for name, points in found.items() if points}


def configuration(rows: pd.DataFrame) -> dict[str, Any]:
    """The fields of a run's configuration and its provenance."""
    (first,) = rows[:1].dropna(axis=1).to_dict("records")
    return {name: value for name, value in first.items() if name not in CHANGING}


def _tensorboard() -> Callable[[Path, str, dict[str, Any], Curves], None]:
    """A writer of event files; the step of a value is the number of episodes.

    The library's own writer has a thread, which dies on a full disk while the caller waits for it, and a file that
    complains when Python ends; so its records are written here, a whole file at once.
    """
    try:
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c
    except ImportError as error:
        raise BadInput(
            'to must be a writer that is installed; for tensorboard: pip install "nail[tensorboard]"'
        ) from error

    def record(data: bytes) -> bytes:
        length = struct.pack("<Q", len(data))
        return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, data))

    def write(out: Path, name: str, fields: dict[str, Any], found: Curves) -> None:
        now, shown = time.time(), "\n".join(f"    {k} = {v}" for k, v in fields.items())
        events = [
            Event(wall_time=now, file_version="brain.Event:2"),
            Event(wall_time=now, step=0, summary=summary.text("configuration", shown)),
            *(
                Event(wall_time=now, step=episodes, summary=summary.scalar(metric, value))
                for metric, points in found.items() for _, episodes, value in points
            ),
        ]  # fmt: skip
        path = out / name / f"events.out.tfevents.{int(now)}.{socket.gethostname()}"
        write_bytes(path, b"".join(record(event.SerializeToString()) for event in events))

    return write


def _wandb() -> Callable[[Path, str, dict[str, Any], Curves], None]:
    """A writer of offline run folders; a history line per update, with the number of episodes as a metric."""
    try:
        import wandb
    except ImportError as error:
        raise BadInput('to must be a writer that is installed; for wandb: pip install "nail[wandb]"') from error

    def write(out: Path, name: str, fields: dict[str, Any], found: Curves) -> None:
        out.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
        with ExitStack() as stack:
            run: Any = stack.enter_context(
                wandb.init(project="nail", name=name, config=fields, dir=out, mode="offline", settings=settings)
            )
            history: dict[int, dict[str, int | float]] = {}
            for metric, points in found.items():
                for step, episodes, value in points:
                    history.setdefault(step, {"episodes": episodes})[metric] = value
            for step, line in sorted(history.items()):
                run.log(line, step=step)

    return write


WRITERS = {"tensorboard": _tensorboard, "wandb": _wandb}
"""name → what returns its writer of one run's log, or raises `BadInput` if it is not installed"""

"""Which run belongs to which lot: decided once, under a lock of the folder, and written down.

A run that is in a lot (done, being run, or left by a kill) is never put into another: so a folder can be extended, two
figures can share runs, and two processes with overlapping sweeps compute no run twice. The exception is a failed run
that is to be tried again: it goes to a new lot of a later attempt, and its latest attempt counts.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from nail.checks import BadInput
from nail.sweep.folder import Folder
from nail.sweep.lot import Lot
from nail.sweep.store import write_text
from nail.training.config import TrainConfig, content_hash, group, run_id


def plan(
    out: Path,
    configs: tuple[TrainConfig, ...],
    source: str,
    size_of: Callable[[tuple[TrainConfig, ...]], int],
    retry_failed: bool = False,
) -> list[Lot]:
    """The lots of `out` in which something of `configs` is left to do.

    Runs that are in none form new ones, of `size_of` their group at most.
    """
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "plan.lock"):
        there = Folder.read(out, source=source)
        owner = {run: seen.lot for run, seen in there.owner.items()}
        again = set(there.failed) if retry_failed else set()
        for members in group(tuple(c for c in configs if run_id(c) not in owner or run_id(c) in again)):
            size = size_of(members)
            attempt = 1 + max(owner[run].attempt if (run := run_id(c)) in again else 0 for c in members)
            for start in range(0, len(members), size):
                runs = {run_id(c): vars(c) for c in members[start : start + size]}
                lot = Lot.new(out, runs, source, attempt, size).write()
                owner.update(dict.fromkeys(lot.ids, lot))
    seen = {seen.lot.folder: seen for seen in there.lots}
    lots = {owner[run_id(c)].folder: owner[run_id(c)] for c in configs}
    return [lot for folder, lot in lots.items() if folder not in seen or not seen[folder].settled]


def ask(out: Path, runs: dict[str, dict[str, Any]]) -> Path:
    """Write down that runs (or points: id → fields) were asked for."""
    path = out / "asked" / f"{content_hash(sorted(runs))}.json"
    if not path.exists():
        write_text(path, json.dumps(runs) + "\n")
    return path


def asked(out: Path) -> dict[str, dict[str, Any]]:
    """run → fields of its configuration, of all runs (and points) ever asked for; the largest request comes first."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((out / "asked").glob("[!.]*.json"), key=lambda path: (-path.stat().st_size, path.name)):
        runs = json.loads(path.read_text())
        # a list is of an older layout: without ids
        found |= {content_hash(fields): fields for fields in runs} if isinstance(runs, list) else runs
    return found


def refuse_other_configurations(out: Path, configs: tuple[TrainConfig, ...]) -> None:
    """Raise `BadInput` if `out` holds runs that differ from `configs` in more than the seed; names the difference."""
    ours = vars(configs[0])
    for theirs in asked(out).values():
        for field in {**ours, **theirs}:
            here, there = ours.get(field), theirs.get(field)
            if field != "seed" and here != there and "figure" not in theirs:
                raise BadInput(
                    f"out {out} holds runs of another configuration ({field} is {there} there and {here} here); "
                    "choose another folder"
                )


def load_params(out: Path, config: TrainConfig) -> Any:
    """Final parameters of a run that this source computed with `keep_params`."""
    return Folder.read(out).owner[run_id(config)].lot.load_params(run_id(config))

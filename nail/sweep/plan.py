"""Which run belongs to which lot: decided once, under a lock of the folder, and written down.

A run that is in a lot (done, being run, or left by a kill) is never put into another: so a folder can be extended, two
figures can share runs, and two processes with overlapping sweeps compute no run twice. The exception is a failed run
that is to be tried again: it goes to a new lot of a later attempt, and its latest attempt counts.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from nail.checks import BadInput
from nail.sweep.failures import Failure
from nail.sweep.identity import source_hash
from nail.sweep.lot import Lot, id_of, lots_in
from nail.sweep.store import write_text
from nail.training.config import TrainConfig, content_hash, group, run_id


class Held(NamedTuple):
    """What a folder holds of one source."""

    owner: dict[str, Lot]
    """run → the lot that counts"""
    failed: dict[str, Failure]
    """run → why it failed, in the lot that counts"""


def held(lots: Sequence[Lot], source: str) -> Held:
    """Which lot counts for each run of a source: the latest attempt; of two such (merged folders) a complete one."""
    owner: dict[str, Lot] = {}
    for lot in lots:
        if lot.source != source:
            continue
        for run in lot.ids:
            other = owner.get(run)
            if other is None or (lot.attempt, lot.parts_done()) > (other.attempt, other.parts_done()):
                owner[run] = lot
    failures = {lot.folder: lot.failures() for lot in owner.values()}
    return Held(owner, {run: found for run, lot in owner.items() if (found := failures[lot.folder].get(run))})


def plan(
    out: Path,
    configs: tuple[TrainConfig, ...],
    source: str,
    size_of: Callable[[tuple[TrainConfig, ...]], int],
    retry_failed: bool = False,
) -> list[Lot]:
    """The lots of `out` that hold `configs`; runs that are in none form new ones, of `size_of` their group at most."""
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "plan.lock"):
        there = held(lots_in(out), source)
        again = set(there.failed) if retry_failed else set()
        new = [c for c in configs if run_id(c) not in there.owner or run_id(c) in again]
        owner = dict(there.owner)
        for members in group(tuple(new)):
            size = size_of(members)
            attempt = 1 + max(there.owner[run].attempt if (run := run_id(c)) in again else 0 for c in members)
            for start in range(0, len(members), size):
                lot = Lot.plan(out, members[start : start + size], source, attempt, size)
                owner.update(dict.fromkeys(lot.ids, lot))
    return list({owner[run_id(c)].folder: owner[run_id(c)] for c in configs}.values())


def done_runs(out: Path, source: str) -> set[str]:
    """Runs that a source has finished."""
    there = held(lots_in(out), source)
    complete = {folder for folder, lot in {lot.folder: lot for lot in there.owner.values()}.items() if lot.complete()}
    return {run for run, lot in there.owner.items() if lot.folder in complete and run not in there.failed}


def new_groups(out: Path, configs: tuple[TrainConfig, ...], source: str) -> list[tuple[TrainConfig, ...]]:
    """The groups of `configs` that have runs which are in no lot yet."""
    owner = held(lots_in(out), source).owner
    return group(tuple(c for c in configs if run_id(c) not in owner))


def warn_of_other_sources(out: Path, configs: tuple[TrainConfig, ...], source: str) -> None:
    """One sentence on standard error if another source computed runs that are asked for and not yet there."""
    lots = lots_in(out)
    missing = {run_id(c) for c in configs} - set(held(lots, source).owner)
    others = {lot.source for lot in lots if lot.source != source and missing & set(lot.ids)}
    count = len({run for lot in lots if lot.source in others for run in lot.ids if run in missing})
    if count:
        print(
            f"nail: {count} of the {len(configs)} runs lie in {out} from another revision of the source "
            f"({', '.join(sorted(others))}, now {source}); they are kept apart and computed again "
            "(nail sweep … --any-revision takes those that are done)",
            file=sys.stderr,
        )


def ask(out: Path, configs: tuple[TrainConfig, ...]) -> None:
    """Write down that `configs` were asked for."""
    path = out / "asked" / f"{content_hash(sorted(run_id(c) for c in configs))}.json"
    if not path.exists():
        write_text(path, json.dumps([dataclasses.asdict(c) for c in configs]) + "\n")


def asked(out: Path) -> dict[str, dict]:
    """run → fields of its configuration, of all runs that were ever asked for in a folder."""
    found: dict[str, dict] = {}
    for path in sorted((out / "asked").glob("[!.]*.json")):
        found |= {id_of(fields): fields for fields in json.loads(path.read_text())}
    return found


def refuse_other_configurations(out: Path, configs: tuple[TrainConfig, ...]) -> None:
    """Raise `BadInput` if `out` holds runs that differ from `configs` in more than the seed; names the difference."""
    ours = dataclasses.asdict(configs[0])
    for theirs in asked(out).values():
        for field, value in ours.items():
            if field != "seed" and theirs.get(field) != value:
                raise BadInput(
                    f"out {out} holds runs of another configuration ({field} is {theirs.get(field)} there and {value} "
                    "here); choose another folder"
                )


def load_params(out: Path, config: TrainConfig) -> Any:
    """Final parameters of a run that this source computed with `keep_params`."""
    return held(lots_in(out), source_hash()).owner[run_id(config)].load_params(run_id(config))

"""Which run belongs to which lot: decided once, under a lock of the folder, and written down.

A run that is in a lot (done, being run, or left by a kill) is never put into another: so a folder can be extended, two
figures can share runs, and two processes with overlapping sweeps compute no run twice. The exception is a failed run
that is to be tried again: it goes to a new lot of a later attempt, and its latest attempt counts.
"""

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from nail.checks import BadInput, say
from nail.sweep.folder import Folder
from nail.sweep.lot import Lot
from nail.sweep.manifest import are_runs
from nail.sweep.seal import read_json, set_aside, write_json
from nail.sweep.stages import Runs, flat
from nail.sweep.starts import shapes_of
from nail.sweep.store import Damaged, lock_of
from nail.sweep.trained_expert import expert_hash
from nail.training.config import TrainConfig, content_hash, group, run_id


def plan(
    out: Path,
    configs: tuple[TrainConfig, ...],
    source: str,
    size_of: Callable[[tuple[TrainConfig, ...]], int],
    retry_failed: bool = False,
    kept: Set[str] = frozenset(),
    level: Callable[[TrainConfig], int] = lambda config: 0,
) -> list[Lot]:
    """The lots of `out` in which something of `configs` is left to do (of the runs `kept` their parameters too).

    Runs that are in none form new ones, of `size_of` their group at most, with runs of the same `level` only (how many
    come before it in its chain): so no lot waits for itself, nor two for each other.
    """
    out.mkdir(parents=True, exist_ok=True)
    with lock_of(out / "plan.lock"):
        there = Folder.read(out, source=source)
        there.set_aside_damaged()
        owner = {run: seen.lot for run, seen in there.owner.items()}
        again = set(there.failed) if retry_failed else there.lost
        new = [c for c in configs if run_id(c) not in owner or run_id(c) in again]
        by_level = [[c for c in new if level(c) == at] for at in sorted(set(map(level, new)))]
        for members in (members for some in by_level for members in group(tuple(some))):
            size = size_of(members)
            attempt = 1 + max(owner[run].attempt if (run := run_id(c)) in again else 0 for c in members)
            for start in range(0, len(members), size):
                runs = {run_id(c): c.stored for c in members[start : start + size]}
                lot = Lot.new(out, runs, source, attempt, size, expert_hash(members[0].expert)).write()
                owner.update(dict.fromkeys(lot.ids, lot))
    seen = {seen.lot.folder: seen for seen in there.lots}
    lots = {owner[run_id(c)].folder: owner[run_id(c)] for c in configs}
    return [lot for at, lot in lots.items() if at not in seen or not seen[at].settled(not kept.isdisjoint(lot.ids))]


def ask(out: Path, runs: dict[str, dict[str, Any]]) -> Path:
    """Write down that runs (or points: id → fields) were asked for."""
    path = out / "asked" / f"{content_hash(sorted(runs))}.json"
    if not _is_request(path):
        with lock_of(out / "plan.lock"):
            try:
                _read_request(path)
            except FileNotFoundError:
                write_json(path, {"runs": runs})
            except Damaged as damage:
                set_aside(path, damage)
                write_json(path, {"runs": runs})
    return path


def _is_request(path: Path) -> bool:
    try:
        return bool(_read_request(path))
    except (FileNotFoundError, Damaged):
        return False


def asked(out: Path) -> dict[str, dict[str, Any]]:
    """run → fields of its configuration, of all runs (and points) ever asked for; the largest request comes first.

    What cannot be read is said on standard error.
    """
    found, damaged = read_requests(out)
    for damage in damaged:
        say(f"{damage}; what it asked for counts when it is asked for again")
    return found


def read_requests(out: Path) -> tuple[dict[str, dict[str, Any]], list[Damaged]]:
    """(what was `asked`, damage)."""
    found: dict[str, dict[str, Any]] = {}
    damaged: list[Damaged] = []
    requests = []
    for path in (out / "asked").glob("[!.]*.json"):
        try:
            requests.append((_read_request(path), path.name))
        except FileNotFoundError:
            # another process has done with it
            continue
        except Damaged as damage:
            damaged.append(damage)
    for runs, _ in sorted(requests, key=lambda request: (-len(request[0]), request[1])):
        found |= runs
    return found, damaged


def _read_request(path: Path) -> dict[str, dict[str, Any]]:
    """What one file asked for; raises `Damaged`."""
    runs = read_json(path).get("runs")
    if not (are_runs(runs) and path.stem == content_hash(sorted(runs))):
        raise Damaged(f"{path} does not say what was asked for")
    return runs


def refuse_other_configurations(out: Path, runs: Runs) -> None:
    """Raise `BadInput` if `out` holds runs that differ from `runs` in more than the seed; names the difference.

    Stages are compared with those of their place in a chain; `out` may hold more of them, or fewer.
    """
    known, mine = asked(out), {run_id(config): config.stored for config in flat(runs)}
    ours = _chain([*mine][-1], mine)
    for run, fields in known.items():
        theirs = [] if "figure" in fields else _chain(run, known)
        for there, here in zip(theirs, ours, strict=False):
            for field in {**here, **there}:
                if field not in ("seed", "start") and here.get(field) != there.get(field):
                    raise BadInput(
                        f"out {out} holds runs of another configuration ({field} is {there.get(field)} there and "
                        f"{here.get(field)} here); choose another folder"
                    )


def _chain(run: str, known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Fields of the stages up to a run, the first one first."""
    found: dict[str, dict[str, Any]] = {}
    while run in known and run not in found:  # a ring is damage that no seal shows
        found[run] = known[run]
        run = known[run].get("start", "")
    return [*found.values()][::-1]


def load_params(out: Path, config: TrainConfig) -> Any:
    """Final parameters of a run that this source computed with `keep_params`."""
    run = run_id(config)
    return Folder.read(out).owner[run].lot.load_params([run], shapes_of(config))[run]

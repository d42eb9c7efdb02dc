"""The option `start` of the command line: which runs it names, and how those of another folder come into this one.

See docs/stages.md §7.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

from nail.checks import BadInput, require
from nail.sweep.folder import Folder
from nail.sweep.lot import Lot
from nail.sweep.plan import ask, read_requests
from nail.sweep.stages import before, stages
from nail.sweep.starts import known_runs, refuse_other_network, shapes_of
from nail.sweep.store import MARKER, lock_of
from nail.training.config import TrainConfig, run_id
from nail.training.ranges import RUN, require_start

Chain = tuple[TrainConfig, ...]


def chains_from(start: str, configs: Sequence[TrainConfig], out: Path) -> tuple[Chain, ...]:
    """Each of `configs` behind the runs that it goes on from, first stage first; it alone without a `start`.

    `start` is the id of a run in `out`, for all of them, or another folder. Of a folder the runs count that no other
    one there goes on from: the only one, or each configuration's is that of its seed. Nothing is written, and JAX is
    not begun. Raises `BadInput` if there is no such run, and if one of a folder is not finished or was computed by
    another revision of the source, or if none is named and a teacher is frozen.
    """
    if not start:
        return tuple((require_start(config),) for config in configs)
    given = RUN.fullmatch(start) is not None
    folder = Path(out if given else start)
    require(given or (folder / MARKER).exists(), "start", start, "the id of a run in out, or an output folder of nail")
    require(given or folder.resolve() != Path(out).resolve(), "start", start,
            "another folder than out (a run in out is named by its id)")  # fmt: skip
    there = Folder.read(folder)
    known = known_runs(there, read_requests(folder)[0])
    require(not given or start in known, "start", start, f"a run that {out} holds")
    found = []
    for config in configs:
        run = start if given else _last_run(folder, known, config.seed)
        if not given:
            _require_finished(there, folder, run)
        found.append(stages(*before(known[run], known), known[run], config))
    return tuple(found)


def bring(start: str, configs: Iterable[TrainConfig], out: Path) -> None:
    """Copy rows and final parameters of what `configs` start from, and of what that did, from another folder `start`.

    They are then runs of `out` like any other, so that it needs the other folder no longer. What is there stays.
    Raises `BadInput`, before anything is copied, if one has another task or network than its stage.
    """
    if not start or RUN.fullmatch(start):
        return
    there, here = Folder.read(Path(start)), Folder.read(out)
    known, wanted = known_runs(there, {}), {config.start: config for config in configs}
    for run, config in wanted.items():
        refuse_other_network(config, known[run])
    for run in wanted:
        for config in (*before(known[run], known), known[run]):
            _bring(there, here, out, config)


def refuse_other_networks(chains: Iterable[Chain]) -> None:
    """Raise `BadInput` if the last stage of a chain has another task or network than the one before it."""
    for chain in chains:
        if len(chain) > 1:
            refuse_other_network(chain[-1], chain[-2])


def _bring(there: Folder, here: Folder, out: Path, config: TrainConfig) -> None:
    """Copy one run as a lot of its own, parameters before rows: once these are there it is done."""
    run, lot = run_id(config), there.keeper(run_id(config))
    if lot is None or here.keeper(run) is not None:
        return
    ask(out, {run: config.stored})
    copy = Lot.new(out, {run: config.stored}, lot.source, lot.attempt)
    with lock_of(out / "plan.lock"):
        here = Folder.read(out)
        here.set_aside_damaged()
        if not any(seen.lot.folder == copy.folder for seen in here.lots):
            copy.write()
    with copy.lock:
        if copy.settled(params=True):
            return
        copy.set_aside_damaged(params=True)
        params = lot.load_params([run], shapes_of(config))[run]
        copy.save_params(jax.tree.map(lambda x: np.asarray(x)[None], params))
        for segment, row in enumerate(lot.rows(())[run]):
            copy.write_rows(segment, [row])
        copy.tidy()


def _last_run(folder: Path, known: dict[str, TrainConfig], seed: int) -> str:
    """The run of a folder that one of this seed goes on from."""
    followed = {config.start for config in known.values()}
    last = [run for run in known if run not in followed]
    mine = last if len(last) == 1 else [run for run in last if known[run].seed == seed]
    if len(mine) != 1:
        raise BadInput(
            f"start must be a folder with one run, or one of each seed, and {folder} holds {len(mine)} of seed {seed}"
        )
    return mine[0]


def _require_finished(there: Folder, folder: Path, run: str) -> None:
    """Raise `BadInput` that says why a run of another folder cannot be gone on from."""
    if there.keeper(run) is not None:
        return
    if run not in there.owner and any(run in seen.lot.runs for seen in there.lots):
        problem = f"another revision of the source computed the run {run}"
    elif run not in there.rows([run]):
        problem = f"the run {run} is not finished"
    else:
        problem = f"the final parameters of the run {run} are not there, or damaged"
    raise BadInput(
        f"start must be the folder of a finished nail train, and in {folder} {problem}; the command that made it "
        "computes what is missing"
    )

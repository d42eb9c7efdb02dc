"""The sweep engine: plan, work on lots, leave to others what they are at, keep errors, collect rows."""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from filelock import Timeout
from tqdm import tqdm

from nail.checks import BadInput, require
from nail.sweep.failures import Failure, Teller
from nail.sweep.folder import Folder
from nail.sweep.lot import Lot, Rows
from nail.sweep.memory import lot_size, most_runs, require_room
from nail.sweep.plan import ask, plan, read_requests
from nail.sweep.program import Prepared, Programs
from nail.sweep.rows import make_row
from nail.sweep.stages import Runs, before, by_id, flat
from nail.sweep.starts import Starts, known_runs, with_starts
from nail.sweep.stop import Stopped, asked, at_work
from nail.sweep.trained_expert import load_expert, refuse_another_expert
from nail.training.config import TrainConfig, group, group_key, run_id
from nail.training.devices import pad_runs, place, require_settings
from nail.training.problem import require_loss
from nail.training.ranges import check, require_start
from nail.training.retention import require_same_network
from nail.training.train import TrainState

CHECKPOINT_SECONDS = 10.0
"""a chunk: at least this much work lies between two checkpoints, so that writing them costs little"""
CHECKPOINT_SHARE = 0.01
"""of the time that checkpoints may take: a large state is written less often"""


@dataclass(frozen=True)
class Options:
    """How a sweep is run; none of it changes a number."""

    checkpoint_seconds: float = CHECKPOINT_SECONDS
    keep_params: bool = False
    retry_failed: bool = False
    any_revision: bool = False
    """take finished rows that another revision of the source computed"""
    runs_per_lot: int | None = None


@dataclass
class Outcome:
    """What a sweep came to."""

    rows: Rows = field(default_factory=list)
    """of the runs that are done, in the order asked, by steps"""
    failures: list[Failure] = field(default_factory=list)
    lots: list[str] = field(default_factory=list)
    """names of the lots that this process worked on"""
    programs: int = 0
    """that this process compiled"""
    store_seconds: float = 0.0
    """spent writing rows and checkpoints"""
    wait_seconds: float = 0.0
    """spent waiting for a compiler"""


def sweep(
    configs: Runs,
    out: Path,
    options: Options = Options(),
    whole: Runs | None = None,
) -> Outcome:
    """Run what is missing of `configs` in the folder `out`; rows and errors of all of them.

    A tuple among them is a chain of stages. A run that is asked for twice counts once. A run that others start from is
    computed before them, and its final parameters are kept. `whole` is the sweep that `configs` are a share of; what is
    missing of it shows in the folder's status.
    Raises `BadInput` before anything is compiled. A run that fails does not stop the others.
    """
    require_settings()
    configs = tuple(require_start(check(config)) for config in flat(configs))
    if options.runs_per_lot is not None:
        require(options.runs_per_lot >= 1, "runs_per_lot", options.runs_per_lot, "an integer of at least 1")
    outcome, there, ids = Outcome(), Folder.read(out), [run_id(config) for config in configs]
    done = {run for run in there.rows(ids) if there.owner[run].lot.has(options.keep_params)}
    if options.any_revision:
        done |= set(there.rows_of_others(set(ids) - done))
    else:
        hint = " (nail sweep … --any-revision takes those that are done)"
        there.warn_of_other_sources(out, ids, hint=hint)
    again = set(there.failed) if options.retry_failed else there.lost
    done |= set(there.failed) - again
    # seed by seed, so that the first lots are of all programs and an unfinished sweep compares what it varies
    mine = tuple(sorted((c for c, run in zip(configs, ids, strict=True) if run not in done), key=lambda c: c.seed))
    known, kept = by_id(configs), set(ids if options.keep_params else ())
    if any(config.start for config in mine):
        known |= known_runs(there, read_requests(out)[0])
        mine, starts = with_starts(mine, known, there, again)
        kept |= starts
    refuse_another_expert(out, there, (*configs, *mine))
    for members in group(mine):
        require_room(members[0])
        require_same_network(members[0])
        require_loss(members[0])
    experts = {group_key(members[0]): load_expert(members[0]) for members in group(mine)}
    ask(out, {run_id(config): config.stored for config in (configs if whole is None else flat(whole))})
    if mine:
        todo = _planned(there, out, mine, experts, options, kept, lambda config: len(before(config, known)))
        if todo:
            _work(todo, experts, options, kept, outcome)
        there = Folder.read(out, source=there.source)
    outcome.rows, outcome.failures = there.collect(ids, options.any_revision)
    return outcome


def _planned(
    there: Folder, out: Path, configs: tuple[TrainConfig, ...], experts: dict[str, Any], options: Options,
    kept: set[str], level: Callable[[TrainConfig], int],
) -> list[Lot]:  # fmt: skip
    """The lots of `configs`, in their order.

    Sizes are found before the folder is locked: on an accelerator that means compiling.
    """
    most: dict[str, int] = {}

    def size_of(members: tuple[TrainConfig, ...]) -> int:
        key, given = group_key(members[0]), options.runs_per_lot
        if key not in most:
            try:
                most[key] = most_runs(members[0], experts.get(key))
            except (OSError, BadInput):
                raise
            except Exception:
                # the program cannot be had; that is kept and said where it is wanted
                most[key] = jax.local_device_count()
        return lot_size(len(members), most[key]) if given is None else min(given, len(members))

    for members in group(tuple(c for c in configs if run_id(c) not in there.owner)):
        size_of(members)
    return plan(out, configs, there.source, size_of, options.retry_failed, kept, level)


def _work(todo: list[Lot], experts: dict[str, Any], options: Options, kept: set[str], outcome: Outcome) -> None:
    """Every lot once, and those that another process held then a second time, now waiting."""
    programs = Programs(todo, experts)
    bar = tqdm(
        total=sum(lot.episodes() for lot in todo), unit="ep", unit_scale=True, dynamic_ncols=True, smoothing=0.1
    )  # fmt: skip
    worker = Worker(programs, bar, options, kept, outcome)
    try:
        with bar:
            left = [lot for lot in todo if not worker.run_or_leave(lot, patience=0.0)]
            for lot in left:
                worker.run_or_leave(lot, patience=-1.0)
    finally:
        outcome.programs = programs.count
        programs.close()


def _padding_idle(state: TrainState, runs: int, steps: int) -> TrainState:
    """The state with all updates of the runs after the first `runs` behind them: they do none."""
    if len(state.step) == runs:
        return state
    step = np.array(state.step)
    step[runs:] = steps
    return state._replace(step=place(step))


@dataclass
class Worker:
    """Works on lots in one process."""

    programs: Programs
    bar: tqdm
    options: Options
    kept: set[str]
    """runs whose final parameters are kept"""
    outcome: Outcome

    def __post_init__(self):
        self.tell = Teller(self.bar.write)

    def run_or_leave(self, lot: Lot, patience: float) -> bool:
        """Run a lot unless another process holds it for longer than `patience` seconds (−1: wait); False if it does, or
        if what the lot starts from is not there."""
        name = f"{lot.configs[0].method}, {len(lot.ids)} runs"
        if patience == 0 and Starts.of(lot).missing:
            self.bar.write(f"nail: {name}: another process is at what they start from; going on with the rest",
                           file=sys.stderr)  # fmt: skip
            return False
        try:
            with lot.lock.acquire(timeout=patience):
                if lot.settled(self._keeps(lot)):
                    self.bar.update(lot.episodes())
                    return True
                self.outcome.lots.append(lot.folder.name)
                self._run_keeping_errors(lot, name)
        except Timeout:
            self.bar.write(f"nail: {name}: another process is at it; going on with the rest", file=sys.stderr)
            return False
        return True

    def _run_keeping_errors(self, lot: Lot, name: str) -> None:
        """Bad input and a disk that fails end the sweep; any other error ends the runs of the lot."""
        try:
            self.bar.set_description(f"{name}, compiling")
            begun = time.monotonic()
            program = self.programs.get(lot)
            self.outcome.wait_seconds += time.monotonic() - begun
            self.bar.set_description(name)
            self._run(lot, program)
        except (OSError, BadInput):
            raise
        except Exception as error:
            self._fail(lot, error, range(len(lot.ids)), max(0, lot.parts_done() - 1) * lot.configs[0].eval_every)

    def _run(self, lot: Lot, program: Prepared) -> None:
        """From the newest checkpoint to the end."""
        configs, numbers = lot.configs, program.numbers
        lot.set_aside_damaged(self._keeps(lot))
        resumed = lot.load_state(lambda: jax.eval_shape(program.init, numbers))
        if resumed is None:
            segment, state = 0, program.init(numbers, self._starting_params(lot, len(numbers.seed)))
        else:
            segment, state = resumed[0], pad_runs(resumed[1], len(numbers.seed))
        state = _padding_idle(state, len(configs), configs[0].steps)
        self.bar.update(lot.episodes(segment + 1))
        with at_work():
            self._segments(lot, program, segment, state)
        lot.tidy()

    def _segments(self, lot: Lot, program: Prepared, segment: int, state: TrainState) -> None:
        """The segments that are left; raises `Stopped` after one and a checkpoint if a signal asked for the end."""
        configs, numbers = lot.configs, program.numbers
        pause, saved = self.options.checkpoint_seconds, time.monotonic()
        while segment < lot.n_segments and not self._all_failed(lot):
            state, metrics = program.segment(state, numbers)
            metrics, bad = jax.device_get((metrics, state.bad_step))
            rows = [make_row(c, metrics, i, program.n_validation) for i, c in enumerate(configs)]
            begun = time.monotonic()
            self._fail_not_finite(lot, bad[: len(configs)])
            if self._keeps(lot) and segment == lot.n_segments - 1:
                # before the last rows: once those are there the lot is done
                lot.save_params(jax.tree.map(lambda x: x[: len(configs)], jax.device_get(state.params)))
            lot.write_rows(segment, rows, lot.failures())
            segment += 1
            ending = asked()
            if (ending or begun - saved >= pause) and segment < lot.n_segments:
                pause, saved = self._checkpoint(lot, segment, state, pause), time.monotonic()
            if ending:
                raise Stopped(ending)
            self.bar.update(lot.episodes(segment + 1) - lot.episodes(segment))
            self.outcome.store_seconds += time.monotonic() - begun

    def _keeps(self, lot: Lot) -> bool:
        return not self.kept.isdisjoint(lot.ids)

    def _starting_params(self, lot: Lot, runs: int) -> Any:
        """What the runs of a lot of stages begin with, padded to so many; None for fresh runs.

        A run whose start has failed fails too.
        """
        if not lot.configs[0].start:
            return None
        starts = Starts.of(lot)
        if starts.missing:
            raise BadInput(f"start must be a run with final parameters, and {min(starts.missing)} has none")
        for i, config in enumerate(lot.configs):
            if config.start in starts.failed:
                self._fail(lot, f"the run {config.start}, which it starts from, failed", [i], -1)
        return pad_runs(starts.params(lot), runs)

    @staticmethod
    def _checkpoint(lot: Lot, segment: int, state: Any, pause: float) -> float:
        """Write the state; returns the seconds until the next time, `pause` or more if writing took long."""
        begun = time.monotonic()
        lot.save_state(segment, state)
        return max(pause, (time.monotonic() - begun) / CHECKPOINT_SHARE) if pause > 0 else 0.0

    def _fail_not_finite(self, lot: Lot, bad: np.ndarray) -> None:
        """Fail the runs whose loss became NaN or infinite, at the update `bad` (−1 if it did not)."""
        for i in np.flatnonzero(bad >= 0).tolist():
            sentence = f"the training loss is not finite at update {bad[i]} (try a smaller lr)"
            self._fail(lot, sentence, [i], int(bad[i]))

    def _fail(self, lot: Lot, error: Exception | str, at: Iterable[int], step: int) -> None:
        """Keep and say the error of the runs `at` these places in the lot, of those that have none yet."""
        known = lot.failures()
        runs = {lot.ids[i]: lot.runs[lot.ids[i]] for i in at if lot.ids[i] not in known}
        if runs:
            self.tell.fail(lot.folder, lot.source, runs, error, step)

    @staticmethod
    def _all_failed(lot: Lot) -> bool:
        return set(lot.ids) <= set(lot.failures())

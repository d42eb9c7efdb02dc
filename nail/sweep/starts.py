"""What stages need of the runs that they start from: that these fit, come before them, and their final parameters."""

import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nail.checks import BadInput, say
from nail.sweep.folder import Folder
from nail.sweep.lot import Lot
from nail.sweep.stages import before, by_id
from nail.training.config import TrainConfig, group_key, run_id
from nail.training.problem import make_environment, make_policy

FREE = ("init_std", "precision", "reuse")
"""options of a network in which a stage may differ from its start"""
SHARED = ("bank_seed", "n_validation")
"""fields in which it may not, so that no stage trained on what another one holds out"""


def known_runs(there: Folder, asked: Mapping[str, dict[str, Any]]) -> dict[str, TrainConfig]:
    """run → its configuration, of the training runs that a folder has or was asked for, as far as they can be made."""
    fields = {**asked, **{run: fields for seen in there.lots for run, fields in seen.lot.runs.items()}}
    found = {run: _configured(run, fields) for run, fields in fields.items() if "figure" not in fields}
    return {run: config for run, config in found.items() if config is not None}


def _configured(run: str, fields: dict[str, Any]) -> TrainConfig | None:
    """The configuration with these fields, if it is the run's: that of another revision may have had others, and names
    from outside the package are known once their module is imported."""
    try:
        config = TrainConfig(**fields)
        return config if run_id(config) == run else None
    except (BadInput, KeyError):
        return None


def with_starts(
    configs: Iterable[TrainConfig], known: Mapping[str, TrainConfig], there: Folder, again: Container[str] = ()
) -> tuple[tuple[TrainConfig, ...], set[str]]:
    """(`configs` and the runs that must be computed before them, those without a start first; runs to start from).

    Runs that are in one lot with `configs` begin with them, so that their starts are needed too. A start that has
    failed is computed if it is to be tried `again`. Raises `BadInput` if a start is none of the `known` runs, or has
    another task or network than its stage.
    """
    found, starts, checked = by_id(configs), set(), set()
    todo = list(found.values())
    while todo:
        run = run_id(config := todo.pop())
        mates = there.owner[run].lot.ids if run in there.owner else ()
        for stage in {run: config, **{mate: known[mate] for mate in mates if mate in known}}.values():
            if not stage.start or stage.start in starts:
                continue
            start = known.get(stage.start)
            if start is None:
                raise BadInput(f"start must be a run of the output folder, and it holds no run {stage.start}")
            starts.add(stage.start)
            given_up = stage.start in there.failed and stage.start not in again
            if not (stage.start in found or given_up or there.keeper(stage.start)):
                found[stage.start] = start
                todo.append(start)
    for stage in found.values():
        pair = (group_key(stage), stage.start and group_key(known[stage.start]))
        if stage.start and pair not in checked:
            refuse_other_network(stage, known[stage.start])
            checked.add(pair)
    without = [run for run in there.rows(starts) if run in found]
    if without:
        say(
            f"{len(without)} runs that others start from are done without final parameters, or with damaged "
            "ones; they are computed again"
        )
    return tuple(sorted(found.values(), key=lambda config: len(before(config, known)))), starts


class Starts(NamedTuple):
    """What the runs of a lot of stages start from, as it lies in their folder."""

    keepers: dict[str, Lot]
    """start → the lot that has its final parameters"""
    failed: set[str]
    missing: set[str]

    @staticmethod
    def of(lot: Lot) -> "Starts":
        """Read from the disk; empty for a lot of fresh runs."""
        wanted = {config.start for config in lot.configs} - {""}
        if not wanted:
            return Starts({}, set(), set())
        there = Folder.read(lot.folder.parents[1], source=lot.source)
        keepers = {run: keeper for run in wanted if (keeper := there.keeper(run)) is not None}
        failed = wanted - keepers.keys() & there.failed.keys()
        return Starts(keepers, failed, wanted - keepers.keys() - failed)

    def params(self, lot: Lot) -> Any:
        """Parameters that the runs of a lot begin with, with a leading axis of runs (0 for one whose start failed).

        Raises `Damaged`.
        """
        like = shapes_of(lot.configs[0])
        lots = {keeper.folder: keeper for keeper in self.keepers.values()}
        found: dict[str, Any] = {}
        for keeper in lots.values():
            mine = {run for run, holder in self.keepers.items() if holder.folder == keeper.folder}
            found |= keeper.load_params(mine, like)
        nothing = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        return jax.tree.map(lambda *runs: np.stack(runs), *(found.get(config.start, nothing) for config in lot.configs))


def refuse_other_network(config: TrainConfig, start: TrainConfig) -> None:
    """Raise `BadInput` naming the first field by which a stage cannot take the parameters of its `start`.

    The task and the options of the network must be the same; options of the task may differ (a noisier prompt, another
    recovery) where the shapes of the parameters are the same (docs/stages.md §5).
    """
    task, student = type(config).definitions
    network = [field.name for field in dataclasses.fields(student.options) if field.name not in FREE]
    options = [field.name for field in dataclasses.fields(task.options)]
    for name in ("task", *network, *SHARED):
        _refuse(config, start, name, getattr(start, name, None) == getattr(config, name))
    differ = [name for name in options if getattr(start, name) != getattr(config, name)]
    if differ:
        _refuse(config, start, differ[0], same_arrays(shapes_of(config), shapes_of(start)))


def shapes_of(config: TrainConfig) -> Any:
    """Shapes and types of a run's parameters."""
    return jax.eval_shape(make_policy(config, make_environment(config)).init, jax.random.key(0))


def same_arrays(first: Any, second: Any) -> bool:
    """Whether two pytrees have the same structure, shapes and types."""
    leaves = [[(x.shape, x.dtype) for x in jax.tree.leaves(tree)] for tree in (first, second)]
    return jax.tree.structure(first) == jax.tree.structure(second) and leaves[0] == leaves[1]


def _refuse(config: TrainConfig, start: TrainConfig, name: str, same: bool) -> None:
    if not same:
        what = "hold out the same prompts" if name in SHARED else "be a run of the same task and network"
        raise BadInput(
            f"start must {what}, and the run {run_id(start)} has {name} {getattr(start, name, None)} where its stage "
            f"has {getattr(config, name)}"
        )

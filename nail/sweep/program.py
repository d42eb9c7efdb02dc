"""Compiled programs of lots: one for all lots of a group and size, compiled in threads ahead of their use."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from nail.sweep.lot import Lot
from nail.training.config import TrainConfig, group_key
from nail.training.devices import compiler_options, pad_runs
from nail.training.problem import Numbers, numbers_of
from nail.training.train import Metrics, Train, TrainState, make_train

_INITIALISING = threading.Lock()
"""one at a time: methods that share a network share its initialiser, which is then compiled once"""


class Prepared(NamedTuple):
    """A compiled program and the numbers that it is run with."""

    init: Callable[..., TrainState]
    """see `nail.training.train.Train`"""
    segment: Callable[[TrainState, Numbers], tuple[TrainState, Metrics]]
    numbers: Numbers
    n_validation: int
    """validation contexts of an evaluation"""


def prepare(configs: tuple[TrainConfig, ...], expert: Any = None, size: int | None = None) -> Prepared:
    """Compile the program of `configs`, all of one group, for `size` runs (as many as there are without it).

    On a CPU the initialiser is compiled beside the segment: it takes half as long. XLA's options follow from one run's
    updates: a run has the same numbers in whatever lot it is.
    """
    program = make_train(configs[0], expert)
    numbers = pad_runs(numbers_of(configs), size or 0)
    state = jax.eval_shape(program.init, numbers)
    options = compiler_options(configs[0].steps)
    with ThreadPoolExecutor(max_workers=1) as beside:
        initialised = beside.submit(_compile_init, program, numbers)
        compiled = program.segment.lower(state, numbers).compile(options)
        initialised.result()
    return Prepared(program.init, compiled, numbers, program.n_validation)


def _compile_init(program: Train, numbers: Numbers) -> None:
    """Call `init` once, so that it is compiled; not on an accelerator: a lot that runs may fill its memory."""
    if jax.default_backend() == "cpu":
        with _INITIALISING:
            program.init(numbers)


class Programs:
    """The programs of some lots; the next few are compiled while one runs."""

    def __init__(self, lots: Sequence[Lot], experts: dict[str, Any]):
        self.lots, self.experts = list(lots), experts
        self.pool = ThreadPoolExecutor(max_workers=os.cpu_count())
        self.compiling: dict[tuple[str, int], Future[Prepared]] = {}

    @property
    def count(self) -> int:
        """Programs compiled or begun."""
        return len(self.compiling)

    def get(self, lot: Lot) -> Prepared:
        """The program of a lot; waits for it, and has the next ones begun."""
        at = self.lots.index(lot)
        ahead = list(dict.fromkeys(self._key(other) for other in self.lots[at:]))[: 1 + (os.cpu_count() or 1)]
        for other in self.lots[at:]:
            if self._key(other) in ahead and self._key(other) not in self.compiling and not other.settled():
                self._begin(other)
        if self._key(lot) not in self.compiling:
            self._begin(lot)
        found = self.compiling[self._key(lot)].result()
        return found._replace(numbers=pad_runs(numbers_of(lot.configs), lot.size))

    def close(self) -> None:
        """Begin no more; what is being compiled ends in its thread."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _key(self, lot: Lot) -> tuple[str, int]:
        return group_key(lot.configs[0]), -(-lot.size // jax.local_device_count())

    def _begin(self, lot: Lot) -> None:
        expert = self.experts.get(group_key(lot.configs[0]))
        self.compiling[self._key(lot)] = self.pool.submit(prepare, lot.configs, expert, lot.size)

"""Devices that nothing else uses at the moment: a long measurement takes them too.

Who shares devices among measurements (nail/sweep/points.py) lends those that are free by `lent`. A measurement asks for
one at a time by `take`, and has it until it ends.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

_LENDER: ContextVar[Callable[[], Any]] = ContextVar("lender", default=lambda: None)


@contextlib.contextmanager
def lent(lend: Callable[[], Any], back: Callable[[Any], None]) -> Iterator[None]:
    """While a measurement runs in this thread: `lend` gives it a free device or None, `back` takes each back at its
    end."""
    taken: list[Any] = []

    def one() -> Any:
        device = lend()
        taken.extend([] if device is None else [device])
        return device

    token = _LENDER.set(one)
    try:
        yield
    finally:
        _LENDER.reset(token)
        for device in taken:
            back(device)


def take() -> Any:
    """A free device, or None."""
    return _LENDER.get()()

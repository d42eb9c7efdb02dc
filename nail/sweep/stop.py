"""Signals that ask a command to end: at most one more chunk of work, a checkpoint, one sentence, exit code 128 + n.

A program of JAX holds the main thread until it has a chunk's numbers, and Python would run a handler after that only.
So a thread of its own reads which signals have come. While nothing is computed that a checkpoint could keep, the
command ends at once, as it does on a second signal after `TWICE` and where the chunk at work takes longer than
`PATIENCE`.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PATIENCE = 20.0
"""seconds that a chunk may still take; Slurm kills 30 s after SIGTERM if it is not told otherwise"""
TWICE = 2.0
"""seconds within which signals count as one: a batch system tells a process and its shell, which tells it again"""

_came: list[int] = []
_since: list[float] = []
_waits: list[threading.Timer] = []
_works: list[bool] = []


class Stopped(BaseException):
    """A signal has ended the work after a checkpoint; no handler of errors sees it."""

    def __init__(self, number: int):
        super().__init__(f"{_name(number)}: a checkpoint was written, and the same command goes on from there")
        self.code = 128 + number


@contextlib.contextmanager
def heeding() -> Iterator[None]:
    """Within, `SIGNALS` end this process in order; those that it was started to ignore (`nohup`) stay ignored.

    Outside the main thread Python sets no handlers, and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    taken = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_listen, args=(reading,), daemon=True).start()
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(writing)
        asked()
        _came.clear()


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Within, whoever computes looks at `asked` after each chunk, and then writes a checkpoint and raises `Stopped`."""
    _works.append(True)
    try:
        yield
    finally:
        _works.pop()


def asked() -> int:
    """The signal that asked this process to end, 0 if none has; who asks this has `PATIENCE` no longer to fear."""
    while _came and _waits:
        _waits.pop().cancel()
    return _came[0] if _came else 0


def _listen(reading: int) -> None:
    """Read the numbers of signals as they come, until the other end of the pipe is closed."""
    with open(reading, "rb", buffering=0) as numbers:
        while number := int.from_bytes(numbers.read(1)):
            if number in SIGNALS:
                _take(number)


def _take(number: int) -> None:
    if _came and time.monotonic() - _since[0] < TWICE:
        return
    if _came or not _works:
        _end(number)
    wait = threading.Timer(PATIENCE, _end, (number,))
    wait.daemon = True
    _waits.append(wait)
    wait.start()
    _since[:] = [time.monotonic()]
    # last: whoever sees the number finds the timer
    _came.append(number)


def _end(number: int) -> None:
    """End this process here and now, whatever its other threads are at."""
    lost = "what was computed since the last checkpoint is lost, and the same command goes on from there"
    with contextlib.suppress(OSError):
        # a progress bar may have left its line open
        os.write(2, f"\nnail: {_name(number)}: {lost}\n".encode())
    os._exit(128 + number)


def _name(number: int) -> str:
    return signal.Signals(number).name

"""Runs and points that failed: what is kept of the error, how it is said, and the sentence that a command ends with."""

import datetime
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nail.checks import one_line, printable
from nail.sources import installed
from nail.sweep.identity import git_revision
from nail.sweep.seal import read_json, write_json
from nail.sweep.store import Damaged

COMMAND = "`nail sweep … --out {out} --retry-failed` tries them again"
PYTHON = "`run(…, {out!r}, retry_failed=True)` tries them again"
SAME = "running the same again tries them again"
"""what tries again, in the words of who called"""
NAMED = ("seed", "p", "m", "S", "A", "H", "eta", "lr", "start")
"""fields that tell runs from each other, for people"""


class Failure(NamedTuple):
    """Why a run ended before its budget."""

    run: str
    """id of the run"""
    name: str
    """what sweeps usually vary, for people"""
    error: str
    """one sentence"""
    step: int
    """updates done when it was noticed; −1 if none was begun"""
    git_revision: str
    source_hash: str
    time: str
    """UTC, ISO 8601"""
    traceback: str = ""
    """of an exception"""

    @property
    def unreadable(self) -> bool:
        """Whether its file is damaged: then the run is tried again by itself."""
        return not self.time


class RunsFailed(ArithmeticError):
    """Some runs of a sweep failed; the others are done, and all errors are kept in the folder."""

    def __init__(self, failures: list[Failure], asked: int, out: Path, again: str = COMMAND, what: str = "runs"):
        first = failures[0]
        super().__init__(
            f"{len(failures)} of {asked} {what} failed; the first is {first.name}: {first.error}; the others are done, "
            f"and {again.format(out=str(out))}"
        )
        self.failures = failures


class Teller:
    """Keeps failures of lots and says them, each traceback once; threads may share one."""

    def __init__(self, write: Callable[..., Any]):
        self.write, self.told, self.lock = write, set(), threading.Lock()

    def fail(self, folder: Path, source: str, runs: dict[str, dict[str, Any]], error: Exception | str, step: int):
        """Keep `error` as that of each of `runs` (id → fields) in the folder of their lot."""
        trace = "" if isinstance(error, str) else "".join(traceback.format_exception(error))
        sentence = error if isinstance(error, str) else sentence_of(error)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self.lock:
            if trace and trace not in self.told:
                self.told.add(trace)
                self.write("\n".join(map(printable, trace.rstrip().split("\n"))), file=sys.stderr)
            for run, fields in runs.items():
                found = Failure(run, name_of(fields), sentence, step, git_revision(), source, now, trace)
                write_json(folder / "failed" / f"{run}.json", found._asdict())
                self.write(f"nail: {one_line(f'{found.name} failed: {sentence}; the others go on')}", file=sys.stderr)


def sentence_of(error: Exception) -> str:
    """The error's type and first line, and the last frame outside nail and installed packages, if there is one."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not installed(f.filename)]
    where = f" ({frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}{where}"


def name_of(fields: dict[str, Any]) -> str:
    """A run (or a point of a figure) for people."""
    if "figure" in fields:
        first, shown = fields["figure"], [k for k, v in fields.items() if k != "figure" and not isinstance(v, list)]
    else:
        first, shown = fields["method"], [k for k in NAMED if k in fields]
    return ", ".join([first, *(f"{name} {fields[name]}" for name in shown)])


def read_failures(folder: Path, runs: Mapping[str, dict[str, Any]]) -> dict[str, Failure]:
    """run → failure, of those of `runs` (id → fields) that have one in a folder; a damaged one says so of itself."""
    found = {}
    for path in sorted(folder.glob("[!.]*.json")):
        if path.stem in runs:
            found[path.stem] = _read_failure(path, runs[path.stem])
    return found


def _read_failure(path: Path, fields: dict[str, Any]) -> Failure:
    try:
        value = read_json(path)
        kinds = {name: int if name == "step" else str for name in Failure._fields}
        ours = value.keys() == kinds.keys() and value["run"] == path.stem
        if ours and all(isinstance(value[name], kind) for name, kind in kinds.items()):
            return Failure(**value)
        sentence = f"{path} is not the error of this run"
    except Damaged as damage:
        sentence = str(damage)
    return Failure(path.stem, name_of(fields), f"it failed, and its error was lost: {sentence}", -1, "", "", "")

"""Runs that failed: what is kept of the error, and the sentence that a command ends with."""

import json
from pathlib import Path
from typing import NamedTuple

from nail.sweep.store import write_text


class Failure(NamedTuple):
    """Why a run ended before its budget."""

    run: str
    """id of the run"""
    name: str
    """method, seed, η and learning rate, for people"""
    error: str
    """one sentence"""
    step: int
    """updates done when it was noticed; −1 if none was begun"""
    git_revision: str
    source_hash: str
    time: str
    """UTC, ISO 8601"""


class RunsFailed(ArithmeticError):
    """Some runs of a sweep failed; the others are done, and all errors are kept in the folder."""

    def __init__(self, failures: list[Failure], asked: int, out: Path):
        first = failures[0]
        super().__init__(
            f"{len(failures)} of {asked} runs failed; the first is {first.name}: {first.error}; the others are done, "
            f"and `nail sweep … --out {out} --retry-failed` tries again"
        )
        self.failures = failures


def write_failure(folder: Path, failure: Failure) -> None:
    """Keep a failure as FOLDER/RUN.json."""
    write_text(folder / f"{failure.run}.json", json.dumps(failure._asdict(), indent=1, ensure_ascii=False) + "\n")


def read_failures(folder: Path) -> dict[str, Failure]:
    """run → failure, of those kept in a folder."""
    return {path.stem: Failure(**json.loads(path.read_text())) for path in sorted(folder.glob("[!.]*.json"))}

"""What the JSON files of a folder must hold before anything is made of it: names in them become paths.

A seal shows damage and no intent: anyone can seal.
"""

from typing import Any

from nail.training.ranges import RUN


def is_hash(name: Any) -> bool:
    """Whether something that was read is the name of a run, a lot or a source; only such a name becomes a path."""
    return isinstance(name, str) and RUN.fullmatch(name) is not None


def is_manifest(found: dict[str, Any]) -> bool:
    """Whether a lot.json has what is read of it."""
    kinds = {"source_hash": str, "attempt": int, "size": int, "runs": dict, "expert": str}
    if not all(isinstance(found.get(name), kind) for name, kind in kinds.items()) or found["size"] < 1:
        return False
    hashes = (found["source_hash"], *([found["expert"]] if found["expert"] else []))
    return all(map(is_hash, hashes)) and bool(found["runs"]) and are_runs(found["runs"])


def are_runs(runs: Any) -> bool:
    """Whether something that was read is runs (or points) as they are stored: id → fields, as far as they are read."""
    return isinstance(runs, dict) and all(
        is_hash(run) and isinstance(fields, dict)
        and (isinstance(fields["figure"], str) if "figure" in fields else _is_run(fields))
        for run, fields in runs.items()
    )  # fmt: skip


def _is_run(fields: dict[str, Any]) -> bool:
    start, counts = fields.get("start", ""), (fields.get(name) for name in ("steps", "eval_every", "batch"))
    return (
        isinstance(fields.get("method"), str) and (start == "" or is_hash(start))
        and all(isinstance(count, int) and count >= 1 for count in counts)
    )  # fmt: skip

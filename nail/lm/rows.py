"""The row of a run on language models at an evaluation: what it is, what was measured, where it comes from."""

from importlib import metadata
from typing import Any

from nail.lm.config import LmConfig
from nail.lm.evaluate import Evaluation
from nail.sweep.identity import provenance, source_hash

ENGINE = ("google-tunix", "qwix", "transformers", "safetensors")
EMPTY = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "lenient_accuracy", "test_questions", "unanswered",
                       "unfinished", "test_loss", "test_tokens"), "")  # fmt: skip
"""columns of an evaluation that was not made"""
ROOTS = ("nail.lm.train",)
"""what numbers depend on, with all that it imports"""


def origin() -> dict[str, str]:
    """Provenance as in every row, with the code of this room and the engine's versions."""
    versions = {f"version_{name.replace('-', '_')}": metadata.version(name) for name in ENGINE}
    return {**provenance(), "source_hash": source_hash(ROOTS), **versions}


def make_row(
    config: LmConfig, run: str, step: int, queries: int, loss: float | None, found: Evaluation | None, devices: int
) -> dict[str, Any]:
    """The row after `step` updates; `queries` counts visited prefixes, and cells of what was not measured are empty.

    `devices` shared the batch: with another number of them the same run differs by rounding.
    """
    fields = config.columns()
    measured = EMPTY if found is None else found.columns()
    return {
        "run": run,
        "method": fields.pop("method"),
        "seed": fields.pop("seed"),
        "step": step,
        "episodes": step * config.batch,
        "expert_queries": queries,
        "train_loss": "" if loss is None else loss,
        **measured,
        **fields,
        "devices": devices,
        **origin(),
    }

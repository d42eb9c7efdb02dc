"""The row of a run at an evaluation: what it is, what was measured, where it comes from."""

from typing import Any

from nail.sweep.identity import provenance
from nail.training.config import TrainConfig, run_id
from nail.training.train import Metrics


def make_row(config: TrainConfig, metrics: Metrics, i: int, n_validation: int) -> dict[str, Any]:
    """The row of run `i` of a lot, evaluated on so many validation contexts."""
    step = int(metrics.step[i])
    seen = metrics.evaluation
    fields = config.columns()
    episodes = step * config.batch
    return {
        "run": run_id(config),
        "method": fields.pop("method"),
        "seed": fields.pop("seed"),
        "step": step,
        "episodes": episodes,
        "expert_queries": episodes * seen.position_accuracy.shape[-1],
        "full_exact": float(seen.full_exact[i]),
        "answer_exact": float(seen.answer_exact[i]),
        "val_loss": float(seen.val_loss[i]),
        "train_loss": float(metrics.train_loss[i]),
        "position_accuracy": " ".join(f"{x:.6g}" for x in seen.position_accuracy[i]),
        "validation_contexts": n_validation,
        **fields,
        **provenance(),
    }

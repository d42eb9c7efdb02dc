"""The row of a run at an evaluation: what it is, what was measured, where it comes from."""

from typing import Any

from nail.sweep.identity import provenance
from nail.training.config import TrainConfig, run_id
from nail.training.train import Metrics

MEASURED = ("full_exact", "answer_exact", "val_loss", "train_loss", "position_accuracy")
"""the columns that a run computes"""


def make_row(config: TrainConfig, metrics: Metrics, i: int) -> dict[str, Any]:
    """The row of run `i` of a lot."""
    step = int(metrics.step[i])
    seen = metrics.evaluation
    fields = dict(vars(config))
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
        **{**fields, "temperature": config.rollout_temperature, "init_std": config.initial_std},
        **provenance(),
    }

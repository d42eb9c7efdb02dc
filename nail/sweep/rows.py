"""The row of a run at an evaluation: what it is, what was measured, where it comes from."""

from typing import Any

from nail.methods import METHOD
from nail.sweep.identity import provenance
from nail.training.config import TrainConfig, run_id
from nail.training.steerability import Labels
from nail.training.steering import columns
from nail.training.train import Metrics


def make_row(config: TrainConfig, metrics: Metrics, i: int, n_validation: int) -> dict[str, Any]:
    """The row of run `i` of a lot, evaluated on so many validation contexts."""
    step = int(metrics.step[i])
    seen, met, kept, labels = metrics.evaluation, metrics.diagnosis, metrics.kept, metrics.labels
    fields = config.columns()
    episodes, row = step * config.batch, METHOD.find(config.method)
    return {
        "run": run_id(config),
        "method": fields.pop("method"),
        "seed": fields.pop("seed"),
        "step": step,
        "episodes": episodes,
        "expert_queries": episodes * seen.position_accuracy.shape[-1] if config.asks else 0,
        **({"verified_rollouts": episodes} if row.signal == "reward" else {}),
        "full_exact": float(seen.full_exact[i]),
        "answer_exact": float(seen.answer_exact[i]),
        "val_loss": float(seen.val_loss[i]),
        "train_loss": float(metrics.train_loss[i]),
        "position_accuracy": by_position(seen.position_accuracy[i]),
        **({} if kept is None else {f"old_{name}": float(values[i]) for name, values in kept._asdict().items()}),
        **({} if met is None else {name: by_position(values[i]) for name, values in met._asdict().items()}),
        **({} if labels is None else columns(config, Labels(*(part[i] for part in labels)))),
        "validation_contexts": n_validation,
        **fields,
        **provenance(),
    }


def by_position(values: Any) -> str:
    """Numbers of positions 1..H in one cell, with blanks between."""
    return " ".join(f"{x:.6g}" for x in values)

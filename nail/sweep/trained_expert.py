"""Trained experts: the student's network fitted to clean chains, kept with Orbax, measured whenever it is loaded."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from nail.checks import BadInput
from nail.sweep.store import load_tree, save_tree, write_text
from nail.training.config import TrainConfig
from nail.training.evaluate import Evaluation, evaluate
from nail.training.problem import make_environment, make_policy, make_setup

FREE = ("recovery", "init_std", "precision", "reuse")
"""options of a task or a network in which a trained expert and the student of a run may differ"""
COMMON = {field.name for field in dataclasses.fields(TrainConfig)}
"""fields that every task has"""


def save_expert(folder: Path, config: TrainConfig, params: Any) -> None:
    """Write an expert: `expert.json` (its configuration) last, so that a folder with one is whole."""
    save_tree(folder / "expert", params)
    write_text(folder / "expert.json", json.dumps(dataclasses.asdict(config), indent=1) + "\n")


def load_expert(config: TrainConfig) -> Any:
    """Parameters of the trained expert that `config` names, or None for the oracle.

    Raises `BadInput` if the folder holds no expert, one for another task or network, or one that is not perfect on the
    validation prompts of `config` (unless `allow_imperfect_expert`).
    """
    if config.expert == "oracle":
        return None
    folder = Path(config.expert)
    try:
        made_by = json.loads((folder / "expert.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"expert must be oracle or a folder with a trained expert, got {config.expert}") from error
    for field in ("task", *(name for name in vars(config) if name not in COMMON and name not in FREE)):
        theirs, ours = made_by.get(field), getattr(config, field)
        if theirs != ours:
            raise BadInput(
                f"the expert in {config.expert} was trained with {field} {theirs}, this run has {field} {ours}"
            )
    policy = make_policy(config, make_environment(config))
    stored = load_tree(folder / "expert", jax.eval_shape(policy.init, jax.random.key(0)))
    params = jax.tree.map(jnp.asarray, jax.device_get(stored))
    seen = measure_expert(config, params)
    if seen.full_exact < 1:
        sentence = (
            f"the expert in {config.expert} is right on {float(seen.full_exact):.2%} of the validation prompts only "
            f"(last token: {float(seen.answer_exact):.2%})"
        )
        if not config.allow_imperfect_expert:
            raise BadInput(f"{sentence}; train it longer, or pass --allow-imperfect-expert")
        print(f"nail: {sentence}", file=sys.stderr)
    return params


def measure_expert(config: TrainConfig, params: Any) -> Evaluation:
    """Accuracy and clean cross-entropy of the greedy expert on the validation prompts of `config`."""
    setup = make_setup(config)
    return jax.device_get(jax.jit(lambda params: evaluate(setup.env, setup.policy, params))(params))

"""Trained experts: the student's network fitted to clean chains, kept as arrays, measured whenever it is loaded.

`expert.json` holds the configuration and names the file with the parameters, whose name is a hash of both: so that a
kill between the two leaves the expert that was there, and several processes may write the same one.
"""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from nail.checks import BadInput, say
from nail.sweep.folder import Folder
from nail.sweep.seal import hash_of, read_json, read_tree, set_aside, write_json, write_tree
from nail.sweep.store import Damaged, lock_of
from nail.training.config import TrainConfig, content_hash, run_id
from nail.training.evaluate import Evaluation, evaluate
from nail.training.problem import make_environment, make_policy, make_setup
from nail.training.ranges import RUN

FREE = ("recovery", "eta_new", "init_std", "precision", "reuse")
"""options of a task or a network in which a trained expert and the student of a run may differ"""
NAME = re.compile(rf"expert-{RUN.pattern}\.npz")
"""of the file with the parameters"""
COMMON = {field.name for field in dataclasses.fields(TrainConfig)}
"""fields that every task has"""


def save_expert(folder: Path, config: TrainConfig, params: Any) -> None:
    """Write an expert: `expert.json` (its configuration) last, so that a folder with one is whole."""
    fields = dataclasses.asdict(config)
    name = f"expert-{hash_of(params)}.npz"
    with lock_of(folder / "expert.lock"):
        for path in (folder / name, folder / "expert.json"):
            if path.exists() and not path.is_file():
                set_aside(path, Damaged(f"{path} is not a file"))
        write_tree(folder / name, params, _place(fields))
        write_json(folder / "expert.json", {"config": fields, "params": name})
        for older in (*folder.glob("expert-*.npz"), *folder.glob(".expert*")):
            if older.name != name:
                older.unlink()


def load_expert(config: TrainConfig) -> Any:
    """Parameters of the trained expert that `config` names, or None for the oracle.

    Raises `BadInput` if the folder holds no expert, one for another task or network, one that is damaged, or one that
    is not perfect on the validation prompts of `config` (unless `allow_imperfect_expert`).
    """
    if config.expert == "oracle":
        return None
    try:
        params = _read_expert(Path(config.expert), config)
    except Damaged as damage:
        raise BadInput(f"the expert in {config.expert} is damaged: {damage}; nail expert makes it again") from damage
    seen = measure_expert(config, params)
    if seen.full_exact < 1:
        sentence = (
            f"the expert in {config.expert} is right on {float(seen.full_exact):.2%} of the validation prompts only "
            f"(last token: {float(seen.answer_exact):.2%})"
        )
        if not config.allow_imperfect_expert:
            raise BadInput(f"{sentence}; train it longer, or pass --allow-imperfect-expert")
        say(sentence)
    return params


def expert_hash(expert: str) -> str:
    """Hash of the parameters that the folder `expert` names; "" for the oracle, none, and one that cannot be read."""
    try:
        name = "" if expert == "oracle" else _read_manifest(Path(expert))[1]
    except BadInput:
        return ""
    return name.removeprefix("expert-").removesuffix(".npz")


def refuse_another_expert(out: Path, there: Folder, configs: Iterable[TrainConfig]) -> None:
    """Raise `BadInput` if another expert than the one in its folder now has answered a run."""
    now = {name: expert_hash(name) for name in {config.expert for config in configs}}
    for config in configs:
        seen = there.owner.get(run_id(config))
        answered = seen.lot.expert if seen else ""
        if answered and now[config.expert] and answered != now[config.expert]:
            raise BadInput(
                f"expert must be the one that answered the run {run_id(config)} in {out}, and the one in "
                f"{config.expert} has changed since; choose another folder, or make that expert again"
            )


def measure_expert(config: TrainConfig, params: Any) -> Evaluation:
    """Accuracy and clean cross-entropy of the greedy expert on the validation prompts of `config`."""
    setup = make_setup(config)
    return jax.device_get(jax.jit(lambda params: evaluate(setup.env, setup.policy, params))(params))


def _read_expert(folder: Path, config: TrainConfig) -> Any:
    """The parameters on the devices that there are; raises `Damaged`, and `BadInput` for none or another's."""
    made_by, name = _read_manifest(folder)
    for field in ("task", *(name for name in vars(config) if name not in COMMON and name not in FREE)):
        theirs, ours = made_by.get(field), getattr(config, field)
        if theirs != ours:
            raise BadInput(f"the expert in {folder} was trained with {field} {theirs}, this run has {field} {ours}")
    policy = make_policy(config, make_environment(config))
    like = jax.eval_shape(policy.init, jax.random.key(0))
    try:
        params = read_tree(folder / name, _place(made_by), like)
    except FileNotFoundError as error:
        if _read_manifest(folder)[1] != name:
            # another process has put a new one in its place meanwhile
            return _read_expert(folder, config)
        raise Damaged(f"{folder / name} is not there") from error
    return jax.tree.map(jnp.asarray, params)


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """(configuration, name of the file with the parameters) of an expert."""
    path = folder / "expert.json"
    try:
        found = read_json(path)
    except OSError as error:
        raise BadInput(f"expert must be oracle or a folder with a trained expert, got {folder}") from error
    config, name = found.get("config"), found.get("params")
    named = isinstance(name, str) and NAME.fullmatch(name)
    if not (named and isinstance(config, dict) and "task" in config):
        raise Damaged(f"{path} holds no configuration")
    return config, name


def _place(fields: dict[str, Any]) -> str:
    return f"expert {content_hash(fields)}"

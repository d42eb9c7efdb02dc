"""A run on language models from begin to end: checkpoints, exact resume, evaluations, rows, the trained model.

A checkpoint is one sealed file with the state and the rows so far, replaced whole: a run that is killed at any moment
goes on from the last one, and ends bit for bit as if nothing had happened. A folder holds one run. Of several
processes the first reads and writes the folder, and tells the others what it found.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from nail.checks import BadInput
from nail.lm.chat import answer_tokens, load_tokenizer, pad_left, pad_right, prompt_tokens, room
from nail.lm.config import LmConfig
from nail.lm.evaluate import Evaluation, ask, make_evaluate
from nail.lm.folders import Folder
from nail.lm.lora import begun, peft_tensors, with_lora, write_adapter
from nail.lm.model import Model, frozen, load, whole
from nail.lm.objective import Batch
from nail.lm.parallel import divided, everywhere, is_first, one_device, share_of, together, told
from nail.lm.progress import Progress
from nail.lm.questions import read_questions
from nail.lm.rows import make_row
from nail.lm.update import Numbers, State, begin, evaluated, make_update, numbers
from nail.lm.weights import hub_tensors, write_trained
from nail.sweep.seal import read_arrays, set_aside, write_arrays
from nail.sweep.stop import Stopped, asked, at_work
from nail.sweep.store import Damaged, content_of, lock_of, read_csv, write_rows, write_text

CHECKPOINT = "checkpoint.npz"
RUN = "run.json"
TRAINED = "trained"
"""folder of the model, or of its adapters, after the last update"""


class Busy(BadInput):
    """Another process works in the folder."""


class Setup(NamedTuple):
    """What a run is computed with."""

    config: LmConfig
    folder: Folder
    run: str
    student: Model
    expert: Model | None
    prompts: tuple[list[int], ...]
    answers: tuple[list[int], ...]
    """of the prompts, where there is no expert"""
    update: Callable[..., State]
    evaluate: Callable[..., Evaluation] | None
    mesh: Mesh


def set_up(config: LmConfig, student: Folder, expert: Folder | None, run: str, mesh: Mesh | None = None) -> Setup:
    """Tokens of the prompts, both models and the evaluation, from files that were checked; for the devices of `mesh`.

    None given: for the first.
    """
    mesh = mesh or one_device()
    tokenizer = load_tokenizer(student, "student")
    questions = read_questions(config.prompts)
    prompts = tuple(prompt_tokens(tokenizer, q.question) for q in questions)
    answers = () if expert else tuple(answer_tokens(tokenizer, q.answer, student.stops) for q in questions)
    asked = ask(tokenizer, read_questions(config.test, answered=True), student.stops) if config.test else None
    kind = jnp.dtype(config.kind)
    module = load(student, kind)
    if config.lora_rank:
        ours = with_lora(module, student.sizes, config.lora_rank, config.lora_alpha, first_key(config))
    else:
        ours = whole(module, student.sizes)
    ours = ours._replace(fixed=everywhere(ours.fixed, mesh))
    theirs = expert and frozen(load(expert, kind), expert.sizes)
    theirs = theirs and theirs._replace(fixed=everywhere(theirs.fixed, mesh))
    update = make_update(config, ours, theirs, student.stops, mesh)
    evaluate = asked and make_evaluate(
        ours, student.stops, tokenizer, asked, new=config.eval_tokens, batch=config.eval_batch, mesh=mesh
    )
    return Setup(config, student, run, ours, theirs, prompts, answers, update, evaluate, mesh)


def first_key(config: LmConfig) -> PRNGKeyArray:
    """The key by which a run's adapters begin."""
    return jax.random.fold_in(jax.random.key(config.seed), 0)


def sibling(setup: Setup, config: LmConfig, run: str) -> Setup:
    """The same models, questions and evaluation for another run, of another method or with other `Numbers`.

    Programs are compiled once for runs of one method. Raises `ValueError` if the configurations differ in more.
    """
    freed = ("method", *Numbers._fields)
    if dataclasses.replace(config, **{name: getattr(setup.config, name) for name in freed}) != setup.config:
        raise ValueError(f"siblings may differ in {', '.join(freed)} only, got {config} beside {setup.config}")
    ours, update = setup.student, setup.update
    if config.lora_rank:
        ours = ours._replace(trained=begun(ours.trained, first_key(config)))
    if config.method != setup.config.method:
        update = make_update(config, ours, setup.expert, setup.folder.stops, setup.mesh)
    return setup._replace(config=config, run=run, student=ours, update=update)


def batch_of(rows: Sequence[Any], batch: int, seed: int, step: int) -> list[Any]:
    """Prompts of update `step`: the next of a permutation of all, another one for each pass."""
    n, at = len(rows), range(step * batch, (step + 1) * batch)
    orders = {p: np.random.default_rng([seed, p]).permutation(n) for p in range(at[0] // n, at[-1] // n + 1)}
    return [rows[orders[i // n][i % n]] for i in at]


def given(setup: Setup, step: int) -> Any:
    """What update `step` is given: this process's prompts, and their answers where there is no expert."""
    config, mesh = setup.config, setup.mesh
    asked = share_of(batch_of(range(len(setup.prompts)), config.batch, config.seed, step), mesh)
    prompts = pad_left([setup.prompts[i] for i in asked], room(setup.prompts))
    if setup.expert:
        return divided(prompts, mesh)
    return divided(Batch(*prompts, *pad_right([setup.answers[i] for i in asked], room(setup.answers))), mesh)


def train(setup: Setup, out: Path) -> list[dict[str, Any]]:
    """Compute what is missing of a run in a folder, and leave rows.csv and the trained model there; its rows.

    Raises `Stopped` after an update and its checkpoint if a signal asked for the end; of several processes the first
    does, and the others end with it.
    """
    config, mesh = setup.config, setup.mesh
    with contextlib.ExitStack() as stack:
        take(setup.run, out, stack)
        state, rows = resume(setup, out)
        of, theirs = numbers(config, mesh), setup.expert.weights() if setup.expert else ()
        bar = stack.enter_context(Progress(config.steps, int(state.step), f"{config.method} seed {config.seed}"))
        stack.enter_context(at_work())
        for step in range(int(state.step), config.steps):
            if not rows:
                state, rows = measured(setup, state, rows)
            state = setup.update(state, of, setup.student.fixed, theirs, given(setup, step))
            done, ending = step + 1, asked() if is_first() else 0
            if done % config.eval_every == 0 or done == config.steps:
                state, rows = measured(setup, state, rows)
                save(setup, out, state, rows)
            elif ending or done % config.checkpoint_every == 0:
                save(setup, out, state, rows)
            if ending:
                raise Stopped(ending)
            bar.show(done, rows)
        if is_first():
            write_rows(out, rows)
            keep(setup, out / TRAINED, state)
    return rows


def finished(out: Path, run: str, steps: int) -> list[dict[str, str]]:
    """Rows, as text, of a run of `steps` updates that is finished in the folder; none if it is not, or is damaged."""
    try:
        if json.loads(content_of(out / RUN))["run"] == run and any((out / TRAINED).glob("*.safetensors")):
            rows = read_csv(out / "rows.csv")
            return rows if rows[-1]["step"] == str(steps) else []
    except (OSError, ValueError, KeyError, IndexError, TypeError, Damaged):
        pass
    return []


def take(run: str, out: Path, stack: contextlib.ExitStack) -> None:
    """Have the first process make the folder this run's and hold it; `BadInput` in all of them if it cannot."""

    def first() -> None:
        if is_first():
            claim(out, run)
            stack.enter_context(alone(out))

    together(first)


def measured(setup: Setup, state: State, rows: list[dict[str, Any]]) -> tuple[State, list[dict[str, Any]]]:
    """The state and the rows after an evaluation; raises `ArithmeticError` if the loss is no finite number."""
    loss = float(state.loss_sum) / max(1.0, float(state.loss_count))
    if not np.isfinite(loss):
        raise ArithmeticError(f"the loss of {setup.config.method} is not finite before update {int(state.step)}")
    found = setup.evaluate(setup.student.weights(state.trained)) if setup.evaluate else None
    asked = asked_since(state) if setup.expert else 0
    queries = (rows[-1]["expert_queries"] if rows else 0) + asked
    row = make_row(setup.config, setup.run, int(state.step), queries, loss if rows else None, found, setup.mesh.size)
    return evaluated(state, setup.mesh), [*rows, row]


def asked_since(state: State) -> int:
    """Expert queries since the last evaluation."""
    high, low = map(int, state.queries)
    return (high << 32) + low


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder's lock; raises `Busy` if another process does."""
    try:
        with lock_of(out / "run.lock", blocking=False):
            yield
    except filelock.Timeout as error:
        raise Busy(f"out must be a folder that no other process works in, and one works in {out}") from error


def claim(out: Path, run: str) -> None:
    """Make the folder this run's; raises `BadInput` if it holds another."""
    path = out / RUN
    if path.exists():
        try:
            found = json.loads(content_of(path))["run"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found != run:
            raise BadInput(
                f"out must be a folder of this run, and {out} holds another (other options, models or files)"
            )
    else:
        write_text(path, json.dumps({"run": run}) + "\n")


def save(setup: Setup, out: Path, state: State, rows: list[dict[str, Any]]) -> None:
    """Write the checkpoint, then the table of its rows; only the first process does."""
    if is_first():
        arrays = named(state) | {"rows": np.frombuffer(json.dumps(rows).encode(), np.uint8)}
        write_arrays(out / CHECKPOINT, arrays, setup.run)
        write_rows(out, rows)


def resume(setup: Setup, out: Path) -> tuple[State, list[dict[str, Any]]]:
    """The state and the rows of the folder's checkpoint, as the first process reads it, or those of the start."""
    fresh = begin(setup.config, setup.student, setup.mesh)
    found, rows = stored(setup, out, fresh) if is_first() else (None, [])
    step, rows = json.loads(told(json.dumps([found and int(found[".step"]), rows]).encode()))
    if step is None:
        return fresh, []
    if is_first():
        print(f"nail: goes on after update {step}", file=sys.stderr)

    def same(at: str, leaf: jax.Array) -> jax.Array:
        content = np.ascontiguousarray(found[at]).tobytes() if found else b""
        return everywhere(np.frombuffer(told(content), leaf.dtype).reshape(leaf.shape), setup.mesh)

    leaves = [same(at, leaf) for at, leaf in named(fresh).items()]
    return jax.tree.unflatten(jax.tree.structure(fresh), leaves), rows


def stored(setup: Setup, out: Path, fresh: State) -> tuple[dict[str, np.ndarray] | None, list[dict[str, Any]]]:
    """(arrays, rows) of the folder's checkpoint, if it has one like `fresh`; a damaged one is set aside."""
    path = out / CHECKPOINT
    if not path.exists():
        return None, []
    try:
        found = read_arrays(path, setup.run)
        rows = json.loads(found.pop("rows").tobytes())
        wanted = named(fresh)
        if {n: (x.shape, x.dtype) for n, x in found.items()} != {n: (x.shape, x.dtype) for n, x in wanted.items()}:
            raise Damaged(f"{path} holds arrays of other shapes than are wanted")
    except Damaged as damage:
        set_aside(path, damage)
        return None, []
    return found, rows


def named(state: State) -> dict[str, Any]:
    """The arrays of a state by their places in it."""
    return {jax.tree_util.keystr(at): leaf for at, leaf in jax.tree_util.tree_leaves_with_path(state)}


def keep(setup: Setup, path: Path, state: State) -> None:
    """Write what was trained: adapters for PEFT, or a model's folder."""
    config, sizes = setup.config, setup.folder.sizes
    pure = nnx.to_pure_dict(jax.device_get(state.trained))
    if config.lora_rank:
        write_adapter(path, peft_tensors(pure, sizes), config.student, config.lora_rank, config.lora_alpha)
    else:
        write_trained(path, hub_tensors(pure, sizes), setup.folder)

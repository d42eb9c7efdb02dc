"""A model of a folder, with adapters or without, on a set of questions: what `nail lm evaluate` computes."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from tqdm import tqdm

from nail.lm.adapters import merged
from nail.lm.chat import load_tokenizer
from nail.lm.evaluate import Evaluation, ask, make_evaluate
from nail.lm.folders import Folder
from nail.lm.model import frozen, load
from nail.lm.parallel import everywhere, team
from nail.lm.questions import Question
from nail.lm.rows import origin


def measure(options: Any, folder: Folder, questions: Sequence[Question]) -> tuple[Evaluation, dict[str, Any]]:
    """The evaluation and its row; `options` are those of the command."""
    mesh = team(options.devices)
    tokenizer = load_tokenizer(folder, "model")
    asked = ask(tokenizer, questions, folder.stops)
    module = load(folder, jnp.dtype(options.kind))
    if options.adapter is not None:
        module = merged(module, folder.sizes, options.adapter)
    model = frozen(module, folder.sizes)
    model = model._replace(fixed=everywhere(model.fixed, mesh))
    evaluate = make_evaluate(
        model, folder.stops, tokenizer, asked, new=options.new_tokens, batch=options.batch,
        temperature=options.temperature, seed=options.seed, mesh=mesh,
    )  # fmt: skip
    start = time.perf_counter()
    with tqdm(total=len(questions), unit="question", leave=False, dynamic_ncols=True) as bar:
        found = evaluate(model.weights(), bar.update)
    seconds = time.perf_counter() - start
    names = {"model": folder.path.name, "adapter": "" if options.adapter is None else Path(options.adapter).name}
    fields = {name: getattr(options, name) for name in ("temperature", "new_tokens", "batch", "kind", "seed")}
    return found, {
        **names,
        "test": Path(options.test).name,
        **fields,
        **found.columns(),
        "seconds": seconds,
        **origin(),
    }

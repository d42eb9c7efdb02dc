"""What figure 6 is computed from: word problems, an expert and a student made from scratch, runs, the expert measured.

All of it lies in one folder, OUT/runs/fig6-HASH, each run in one of its own that is held while it is computed: a killed
figure goes on from the last checkpoint, and several processes may compute one figure.
"""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tqdm import tqdm

from nail.lm.config import PATHS, LmConfig, check, content_of, run_id
from nail.lm.problems import DEFAULT, Limits, problems, vocabulary
from nail.lm.questions import Question, read_questions, write_questions
from nail.sweep.identity import source_hash
from nail.sweep.store import Damaged, lock_of, read_csv, write_rows, write_text
from nail.training.config import content_hash

Rows = list[dict[str, Any]]
PAUSE = 2.0
"""seconds between two looks at runs that other processes compute"""


class Making(NamedTuple):
    """How a model is made from scratch: its size, and updates on answers of the package's word problems."""

    width: int
    layers: int
    heads: int
    steps: int
    lr: float = 3e-3


class Scratch(NamedTuple):
    """A figure's word problems and its two models."""

    expert: Making
    student: Making
    limits: Limits = DEFAULT
    train: int = 40_000
    """problems from which both models learn; half as many others are asked later"""
    test: int = 256


def folder(out: Path, base: LmConfig, scratch: Scratch | None) -> Path:
    """Where the figure's work lies: by the revision of the code that numbers depend on, settings, files given."""
    from nail.lm.rows import ROOTS

    files = {name: content_of(path) for name in PATHS if (path := getattr(base, name)).exists()}
    what = [source_hash((*ROOTS, __name__)), str(scratch), str(base.columns()), str(files)]
    found = out / "runs" / f"fig6-{content_hash(what)}"
    found.mkdir(parents=True, exist_ok=True)
    return found


def made(scratch: Scratch, base: LmConfig, out: Path) -> tuple[LmConfig, Rows]:
    """`base` with an expert and a student that are made in `out`, their questions, and the rows of their training."""
    from nail.lm.fresh import sizes_of, write_fresh

    words = vocabulary(scratch.limits)
    with lock_of(out / "made.lock"):
        if not (out / "made").exists():
            known = problems(scratch.train, 0, "train", scratch.limits)
            write_questions(out / "train.jsonl", [p.as_question() for p in known])
            asked = problems(scratch.train // 2, 1, "train", scratch.limits)
            write_questions(out / "prompts.jsonl", [Question(p.question) for p in asked])
            tests = problems(scratch.test, 0, "test", scratch.limits)
            write_questions(out / "test.jsonl", [p.as_question() for p in tests])
            for seed, name in enumerate(("expert", "student")):
                width, layers, heads, *_ = getattr(scratch, name)
                write_fresh(out / f"fresh-{name}", sizes_of(width, layers, heads, words), words, seed)
            write_text(out / "made", "")
    rows: Rows = []
    for name in ("expert", "student"):
        making = getattr(scratch, name)
        config = dataclasses.replace(
            base, method="loglossbc", student=out / f"fresh-{name}", expert=None, prompts=out / "train.jsonl",
            test=out / "test.jsonl", steps=making.steps, lr=making.lr, lora_rank=0, clip=1.0,
            eval_every=max(1, making.steps // 5),
        )  # fmt: skip
        rows += [{"part": f"{name} made", **row} for row in computed([config], {config: out / name})]
    models = {name: out / name / "trained" for name in ("expert", "student")}
    return dataclasses.replace(base, **models, prompts=out / "prompts.jsonl", test=out / "test.jsonl"), rows


def computed(configs: Iterable[LmConfig], where: dict[LmConfig, Path]) -> Rows:
    """Rows of runs in the order given; computes what is missing, and waits for what other processes compute.

    Runs differ in method, seed, β and T only: models are loaded and programs compiled once.
    """
    from nail.lm.inputs import folders_of
    from nail.lm.parallel import team
    from nail.lm.train import Busy, finished, set_up, sibling, train

    configs = list(configs)
    runs = {config: run_id(check(config)) for config in configs}

    def there(config: LmConfig) -> Rows:
        return finished(where[config], runs[config], config.steps)

    found = {config: rows for config in configs if (rows := there(config))}
    setup, todo = None, [config for config in configs if config not in found]
    with tqdm(total=len(configs), initial=len(found), unit="run", dynamic_ncols=True, desc="runs",
              disable=len(configs) == 1 or not todo) as bar:  # fmt: skip
        while todo:
            for config in todo:
                if rows := there(config):
                    found[config] = rows
                    continue
                if setup is None:
                    mesh = team(None, config.batch, config.micro)
                    setup = set_up(config, *folders_of(config), runs[config], mesh)
                setup = sibling(setup, config, runs[config])
                where[config].mkdir(parents=True, exist_ok=True)
                try:
                    found[config] = train(setup, where[config])
                except Busy:
                    continue
                bar.update(len(found) - bar.n)
            todo = [config for config in todo if config not in found]
            if todo:
                time.sleep(PAUSE)
    return [row for config in configs for row in found[config]]


def expert_rows(base: LmConfig, temperatures: Iterable[float], out: Path) -> Rows:
    """The expert on the test questions, greedily and by samples at each temperature: one row each."""
    rows: Rows = []
    for temperature in (0.0, *temperatures):
        at = out / f"expert-at-{temperature:g}"
        with lock_of(out / f"{at.name}.lock"):
            at.mkdir(exist_ok=True)
            try:
                (row,) = read_csv(at / "rows.csv")
            except (FileNotFoundError, ValueError, Damaged):
                row = measured(base, temperature)
                write_rows(at, [row])
            rows.append({"part": "expert", **row})
    return rows


def measured(base: LmConfig, temperature: float) -> dict[str, Any]:
    """The row of an evaluation of the expert at a temperature; 0: greedy."""
    from nail.lm.folders import read_folder
    from nail.lm.measure import measure

    options = SimpleNamespace(
        model=base.expert, adapter=None, test=base.test, temperature=temperature, new_tokens=base.eval_tokens,
        batch=base.eval_batch, kind=base.kind, seed=0, devices=None,
    )  # fmt: skip
    return measure(options, read_folder(base.expert, "expert"), read_questions(base.test, answered=True))[1]

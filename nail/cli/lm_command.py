"""`nail lm train …` and `nail lm evaluate …`: language models, with the extra `lm`, which is loaded when they run."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nail.checks import LARGE, MAX_COUNT, printable, require, require_known
from nail.cli.parse import Out
from nail.cli.programs import set_up_jax
from nail.lm.config import KINDS, LmConfig, check, run_id
from nail.lm.extra import require_extra
from nail.lm.folders import Folder


@dataclass(frozen=True, kw_only=True)
class LmTrain(LmConfig):
    """Train a student from a noisy expert; writes DIR/rows.csv and DIR/trained, resumes where a kill left off."""

    out: Out = Path("out")
    devices: int | None = None
    """devices of each process that share the batch ≥ 1; default: all, or as many as divide it"""
    distributed: bool = False
    """this is one of several processes of a jax.distributed job, each with its share of the batch"""
    coordinator: str | None = None
    """host:port of process 0; default: JAX asks the cluster, and so for the next two"""
    processes: int | None = None
    """number of processes, 1 ≤ processes ≤ 10,000"""
    process: int | None = None
    """index of this one, 0 ≤ process < processes; process 0 reads and writes the folder"""

    def run(self) -> None:
        require_extra()
        require(self.devices is None or self.devices >= 1, "devices", self.devices, "an integer of at least 1")
        config = check(LmConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(LmConfig)}))
        from nail.lm.inputs import folders_of

        student, expert = folders_of(config)
        set_up_jax(begin=not self.distributed)
        if self.distributed:
            from nail.lm.parallel import ending_at_once
            from nail.lm.roll_call import join
            from nail.training.devices import require_devices

            join(self.coordinator, self.processes, self.process)
            require_devices()
            with ending_at_once():
                return self._train(config, student, expert)
        return self._train(config, student, expert)

    def _train(self, config: LmConfig, student: Folder, expert: Folder | None) -> None:
        """What follows when all processes are there: any of them that finds something wrong stops all."""
        from nail.lm.parallel import is_first, require_agreement, team, together
        from nail.lm.train import claim, set_up, train
        from nail.sweep.store import open_folder

        run = run_id(config)
        require_agreement(f"{run} {self.devices} {config.checkpoint_every}")
        mesh = together(lambda: team(self.devices, config.batch, config.micro))
        together(lambda: is_first() and claim(open_folder(self.out), run))
        last = train(together(lambda: set_up(config, student, expert, run, mesh)), self.out)[-1]
        said = f", accuracy {last['accuracy']:.3f} on {last['test_questions']} questions" if self.test else ""
        if is_first():
            print(
                f"{config.method} seed {config.seed}: {last['episodes']:,} episodes, "
                f"{last['expert_queries']:,} expert queries{said}; "
                f"{printable(self.out / 'trained')}"
            )


@dataclass(frozen=True, kw_only=True)
class LmEvaluate:
    """Answer questions with a model, greedily: accuracy with Wilson's 95 % interval, cross-entropy per answer token."""

    model: Path
    """folder of the model, as the hub stores it"""
    test: Path
    """file of JSON lines with "question" and "answer", which ends with "####" and the truth"""
    adapter: Path | None = None
    """folder of adapters of that model, as PEFT stores them"""
    temperature: float = 0.0
    """of the completions: 0 greedy (the protocol), T: sampled from the logits ÷ T"""
    new_tokens: int = 512
    """most tokens of a completion ≥ 1"""
    batch: int = 64
    """prompts at a time ≥ 1"""
    kind: str = "bfloat16"
    """numbers of the model: bfloat16 or float32"""
    seed: int = 0
    """of samples, 0 ≤ seed < 2^31"""
    devices: int | None = None
    """devices that share a batch ≥ 1; default: all"""
    out: Annotated[Path | None, tyro.conf.arg(help="folder to write rows.csv to")] = None

    def run(self) -> None:
        require_extra()
        require_known("kind", self.kind, KINDS)
        require(0 <= self.temperature <= LARGE, "temperature", self.temperature, f"in [0, {LARGE:g}]")
        for name in ("new_tokens", "batch"):
            require(1 <= getattr(self, name) <= MAX_COUNT, name, getattr(self, name), f"an integer in 1..{MAX_COUNT}")
        require(self.devices is None or self.devices >= 1, "devices", self.devices, "an integer of at least 1")
        require(0 <= self.seed < 2**31, "seed", self.seed, "an integer of at least 0 and below 2^31")
        from nail.lm.folders import read_folder, require_tokenizer_fits
        from nail.lm.questions import read_questions

        folder = read_folder(self.model, "model")
        require_tokenizer_fits(folder, "model")
        questions = read_questions(self.test, answered=True)
        from nail.sweep.store import open_folder, write_rows

        out = self.out and open_folder(self.out)
        set_up_jax()
        from nail.lm.measure import measure

        found, row = measure(self, folder, questions)
        if out:
            write_rows(out, [row])
        print(
            f"accuracy {found.accuracy:.4f} [{found.low:.4f}, {found.high:.4f}] on {found.questions:,} questions; "
            f"{found.lenient_accuracy:.4f} where an answer is read leniently\n"
            f"cross-entropy {found.cross_entropy:.4f} nats per answer token\n"
            f"{found.tokens:.1f} tokens a completion, {found.unfinished:,} cut, {found.unanswered:,} without an answer"
        )


@dataclass(frozen=True)
class Lm:
    """Language models through an engine (the extra `lm`): train a student from a noisy expert, evaluate a model."""

    what: (
        Annotated[LmTrain, tyro.conf.subcommand("train", prefix_name=False)]
        | Annotated[LmEvaluate, tyro.conf.subcommand("evaluate", prefix_name=False)]
    )

    def run(self) -> None:
        self.what.run()

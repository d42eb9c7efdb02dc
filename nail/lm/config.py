"""One run on language models: every default is the paper's protocol for figure 6 (arXiv 2606.30923, release `gsm/`)."""

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nail.checks import LARGE, MAX_COUNT, SMALL, BadInput, require, require_known
from nail.method_checks import check_scored
from nail.methods import METHOD, Method, require_trained, trained_methods
from nail.training.config import content_hash

KINDS = ("bfloat16", "float32")
PATHS = ("student", "expert", "prompts", "test")


@dataclass(frozen=True, kw_only=True)
class LmConfig:
    """What is trained, on what, how."""

    method: str = "nail-beta"
    """nail-f, nail-r, nail-beta, opd-f, opd-r or loglossbc (see `nail list`)"""
    student: Path
    """folder of the model that is trained, as the hub stores it (Gemma-3, safetensors)"""
    expert: Path | None = None
    """folder of the expert, with the same tokenizer; none: loglossbc takes the whole answers that stand in `prompts`"""
    prompts: Path
    """file of JSON lines with a "question", and without an expert an "answer" that ends with "####" and the truth"""
    test: Path | None = None
    """file of JSON lines with "question" and "answer" on which the student is evaluated; none: it is not"""
    expert_temperature: float = 1.0
    """t: the expert's logits are divided by it, 1e-30 ≤ t ≤ 1e30"""
    beta: float = 0.5
    """share of the reverse KL in nail-beta, 0 ≤ β ≤ 1"""
    steps: int = 6250
    """updates ≥ 1; prompts are passed over again where they do not suffice"""
    batch: int = 64
    """prompts of an update ≥ 1"""
    micro: int = 16
    """prompts of which a device takes a gradient at a time; divides batch, and what a device has of it"""
    new_tokens: int = 1024
    """most tokens of a completion ≥ 1"""
    lr: float = 1e-4
    """largest learning rate: 10 % of the updates warm up, then a cosine, never below 1 % of it"""
    weight_decay: float = 0.01
    """of AdamW"""
    clip: float | None = None
    """largest norm of a gradient, 0: any; none given: 1, and any where the expert plays the episodes"""
    lora_rank: int = 128
    """rank of the adapters; 0: all weights are trained"""
    lora_alpha: float = 256.0
    """α: adapters count α/rank times"""
    kind: str = "bfloat16"
    """numbers of the models: bfloat16 or float32 (what is trained is kept as float32)"""
    chunk: int = 256
    """positions whose logits are held at a time ≥ 1"""
    eval_every: int = 200
    """updates between evaluations ≥ 1"""
    eval_tokens: int = 512
    """most tokens of a completion in an evaluation ≥ 1"""
    eval_batch: int = 64
    """prompts of an evaluation at a time ≥ 1"""
    checkpoint_every: int = 50
    """updates between checkpoints ≥ 1"""
    seed: int = 0
    """seed of adapters, order of the prompts and draws, 0 ≤ seed < 2^31"""

    @property
    def row(self) -> Method:
        """The method."""
        return METHOD[self.method]

    @property
    def clipped(self) -> float:
        """Largest norm of a gradient; 0: any."""
        if self.clip is not None:
            return self.clip
        return 0.0 if self.row.driver == "expert" else 1.0

    def columns(self) -> dict[str, Any]:
        """The fields as they stand in a row; of folders and files their names."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(LmConfig)}
        names = {name: "" if fields[name] is None else Path(fields[name]).name for name in PATHS}
        return {**fields, **names, "clip": self.clipped}


READ = ("name", "label", "summary", "driver", "beta", "temperature", "action")
"""fields of a method's row that this room reads; in all others a row must be as `Method` is by default"""


def unread(row: Method) -> str:
    """The first field of a row, as "field value", that language models would be trained without; "" if there is none.

    Where the expert plays, the loss is the log loss on its completions.
    """
    kept = {"driver": ("expert", "student"), "beta": (0.0,) if row.driver == "expert" else (row.beta,)}
    for name in row._fields:
        value = getattr(row, name)
        if value not in kept.get(name, (value,) if name in READ else (Method._field_defaults[name],)):
            known = value if isinstance(value, str) else getattr(value, "name", getattr(value, "__name__", value))
            return f"{name} {known}"
    return ""


def lm_methods() -> list[str]:
    """Names of the methods that language models are trained by."""
    return [row.name for row in trained_methods() if not unread(row)]


def check(config: LmConfig) -> LmConfig:
    """`config` unchanged, or `BadInput` naming the first field that is out of range; no file is read."""
    require_trained(config.method)
    left = unread(config.row)
    require(not left, "method", config.method, f"one of {', '.join(lm_methods())} (language models know no {left})")
    require(config.row.beta is None or config.beta == LmConfig.beta, "beta", config.beta,
            f"left out: {config.method} has a β of its own")  # fmt: skip
    if config.expert is None and config.row.driver != "expert":
        raise BadInput(f"expert must be a folder of a model for {config.method}: only loglossbc does without")
    check_scored(config.row, "mc", config.row.temperature)
    require_known("kind", config.kind, KINDS)
    temperature = config.expert_temperature
    require(config.expert is not None or temperature == 1, "expert_temperature", temperature, "left out without expert")
    require(SMALL <= temperature <= LARGE, "expert_temperature", temperature, f"in [{SMALL:g}, {LARGE:g}]")
    require(0 <= config.beta <= 1, "beta", config.beta, "in [0, 1]")
    for name in ("steps", "batch", "micro", "new_tokens", "chunk", "eval_every", "eval_tokens", "eval_batch",
                 "checkpoint_every"):  # fmt: skip
        value = getattr(config, name)
        require(1 <= value <= MAX_COUNT, name, value, f"an integer in 1..{MAX_COUNT}")
    require(config.batch % config.micro == 0, "micro", config.micro, f"a divisor of batch ({config.batch})")
    require(SMALL <= config.lr <= LARGE, "lr", config.lr, f"in [{SMALL:g}, {LARGE:g}]")
    require(0 <= config.weight_decay <= LARGE, "weight_decay", config.weight_decay, f"in [0, {LARGE:g}]")
    require(0 <= config.clipped <= LARGE, "clip", config.clip, f"in [0, {LARGE:g}]")
    require(0 <= config.lora_rank <= 2**16, "lora_rank", config.lora_rank, "an integer in 0..65536")
    require(SMALL <= config.lora_alpha <= LARGE, "lora_alpha", config.lora_alpha, f"in [{SMALL:g}, {LARGE:g}]")
    require(0 <= config.seed < 2**31, "seed", config.seed, "an integer of at least 0 and below 2^31")
    return config


def run_id(config: LmConfig) -> str:
    """12 hexadecimal digits: of the fields that numbers depend on, and of what is in the folders and files."""
    fields = {name: str(value) for name, value in config.columns().items() if name != "checkpoint_every"}
    for name in PATHS:
        path = getattr(config, name)
        fields[name] = "" if path is None else content_of(Path(path))
    return content_hash(fields)


def content_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's weights, configuration and tokenizer."""
    found = hashlib.sha256()
    wanted = ("*.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
              "chat_template.jinja")  # fmt: skip
    files = [path] if path.is_file() else sorted(file for pattern in wanted for file in path.glob(pattern))
    for file in files:
        status = file.stat()
        content = _content(file, status.st_size, status.st_mtime_ns, status.st_ino)
        found.update(f"{file.name if path.is_dir() else ''}\n{content}\n".encode())
    return found.hexdigest()


@functools.lru_cache(maxsize=64)
def _content(file: Path, *status: int) -> str:
    """SHA-256 of a file, read again when its status is another."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

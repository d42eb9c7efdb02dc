"""The configuration of a run: every default in one place, checked before anything is compiled.

Field texts are the help texts of the command line. The defaults are the paper's protocol (docs/paper.md).
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nail.checks import BadInput, require, require_known
from nail.methods import METHOD

TASKS = {
    "modadd": "modular addition with a chain of thought",
    "poison-chain": "tabular: one wrong action leaves the path for good, and the expert is uniform there",
    "hidden-path": "tabular: one secret path in a tree of prefixes; p^(m−1) ≤ 1024",
    "garnet": "tabular: a random MDP with p states and 2 successors of each action; p ≤ 64",
}
"""task → what it is; tabular tasks have horizon H = m and A = p actions"""
LIMITS: dict[str, tuple[tuple[str, Callable[[int, int], int], int], ...]] = {
    "hidden-path": (("p^(m−1)", lambda p, m: p ** (m - 1), 1024), ("p^(2m−1)", lambda p, m: p ** (2 * m - 1), 2**24)),
    "garnet": (("p", lambda p, m: p, 64), ("m·p³", lambda p, m: m * p**3, 2**24)),
}
"""task → sizes of its tables in p and m, and the largest that are allowed"""
RECOVERIES = ("none", "follow")
NOISES = {
    "uniform": "Huber mixture with the uniform kernel",
    "temperature": "the expert's own law, tempered",
}
"""noise law → what it is"""
ESTIMATORS = ("mc", "full")
PRECISIONS = ("float32", "fast-float32", "bfloat16")
DECODES = ("sequential", "parallel")
TRACED = ("seed", "eta", "beta", "temperature", "expert_temperature", "lr")
"""fields that are numbers to the compiled program: runs that differ in these alone share one compilation"""
_OUTSIDE_RUN_IDENTITY = ("allow_imperfect_expert",)


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    task: str = "modadd"
    """environment: modadd (modular addition with a chain of thought), or a tabular MDP with a softmax table as student:
    poison-chain, hidden-path or garnet, whose instance is drawn from bank_seed (they ignore width, heads, layers,
    init_std, precision and recovery)"""
    p: int = 7
    """modulus of the addition, p ≥ 2; the vocabulary is 0..p−1 and "=". Of a tabular task: number of actions A"""
    m: int = 31
    """chain length = horizon H in tokens, m ≥ 1. Of a tabular task: horizon H in steps"""
    recovery: str = "none"
    """clean expert after a mistake: none (uniform from there on) or follow (continues from the prefix it is given);
    for a tabular task this is part of the instance"""
    noise: str = "uniform"
    """corruption of the expert: uniform (Huber mixture with uniform kernel over the residues) or temperature"""
    eta: float = 0.2
    """corruption rate η of the uniform noise, 0 ≤ η < 1"""
    expert_temperature: float = 1.0
    """temperature t of the noisy expert's law π^(1/t) when noise is temperature, t > 0"""
    expert: str = "oracle"
    """clean expert: oracle, or the folder of a trained expert (see `nail expert`)"""
    allow_imperfect_expert: bool = False
    """accept a trained expert that is not perfect on the validation prompts"""
    method: str = "nail-f"
    """learner, a row of the methods table: see `nail list`"""
    beta: float = 0.5
    """weight β of the reverse KL in nail-beta, interpolation of jsd-beta, 0 ≤ β ≤ 1 (other methods ignore it)"""
    temperature: float | None = None
    """temperature T ≥ 0 of the student's rollout, 0 is greedy; default: the method's own"""
    estimator: str = "mc"
    """objective from one sampled token per prefix (mc) or from the whole law (full)"""
    channel_aware: bool = False
    """let the student model the clean law and pass it through the known channel before the loss"""
    dagger_rounds: int = 20
    """rounds i of DAgger in the whole budget; the expert drives with probability β_i = decay^i, rounds ≥ 1"""
    dagger_decay: float = 0.5
    """decay of DAgger's β_i from round to round, 0 ≤ decay ≤ 1"""
    dagger_buffer: int = 0
    """DAgger's data set in episodes, the oldest replaced first; 0 holds the whole budget, batch × steps"""
    width: int = 512
    """model width, a multiple of heads"""
    heads: int = 8
    """attention heads ≥ 1"""
    layers: int = 1
    """decoder blocks ≥ 1"""
    init_std: float | None = None
    """standard deviation of the initial weights, > 0 (residual projections: divided by √(2·layers)); default:
    0.02·√(512/width), which is the paper's 0.02 at width 512 and the same scale of activations at other widths"""
    batch: int = 64
    """episodes per update, ≥ 1"""
    steps: int = 46_875
    """updates ≥ 1; the budget is batch × steps episodes of H expert queries each"""
    lr: float = 1e-5
    """AdamW learning rate after warm-up, constant from then on, > 0"""
    warmup: int = 2_000
    """linear warm-up from 1e−6, in updates ≥ 0"""
    weight_decay: float = 0.0
    """AdamW weight decay ≥ 0"""
    clip: float = 1.0
    """global-norm clip of the gradient, > 0"""
    precision: str = "float32"
    """float32; fast-float32: products as the device prefers them (TF32 on a recent GPU; the same as float32 on a CPU);
    bfloat16: activations and products (parameters, softmax, loss and optimiser stay float32)"""
    decode: str = "sequential"
    """rollouts: sequential (token by token), or parallel (passes over the whole chain until it no longer changes, which
    is the same rollout: 1 pass for a student that knows the task, up to H before; `nail bench` times both)"""
    eval_every: int = 500
    """updates between evaluations ≥ 1; one before the first update and one after the last"""
    n_validation: int = 5_000
    """held-out prompts per evaluation ≥ 1, never trained on (at most a tenth of all p^m)"""
    bank_seed: int = 0
    """seed of the prompt bank, or of a tabular instance and its chance, shared by all methods and seeds, ≥ 0"""
    seed: int = 0
    """seed of initialisation, noise and rollouts, ≥ 0"""

    @property
    def initial_std(self) -> float:
        """Standard deviation of the initial weights: the configured one, or else 0.02·√(512/width)."""
        return 0.02 * math.sqrt(512 / self.width) if self.init_std is None else self.init_std

    @property
    def rollout_temperature(self) -> float:
        """The temperature that the student's rollouts have: the configured one, or else the method's own."""
        return METHOD[self.method].temperature if self.temperature is None else self.temperature


def check(config: TrainConfig) -> TrainConfig:
    """Return `config` unchanged, or raise `BadInput` naming the first field that is out of range."""
    for name, known in [
        ("task", TASKS), ("recovery", RECOVERIES), ("noise", NOISES),
        ("method", [name for name, row in METHOD.items() if row.trains]),
        ("estimator", ESTIMATORS), ("precision", PRECISIONS), ("decode", DECODES),
    ]:  # fmt: skip
        require_known(name, getattr(config, name), known)
    for name, least in [
        ("p", 2), ("m", 1), ("dagger_rounds", 1), ("dagger_buffer", 0), ("width", 1), ("heads", 1), ("layers", 1),
        ("batch", 1), ("steps", 1), ("warmup", 0), ("eval_every", 1), ("n_validation", 1),
        ("bank_seed", 0), ("seed", 0),
    ]:  # fmt: skip
        value = getattr(config, name)
        require(value >= least, name, value, f"an integer of at least {least}")
    require(config.p <= 2**15, "p", config.p, "at most 32768")
    for name, size, most in LIMITS.get(config.task, ()):
        found = size(config.p, config.m)
        require(found <= most, name, found, f"at most {most} for the task {config.task}")
    require(config.seed < 2**31, "seed", config.seed, "below 2^31")
    require(config.batch * config.steps < 2**32, "batch × steps", config.batch * config.steps, "below 2^32 episodes")
    require(0 <= config.eta < 1, "eta", config.eta, "in [0, 1)")
    require(0 <= config.beta <= 1, "beta", config.beta, "in [0, 1]")
    require(0 <= config.dagger_decay <= 1, "dagger_decay", config.dagger_decay, "in [0, 1]")
    if config.temperature is not None:
        _require_finite(config, "temperature", lambda x: x >= 0, "a finite number of at least 0")
    for name in ("expert_temperature", "lr", "init_std", "clip"):
        if getattr(config, name) is not None:
            _require_finite(config, name, lambda x: x > 0, "a finite number above 0")
    _require_finite(config, "weight_decay", lambda x: x >= 0, "a finite number of at least 0")
    require(config.width % config.heads == 0, "heads", config.heads, f"a divisor of the width ({config.width})")
    if config.dagger_buffer:
        require(
            config.dagger_buffer % config.batch == 0, "dagger_buffer", config.dagger_buffer,
            f"a multiple of the batch ({config.batch})",
        )  # fmt: skip
    return config


def _require_finite(config: TrainConfig, name: str, ok: Any, allowed: str) -> None:
    value = getattr(config, name)
    require(math.isfinite(value) and ok(value), name, value, allowed)


def static_part(config: TrainConfig) -> dict[str, Any]:
    """What fixes the compiled program: every field but the traced ones, and whether rollouts are sampled at all."""
    fields = dataclasses.asdict(config)
    for name in (*TRACED, *_OUTSIDE_RUN_IDENTITY):
        fields.pop(name)
    return {**fields, "sampled": config.rollout_temperature > 0}


def run_id(config: TrainConfig) -> str:
    """Content hash of a run: 12 hexadecimal digits of SHA-256 over its configuration."""
    fields = dataclasses.asdict(config)
    for name in _OUTSIDE_RUN_IDENTITY:
        fields.pop(name)
    return content_hash(fields)


def content_hash(content: Any) -> str:
    """12 hexadecimal digits of SHA-256 over the canonical JSON of `content`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def group(configs: tuple[TrainConfig, ...]) -> list[tuple[TrainConfig, ...]]:
    """Runs that share one compiled program, in order of first appearance."""
    groups: dict[str, list[TrainConfig]] = {}
    for config in configs:
        groups.setdefault(content_hash(static_part(config)), []).append(config)
    return [tuple(members) for members in groups.values()]


def one_program(configs: tuple[TrainConfig, ...]) -> TrainConfig:
    """The first of `configs`; raises `BadInput` unless all share one compiled program."""
    if len(group(configs)) != 1:
        raise BadInput("runs of one batch must differ in " + ", ".join(TRACED) + " only")
    return configs[0]

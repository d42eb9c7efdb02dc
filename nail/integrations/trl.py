"""NAIL for trainers in PyTorch: a subclass of TRL's `DistillationTrainer` (the extra `trl`).

On one greedy rollout of the student, at each prefix, (1−β)·(−log p(y)) + β·R(a), with y ~ t = softmax(z_E/T),
R(a) = −exp(log p(a) − log q(a))·sg(log t(a) − log q(a)), a ~ q = sg(p): the losses of `nail.training.losses` in torch.
The sum over all generated tokens of an update, stop tokens included, is divided by their number (docs/theory.md §2).
Generation, accumulation, several devices, PEFT, vLLM are TRL's. Its `_compute_loss` is private: the version is exact.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nail.checks import LARGE, MAX_COUNT, SMALL, BadInput, require
from nail.training.losses import FLOOR

try:
    import torch
    from torch.utils.checkpoint import checkpoint
    from trl import DistillationConfig, DistillationTrainer
    from trl.trainer import distillation_trainer as engine
except ImportError as missing:
    raise BadInput(
        f"nail.integrations.trl needs packages that are not installed ({missing.name or missing}): "
        "pip install 'nail[trl]', or in a clone pip install -e '.[trl]'"
    ) from missing


@dataclass
class NailConfig(DistillationConfig):
    """TRL's `DistillationConfig`, in which β mixes forward and reverse KL, and rollouts are greedy by default.

    Raises `BadInput` for a value out of range. `temperature` counts only where rollouts are sampled
    (`generation_kwargs={"do_sample": True}`); in the loss the student's law is p at temperature 1.
    """

    beta: float = field(default=0.5, metadata={"help": "share of the reverse KL, 0 ≤ β ≤ 1"})
    expert_temperature: float = field(default=1.0, metadata={"help": "T > 0: the expert's logits are divided by it"})
    chunk_size: int = field(default=128, metadata={"help": "positions whose logits are held at a time ≥ 1"})

    def __post_init__(self) -> None:
        temperature = self.expert_temperature
        require(0 <= self.beta <= 1, "beta", self.beta, "in [0, 1]")
        require(SMALL <= temperature <= LARGE, "expert_temperature", temperature, f"in [{SMALL:g}, {LARGE:g}]")
        require(1 <= self.chunk_size <= MAX_COUNT, "chunk_size", self.chunk_size, f"an integer in 1..{MAX_COUNT}")
        super().__post_init__()
        greedy = {"temperature": 0.0} if self.use_vllm else {"do_sample": False}
        self.generation_kwargs = {**greedy, **(self.generation_kwargs or {})}


class NailTrainer(DistillationTrainer):
    """NAIL, or NAIL-F at β = 0 and NAIL-R at β = 1: `NailTrainer(student, expert, NailConfig(…), …)`.

    All else is as in TRL's `DistillationTrainer`; `args` may not be left out.
    """

    def __init__(
        self, model: Any, teacher_model: Any = None, args: NailConfig | None = None, *given: Any, **named: Any
    ):
        require(isinstance(args, NailConfig), "args", type(args).__name__, "a NailConfig")
        super().__init__(model, teacher_model, args, *given, **named)

    def uniforms(self, count: int, device: Any) -> "torch.Tensor":
        """(count, 2) numbers in [0, 1), from which the token y and the token a of each position are picked."""
        return torch.rand(count, 2, dtype=torch.float64, device=device)

    def _compute_loss(self, *given: Any, **named: Any) -> Any:
        with _loss_replaced(self._mixture):
            return super()._compute_loss(*given, **named)

    def _mixture(self, mine, theirs, head, their_head, mask, beta, num_items_in_batch=None, *, temperature, **more):
        """(loss, Σ entropies of the student in nats, number of tokens) from hidden states (batch, length, width)."""
        kept = mask.reshape(-1) != 0
        mine, theirs = mine.reshape(-1, mine.shape[-1])[kept], theirs.reshape(-1, theirs.shape[-1])[kept]
        ours, expert = Head.of("student", head, mine, more), Head.of("teacher", their_head, theirs, more)
        uniforms = self.uniforms(len(mine), mine.device)
        total = entropy = ours(mine[:0]).sum()

        def chunk(h, e, u):
            logp = ours(h).log_softmax(-1)
            noisy = (expert(e).detach() / self.args.expert_temperature).log_softmax(-1)
            labels, actions = picked(noisy, u[:, 0]), picked(logp.detach(), u[:, 1])
            loss = mixed(logp, noisy, labels, actions, beta).sum()
            return loss, -(logp.exp() * logp).detach().nan_to_num().sum()

        for parts in zip(*(x.split(self.args.chunk_size) for x in (mine, theirs, uniforms)), strict=True):
            loss, spread = checkpoint(chunk, *parts, use_reentrant=False)
            total, entropy = total + loss, entropy + spread
        count = kept.sum()
        share = count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return total / share, entropy, count


def mixed(logp, noisy, labels, actions, beta):
    """(1−β)·(−log p(y)) − β·exp(log p(a) − sg log p(a))·sg(log t(a) − log p(a)) by position, in nats.

    logp, noisy: log p and log t, (positions, tokens); labels, actions: y and a. log t(a) is at least log `FLOOR`.
    """
    at_label, at_action = (logp.gather(-1, x[:, None])[:, 0] for x in (labels, actions))
    theirs = noisy.gather(-1, actions[:, None])[:, 0].exp().clamp(min=FLOOR).log()
    q = at_action.detach()
    return -(1 - beta) * at_label - beta * (at_action - q).exp() * (theirs - q).detach()


def picked(logp, uniforms):
    """The token of each row at which the distribution function of exp(logp) first exceeds a number in [0, 1)."""
    mass = logp.double().exp().cumsum(-1)
    found = torch.searchsorted(mass, uniforms[:, None] * mass[:, -1:], right=True)[:, 0]
    return found.clamp(max=logp.shape[-1] - 1)


@dataclass(frozen=True)
class Head:
    """Hidden states (positions, width) → logits in float32, as TRL computes them for the families that it knows."""

    weight: Any
    bias: Any
    scale: float
    cap: float | None

    @classmethod
    def of(cls, whose, weight, hidden, more):
        """The head of the "student" or the "teacher", whose shards are put together once."""
        bias = more[f"{whose}_lm_head_bias"]
        whole = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in (weight, bias)]
        cap = more[f"{whose}_final_logit_softcapping"]
        return cls(whole[0].to(hidden.dtype), whole[1], more[f"{whose}_logit_scale"], cap)

    def __call__(self, hidden):
        logits = torch.nn.functional.linear(hidden, self.weight, self.bias).float() * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


@contextmanager
def _loss_replaced(mixture: Any) -> Iterator[None]:
    """TRL's `_compute_loss` runs both models and finds their heads; what it then calls is replaced while it runs."""
    theirs = engine._chunked_divergence_loss
    engine._chunked_divergence_loss = mixture
    try:
        yield
    finally:
        engine._chunked_divergence_loss = theirs

"""Students by name: the options that each one has, and the policy that is made of them.

Nothing here loads JAX before a policy is made: the command line is built from these rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from nail.checks import LARGE, SMALL, require, require_known
from nail.registry import Options, Table

PRECISIONS = ("float32", "fast-float32", "bfloat16")
REUSES = ("on", "off")
MOST = {"width": 65_536, "heads": 65_536, "layers": 256}
"""option → its largest number: beyond these a program is not compiled in any time"""


class Student(NamedTuple):
    """What is trained, and the architecture of a trained expert."""

    name: str
    summary: str
    options: type
    """frozen dataclass of its own options; its method `check()` raises `BadInput` for a bad one"""
    policy: Callable[[Any, Any], Any]
    """(options, environment) → `nail.policies.policy.Policy`"""


@dataclass(frozen=True)
class TransformerOptions(Options):
    """Options of the decoder transformer."""

    width: int = 512
    """model width, a multiple of heads, at most 65536"""
    heads: int = 8
    """attention heads, 1 ≤ heads ≤ width"""
    layers: int = 1
    """decoder blocks, 1 ≤ layers ≤ 256"""
    init_std: float | None = None
    """standard deviation of the initial weights, 1e-30 ≤ std ≤ 1e30 (residual projections: divided by √(2·layers));
    default: 0.02·√(512/width), the paper's 0.02 at width 512 and the same scale of activations at other widths"""
    precision: str = "float32"
    """float32; fast-float32: products as the device prefers them (TF32 on a recent GPU; the same as float32 on a CPU);
    bfloat16: activations and products (parameters, softmax, loss and optimiser stay float32)"""
    reuse: str = "on"
    """on: the products of a rollout are the forward pass of the loss at its prefixes, and the first block is a table by
    token and position where the batch exceeds the vocabulary; off: all is computed again, for comparison. Same
    rollouts, and gradients up to rounding"""

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""
        require_known("precision", self.precision, PRECISIONS)
        require_known("reuse", self.reuse, REUSES)
        for name in ("width", "heads", "layers"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of at least 1")
            require(getattr(self, name) <= MOST[name], name, getattr(self, name), f"at most {MOST[name]}")
        std = self.init_std
        require(std is None or SMALL <= std <= LARGE, "init_std", std,
                f"in [{SMALL:g}, {LARGE:g}]")  # fmt: skip
        require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width ({self.width})")

    @property
    def initial_std(self) -> float:
        """Standard deviation of the initial weights: the configured one, or else 0.02·√(512/width)."""
        return 0.02 * math.sqrt(512 / self.width) if self.init_std is None else self.init_std


def _transformer(options: Any, env: Any) -> Any:
    from nail.policies.transformer import Decoder, TransformerPolicy, compute_dtype, product_precision

    return TransformerPolicy(
        Decoder(
            n_actions=env.n_actions,
            prompt=env.prompt_length,
            horizon=env.horizon,
            width=options.width,
            heads=options.heads,
            layers=options.layers,
            init_std=options.initial_std,
            dtype=compute_dtype(options.precision),
            precision=product_precision(options.precision),
            reuse=options.reuse == "on",
        )
    )


def _table(options: Any, env: Any) -> Any:
    from nail.policies.softmax_table import SoftmaxTable

    return SoftmaxTable(env.horizon, env.n_observations, env.n_actions)


STUDENTS = Table(
    "student",
    [
        Student("transformer", "decoder transformer over prompt and chain", TransformerOptions, _transformer),
        Student("table", "logits by step and state", Options, _table),
    ],
)

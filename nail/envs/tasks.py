"""Tasks by name: the options that each one has, its environment, and the finite MDP behind it if it is tabular.

An option belongs to the task that reads it: runs of another task have no such field. Nothing here loads JAX before an
environment is made: the command line is built from these rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

from nail.checks import MAX_ENTRIES, MAX_TREE, require, require_known
from nail.registry import Options, Table

RECOVERIES = ("none", "follow", "echo")
SLOTS = ("none", "answer", "demonstration")
MAX_CHAIN = 8_192
"""largest m: a program holds the powers of p up to p^m, and a row its accuracy at each position"""
MAX_PERMUTATIONS = 1_024
"""largest m of s5: its chain has 7m tokens"""
MAX_HORIZON = 10_000
"""largest H of a tabular task: its tables are made layer by layer, and a row holds its accuracy at each step"""


class Task(NamedTuple):
    """A task: what `--task NAME` stands for."""

    name: str
    summary: str
    """one line for `nail list`"""
    options: type
    """frozen dataclass of the task's own options; its method `check()` raises `BadInput` for a bad one. A property
    `n_actions`, where it has one, lets what depends on A be checked before the environment is made"""
    environment: Callable[[Any, int, int], Any]
    """(options, bank seed, held-out contexts) → `nail.envs.environment.Environment`"""
    instance: Callable[[Any, int], Any] | None = None
    """(options, seed) → the `nail.envs.instances.Instance` of a tabular task"""
    student: str = "transformer"
    """row of `nail.policies.students.STUDENTS`"""
    rewards: tuple[str, ...] = ()
    """rows of `nail.training.rewards.REWARDS` that its score can be verified by, the usual one first; none: a method
    that reads a reward cannot be trained on it"""
    renamed: tuple[tuple[str, str], ...] = ()
    """names that users may expect, and what they are called here"""
    steering: Callable[[], Any] | None = None
    """what gives the `nail.envs.steering.Steering` of a task whose prompts can be perturbed"""


@dataclass(frozen=True)
class ModAddOptions(Options):
    """Options of modular addition."""

    p: int = 7
    """modulus of the addition, 2 ≤ p ≤ 32768; the vocabulary is 0..p−1 and "=" """
    m: int = 31
    """chain length = horizon H in tokens, 1 ≤ m ≤ 8192"""
    recovery: str = "none"
    """clean expert after a mistake: none (uniform from there on), follow (continues from the prefix it is given), or
    echo (repeats the last token with probability 0.9, and is uniform else)"""

    @property
    def n_actions(self) -> int:
        """A."""
        return self.p + 1

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""
        require_known("recovery", self.recovery, RECOVERIES)
        require(2 <= self.p <= 2**15, "p", self.p, "an integer in 2..32768")
        require(self.m >= 1, "m", self.m, "an integer of at least 1")
        require(self.m <= MAX_CHAIN, "m", self.m, f"at most {MAX_CHAIN}")


@dataclass(frozen=True)
class S5Options(Options):
    """Options of the composition of permutations."""

    n_actions: ClassVar[int] = 8
    """A."""
    m: int = 21
    """permutations to compose, 1 ≤ m ≤ 1024; prompt and chain have 7m tokens each"""
    recovery: str = "follow"
    """clean expert after a wrong key digit: follow (continues from the prefix it is given) or none (all digits uniform
    from there on, parentheses kept)"""

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""
        require_known("recovery", self.recovery, ("none", "follow"))
        require(self.m >= 1, "m", self.m, "an integer of at least 1")
        require(self.m <= MAX_PERMUTATIONS, "m", self.m, f"at most {MAX_PERMUTATIONS}")


@dataclass(frozen=True)
class DefClassOptions(Options):
    """Options of classification by definitions in the prompt."""

    n_actions: ClassVar[int] = 26
    """A."""
    epsilon: float = 0.02
    """share ε of prompts whose definitions are a random assignment and not the usual ones, 0 ≤ ε ≤ 1"""
    eta_new: float = 0.3
    """with noise canonical: rate at which other definitions are read as the usual ones, 0 ≤ eta_new < 1"""
    negated: float = 0.0
    """share of prompts in which one definition is negated, by NOT in place of "|", 0 ≤ negated ≤ 1"""
    slots: str = "none"
    """places at the end of the prompt that a teacher may see filled (`teacher_sees`): none, answer (one token), or
    demonstration (a chain); they are empty in held-out prompts"""
    shown: float = 0.0
    """share of training prompts whose slots are filled for the student too, with a uniform answer or a chain to one,
    which the expert then follows, 0 ≤ shown ≤ 1"""

    @property
    def sees(self) -> tuple[str, ...]:
        """What a teacher of the student's own network may see beyond the student's prompt."""
        return () if self.slots == "none" else (self.slots,)

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""
        require(0 <= self.epsilon <= 1, "epsilon", self.epsilon, "in [0, 1]")
        require(0 <= self.eta_new < 1, "eta_new", self.eta_new, "in [0, 1)")
        require(self.eta_new <= 1 - 2**-24, "eta_new", self.eta_new, "below 1 when it is rounded to 32 bits")
        require(0 <= self.negated <= 1, "negated", self.negated, "in [0, 1]")
        require_known("slots", self.slots, SLOTS)
        require(0 <= self.shown <= 1, "shown", self.shown, "in [0, 1]")
        require(not self.shown or self.slots != "none", "shown", self.shown, "0 where the prompt has no slots")


def _require_horizon(horizon: int) -> None:
    require(horizon >= 1, "H", horizon, "an integer of at least 1")
    require(horizon <= MAX_HORIZON, "H", horizon, f"at most {MAX_HORIZON}")


class _TabularOptions(Options):
    """What options of tabular tasks have in common."""

    @property
    def n_actions(self) -> int:
        """A."""
        return self.A


@dataclass(frozen=True)
class ChainOptions(_TabularOptions):
    """Options of the poison chain."""

    A: int = 4
    """number of actions, 2 ≤ A ≤ 32768"""
    H: int = 8
    """horizon in steps, 1 ≤ H ≤ 10,000, with 4·H·A ≤ 2^24"""

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""
        require(2 <= self.A <= 2**15, "A", self.A, "an integer in 2..32768")
        _require_horizon(self.H)
        require(self.H * self.A * 4 <= MAX_ENTRIES, "4·H·A", self.H * self.A * 4, f"at most {MAX_ENTRIES}")


@dataclass(frozen=True)
class TreeOptions(_TabularOptions):
    """Options of the hidden path as a tree."""

    A: int = 4
    """number of actions, A ≥ 2, with A^(H−1) ≤ 1024"""
    H: int = 4
    """horizon in steps, H ≥ 1"""

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""
        require(2 <= self.A <= 2**15, "A", self.A, "an integer in 2..32768")
        require(self.H >= 1, "H", self.H, "an integer of at least 1")
        levels = min(self.H, 64)
        require(self.A ** (levels - 1) <= MAX_TREE, "A^(H−1)", f"{self.A}^{self.H - 1}", f"at most {MAX_TREE}")
        require(self.A ** (2 * levels - 1) <= MAX_ENTRIES, "A^(2H−1)", f"{self.A}^{2 * self.H - 1}",
                f"at most {MAX_ENTRIES}")  # fmt: skip


@dataclass(frozen=True)
class GarnetOptions(_TabularOptions):
    """Options of a random MDP."""

    S: int = 8
    """states of a layer, 1 ≤ S ≤ 64"""
    A: int = 4
    """number of actions, 2 ≤ A ≤ 32768"""
    H: int = 8
    """horizon in steps, 1 ≤ H ≤ 10,000, with H·S²·A ≤ 2^24"""
    branching: int = 2
    """successors of each state and action, 1 ≤ branching ≤ S"""

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""
        require(2 <= self.A <= 2**15, "A", self.A, "an integer in 2..32768")
        _require_horizon(self.H)
        require(1 <= self.S <= 64, "S", self.S, "an integer in 1..64")
        require(1 <= self.branching <= self.S, "branching", self.branching, f"an integer in 1..S = {self.S}")
        require(self.H * self.S**2 * self.A <= MAX_ENTRIES, "H·S²·A", self.H * self.S**2 * self.A,
                f"at most {MAX_ENTRIES}")  # fmt: skip


def _modadd(options: Any, seed: int, n_validation: int) -> Any:
    from nail.envs.modadd import make_modadd

    return make_modadd(options.p, options.m, options.recovery, seed, n_validation)


def _s5(options: Any, seed: int, n_validation: int) -> Any:
    from nail.envs.s5 import make_s5

    return make_s5(options.m, options.recovery, seed, n_validation)


def _defclass(options: Any, seed: int, n_validation: int) -> Any:
    from nail.envs.defclass import CLASSES, NAME, PAD, make_defclass
    from nail.envs.slots import Slotted

    env = make_defclass(options.epsilon, options.eta_new, seed, n_validation, options.negated)
    if options.slots == "none":
        return env
    size, names = 1 if options.slots == "answer" else env.horizon, tuple(range(NAME, NAME + CLASSES))
    return Slotted(env, size, PAD, names, options.shown, seed)


def _definitions() -> Any:
    from nail.envs.steering import STEERING

    return STEERING


def _secret(options: Any, seed: int) -> Any:
    """Right actions, uniform on A^H."""
    import numpy as np

    return np.random.default_rng(seed).integers(options.A, size=options.H)


def _poison_chain(options: Any, seed: int) -> Any:
    from nail.envs.instances import poison_chain

    return poison_chain(options.H, options.A, _secret(options, seed))


def _hidden_path(options: Any, seed: int) -> Any:
    from nail.envs.instances import hidden_path

    return hidden_path(options.H, options.A, _secret(options, seed))


def _garnet(options: Any, seed: int) -> Any:
    from nail.envs.instances import garnet

    return garnet(seed, options.H, options.S, options.A, options.branching)


def _tabular(instance: Callable[[Any, int], Any], options: Any, seed: int, n_validation: int) -> Any:
    """The environment of an instance: contexts from the bank seed, and the instance drawn from it too."""
    from nail.envs.tabular import make_tabular

    return make_tabular(instance(options, seed), seed, n_validation)


def tabular_task(
    name: str, summary: str, options: type, instance: Callable[[Any, int], Any],
    renamed: tuple[tuple[str, str], ...] = (("p", "A"), ("m", "H")), rewards: tuple[str, ...] = (),
) -> Task:  # fmt: skip
    """The task of a finite MDP, with a softmax table as student."""
    return Task(name, summary, options, partial(_tabular, instance), instance, "table", rewards, renamed)


_CHAIN = ("answer", "chain")
"""rewards of a chain of thought: its answer, or all of it"""

TASKS = Table(
    "task",
    [
        Task("modadd", "modular addition with a chain of thought", ModAddOptions, _modadd, rewards=_CHAIN),
        Task("s5", "permutations of five symbols, composed with a chain of thought", S5Options, _s5, rewards=_CHAIN),
        Task(
            "defclass", "classification by definitions that stand in the prompt", DefClassOptions, _defclass,
            rewards=_CHAIN, steering=_definitions,
        ),
        tabular_task(
            "poison-chain", "tabular: one wrong action leaves the path for good, and the expert is uniform there",
            ChainOptions, _poison_chain, rewards=("chain",),
        ),
        tabular_task(
            "hidden-path", "tabular: one secret path in a tree of prefixes; A^(H−1) ≤ 1024", TreeOptions, _hidden_path,
            rewards=("chain",),
        ),
        tabular_task("garnet", "tabular: a random MDP, some successors of each action", GarnetOptions, _garnet),
    ],
)  # fmt: skip

"""`nail theory …`: closed forms, as a table or as JSON. They need numpy and scipy alone."""

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar

import tyro

from nail.checks import require, require_known
from nail.cli.question import MAX_LEVELS, Question

Horizon = Annotated[int, tyro.conf.arg(help="horizon H ≥ 1, steps an episode")]
Actions = Annotated[int, tyro.conf.arg(help="number of actions A ≥ 2")]
Eta = Annotated[float, tyro.conf.arg(help="corruption rate η, 0 ≤ η < 1")]
Episodes = Annotated[int, tyro.conf.arg(help="episodes n ≥ 0")]
Delta = Annotated[float, tyro.conf.arg(help="probability δ of failure that is allowed, 0 < δ < 1")]
Domination = Annotated[float, tyro.conf.arg(help="C ≥ 1 with ν(a) ≤ C·q(a) for all actions a")]


@dataclass(frozen=True, kw_only=True)
class Survival(Question):
    """Probability that a noisy trajectory is still clean after H steps."""

    H: Horizon
    A: Actions
    eta: Eta

    name: ClassVar[str] = "survival"
    meaning: ClassVar[str] = "probability that a trajectory of the noisy expert is still clean after H steps"
    formula: ClassVar[str] = "q^H, q = 1 − η + η/A"
    source: ClassVar[str] = "docs/theory.md §3.3; deterministic expert, uniform noise"

    def answer(self) -> dict[str, Any]:
        from nail.theory.exact import survival

        return {"value": survival(self.H, self.A, self.eta)}


@dataclass(frozen=True, kw_only=True)
class OfflineGenie(Question):
    """Success probability that no offline learner of the hidden path exceeds with n trajectories."""

    H: Horizon
    A: Actions
    eta: Eta
    n: Episodes

    name: ClassVar[str] = "offline-genie"
    meaning: ClassVar[str] = "upper bound on the success probability of any offline learner of the hidden path"
    formula: ClassVar[str] = "G(n) = Σ_k Bin(k; n, q^(H−1))·M_A(k), M_A(k) = P(plurality of k labels is right)"
    source: ClassVar[str] = "docs/theory.md §4.1; expert uniform off its path, uniform noise, ties broken uniformly"

    def answer(self) -> dict[str, Any]:
        from nail.theory.exact import genie_success

        return {"value": genie_success(self.H, self.A, self.eta, self.n)}


@dataclass(frozen=True, kw_only=True)
class OfflineN(Question):
    """Trajectories that every offline learner of the hidden path needs for success 1−δ."""

    H: Horizon
    A: Actions
    eta: Eta
    delta: Delta

    name: ClassVar[str] = "offline-n"
    meaning: ClassVar[str] = "lower bound on the trajectories that an offline learner of the hidden path needs"
    formula: ClassVar[str] = "min{n : G(n) ≥ 1−δ}, about k_δ·q^−(H−1), G as in offline-genie"
    source: ClassVar[str] = "docs/theory.md §4.1; expert uniform off its path, uniform noise"

    def answer(self) -> dict[str, Any]:
        from nail.theory.exact import n_offline, survival

        clean = survival(self.H - 1, self.A, self.eta)
        require(clean > 1e-280, "H", self.H, f"small enough that q^(H−1) exceeds 1e-280 at eta {self.eta}")
        return {"value": n_offline(self.H, self.A, self.eta, self.delta)}


@dataclass(frozen=True, kw_only=True)
class BcExact(Question):
    """Exact success probability of LogLossBC on the poison chain after n trajectories."""

    H: Horizon
    A: Actions
    eta: Eta
    n: Episodes

    name: ClassVar[str] = "bc-exact"
    meaning: ClassVar[str] = "probability that LogLossBC finds all H right actions of the poison chain"
    formula: ClassVar[str] = (
        "dynamic programme over n_h: n_1 = n, n_(h+1) ~ Bin(n_h, q), plurality right at every level"
    )
    source: ClassVar[str] = "docs/theory.md §4.2; expert uniform off path, uniform noise, ties broken uniformly"

    def answer(self) -> dict[str, Any]:
        from nail.theory.exact import bc_exact

        require(self.H <= MAX_LEVELS, "H", self.H, f"at most {MAX_LEVELS}")
        return {"value": bc_exact(self.H, self.A, self.eta, self.n)}


@dataclass(frozen=True, kw_only=True)
class Hellinger(Question):
    """Factor by which noise that the laws dominate shrinks squared Hellinger distances, at worst."""

    eta: Eta
    C: Domination

    name: ClassVar[str] = "hellinger"
    meaning: ClassVar[str] = "factor f with D²(p_η, q_η) ≥ f·D²(p, q) for every p, D² = Σ(√p − √q)²"
    formula: ClassVar[str] = "f = (1−η)² / (√(ηC) + √(1−η+ηC))²"
    source: ClassVar[str] = "docs/theory.md §3.2; ν(a) ≤ C·q(a) for all a"

    def answer(self) -> dict[str, Any]:
        from nail.theory.bounds import hellinger_constant

        return {"value": hellinger_constant(self.eta, self.C)}


@dataclass(frozen=True, kw_only=True)
class LrtError(Question):
    """Exact error of the likelihood-ratio test between the two rare-action experts."""

    H: Horizon
    c: Annotated[float, tyro.conf.arg(help="c = HΔ, expected rare actions an episode at θ = 0, 0 < c ≤ H/2")]
    eta: Eta
    n: Episodes
    noise: str = "uniform"
    """uniform (ν(1) = 1/2) or dominated (ν(1) = CΔ)"""
    C: Annotated[float, tyro.conf.arg(help="C of the dominated noise, 1 ≤ C ≤ H/c")] = 1.0

    name: ClassVar[str] = "lrt-error"
    meaning: ClassVar[str] = (
        "mean error of the likelihood-ratio test of θ = 0 against θ = 1 on the rare-action instance"
    )
    formula: ClassVar[str] = "½ Σ_k min(Bin(k; nH, p_0), Bin(k; nH, p_1)), p_θ = (1−η)Δ(1+θ) + η·ν(1), Δ = c/H"
    source: ClassVar[str] = "docs/theory.md §4.4; equal priors"

    def answer(self) -> dict[str, Any]:
        from nail.theory.exact import lrt_error

        require_known("noise", self.noise, ("uniform", "dominated"))
        require(self.c <= self.H / 2, "c", self.c, f"at most H/2 = {self.H / 2:g}")
        most = self.H / self.c
        require(1 <= self.C <= most, "C", self.C, f"at most H/c = {most:g}")
        require(self.n * self.H <= 2**53, "n", self.n, "small enough that n·H is at most 2^53")
        return {"value": lrt_error(self.H, self.c, self.eta, self.n, self.noise, self.C)}


@dataclass(frozen=True, kw_only=True)
class Compounding(Question):
    """Expected cost over T steps of a policy that errs with probability ε at each on-path state."""

    T: Annotated[int, tyro.conf.arg(help="steps T ≥ 1")]
    eps: Annotated[float, tyro.conf.arg(help="probability ε of a mistake at an on-path state, 0 < ε < 1")]
    recovery: int | None = None
    """steps u ≥ 1 after a mistake until the path is regained; default: never"""

    name: ClassVar[str] = "compounding"
    meaning: ClassVar[str] = "expected number of steps that cost 1: from each mistake until the path is regained"
    formula: ClassVar[str] = "Σ_t (1 − (1−ε)·c_t), c_t = (1−ε)·c_(t−1) + ε·c_(t−u), c_1 = 1; ≤ εT², or ≤ uεT"
    source: ClassVar[str] = "docs/theory.md §4.3 (Ross & Bagnell 2010; arXiv 1011.0686)"

    def answer(self) -> dict[str, Any]:
        from nail.theory.exact import compounding_cost

        return {"value": compounding_cost(self.T, self.eps, self.recovery)}


QUANTITIES: tuple[type[Question], ...] = (
    Survival, OfflineGenie, OfflineN, BcExact, Hellinger, LrtError, Compounding,
)  # fmt: skip
_ANY_QUANTITY = reduce(or_, (Annotated[q, tyro.conf.subcommand(q.name, prefix_name=False)] for q in QUANTITIES))


@dataclass(frozen=True)
class Theory:
    """Closed forms and bounds of the theory: one number, with its formula and its source."""

    quantity: _ANY_QUANTITY

    def run(self) -> None:
        self.quantity.run()

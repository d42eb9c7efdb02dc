"""`nail theory QUANTITY`: closed forms and bounds, a row each. They need numpy and scipy alone, not JAX."""

from collections.abc import Callable
from dataclasses import field, make_dataclass
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, NamedTuple

import tyro

from nail.checks import require, require_known
from nail.cli.question import Question

OPTIONS: dict[str, tuple[Any, str]] = {
    "H": (int, "horizon, steps an episode, 1 ≤ H ≤ 1e290"),
    "A": (int, "number of actions, 2 ≤ A ≤ 100,000"),
    "T": (int, "steps, 1 ≤ T ≤ 1,000,000"),
    "n": (int, "episodes, 0 ≤ n ≤ 1e290"),
    "eta": (float, "corruption rate, 0 ≤ η ≤ 1 − 1e-9"),
    "delta": (float, "probability δ of failure that is allowed, 1e-9 ≤ δ < 1"),
    "eps": (float, "probability ε of a mistake at an on-path state, 1e-30 ≤ ε < 1"),
    "c": (float, "c = HΔ, expected rare actions an episode at θ = 0, 1e-30 ≤ c ≤ H/2"),
    "C": (float, "1 ≤ C ≤ 1e30 with ν(a) ≤ C·q(a) for all actions a; of the dominated noise C ≤ H/c"),
    "noise": (str, "uniform (ν(1) = 1/2) or dominated (ν(1) = CΔ)"),
    "ties": (
        str,
        "how the plurality breaks ties: lowest (to the lowest action: n-star) or uniform (at each look)",
    ),
    "replicates": (int | None, "levels that are simulated where A > 2, ≥ 100; default: 20,000, or as many as fit"),
    "seed": (int, "of the simulation, 0 ≤ seed < 2^31"),
    "recovery": (int | None, "steps u after a mistake until the path is regained, 1 ≤ u < 2^31; default: never"),
}
"""option → type, what it is"""


MAX_CHAIN, MAX_CHAIN_WORK = 10**5, 2 * 10**10
"""largest H of `bc-exact`, and largest H × labels² of it: about a minute"""
MAX_VISITS = 4 * 10**6
"""largest H·(n+1) of `online-exact`: about a minute"""


class Quantity(NamedTuple):
    """A number that the theory gives."""

    name: str
    options: str
    """its options, in the order of the function's arguments; NAME=VALUE has a default"""
    function: str
    """module of nail.theory and function, of one number or of what stands in the answer: `value` and others"""
    meaning: str
    formula: str
    source: str
    check: Callable[[Any], None] = lambda options: None
    """raises `BadInput` for options that are too large or do not go together"""


def _check_offline(o: Any) -> None:
    from nail.theory.exact import survival

    clean = survival(o.H - 1, o.A, o.eta)
    require(clean > 1e-280, "H", o.H, f"small enough that q^(H−1) exceeds 1e-280 at eta {o.eta}")


def _check_chain(o: Any) -> None:
    from nail.theory.plurality import labels_until_sure

    require(o.H <= MAX_CHAIN, "H", o.H, f"at most {MAX_CHAIN}")
    labels = labels_until_sure(o.A, o.eta, 1e-10 / o.H)
    fits = o.H * labels**2 <= MAX_CHAIN_WORK
    most = int(MAX_CHAIN_WORK / labels**2)
    require(fits, "H", o.H, f"at most {most} at A {o.A} and eta {o.eta}, where {labels} labels count")


def _check_lrt(o: Any) -> None:
    require_known("noise", o.noise, ("uniform", "dominated"))
    require(o.c <= o.H / 2, "c", o.c, f"at most H/2 = {o.H / 2:g}")
    require(1 <= o.C <= o.H / o.c, "C", o.C, f"at most H/c = {o.H / o.c:g}")
    require(o.n * o.H <= 2**53, "n", o.n, "small enough that n·H is at most 2^53")


def _check_online(o: Any) -> None:
    require(o.n < MAX_VISITS, "n", o.n, f"below {MAX_VISITS:,}")
    require(o.H * (o.n + 1) <= MAX_VISITS, "H", o.H, f"at most {MAX_VISITS // (o.n + 1):,} at n {o.n}")
    if o.A > 2 and o.eta > 0:
        from nail.theory.online import LEAST, most_replicates

        most = most_replicates(o.A, o.n)
        require(most >= LEAST, "n", o.n, f"small enough that {LEAST} simulated levels fit (at A {o.A} {most} do)")
        given = o.replicates is None or LEAST <= o.replicates <= most
        require(given, "replicates", o.replicates, f"in {LEAST}..{most:,} at A {o.A} and n {o.n}")


QUANTITIES = (
    Quantity(
        "survival", "H A eta", "exact.survival",
        "probability that a trajectory of the noisy expert is still clean after H steps", "q^H, q = 1 − η + η/A",
        "docs/theory.md §3.3; deterministic expert, uniform noise",
    ),
    Quantity(
        "offline-genie", "H A eta n", "exact.genie_success",
        "upper bound on the success probability of any offline learner of the hidden path",
        "G(n) = Σ_k Bin(k; n, q^(H−1))·M_A(k), M_A(k) = P(plurality of k labels is right)",
        "docs/theory.md §4.1; expert uniform off its path, uniform noise, ties broken uniformly",
    ),
    Quantity(
        "offline-n", "H A eta delta", "exact.n_offline",
        "lower bound on the trajectories that an offline learner of the hidden path needs",
        "min{n : G(n) ≥ 1−δ}, about k_δ·q^−(H−1), G as in offline-genie",
        "docs/theory.md §4.1; expert uniform off its path, uniform noise", _check_offline,
    ),
    Quantity(
        "bc-exact", "H A eta n", "exact.bc_exact",
        "probability that LogLossBC finds all H right actions of the poison chain",
        "dynamic programme over n_h: n_1 = n, n_(h+1) ~ Bin(n_h, q), plurality right at every level",
        "docs/theory.md §4.2; expert uniform off path, uniform noise, ties broken uniformly",
        _check_chain,
    ),
    Quantity(
        "online-exact", "H A eta n ties=lowest replicates= seed=0", "online.online_success",
        "probability that a greedy on-policy learner finds all H right actions of the poison chain",
        "(e_n)ᵀ R^H 1, R[n, n'] = P(n' right looks among n, plurality of n labels right); A > 2: one simulated level",
        "docs/theory.md §4.2; one label per visited level, plurality; uniform noise", _check_online,
    ),
    Quantity(
        "episodes-per-level", "A eta", "online.episodes_per_level",
        "mean number of episodes μ that one more level costs a greedy on-policy learner of the poison chain",
        "μ = Σ_{k≥0} (1 − M_A(k)), M_A(k) = P(plurality of k labels is right), M_A(0) = 1/A",
        "docs/theory.md §4.2; uniform noise",
    ),
    Quantity(
        "hellinger", "eta C", "bounds.hellinger_constant",
        "factor f with D²(p_η, q_η) ≥ f·D²(p, q) for every p, D² = Σ(√p − √q)²",
        "f = (1−η)² / (√(ηC) + √(1−η+ηC))²", "docs/theory.md §3.2; ν(a) ≤ C·q(a) for all a",
    ),
    Quantity(
        "lrt-error", "H c eta n noise=uniform C=1", "exact.lrt_error",
        "mean error of the likelihood-ratio test of θ = 0 against θ = 1 on the rare-action instance",
        "½ Σ_k min(Bin(k; nH, p_0), Bin(k; nH, p_1)), p_θ = (1−η)Δ(1+θ) + η·ν(1), Δ = c/H",
        "docs/theory.md §4.4; equal priors", _check_lrt,
    ),
    Quantity(
        "compounding", "T eps recovery=", "exact.compounding_cost",
        "expected number of steps that cost 1: from each mistake until the path is regained",
        "Σ_t (1 − (1−ε)·c_t), c_t = (1−ε)·c_(t−1) + ε·c_(t−u), c_1 = 1; ≤ εT², or ≤ uεT",
        "docs/theory.md §4.3 (Ross & Bagnell 2010; arXiv 1011.0686)",
    ),
)  # fmt: skip


def question(row: Quantity) -> type[Question]:
    """The command of a quantity."""
    fields = []
    for option in row.options.split():
        name, optional, default = option.partition("=")
        kind, what = OPTIONS[name]
        given = {"default": kind(default) if default else None} if optional else {}
        fields.append((name, Annotated[kind, tyro.conf.arg(help=what)], field(**given)))

    def answer(self: Any) -> dict[str, Any]:
        row.check(self)
        module, function = row.function.split(".")
        compute = getattr(import_module(f"nail.theory.{module}"), function)
        found = compute(*(getattr(self, name) for name, *_ in fields))
        return found if isinstance(found, dict) else {"value": found}

    about = f"{row.meaning[0].upper()}{row.meaning[1:]}."
    body = {**row._asdict(), "answer": answer, "__doc__": about}
    return make_dataclass(row.name, fields, bases=(Question,), namespace=body, frozen=True, kw_only=True)


_ANY = reduce(or_, (Annotated[question(row), tyro.conf.subcommand(row.name, prefix_name=False)] for row in QUANTITIES))
Theory = make_dataclass(
    "Theory", [("quantity", _ANY)], frozen=True,
    namespace={"run": lambda self: self.quantity.run(),
               "__doc__": "Closed forms and bounds of the theory: one number, with its formula and its source."},
)  # fmt: skip

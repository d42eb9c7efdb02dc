"""Bounds and constants of docs/theory.md §3, §4 and §5: curves to overlay on measured sample complexities.

Each is a statement with its assumptions, not a fit; natural logarithms, counts in episodes.
"""

import math

from nail.checks import require
from nail.theory.exact import check_setting, right_probability


def phased_labels(horizon: int, n_actions: int, eta: float, delta: float) -> int:
    """k = ⌈2·log(2AH/δ)/(1−η)²⌉ labels a level, after which all H pluralities are right with probability >= 1−δ.

    Per wrong action P(wrong count >= right count) <= exp(−k(1−η)²/2) (Hoeffding on differences in [−1, 1]
    of mean 1−η), then a union bound over (A−1)H. Deterministic expert, uniform noise. Raises `BadInput` for
    bad H, A, η, δ. Source: docs/theory.md §4.2.
    """
    check_setting(horizon, n_actions, eta, delta)
    return math.ceil(2.0 * math.log(2 * n_actions * horizon / delta) / (1.0 - eta) ** 2)


def phased_nail(horizon: int, n_actions: int, eta: float, delta: float) -> int:
    """n <= H·k episodes for NAIL that learns level by level, k = `phased_labels` (docs/theory.md §4.2).

    A bound for the phased version; a guide for the plain one, which labels every level it reaches in every episode.
    """
    return horizon * phased_labels(horizon, n_actions, eta, delta)


def general_bound(horizon: int, log_class_size: float, eta: float, eps: float, reward_range: float = 1.0) -> float:
    """n <= H·log|Π|·R²/(2(1−η)²ε²) episodes for mean regret of the iterates <= ε; expert in Π, known noise kernel.

    The Bayes mixture of a layered class, played and deployed sampled: |J(π*) − J(π̂)| <= R·Σ_h E_{s ~ d^π̂} TV(π*, π̂),
    and Cauchy–Schwarz over `tv_budget`. `log_class_size` is log|Π| in nats, `reward_range` R the range of an episode's
    reward. Raises `BadInput` for H < 1, log|Π| < 0, η outside [0, 1), ε <= 0, R <= 0. Source: docs/theory.md §5.
    """
    require(eps > 0, "eps", eps, "positive")
    require(reward_range > 0, "reward_range", reward_range, "positive")
    check_setting(horizon, 2, eta)
    return horizon * tv_budget(log_class_size, eta) * (reward_range / eps) ** 2


def mean_regret_bound(horizon: int, log_class_size: float, eta: float, n: int, reward_range: float = 1.0) -> float:
    """Mean regret of the first n iterates <= R·√(H·log|Π|/(2(1−η)²n)): `general_bound` solved for ε.

    Raises `BadInput` for n < 1 and as `general_bound` does. Source: docs/theory.md §5.
    """
    require(n >= 1, "n", n, "at least 1")
    return math.sqrt(general_bound(horizon, log_class_size, eta, 1.0, reward_range) / n)


def tv_budget(log_class_size: float, eta: float) -> float:
    """Σ_i Σ_h E TV(π*, π̂_i)² <= log|Π|/(2(1−η)²) over all episodes i, states from π̂_i's own distribution.

    Log loss of the Bayes mixture gives Σ_i Σ_h E KL(π*_η ‖ π̂_{i,η}) <= log|Π|; then Pinsker and the law of
    docs/theory.md §3.1. Raises `BadInput` for log|Π| < 0 (nats), η outside [0, 1). Source: docs/theory.md §5.
    """
    check_setting(eta=eta)
    require(log_class_size >= 0, "log_class_size", log_class_size, "at least 0")
    return log_class_size / (2.0 * (1.0 - eta) ** 2)


def kappa(n_actions: int, eta: float) -> float:
    """κ = 2(√q − √(η/A))²: squared Hellinger distance Σ(√p−√p')² of the noisy laws of two different clean actions.

    Deterministic expert, uniform noise; 2 at η = 0, and 0 as η → 1. Raises `BadInput` for bad A, η.
    Source: docs/theory.md §5.
    """
    return 2.0 * (math.sqrt(right_probability(n_actions, eta)) - math.sqrt(eta / n_actions)) ** 2


def hellinger_constant(eta: float, domination: float) -> float:
    """The factor of D²(p_η, q_η) >= factor·D²(p, q), D² = Σ(√p−√q)², for every p when ν(a) <= C·q(a) for all a:

        factor = (1−η)² / (√(ηC) + √(1−η+ηC))².

    C = `domination` >= 1 (ν and q both sum to 1). Raises `BadInput` for η outside [0, 1) or C < 1.
    Source: docs/theory.md §3.2.
    """
    check_setting(eta=eta)
    require(domination >= 1.0, "domination", domination, "at least 1")
    return (1.0 - eta) ** 2 / (math.sqrt(eta * domination) + math.sqrt(1.0 - eta + eta * domination)) ** 2


def compounding_bound(horizon: int, error: float, recovery: int | None = None) -> float:
    """Upper bound on `exact.compounding_cost`: εT² without recovery, uεT with recovery in u steps
    (docs/theory.md §4.3)."""
    check_setting(horizon, error=error, recovery=recovery)
    return error * horizon * (horizon if recovery is None else recovery)


def rare_action_episodes(horizon: int, c: float, eta: float, delta: float) -> float:
    """n ≈ ηH/(c²(1−η)²)·log(1/δ): the shape, up to a constant, of the episodes that uniform (undominated) noise costs
    on the rare-action instance; linear in H. Raises `BadInput` for bad H, η, δ or c <= 0. Source: docs/theory.md §4.4.
    """
    check_setting(horizon, 2, eta, delta)
    require(c > 0, "c", c, "positive")
    return eta * horizon / (c**2 * (1.0 - eta) ** 2) * math.log(1.0 / delta)

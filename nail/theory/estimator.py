"""Bias and variance of the return-to-go estimator of a reverse KL between laws of sequences (docs/theory.md §6).

ĝ_γ = Σ_t ∇log p(a_t|s_t) · Σ_{t'≥t} γ^{t'−t} r_{t'}, r_t = log p(a_t|s_t) − log t(a_t|s_t), t = 1..T.

Written with the trace e_t = γ·e_{t−1} + ∇log p(a_t|s_t) it is ĝ_γ = Σ_t r_t·e_t, so where the prefix matters through
a state of a finite automaton only, its first two moments obey a linear recursion over states. "Variance" is the trace
of the covariance matrix. γ = 0 is the token-level gradient Σ_t E ∇KL(p(·|s_t)‖t(·|s_t)), prefixes stopped; γ = 1 has
the gradient of the sequence-level KL(p‖t) as its mean, provided that the student's own law draws the sequences.

Orders (G bounds ‖∇log p‖, R bounds |r|):
- stated (arXiv 2603.25562): E‖ĝ_γ‖² ≤ G²R²·(Σ_t Σ_{t'≥t} γ^{t'−t})², that is T² at γ = 0 and T⁴/4 at γ = 1;
- derived here for the student's own sequences: the scores are then martingale differences, so E‖e_t‖² ≤
  G²·Σ_{k<t} γ^{2k}, and by Minkowski E‖ĝ_γ‖² ≤ G²R²·(Σ_t √(Σ_{k<t} γ^{2k}))²: T² at γ = 0, but 4/9·T³ at γ = 1.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nail.checks import require

MAX_SEQUENCES = 2**20
"""largest A^T that is enumerated"""


class SequenceProblem(NamedTuple):
    """Student and expert over sequences of actions; the prefix a_<t matters through the state s_t only.

    s_1 = 0, s_{t+1} = `step`[s_t, a_t]; the student's law is softmax over a of `features`[s, a]·`theta`.
    """

    name: str
    step: Int[np.ndarray, "S A"]
    features: Float[np.ndarray, "S A d"]
    theta: Float[np.ndarray, " d"]
    expert: Float[np.ndarray, "S A"]
    """t(a|s) > 0"""
    driver: Float[np.ndarray, "S A"] | None = None
    """law that draws the sequences; None: the student's own"""


class Moments(NamedTuple):
    """Mean vector and trace of the covariance of ĝ_γ."""

    mean: Float[np.ndarray, " d"]
    variance: float


def student(problem: SequenceProblem) -> Float[np.ndarray, "S A"]:
    """p(a|s)."""
    logits = problem.features @ problem.theta
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def driver(problem: SequenceProblem) -> Float[np.ndarray, "S A"]:
    """The law that draws the sequences."""
    return student(problem) if problem.driver is None else problem.driver


def scores(problem: SequenceProblem) -> Float[np.ndarray, "S A d"]:
    """∇log p(a|s) = φ(s,a) − Σ_b p(b|s)·φ(s,b)."""
    return problem.features - np.einsum("sa,sad->sd", student(problem), problem.features)[:, None]


def rewards(problem: SequenceProblem) -> Float[np.ndarray, "S A"]:
    """r(s,a) = log p(a|s) − log t(a|s), nats."""
    return np.log(student(problem)) - np.log(problem.expert)


def exact_moments(problem: SequenceProblem, gamma: float, horizon: int) -> Moments:
    """Moments of ĝ_γ by the recursion over t of E[e·1_s], E[ĝ·1_s], E[‖e‖²·1_s], E[e·ĝ·1_s], E[‖ĝ‖²·1_s]; float64.

    O(T·S·A·d) operations. Raises `BadInput` for γ outside [0, 1] or T < 1.
    """
    _check(gamma, horizon)
    z, r, law = scores(problem), rewards(problem), driver(problem)
    n_states, _, d = z.shape
    mass, e, g = np.eye(n_states)[0], np.zeros((n_states, d)), np.zeros((n_states, d))
    ee, eg, gg = np.zeros(n_states), np.zeros(n_states), np.zeros(n_states)
    zz = np.sum(z**2, -1)

    def forward(per_action):
        """Σ over (s, a) that lead to a state, weighted by the law of the action."""
        out = np.zeros((n_states, *per_action.shape[2:]))
        np.add.at(out, problem.step, law.reshape(law.shape + (1,) * (per_action.ndim - 2)) * per_action)
        return out

    for _ in range(horizon):
        e1 = gamma * e[:, None] + mass[:, None, None] * z
        ze = gamma * np.einsum("sd,sad->sa", e, z)
        ee1 = gamma**2 * ee[:, None] + 2 * ze + mass[:, None] * zz
        eg1 = gamma * eg[:, None] + np.einsum("sd,sad->sa", g, z)
        g1, gg1 = g[:, None] + r[..., None] * e1, gg[:, None] + 2 * r * eg1 + r**2 * ee1
        mass, e, g = forward(np.broadcast_to(mass[:, None], r.shape)), forward(e1), forward(g1)
        ee, eg, gg = forward(ee1), forward(eg1 + r * ee1), forward(gg1)
    mean = g.sum(0)
    return Moments(mean, float(gg.sum() - mean @ mean))


def gradient(problem: SequenceProblem, horizon: int) -> Float[np.ndarray, " d"]:
    """∇KL(p‖t) of the laws of whole sequences: the mean of ĝ_1 under the student's own law."""
    return exact_moments(problem._replace(driver=None), 1.0, horizon).mean


def enumerated_moments(problem: SequenceProblem, gamma: float, horizon: int) -> Moments:
    """Moments of ĝ_γ from all A^T sequences, by the definition of the estimator and not by its recursion.

    Raises `BadInput` for γ outside [0, 1], T < 1 or more than `MAX_SEQUENCES` sequences.
    """
    _check(gamma, horizon)
    actions, states = _sequences(problem, horizon)
    z, r = scores(problem)[states, actions], rewards(problem)[states, actions]
    t = np.arange(horizon)
    discount = np.where(t >= t[:, None], float(gamma) ** np.maximum(t - t[:, None], 0), 0.0)
    g = np.einsum("ntd,tu,nu->nd", z, discount, r)
    p = np.prod(driver(problem)[states, actions], -1)
    mean = p @ g
    return Moments(mean, float(p @ np.sum((g - mean) ** 2, -1)))


def sequence_kl(theta: Float[Array | np.ndarray, " d"], problem: SequenceProblem, horizon: int) -> Float[Array, ""]:
    """KL(p_θ‖t) of the laws of whole sequences in nats, from all A^T sequences; differentiable in θ.

    Raises `BadInput` for T < 1 or more than `MAX_SEQUENCES` sequences.
    """
    _check(1.0, horizon)
    actions, states = _sequences(problem, horizon)
    log_p = jax.nn.log_softmax(jnp.asarray(problem.features) @ theta)[states, actions].sum(-1)
    log_t = jnp.log(jnp.asarray(problem.expert))[states, actions].sum(-1)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_t))


def simulate_estimator(
    problem: SequenceProblem, gammas: Float[np.ndarray, " G"], horizon: int, episodes: int, rng: np.random.Generator
) -> Float[np.ndarray, "G N d"]:
    """ĝ_γ of N independent sequences for each γ (the same sequences for all γ), by Monte Carlo."""
    z, r, cdf = scores(problem), rewards(problem), driver(problem).cumsum(-1)
    state = np.zeros(episodes, int)
    e = np.zeros((len(gammas), episodes, z.shape[-1]))
    g = np.zeros_like(e)
    for _ in range(horizon):
        action = np.minimum((rng.random(episodes)[:, None] >= cdf[state]).sum(-1), cdf.shape[-1] - 1)
        e = gammas[:, None, None] * e + z[state, action]
        g += r[state, action][:, None] * e
        state = problem.step[state, action]
    return g


def stated_bound(problem: SequenceProblem, gamma: float, horizon: int) -> float:
    """G²R²·(Σ_t Σ_{t'≥t} γ^{t'−t})²: bounds E‖ĝ_γ‖² whoever draws the sequences (arXiv 2603.25562: T² and T⁴)."""
    return _scale(problem) * float(np.sum(np.cumsum(gamma ** np.arange(horizon)))) ** 2


def martingale_bound(problem: SequenceProblem, gamma: float, horizon: int) -> float:
    """G²R²·(Σ_t √(Σ_{k<t} γ^{2k}))²: bounds E‖ĝ_γ‖² when the student's own law draws the sequences (module text)."""
    return _scale(problem) * float(np.sum(np.sqrt(np.cumsum(float(gamma) ** (2 * np.arange(horizon)))))) ** 2


def independent_tokens(expert: float = 0.1) -> SequenceProblem:
    """One state, two actions, one parameter at 0 (p = ½): t(1) = `expert`; no action matters for later ones."""
    law = np.array([[1 - expert, expert]])
    return SequenceProblem("independent", np.zeros((1, 2), int), np.array([[[0.0], [1.0]]]), np.zeros(1), law)


def early_branch(expert: float = 0.002, drawn: float | None = None) -> SequenceProblem:
    """The first action decides for good whether student and expert agree (r = 0) or not (t(1) = `expert`).

    Two parameters, both 0 (p = ½ everywhere): of the first action, and of all later ones. At γ = 0 the later terms have
    one sign in one branch and vanish in the other, so they add up: variance ∝ T². `drawn`: probability of action 1
    after the first step under the law that draws the sequences, if that is not the student's (a stale student): the
    scores then have a mean, and at γ = 1 the variance is ∝ T⁴; with the student's own it is ∝ T³.
    """
    step = np.array([[1, 2], [1, 1], [2, 2]])
    features = np.zeros((3, 2, 2))
    features[0, 1, 0] = features[1:, 1, 1] = 1.0
    law = np.array([[0.5, 0.5], [0.5, 0.5], [1 - expert, expert]])
    rollout = None if drawn is None else np.array([[0.5, 0.5], [1 - drawn, drawn], [1 - drawn, drawn]])
    return SequenceProblem("branch" if drawn is None else "stale", step, features, np.zeros(2), law, rollout)


def _scale(problem: SequenceProblem) -> float:
    """G²R²."""
    return float(np.max(np.sum(scores(problem) ** 2, -1)) * np.max(rewards(problem) ** 2))


def _check(gamma: float, horizon: int) -> None:
    require(0.0 <= gamma <= 1.0, "gamma", gamma, "in [0, 1]")
    require(horizon >= 1, "horizon", horizon, "at least 1")


def _sequences(problem: SequenceProblem, horizon: int) -> tuple[Int[np.ndarray, "N T"], Int[np.ndarray, "N T"]]:
    """All A^T action sequences and the states they pass."""
    n_actions = problem.step.shape[1]
    require(n_actions**horizon <= MAX_SEQUENCES, "A^T", n_actions**horizon, f"at most {MAX_SEQUENCES}")
    actions = np.array(list(itertools.product(range(n_actions), repeat=horizon)))
    states = np.zeros_like(actions)
    for t in range(1, horizon):
        states[:, t] = problem.step[states[:, t - 1], actions[:, t - 1]]
    return actions, states

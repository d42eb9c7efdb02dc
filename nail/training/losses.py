"""Objectives at one visited prefix; the caller vmaps over positions and batch and takes the mean (docs/theory.md §2).

p is the student's law with log-probabilities `logp`, t the noisy expert's law at the same prefix, both over the A
actions of the last axis. Prefixes are data here: no gradient flows through the rollout. All values are in nats.
`full` forms use the expert's whole law; `mc` forms use sampled actions and have the full form's gradient as mean: of a
label y ~ t, and of an action a ~ q, which counts p(a)/q(a) times. `logq` has the log-probabilities of q, the law that
drew a: p itself for a fresh draw, that of the rollout for the rollout's token (`nail.rules.rollout_law`). Terms of
tokens that q never draws are missing in the mean.
"""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int

from nail.noise import Channel

FLOOR = 1e-10
"""smallest expert probability inside a logarithm: log = −23.03 (docs/paper.md §1.2)"""

LogLaw = Float[Array, " A"]
Law = Float[Array, " A"]
Scalar = Float[Array, ""]
Beta = Float[Array, ""] | float


def through_channel(logp: Float[Array, "*n A"], channel: Channel) -> Float[Array, "*n A"]:
    """log p_η, p_η = (1−η)p + ην, for a student p of the clean law and a known channel (docs/theory.md §2), at one
    prefix or at all those that the channel is bound to."""
    return _log(channel.probs(jnp.exp(logp)))


def forward_full(logp: LogLaw, t: Law) -> Scalar:
    """KL(t‖p) = Σ_a t(a) (log t(a) − log p(a))."""
    return jnp.sum(t * (_log(t) - logp), where=t > 0)


def forward_mc(logp: LogLaw, label: Int[Array, ""]) -> Scalar:
    """−log p(y) for a label y ~ t: the log loss, whose mean is KL(t‖p) plus the entropy of t."""
    return -_pick(logp, label)


def reverse_full(logp: LogLaw, t: Law) -> Scalar:
    """KL(p‖t) = Σ_a p(a) (log p(a) − log t(a)), t floored at `FLOOR`."""
    return jnp.sum(jnp.exp(logp) * (logp - _log(t)))


def reverse_mc(logp: LogLaw, t: Law, action: Int[Array, ""], logq: LogLaw) -> Scalar:
    """Score-function form of KL(p‖t) for an action a ~ q: −p(a)/sg(q(a)) · sg(log t(a) − log p(a)).

    Its value is an unbiased estimate of KL(p‖t), and so is its gradient of ∇KL(p‖t) (docs/theory.md §3.4). The weight
    p(a)/q(a) is 1 where q = p; its variance grows as q leaves out what p plays. A q that is 0 off a set N (a nucleus)
    estimates Σ_{a∈N} p(a)·(log p(a) − log t(a)), and in its gradient Σ_{a∈N} ∇p(a)·(log p(a) − log t(a)).
    """
    lp = _pick(logp, action)
    return -_weight(logp, action, logq) * stop_gradient(_log(_pick(t, action)) - lp)


def mixed_full(logp: LogLaw, t: Law, beta: Beta) -> Scalar:
    """(1−β)·KL(t‖p) + β·KL(p‖t)."""
    return _blend(beta, lambda: forward_full(logp, t), lambda: reverse_full(logp, t))


def mixed_mc(
    logp: LogLaw, t: Law, label: Int[Array, ""], action: Int[Array, ""], logq: LogLaw, beta: Beta
) -> Scalar:  # fmt: skip
    """(1−β)·`forward_mc` + β·`reverse_mc`."""
    return _blend(beta, lambda: forward_mc(logp, label), lambda: reverse_mc(logp, t, action, logq))


def jsd_full(logp: LogLaw, t: Law, beta: Beta) -> Scalar:
    """β·KL(t‖M) + (1−β)·KL(p‖M), M = βt + (1−β)p (GKD, arXiv 2306.13649).

    It vanishes as β·KL(t‖p) for β → 0 and as (1−β)·KL(p‖t) for β → 1. The values at the ends themselves are, by
    convention, the limits of JSD/β and JSD/(1−β): KL(t‖p) at β = 0 and KL(p‖t) at β = 1.
    """
    log_tm, log_pm = _over_mixture(logp, t, beta)
    inner = beta * jnp.sum(t * log_tm, where=t > 0) + (1 - beta) * jnp.sum(jnp.exp(logp) * log_pm)
    return _with_ends(beta, inner, lambda: forward_full(logp, t), lambda: reverse_full(logp, t))


def jsd_mc(
    logp: LogLaw, t: Law, label: Int[Array, ""], action: Int[Array, ""], logq: LogLaw, beta: Beta
) -> Scalar:  # fmt: skip
    """`jsd_full` from one label y ~ t and one action a ~ q: its value, and its gradient, as means.

    β·log(t/M)(y) is differentiated through M. The part of KL(p‖M) has the gradient
    (1−β)·p/q·∇log p·(log(p/M) + β(1−β)(t−p)/M) at a: the score function, the pathwise term −∇log M, and (1−β)·∇log p,
    whose mean is 0 and without which the noise would not vanish with β.
    """
    log_tm, log_pm = _over_mixture(logp, t, beta)
    weight, p = _weight(logp, action, logq), jnp.exp(logp)
    shift = stop_gradient(beta * (1 - beta) * (t - p) / jnp.maximum(beta * t + (1 - beta) * p, FLOOR))
    kl_pm = weight * stop_gradient(_pick(log_pm, action)) + (weight - stop_gradient(weight)) * _pick(shift, action)
    inner = beta * _pick(log_tm, label) + (1 - beta) * kl_pm
    return _with_ends(beta, inner, lambda: forward_mc(logp, label), lambda: reverse_mc(logp, t, action, logq))


def teacher_support(t: Law, k: int) -> Bool[Array, " A"]:
    """S: where the K most likely tokens of the law t are (all of them where K ≥ A), the lowest token first in a tie."""
    # by number, not by value: a compiler that computes t twice need not round it twice alike
    chosen = jax.lax.top_k(t, min(k, t.shape[-1]))[1]
    return (jnp.arange(t.shape[-1])[:, None] == chosen).any(-1)


def local_renormalised(logp: LogLaw, t: Law, k: int) -> Scalar:
    """LSM: Σ_{a∈S} p̂(a) log(p̂(a)/t̂(a)), p̂ and t̂ the laws given S (docs/post_training.md §1), t floored at `FLOOR`.

    Its gradient in logits is p̂_v·(log(p̂_v/t̂_v) − value) on S, and 0 outside. K ≥ A is `reverse_full`.
    """
    inside = teacher_support(t, k)
    lp, lt = _given(logp, inside), _given(_log(t), inside)
    return jnp.sum(jnp.exp(lp) * (lp - lt), where=inside)


def local_unrenormalised(logp: LogLaw, t: Law, k: int) -> Scalar:
    """Σ_{a∈S} p(a) log(p(a)/t(a)) ≥ −t(S)/e, least at p = t/e on S: it drives mass off S (docs/post_training.md §1)."""
    return jnp.sum(jnp.exp(logp) * (logp - _log(t)), where=teacher_support(t, k))


def local_tail_full(logp: LogLaw, t: Law, k: int) -> Scalar:
    """KL(p‖t), its terms outside S as Σ_{a∉S} p(a)·sg log(p(a)/t(a)): the mean of `local_tail_mc` where q > 0 off S.

    Its gradient is that of KL(p‖t) + p(S), least where p ∝ t·exp(−1[a∈S]) (docs/post_training.md §1).
    """
    outside = ~teacher_support(t, k)
    tail = jnp.sum(jnp.exp(logp) * stop_gradient(logp - _log(t)), where=outside)
    return local_unrenormalised(logp, t, k) + tail


def local_tail_mc(logp: LogLaw, t: Law, k: int, action: Int[Array, ""], logq: LogLaw) -> Scalar:
    """`local_unrenormalised` plus 1[y∉S]·(p(y)/sg q(y))·sg log(p(y)/t(y)) at a token y ~ q (docs/post_training.md §1).

    In mean the second part is Σ_{a∉S} p(a)·sg log(p(a)/t(a)); for y of a nucleus N, only over the a in N.
    """
    missed = ~teacher_support(t, k)[action]
    return local_unrenormalised(logp, t, k) + jnp.where(missed, reverse_mc(logp, t, action, logq), 0.0)


def top_renormalised(logp: LogLaw, t: Law, k: int) -> Scalar:
    """Σ_{a∈S} t̂(a) log(t̂(a)/p̂(a)), p̂ and t̂ the laws given S: the forward KL on S (docs/post_training.md §1.7). It
    reads no mass off S, and nothing at all where K = 1."""
    inside = teacher_support(t, k)
    lp, lt = _given(logp, inside), _given(_log(t), inside)
    return jnp.sum(jnp.exp(lt) * (lt - lp), where=inside)


def top_unrenormalised(logp: LogLaw, t: Law, k: int) -> Scalar:
    """Σ_{a∈S} t(a) log(t(a)/p(a)) ≥ t(S) log t(S), least where p is t given S: no mass is left off S, and K = 1 learns
    the expert's mode (docs/post_training.md §1.7). K ≥ A is `forward_full`."""
    return jnp.sum(t * (_log(t) - logp), where=teacher_support(t, k) & (t > 0))


def top_tail(logp: LogLaw, t: Law, k: int) -> Scalar:
    """`top_unrenormalised` plus (1−t(S))·log((1−t(S))/(1−p(S))): the forward KL with all tokens off S taken for one.

    It is least, and 0, where p = t on S: the mass off S is the expert's (docs/post_training.md §1.7). K ≥ A is
    `forward_full`.
    """
    if k >= logp.shape[-1]:
        return forward_full(logp, t)
    outside = ~teacher_support(t, k)
    rest = jnp.sum(t, where=outside)
    tail = jnp.where(rest > 0, rest * (_log(rest) - jax.nn.logsumexp(logp, where=outside)), 0.0)
    return top_unrenormalised(logp, t, k) + tail


def _given(logs: LogLaw, inside: Bool[Array, " A"]) -> LogLaw:
    """Log-probabilities given a set of tokens; outside it a number without gradient."""
    return jnp.where(inside, logs - jax.nn.logsumexp(logs, where=inside), 0.0)


def _log(law):
    return jnp.log(jnp.maximum(law, FLOOR))


def _pick(values: Float[Array, " A"], action: Int[Array, ""]) -> Scalar:
    """values[action] as a masked sum: its transpose is an outer product, not a scatter."""
    chosen = jnp.arange(values.shape[-1]) == action
    return jnp.sum(jnp.where(chosen, values, 0.0))


def _weight(logp: LogLaw, action: Int[Array, ""], logq: LogLaw) -> Scalar:
    """p(a)/sg(q(a)): the importance of an action a ~ q, with the gradient of p."""
    return jnp.exp(_pick(logp, action) - stop_gradient(_pick(logq, action)))


def _over_mixture(logp: LogLaw, t: Law, beta: Beta) -> tuple[LogLaw, LogLaw]:
    """(log(t/M), log(p/M)), M = βt + (1−β)p floored at `FLOOR`: to rounding of themselves, also as β → 0 or 1."""
    p = jnp.exp(logp)
    log_m = _log(beta * t + (1 - beta) * p)
    return _less(_log(t), log_m, t, (1 - beta) * (p - t)), _less(logp, log_m, p, beta * (t - p))


def _less(log_x: LogLaw, log_m: LogLaw, x: Law, rest: Law) -> LogLaw:
    """log x − log M, M = x + rest: as −log1p(rest/x) where the rest is small, for there the difference cancels."""
    small = jnp.abs(rest) < x / 2
    share = jnp.where(small, rest, 0.0) / jnp.where(small, x, 1.0)
    return jnp.where(small, -jnp.log1p(share), log_x - log_m)


def _is_number(beta: Beta) -> bool:
    return isinstance(beta, (int, float))


def _blend(beta: Beta, forward, reverse) -> Scalar:
    """(1−β)·forward + β·reverse; a β known to be 0 or 1 leaves the unused half uncomputed."""
    if _is_number(beta) and beta in (0, 1):
        return reverse() if beta == 1 else forward()
    return (1 - beta) * forward() + beta * reverse()


def _with_ends(beta: Beta, inner: Scalar, forward, reverse) -> Scalar:
    """`inner` for 0 < β < 1, forward KL at β=0, reverse KL at β=1."""
    if _is_number(beta):
        return {0: forward, 1: reverse}.get(beta, lambda: inner)()
    return jax.lax.select(beta <= 0, forward(), jax.lax.select(beta >= 1, reverse(), inner))

"""Learners with a state of their own: the functions that make one, and three that ship (docs/learner.md).

The functions see one replicate and no more than a learner may read; the package compiles them, runs thousands of
replicates side by side, drives the episodes and counts the answers (nail/counting/own.py). Nothing here loads JAX
before a learner runs.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from nail.checks import require
from nail.registry import document_fields

Oracle = Literal["labels", "probabilities", "labels and probabilities"]


class Problem(NamedTuple):
    """What a learner is told before its first episode."""

    horizon: int
    """H"""
    n_states: int
    """S, states a step; on the poison chain 2: 0 is the path, 1 is off the path"""
    n_actions: int
    """A"""
    channel: Any
    """the channel of the labels as it is believed to be, with `eta` and `kernel` (A,) (`nail.noise.Huber`); one of the
    user's own has `probs` alone. A ν that differs from state to state is not told, but taken to be uniform"""


class Episode(NamedTuple):
    """One episode as its learner saw it; step h = 0..H−1 is the first axis of every field."""

    states: Any
    """(H,) int32, states 0..S−1; two that follow each other are a transition"""
    actions: Any
    """(H,) int32, what was played, by the learner or by the noisy expert"""
    labels: Any
    """(H,) int32, the expert's answers; A where there was none: no row of a one-hot code, and out of every table's
    range, where JAX drops what is added"""
    probabilities: Any
    """(H,) float32, the noisy expert's exact probability of the action that was played; 0 where it was not asked for"""
    asked: Any
    """(H,) bool, whether the expert answered"""


class Functions(NamedTuple):
    """A learner: pure functions of one replicate, in JAX. Steps h and states s are numbers int32 (), a state of the
    learner is any pytree of arrays whose shapes stay, and a key is the same at all steps of an episode (step h's own is
    `jax.random.fold_in(key, h)`); play, ask and update have different ones."""

    init: Callable[[Problem], Any]
    """(problem) → the state before the first episode"""
    play: Callable[[Any, Any, Any, Any], Any]
    """(state, h, s, key) → the action at step h in state s, an integer (); A: the noisy expert plays the step, and that
    is an answer"""
    update: Callable[[Any, Episode, Any], Any]
    """(state, episode, key) → the state after an episode"""
    decide: Callable[[Any], Any]
    """(state) → the policy that is judged, actions (H, S), integers"""
    ask: Callable[[Any, Any, Any, Any], Any] | None = None
    """(state, h, s, key) → whether the expert is asked at step h in state s, a bool (); None: at every step"""
    oracle: Oracle = "labels"
    """what an answer is: a label; the exact probability of the action that was played; or both, which count as two"""


def halving(delta: float = 0.1) -> Functions:
    """Halving: at each step and state an action is dropped for good once its log likelihood trails that of the best
    action left by log(AH/δ), and the first action left is played.

    The log likelihood is that of the labels behind the channel as believed; δ is an option of the learner, not the
    run's. With H labelled states all right actions are left with probability at least 1 − δ. Raises `BadInput` for δ
    outside (0, 1). Source: docs/learner.md; the halving algorithm with a margin, for labels that are noisy.
    """
    _check_delta(delta)

    def update(state, episode, key):
        import jax.numpy as jnp

        score, alive, weight = _added(state["score"], state["weight"], episode), state["alive"], state["weight"]
        best = jnp.where(alive, score, -jnp.inf).max(-1, keepdims=True)
        alive = alive & (score >= best - _threshold(score, delta))
        return {"score": score, "alive": alive, "weight": weight}

    def init(problem):
        import jax.numpy as jnp

        return _scores(problem) | {"alive": jnp.ones(_shape(problem), bool)}

    return Functions(init, _first("alive"), update, _policy("alive"))


def selective(delta: float = 0.1) -> Functions:
    """Selective sampling: the best action is played, and the expert is asked only where the log likelihood of the best
    action is less than log(AH/δ) above that of the second.

    That is RAVIOLI's rule (ask where the margin is within the width of the version space) for the finite class of one
    action a step and state, whose version space is the actions within log(AH/δ) of the best; the channel as believed
    takes the place of the link function. δ is an option of the learner. Raises `BadInput` for δ outside (0, 1).
    Source: arXiv 2307.04998; docs/learner.md.
    """
    _check_delta(delta)

    def ask(state, h, s, key):
        from jax import lax

        first, second = lax.top_k(state["score"][h, s], 2)[0]
        return first - second < _threshold(state["score"], delta)

    def update(state, episode, key):
        return state | {"score": _added(state["score"], state["weight"], episode)}

    return Functions(_scores, _first("score"), update, _policy("score"), ask)


def stagger() -> Functions:
    """STAGGER: the learner's policy drives, and one step of the episode, drawn uniformly, is labelled.

    Count-based: the label counted most is played, and judged, with ties to the lowest action (the source returns the
    mixture of its iterates). Source: arXiv 2412.07057; docs/learner.md.
    """

    def init(problem):
        import jax.numpy as jnp

        return {"labels": jnp.zeros(_shape(problem), jnp.int32)}

    def ask(state, h, s, key):
        import jax

        return h == jax.random.randint(key, (), 0, state["labels"].shape[0])

    def update(state, episode, key):
        import jax.numpy as jnp

        return {"labels": _added(state["labels"], jnp.ones_like(state["labels"]), episode)}

    return Functions(init, _first("labels"), update, _policy("labels"), ask)


def _check_delta(delta: float) -> None:
    require(0.0 < delta < 1.0, "delta", delta, "in (0, 1)")


def _shape(problem: Problem) -> tuple[int, int, int]:
    """(H, S, A)."""
    return problem.horizon, problem.n_states, problem.n_actions


def _threshold(score: Any, delta: float) -> Any:
    """log(AH/δ) of a table (H, S, A)."""
    import math

    return math.log(score.shape[0] * score.shape[-1] / delta)


def _scores(problem: Problem) -> dict[str, Any]:
    """Log likelihoods (H, S, A) of the actions before any label, up to a constant, and what a label of each adds."""
    import jax.numpy as jnp

    from nail.noise import Huber, label_weight

    known = isinstance(problem.channel, Huber)
    require(known, "noise", problem.channel, "Huber's or bursts for a learner that is told η and ν")
    score = jnp.zeros(_shape(problem), jnp.float32)
    return {"score": score, "weight": jnp.broadcast_to(label_weight(problem.channel, score), score.shape)}


def _added(table: Any, weight: Any, episode: Episode) -> Any:
    """A table (H, S, A) with the weights of an episode's labels added at their steps and states."""
    import jax.numpy as jnp

    steps = jnp.arange(table.shape[0])
    at = steps, episode.states, episode.labels
    return table.at[at].add(weight[at])


def _first(name: str) -> Callable[..., Any]:
    """Plays the action of the largest entry of a table (H, S, A) of the state; ties to the lowest."""

    def play(state, h, s, key):
        import jax.numpy as jnp

        return jnp.argmax(state[name][h, s])

    return play


def _policy(name: str) -> Callable[..., Any]:
    """The policy (H, S) that plays so everywhere."""

    def decide(state):
        import jax.numpy as jnp

        return jnp.argmax(state[name], axis=-1)

    return decide


document_fields(__name__)

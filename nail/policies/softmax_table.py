"""Tabular policies: count tables, plurality, and a softmax table as a network whose forward pass is a look-up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray


def add_labels(
    counts: Num[Array, "... A"], labels: Int[Array, "..."], weight: Num[Array, "..."]
) -> Num[Array, "... A"]:
    """Counts with `weight` (1: counted, 0: not) added to each state's labelled action; the label's shape is the
    states' shape."""
    one_hot = labels[..., None] == jnp.arange(counts.shape[-1]).reshape((1,) * labels.ndim + (-1,))
    return counts + (one_hot * weight[..., None]).astype(counts.dtype)


def plurality(scores: Num[Array, "... A"], key: PRNGKeyArray | None = None) -> Int[Array, "..."]:
    """The action with the largest score (count) of each state; ties to the lowest action, or uniformly with a key."""
    if key is None:
        return jnp.argmax(scores, axis=-1)
    tied = scores == scores.max(-1, keepdims=True)
    return jnp.argmax(jnp.where(tied, jax.random.uniform(key, scores.shape), -1.0), axis=-1)


def frequencies(counts: Num[Array, "... A"]) -> Float[Array, "... A"]:
    """Maximum-likelihood law n_a/Σn of each state; uniform where there is no label."""
    total = counts.sum(-1, keepdims=True)
    law = counts / jnp.maximum(total, 1)
    return jnp.where(total > 0, law, 1.0 / counts.shape[-1])


def deterministic(actions: Int[Array, "..."], n_actions: int) -> Float[Array, "... A"]:
    """The policy that plays `actions`: one-hot on a last axis of length A."""
    return jax.nn.one_hot(actions, n_actions)


class SoftmaxTable(NamedTuple):
    """π_h(·|s) = softmax(θ[h, s]): a `Policy` whose parameters are the logits (H, S, A) and whose observation at step
    h is the state's number."""

    horizon: int
    n_states: int
    n_actions: int

    def init(self, key: PRNGKeyArray, scale: float = 0.0) -> Float[Array, "H S A"]:
        """Normal logits of standard deviation `scale`; 0, the default, is the uniform policy."""
        return scale * jax.random.normal(key, (self.horizon, self.n_states, self.n_actions))

    def forward(
        self, params: Float[Array, "H S A"], contexts: object, observations: Int[Array, "B H"], known: None = None
    ) -> tuple[Float[Array, "B H A"], None]:
        """θ[h, s_h] of every visited state; nothing is known beforehand."""
        return params[jnp.arange(self.horizon)[None, :], observations], None

    def start(self, params: Float[Array, "H S A"], contexts: object, keep: bool = False) -> None:
        """Nothing is carried: the observation is the state."""
        return None

    def step(
        self, params: Float[Array, "H S A"], cache: None, step: Int[Array, ""] | int, observations: Int[Array, " B"]
    ) -> tuple[Float[Array, "B A"], None]:
        """θ[step, s] of the B current states."""
        return params[step][observations], cache

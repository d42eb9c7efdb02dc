"""Corruption channels: what happens to an expert's law before a learner sees a label of it.

A channel is a map from a clean law to a noisy law. `probs` is its only definition; labels are drawn from that
very law by `sample`, so samples and exact probabilities cannot disagree. Parameters are traced numbers: a grid of
them is one `vmap`.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nail.checks import require


@runtime_checkable
class Channel(Protocol):
    """Anything with `probs`: clean law (..., A) to noisy law (..., A), each a probability vector on the last axis."""

    def probs(self, clean: Float[Array, "... A"]) -> Float[Array, "... A"]: ...


class Huber(NamedTuple):
    """Huber mixture π_η(·|s) = (1−η) π(·|s) + η ν(·|s) (docs/theory.md §1).

    `eta` is the corruption rate η in [0, 1). `kernel` is the noise kernel ν: a vector (A,), the same at every
    state, or a table that broadcasts against the clean law, e.g. (S, A) against the laws of S states.
    """

    eta: Float[Array, ""] | float
    kernel: Float[Array, "... A"]

    def probs(self, clean: Float[Array, "... A"]) -> Float[Array, "... A"]:
        """The noisy law (1−η)π + ην."""
        kernel = jnp.asarray(self.kernel, clean.dtype)
        kernel = kernel.reshape((1,) * (clean.ndim - kernel.ndim) + kernel.shape)
        return (1.0 - self.eta) * clean + self.eta * kernel


class Temperature(NamedTuple):
    """Tempered expert π_t(·|s) ∝ π(·|s)^(1/t), t > 0; t = 1 leaves the law as it is (docs/theory.md §1).

    An action of probability 0 keeps probability 0 at every t.
    """

    temperature: Float[Array, ""] | float

    def probs(self, clean: Float[Array, "... A"]) -> Float[Array, "... A"]:
        """The tempered law, normalised over the last axis."""
        support = clean > 0
        logits = jnp.where(support, jnp.log(jnp.where(support, clean, 1.0)) / self.temperature, -jnp.inf)
        return jax.nn.softmax(logits, axis=-1)


def uniform_kernel(n_actions: int, over: tuple[int, ...] | None = None) -> Float[np.ndarray, " A"]:
    """ν uniform over the actions `over` (all of the `n_actions` by default); shape (A,).

    Raises `BadInput` if `over` is empty or names an action outside 0..A−1.
    """
    chosen = tuple(range(n_actions)) if over is None else over
    require(
        len(chosen) > 0 and all(0 <= a < n_actions for a in chosen),
        "over",
        chosen,
        f"a non-empty subset of 0..{n_actions - 1}",
    )
    kernel = np.zeros(n_actions)
    kernel[list(chosen)] = 1.0 / len(set(chosen))
    return kernel


def sample(probs: Float[Array, "... A"], uniform: Float[Array, "..."]) -> Int[Array, "..."]:
    """The label that the uniform number u in [0, 1) picks from a law: min{a : u < F(a)}, F its distribution function.

    One uniform number a label: with the same number per position, a label drawn inside a rollout and one drawn
    afterwards from the same law are the same label. Returns int32 actions; an action of probability 0 is never picked.
    """
    cdf = jnp.cumsum(probs, axis=-1)
    picked = jnp.sum(uniform[..., None] * cdf[..., -1:] >= cdf, axis=-1)
    last = probs.shape[-1] - 1 - jnp.argmax(probs[..., ::-1] > 0, axis=-1)
    return jnp.minimum(picked, last).astype(jnp.int32)

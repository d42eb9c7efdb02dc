"""Corruption channels: what happens to an expert's law before a learner sees a label of it.

A channel is a map from a clean law to a noisy law. `probs` is its only definition; labels are drawn from that
very law by `sample`, so samples and exact probabilities cannot disagree. Parameters are traced numbers: a grid of
them is one `vmap`. A corruption rate may differ from position to position, and a channel from prompt to prompt
(docs/token_tasks.md §1): a loop binds it to its prompts by `over`, and to a position by `at`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from nail.checks import require
from nail.registry import document_fields

FLOOR = 1e-10
"""floor of probabilities inside logarithms"""


@runtime_checkable
class Channel(Protocol):
    """Anything with `probs`: clean law (..., A) to noisy law (..., A), each a probability vector on the last axis."""

    def probs(self, clean: Float[Array, "... A"]) -> Float[Array, "... A"]: ...


class Huber(NamedTuple):
    """Huber mixture π_η(·|s) = (1−η) π(·|s) + η ν(·|s) (docs/theory.md §1).

    `eta` is the corruption rate η in [0, 1): a number, or an array that broadcasts against the clean law without its
    actions, e.g. (H,) against the laws of H positions. `kernel` is the noise kernel ν: a vector (A,), the same at every
    state, or a table that broadcasts against the clean law, e.g. (S, A) against the laws of S states.
    """

    eta: Float[Array, "..."] | float
    kernel: Float[Array, "... A"]

    def probs(self, clean: Float[Array, "... A"]) -> Float[Array, "... A"]:
        """The noisy law (1−η)π + ην."""
        kernel = jnp.asarray(self.kernel, clean.dtype)
        kernel = kernel.reshape((1,) * (clean.ndim - kernel.ndim) + kernel.shape)
        eta = _by_state(self.eta, clean)
        return (1.0 - eta) * clean + eta * kernel

    def at(self, step: Int[Array, ""] | int) -> "Huber":
        """The channel of position `step`, where positions are the last axis of η and the last but one of ν."""
        eta = self.eta if jnp.ndim(self.eta) == 0 else jnp.asarray(self.eta)[..., step]
        return Huber(eta, self.kernel if jnp.ndim(self.kernel) < 2 else jnp.asarray(self.kernel)[..., step, :])


def label_weight(channel: Huber, clean: Float[Array, "*level A"]) -> Float[Array, "... A"]:
    """log(1 + (1−η)/(η ν(a))): what a label a adds to the log likelihood of a being the clean action, over that of any
    other. η broadcasts against laws of the shape of `clean` without their actions; ην is floored at 1e−10."""
    eta = _by_state(channel.eta, clean)
    return jnp.log1p((1.0 - eta) / jnp.maximum(eta * channel.kernel, FLOOR))


class Within(NamedTuple):
    """Mass on a set D of actions is mixed among them: (1−η)π(a|s) + η·π(D|s)/|D| for a in D, π(a|s) for others.

    Where π is on D it is `Huber` with the uniform kernel on D, and where π is off D it changes nothing: the
    distributional law of docs/token_tasks.md §2.2. `eta` is η in [0, 1), `members` the indicator of D.
    """

    eta: Float[Array, ""] | float
    members: Float[Array, " A"]

    def probs(self, clean: Float[Array, "... A"]) -> Float[Array, "... A"]:
        """The noisy law."""
        members = jnp.asarray(self.members, clean.dtype).reshape((1,) * (clean.ndim - 1) + self.members.shape)
        share = jnp.sum(clean * members, axis=-1, keepdims=True) / jnp.sum(members)
        return clean + self.eta * members * (share - clean)


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


class ByPrompt(NamedTuple):
    """A channel that differs from prompt to prompt: no channel before it is bound to a batch of them."""

    law: Callable[[Any], Channel]
    """context of one episode → channel with one entry for each of the H positions"""

    def over(self, contexts: Any) -> Channel:
        """The channel of a batch of episodes, with the batch as leading axis."""
        return jax.vmap(self.law)(contexts)


Corruption = Channel | ByPrompt
"""what a noise law makes of a run's numbers"""


def over(corruption: Corruption, contexts: Any) -> Channel:
    """The channel at all positions of the episodes of `contexts`: laws (B, H, A) to laws (B, H, A)."""
    return corruption.over(contexts) if hasattr(corruption, "over") else corruption


def at(channel: Channel, step: Int[Array, ""] | int) -> Channel:
    """The channel at position `step` = 0..H−1 of the episodes that it is bound to: laws (B, A) to laws (B, A)."""
    return channel.at(step) if hasattr(channel, "at") else channel


def _by_state(eta: Any, clean: Float[Array, "... A"]) -> Any:
    """η against a law: a number as it is, an array with the axes of the law."""
    if jnp.ndim(eta) == 0:
        return eta
    eta = jnp.asarray(eta, clean.dtype)[..., None]
    return eta.reshape((1,) * (clean.ndim - eta.ndim) + eta.shape)


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


def words(key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> UInt32[Array, "..."]:
    """Independent random 32-bit words, whatever integers JAX is set to use."""
    return jax.random.bits(key, shape, jnp.uint32)


def sample(probs: Float[Array, "... A"], bits: UInt32[Array, "..."]) -> Int[Array, "..."]:
    """The label that a random 32-bit word picks from a law: min{a : u < F(a)}, u = bits/2^32, F the law's sums.

    One word a label: with the same word per position, a label drawn inside a rollout and one drawn afterwards from the
    same law are the same label. Returns int32 actions. The law is read as float32 and sums to 1 up to rounding; its own
    sum, below 2, is exact in integers and what it is divided by. So the number of words that pick a label, or one of
    consecutive labels, is off by less than one: |P(a <= label <= b) − p(a..b)| < 2^−32 + A²·2^−63. An action of
    probability 0 is never picked.
    """
    fine = 32 - probs.shape[-1].bit_length()  # bits of the fractions below: the sum of A of them is below 2^32
    scaled = probs.astype(jnp.float32) * 2.0**31
    whole = scaled.astype(jnp.uint32)
    part = jnp.round((scaled - whole) * 2.0**fine).astype(jnp.uint32)
    whole, part = jnp.cumsum(jnp.stack([whole, part]), axis=-1)  # in one: two sums cost a NAIL step 15 % on a CPU
    whole, part = whole + (part >> fine), part & (2**fine - 1)
    # u times the whole sum, in the same digits
    rest = (bits * whole[..., -1] >> (32 - fine)) + _high_word(bits, part[..., -1])
    at, rest = _high_word(bits, whole[..., -1]) + (rest >> fine), rest & (2**fine - 1)
    picked = jnp.sum(whole + (part > rest[..., None]) <= at[..., None], axis=-1)
    return jnp.minimum(picked, probs.shape[-1] - 1).astype(jnp.int32)


def _high_word(a: UInt32[Array, "..."], b: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """⌊a·b/2^32⌋, by halves of words."""
    a_low, b_low, a, b = a & 0xFFFF, b & 0xFFFF, a >> 16, b >> 16
    middle = a * b_low + (a_low * b_low >> 16)
    return a * b + (middle >> 16) + (a_low * b + (middle & 0xFFFF) >> 16)


def uniform(bits: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """Coins by random 32-bit words: u = (bits + ½)/2^32 in float32, at most 1 − 2^−24.

    |P(u < p) − p| < 2^−32 + p·2^−23; u < 0 never holds, u < 1 always. (`jax.random.uniform` gives multiples of 2^−23,
    so u < 1e−8 with probability 2^−23.)
    """
    return jnp.minimum((bits.astype(jnp.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)


def gumbel(bits: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """Standard Gumbel noise by random 32-bit words: −log(−log(1−u)) in float32, from −2.82 to 22.9.

    P(noise > x) is off by less than 2^−32 and a share of 2^−18 of it. With it argmax(logits + noise) draws tokens of
    probability 1e−8 as often as it should; the noise of `jax.random.gumbel` ends at 15.9, and it never does.
    """
    # ~bits: by the same words the noise is that of `jax.random.gumbel`, but for the coarseness of its upper tail
    return -jnp.log(-jnp.log1p(-uniform(~bits)))


document_fields(__name__)

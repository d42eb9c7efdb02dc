"""Channels of count-based learners: rates by level or by state, labels that are wrong in bursts, channels of one's own.

What is random of a memoryless channel is the label at each step. A channel with `drawn` (`nail.noise.Bursts`) first
lets the coins of the episode fall, from a stream of their own; the words that pick labels are the same.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from nail.checks import BadInput, require
from nail.methods import METHOD
from nail.noise import Bursts, ByState, Channel, Huber, drawn

CLOSE = 1e-5
"""by which float32 laws may miss a sum of 1"""


def with_noise(setting: Any, noise: Any) -> Any:
    """The setting with the channel `noise` of labels: η, ν and ρ of a Huber mixture or of bursts, else the channel.

    Raises `BadInput` for what is no channel, and for an η or ν that the setting has too.
    """
    if noise is None:
        return setting
    require(isinstance(noise, Channel), "noise", noise, "a channel, with a function `probs` from law to law")
    if not isinstance(noise, Huber | ByState | Bursts):
        for name in ("eta", "kernel"):
            require(getattr(setting, name) is None, name, getattr(setting, name), "left out where noise is a channel")
        return setting._replace(noise=noise)
    said = setting.eta is None or np.array_equal(setting.eta, noise.eta)
    require(said, "eta", setting.eta, f"that of noise, {noise.eta}, or not given")
    require(setting.kernel is None or noise.kernel is None, "kernel", setting.kernel, "left out where noise has one")
    eta = jnp.asarray(noise.eta, jnp.float32) if np.ndim(noise.eta) else noise.eta
    kernel = setting.kernel if noise.kernel is None else noise.kernel
    return setting._replace(eta=eta, kernel=kernel, burst=noise.rho if isinstance(noise, Bursts) else None)


def check_rates(eta: Float[Array, "..."] | Float[np.ndarray, "..."], states: tuple[int, ...]) -> None:
    """Raise `BadInput` unless rates by level (H,), or by state what broadcasts to `states` = (H, S), lie in [0, 1)."""
    shape, said = np.shape(eta), "a number, or (H,) with one a level"
    fits = len(shape) == 1
    if states:
        fits = len(shape) <= 2 and all(n in (1, most) for n, most in zip(shape[::-1], states[::-1], strict=False))
        said = f"a number, or what broadcasts to (H, S) = {states}: ({states[1]},) by state, ({states[0]}, 1) by step"
    require(fits, "shape of eta", shape, said)
    rates = np.asarray(eta)
    require(((rates >= 0) & (rates < 1)).all(), "eta", f"{rates.min():g} to {rates.max():g}", "in [0, 1)")


def by_level(setting: Any, horizon: int, levels: int) -> Any:
    """The setting with rates (H,) continued to the `levels` of a program, which no result reads beyond H."""
    if not np.ndim(setting.eta):
        return setting
    require(np.shape(setting.eta) == (horizon,), "shape of eta", np.shape(setting.eta), f"(H,) = ({horizon},)")
    return setting._replace(eta=jnp.pad(jnp.asarray(setting.eta, jnp.float32), (0, levels - horizon)))


def check_channel(noise: Channel | None, method: str, expert: Float[np.ndarray, "*level A"]) -> None:
    """Raise `BadInput` unless a channel of one's own is a pytree of numbers and maps the expert's laws to laws, and the
    method does without a known Huber channel (and, level by level, without the law of the first wrong label)."""
    if noise is None:
        return
    row, leaves = METHOD.find(method), jax.tree.leaves(noise)
    numbers = all(isinstance(leaf, int | float | np.ndarray | np.number | Array) for leaf in leaves)
    require(numbers, "noise", noise, "a named tuple of numbers and tables")
    told = row.decides in ("channel", "class")
    require(not told, "method", method, "one that is not told the channel, where it is not Huber's")
    exits = expert.ndim == 2 and row.driver == "expert" and hasattr(noise, "drawn")
    require(not exits, "method", method, "one that the student drives, where labels depend on each other")
    try:
        laws = np.asarray(noise.probs(jnp.asarray(expert, jnp.float32)))
    except (TypeError, ValueError) as error:
        said = f"a map from laws {expert.shape} to laws ({next(iter(str(error).splitlines()), type(error).__name__)})"
        raise BadInput(f"noise must be {said}, got {noise}") from error
    fine = laws.shape == expert.shape and laws.min() >= 0 and np.abs(laws.sum(-1) - 1).max() < CLOSE
    require(fine, "noise", noise, f"a map from laws {expert.shape} to laws of that shape, up to {CLOSE:g}")


def label_laws(world: Any, key: Key[Array, ""]) -> Float[Array, "*level A"]:
    """The laws that the labels of one episode are drawn from, each for itself: the noisy ones, or where coins fall
    along the episode those that the coins leave."""
    if not hasattr(world.noise, "drawn"):
        return world.noisy
    given = drawn(world.noise, key, world.expert.shape[:1])
    by_step = (-1, *(1,) * (world.expert.ndim - 2))
    return given._replace(eta=given.eta.reshape(by_step)).probs(world.expert)


def exits_of_bursts(world: Any) -> Float[Array, " levels_and_none"]:
    """Law of the level of the first wrong label, or of none, the last entry, in bursts.

    With α_h(c) = P(labels before h right, coin c at h), from α_1 = (1−η, η), the first wrong label is at h with
    probability Σ_c α_h(c)·w_h(c), w_h(c) the chance of a wrong label under coin c, and α_{h+1}(d) = Σ_c
    α_h(c)·(1 − w_h(c))·P(c → d). Source: docs/theory.md §1.1.
    """
    eta, rho, enter = world.noise.eta, world.noise.rho, world.noise.enter
    right = world.secret[:, None] == jnp.arange(world.expert.shape[-1])
    laws = jnp.stack([world.expert, jnp.broadcast_to(world.noise.kernel, world.expert.shape)], 1)
    step = jnp.array([[1.0 - enter, enter], [1.0 - rho, rho]])

    def level(alive, at):
        law, right = at
        stays, leaves = alive * jnp.sum(law, axis=1, where=right), alive * jnp.sum(law, axis=1, where=~right)
        return stays @ step, (jnp.sum(leaves), jnp.sum(stays))

    _, (exits, stays) = lax.scan(level, jnp.array([1.0 - eta, eta]), (laws, right))
    return jnp.append(exits, stays[-1])

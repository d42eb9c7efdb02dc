"""AdamW (0.9, 0.999) with warm-up and cosine, as the paper's release has it for language models."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

LEAST = 0.01
"""share of the rate below which the cosine does not fall"""
WARM_UP = 0.1
"""share of the updates in which the rate rises"""


def rate(lr: float, steps: int, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """Learning rate of update `step` (from 0) of `steps`.

    lr·step/w for step < w = ⌈steps/10⌉, then lr·max(0.01, (1 + cos π(step−w)/(steps−w))/2).
    """
    warm = max(1, -(-steps // round(1 / WARM_UP)))
    rising = step / warm
    falling = (1 + jnp.cos(jnp.pi * (step - warm) / max(1, steps - warm))) / 2
    return jnp.float32(lr) * jnp.where(step < warm, rising, jnp.maximum(LEAST, falling))


def optimiser(lr: float, steps: int, clip: float, weight_decay: float) -> optax.GradientTransformation:
    """Clip the global norm (0: do not), then AdamW at `rate`; moments are float32, as its weights must be."""
    adam = optax.adamw(lambda step: rate(lr, steps, step), b1=0.9, b2=0.999, eps=1e-8, weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip), adam) if clip else adam

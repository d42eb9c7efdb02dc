"""A noise kernel that follows the secret of a replicate: a law over the wrong actions of each level."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Wrong(NamedTuple):
    """ν(·|s) is 0 at the right action a* of a level, and `law`[k] at its k-th wrong action, in the order of actions.

    So q = 1 − η, whatever the law. It stands for a `kernel` in `nail.counting.drivers.Setting` where each replicate has
    right actions of its own.
    """

    law: Float[Array, " wrong"] | Float[np.ndarray, " wrong"]

    def at(self, right: Int[Array, "*level"]) -> Float[Array, "*level A"]:
        """ν(·|s) at each level, from its right action."""
        law = jnp.asarray(self.law, jnp.float32)
        actions, right = jnp.arange(law.shape[0] + 1), right[..., None]
        wrong = jnp.minimum(actions - (actions > right), law.shape[0] - 1)
        return jnp.where(actions == right, 0.0, law[wrong])

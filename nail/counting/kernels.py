"""A noise kernel that follows the secret of a replicate: a law over the wrong actions of each level."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nail.checks import require
from nail.methods import METHOD


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


def refuse_told(method: str) -> None:
    """Raise `BadInput` for a learner that is told ν: a kernel that follows π* would tell it π*. Functions of the user's
    own, and learners with a state, are told a channel that does not (`nail.counting.drivers.UNREVEALING`)."""
    row = METHOD.find(method)
    told = row.told != "kernel" if row.decides in ("channel", "class") else row.own and row.told == "eta"
    require(not told, "method", method, "one that is not told ν, where ν follows π*")

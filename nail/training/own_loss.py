"""A loss of the user's own (`nail.Method(loss=f)`, docs/loss.md): its two estimators, and what is asked of it.

f takes the student's log-probabilities (A,), the noisy expert's law t (A,) and a label y ~ t () at one position, and
gives a number. mc is f at the one label that the run draws there, full its mean over labels, Σ_y t(y)·f(log p, t, y).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nail.checks import require
from nail.methods import Method
from nail.tracing import abstract, require_array, traced


def at_position(loss: Callable[..., Any], full: bool) -> Callable[..., jax.Array]:
    """(log p (A,), t (A,), y ()) → (): `loss` at the label y, or with `full` its mean over labels."""
    if not full:
        return loss

    def mean(logp, t, label):
        values = jax.vmap(loss, (None, None, 0))(logp, t, jnp.arange(t.shape[-1]))
        return jnp.sum(t * values, where=t > 0)

    return mean


def check_loss(method: Method, estimator: str, n_actions: int) -> None:
    """Raise `BadInput` unless a method's own loss is a pure function of A = `n_actions` actions to a number, has a
    gradient and, with the estimator full, depends on the label. It is traced for that; nothing is compiled."""
    loss = method.loss
    if loss is None:
        return
    name = f"loss of the method {method.name}"
    given = [abstract((n_actions,), jnp.float32)] * 2 + [abstract((), jnp.int32)]
    require_array(name, traced(name, loss, *given), (), (jnp.floating,), "a number")
    traced(f"gradient of the {name}", jax.grad(loss), *given)
    require(_depends(loss, given, 0), name, "one that does not", "a function of the student's log-probabilities")
    require(estimator == "mc" or _depends(loss, given, 2), "estimator", repr(estimator),
            f"left out: the loss of {method.name} reads no label, and mc and full are one")  # fmt: skip


def _depends(loss: Callable[..., Any], given: list[Any], at: int) -> bool:
    """Whether the result depends on the argument at this place: mapped over it alone, it is another for each."""
    many = [abstract((2, *x.shape), x.dtype) if i == at else x for i, x in enumerate(given)]
    axes = tuple(0 if i == at else None for i in range(len(given)))
    try:
        jax.eval_shape(jax.vmap(loss, axes, out_axes=None), *many)
    except ValueError:
        return True
    return False

"""A loss of the user's own (`nail.Method(loss=f)`, docs/loss.md): its two estimators, and what is asked of it.

f takes the student's log-probabilities (A,), the noisy expert's law t (A,) and a label y ~ t () at one position, and
gives a number. mc is f at the one label that the run draws there, full its mean over labels, Σ_y t(y)·f(log p, t, y).
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nail.checks import BadInput, require
from nail.methods import Method


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
    given = [jax.ShapeDtypeStruct((n_actions,), jnp.float32)] * 2 + [jax.ShapeDtypeStruct((), jnp.int32)]
    try:
        (program, result), (again, _) = (_traced(loss, given) for _ in range(2))
        shape = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", result)
        number = jax.tree.structure(result) == jax.tree.structure(0) and result.shape == ()
        require(number and jnp.issubdtype(result.dtype, jnp.floating), f"what the {name} gives", shape,
                "a number float32[]")  # fmt: skip
        effects = ", ".join(map(str, program.effects))
        require(not effects, name, f"one with the effect {effects}", "a pure function")
        require(_content(program) == _content(again), name, "another one at its second call", "a pure function")
        jax.eval_shape(jax.grad(loss), *given)
    except BadInput:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise BadInput(
            f"{name} must be a function that JAX can trace and differentiate, of log-probabilities ({n_actions},), a "
            f"law ({n_actions},) and a label (), and it raised {type(error).__name__}: {first}"
        ) from error
    require(_depends(loss, given, 0), name, "one that does not", "a function of the student's log-probabilities")
    require(estimator == "mc" or _depends(loss, given, 2), "estimator", repr(estimator),
            f"left out: the loss of {method.name} reads no label, and mc and full are one")  # fmt: skip


def _traced(loss: Callable[..., Any], given: list[Any]) -> tuple[Any, Any]:
    """(program, result's shape); by a function of its own, so that no earlier trace is taken for it."""
    return jax.make_jaxpr(lambda *arguments: loss(*arguments), return_shape=True)(*given)


def _content(program: Any) -> Any:
    """What a program computes, to be compared with another: its text without places in memory, and its constants."""
    return re.sub("0x[0-9a-f]+", "", str(program)), [np.asarray(value).tobytes() for value in program.consts]


def _depends(loss: Callable[..., Any], given: list[Any], at: int) -> bool:
    """Whether the result depends on the argument at this place: mapped over it alone, it is another for each."""
    many = [jax.ShapeDtypeStruct((2, *x.shape), x.dtype) if i == at else x for i, x in enumerate(given)]
    axes = tuple(0 if i == at else None for i in range(len(given)))
    try:
        jax.eval_shape(jax.vmap(loss, axes, out_axes=None), *many)
    except ValueError:
        return True
    return False

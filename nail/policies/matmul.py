"""Matrix products whose gradients are fast too.

The gradient of a product contracts over rows, an operand order in which XLA's CPU products run at half speed or less.
Here the transposed operand is written out first (the barrier keeps XLA from folding the transpose back into the
product). Products accumulate in float32 whatever the operands' type.

`precision` is XLA's: None lets a GPU round float32 operands to TF32 and a TPU to bfloat16, HIGHEST does not. It says
nothing on a CPU and for bfloat16 operands.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.lax import Precision, optimization_barrier
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(
    a: Float[Array, "*n i k"], b: Float[Array, "*n k j"], precision: Precision | None = None
) -> Float[Array, "*n i j"]:
    """a @ b with the leading axes as batch, in the type of `a`."""
    return jnp.matmul(a, b, precision=precision, preferred_element_type=jnp.float32).astype(a.dtype)


def _matmul_forward(a, b, precision):
    return matmul(a, b, precision), (a, b)


def _matmul_backward(precision, operands, g):
    a, b = operands
    return matmul(g, _transposed(b), precision), matmul(_transposed(a), g, precision)


matmul.defvjp(_matmul_forward, _matmul_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(x: Float[Array, "*n i"], w: Float[Array, "i o"], precision: Precision | None = None) -> Float[Array, "*n o"]:
    """x @ w with every leading axis of x as rows, in the type of `x`; the gradient of `w` has the type of `w`."""
    return matmul(_rows(x), w.astype(x.dtype), precision).reshape(*x.shape[:-1], w.shape[-1])


def _dense_forward(x, w, precision):
    return dense(x, w, precision), (x, w)


def _dense_backward(precision, operands, g):
    x, w = operands
    g, rows = _rows(g), _rows(x)
    kept = {"precision": precision, "preferred_element_type": jnp.float32}
    back = jax.lax.dot_general(g, w.astype(x.dtype), (((1,), (1,)), ((), ())), **kept)
    dw = jnp.matmul(_transposed(rows), g, **kept)
    return back.astype(x.dtype).reshape(x.shape), dw.astype(w.dtype)


dense.defvjp(_dense_forward, _dense_backward)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _transposed(x):
    x = jnp.swapaxes(x, -1, -2)
    return optimization_barrier(x) if jax.default_backend() == "cpu" else x

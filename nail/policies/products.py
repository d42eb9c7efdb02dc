"""Matrix products whose gradients are fast too.

The gradient of a product contracts over rows, an operand order in which XLA's CPU products run at half speed or less.
Here the transposed operand is written out first (the barrier keeps XLA from folding the transpose back into the
product). Products accumulate in float32 whatever the operands' type.
"""

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Float


@jax.custom_vjp
def matmul(a: Float[Array, "*n i k"], b: Float[Array, "*n k j"]) -> Float[Array, "*n i j"]:
    """a @ b with the leading axes as batch, in the type of `a`."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32).astype(a.dtype)


def _matmul_forward(a, b):
    return matmul(a, b), (a, b)


def _matmul_backward(operands, g):
    a, b = operands
    return matmul(g, _transposed(b)), matmul(_transposed(a), g)


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def dense(x: Float[Array, "*n i"], w: Float[Array, "i o"]) -> Float[Array, "*n o"]:
    """x @ w with every leading axis of x as rows, in the type of `x`; the gradient of `w` has the type of `w`."""
    return matmul(_rows(x), w.astype(x.dtype)).reshape(*x.shape[:-1], w.shape[-1])


def _dense_forward(x, w):
    return dense(x, w), (x, w)


def _dense_backward(operands, g):
    x, w = operands
    g, rows = _rows(g), _rows(x)
    back = jax.lax.dot_general(g, w.astype(x.dtype), (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    dw = jnp.matmul(_transposed(rows), g, preferred_element_type=jnp.float32)
    return back.astype(x.dtype).reshape(x.shape), dw.astype(w.dtype)


dense.defvjp(_dense_forward, _dense_backward)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _transposed(x):
    x = jnp.swapaxes(x, -1, -2)
    return optimization_barrier(x) if jax.default_backend() == "cpu" else x

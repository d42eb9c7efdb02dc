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
from jaxtyping import Array, Float, Int


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


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def known_dense(
    x: Float[Array, "*n i"], w: Float[Array, "i o"], value: Float[Array, "*n o"], precision: Precision | None = None
) -> Float[Array, "*n o"]:
    """`dense(x, w, precision)` where its value is known: nothing is multiplied, and the gradients of x and w are those
    of the product."""
    return value


def _known_forward(x, w, value, precision):
    return value, (x, w)


def _known_backward(precision, operands, g):
    return *_dense_backward(precision, operands, g), None


known_dense.defvjp(_known_forward, _known_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def known_softmax(
    q: Float[Array, "*n i d"], k: Float[Array, "*n d j"], value: Float[Array, "*n i j"], scale: float,
    precision: Precision | None = None,
) -> Float[Array, "*n i j"]:  # fmt: skip
    """softmax(scale · q k) over some of the j where its value is known (0 at the others): the gradients of q and k are
    those of the softmax."""
    return value


def _known_softmax_forward(q, k, value, scale, precision):
    return value, (q, k, value)


def _known_softmax_backward(scale, precision, operands, g):
    q, k, value = operands
    weights, g = value.astype(jnp.float32), g.astype(jnp.float32)
    scores = scale * weights * (g - jnp.sum(g * weights, axis=-1, keepdims=True))
    return *_matmul_backward(precision, (q, k), scores.astype(q.dtype)), None


known_softmax.defvjp(_known_softmax_forward, _known_softmax_backward)


@jax.custom_vjp
def pick(table: Float[Array, "T A c"], tokens: Int[Array, "T B"]) -> Float[Array, "T B c"]:
    """table[t, tokens[t, b]], tokens in 0..A−1. The table's gradient, a sum over b, is a product with one-hot rows: no
    scatter."""
    return jnp.take_along_axis(table, tokens[:, :, None], axis=1, mode="promise_in_bounds")


def _pick_forward(table, tokens):
    return pick(table, tokens), (tokens, table.shape[1])


def _pick_backward(kept, g):
    tokens, rows = kept
    chosen = (tokens[:, None, :] == jnp.arange(rows)[:, None]).astype(g.dtype)
    exact = {"precision": Precision.HIGHEST, "preferred_element_type": jnp.float32}
    return jnp.matmul(chosen, g, **exact).astype(g.dtype), None


pick.defvjp(_pick_forward, _pick_backward)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _transposed(x):
    x = jnp.swapaxes(x, -1, -2)
    return optimization_barrier(x) if jax.default_backend() == "cpu" else x

"""What a function that a user brings returns, and whether it is pure, found by tracing it: nothing is computed."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nail.checks import BadInput, require


def abstract(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array of which shape and type alone are known."""
    return jax.ShapeDtypeStruct(shape, dtype)


def traced(what: str, function: Callable[..., Any], *given: Any) -> Any:
    """Shapes and types of what a function returns for abstract arguments.

    Raises `BadInput`, calling the function `what`, unless it is pure and JAX can trace it: no tracer is left behind, it
    has no effect, and a second trace is the first one again.
    """
    try:
        with jax.checking_leaks():
            # a new function each time, or the second trace would be taken from a cache
            programs = [jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*given) for _ in range(2)]
    except BadInput:
        raise
    except Exception as error:
        why = str(error).strip().split("\n")[0] or "no message"
        raise BadInput(
            f"{what} must be a pure function of its arguments that JAX can trace, and tracing it raised "
            f"{type(error).__name__}: {why}"
        ) from error
    (first, found), (second, _) = programs
    effects = ", ".join(map(str, first.effects))
    require(not effects, what, f"one with the effect {effects}", "a pure function of its arguments")
    same = _text(first) == _text(second) and len(first.consts) == len(second.consts)
    if not (same and all(map(_equal, first.consts, second.consts))):
        raise BadInput(f"{what} must be a pure function of its arguments, and traced twice it is two programs")
    return found


def require_array(what: str, found: Any, shape: tuple[int, ...], kinds: tuple[Any, ...], words: str) -> None:
    """Raise `BadInput` unless `found` is one array of this shape and of one of these kinds, `words` for people."""
    one = jax.tree.structure(found) == jax.tree.structure(0)
    ok = one and found.shape == shape and any(jnp.issubdtype(found.dtype, kind) for kind in kinds)
    axes = f" of shape {shape}" if shape else ""
    require(ok, f"what {what} returns", shown(found), f"{words}{axes}")


def shown(tree: Any) -> str:
    """Shapes and types of a tree in words."""
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)) or "nothing"


def _text(program: Any) -> str:
    """A program's code without the addresses of Python's objects."""
    return re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr))


def _equal(one: Any, other: Any) -> bool:
    """Whether two constants of programs are the same."""
    if jnp.issubdtype(jnp.result_type(one), jax.dtypes.prng_key):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)

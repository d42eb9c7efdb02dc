"""Which matrix products a program does, counted from shapes: walk its jaxpr, loops multiplied by their length."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr


class Product(NamedTuple):
    """`batch` products (rows × inner)·(inner × columns)."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiplication and an addition per term."""
        return 2 * self.batch * self.rows * self.inner * self.columns


def products_of(function: Callable, *args: Any) -> Counter[Product]:
    """How often a call of `function` does each product; raises `ValueError` if one is in a loop of unknown length."""
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def total_flops(products: Counter[Product]) -> int:
    """Floating-point operations of all products."""
    return sum(product.flops * times for product, times in products.items())


def _count(jaxpr: Jaxpr) -> Counter[Product]:
    found: Counter[Product] = Counter()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            found[_shape(eqn)] += 1
            continue
        inside: Counter[Product] = Counter()
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, ClosedJaxpr):
                    inside += _count(inner.jaxpr)
                elif isinstance(inner, Jaxpr):
                    inside += _count(inner)
        if inside and eqn.primitive.name == "while":
            raise ValueError("cannot count the products of a loop whose length is not known")
        repeats = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for product, times in inside.items():
            found[product] += times * repeats
    return found


def _shape(eqn: Any) -> Product:
    (contract, _), (batch, _) = eqn.params["dimension_numbers"]
    left, right = (np.array(v.aval.shape, int) for v in eqn.invars)
    n, k = int(np.prod(left[list(batch)])), int(np.prod(left[list(contract)]))
    return Product(n, int(np.prod(left)) // (n * k), k, int(np.prod(right)) // (n * k))

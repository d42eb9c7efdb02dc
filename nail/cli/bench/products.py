"""Which matrix products a program does, counted from their shapes."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from nail.training.products import products


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
    found: Counter[Product] = Counter()
    for equation, times in products(jax.make_jaxpr(function)(*args).jaxpr):
        found[_shape(equation)] += times
    return found


def total_flops(products: Counter[Product]) -> int:
    """Floating-point operations of all products."""
    return sum(product.flops * times for product, times in products.items())


def _shape(eqn: Any) -> Product:
    (contract, _), (batch, _) = eqn.params["dimension_numbers"]
    left, right = (np.array(v.aval.shape, int) for v in eqn.invars)
    n, k = int(np.prod(left[list(batch)])), int(np.prod(left[list(contract)]))
    return Product(n, int(np.prod(left)) // (n * k), k, int(np.prod(right)) // (n * k))

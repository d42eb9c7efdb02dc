"""The matrix products of a program, found in its jaxpr."""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import Jaxpr, jaxprs_in_params


def products(program: Jaxpr, trips: int | None = None) -> Iterator[tuple[Any, int]]:
    """The equations of all matrix products of a program, each with the number of times that it is done.

    Loops count as often as they go round; those whose length is not in the program go round `trips` times, and without
    `trips` a product in one raises `ValueError`. All branches of a condition count.
    """
    for equation in program.eqns:
        kind = equation.primitive.name
        if kind == "dot_general":
            yield equation, 1
        rounds = equation.params["length"] if kind == "scan" else trips if kind == "while" else 1
        for inside in jaxprs_in_params(equation.params):
            for product, times in products(inside, trips):
                if rounds is None:
                    raise ValueError("cannot count the products of a loop whose length is not known")
                yield product, rounds * times

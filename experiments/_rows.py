"""Reading rows: columns as numbers, and the rows with given values."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from nail.figures.experiment import Row


def column(rows: Iterable[Row], name: str) -> Float[np.ndarray, " n"]:
    """A column as numbers."""
    return np.array([float(row[name]) for row in rows])


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows whose columns have these values, compared as text or as numbers."""

    def same(have, want):
        return float(have) == want if isinstance(want, (int, float)) else str(have) == want

    return [row for row in rows if all(same(row[name], value) for name, value in wanted.items())]

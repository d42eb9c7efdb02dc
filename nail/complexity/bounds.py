"""Bounds of a user's own against the rows of an n* grid, as statements that can fail (docs/bound.md).

A bound is a function of `SYMBOLS`. A series is the rows that agree in all that varies but the axes of
nail/complexity/fits.py, so one learner, instance, kernel, ..; three questions are asked of each:

- *holds*: by intervals [low, high] that hold at all its points at once with 95 % (Bonferroni), an upper bound is
  refuted if low > bound at any point, holds if high <= bound at all, else undecided; a lower bound is the mirror image.
  A censored point has high = ∞. Points that were asked for and left out (`left_out`) count among those that intervals
  hold at, and with any a bound is refuted or undecided;
- *constant*, no verdict: the C for which C·bound touches the measured points from above (of a lower bound: from below)
  lies in [max low/bound, max high/bound] (min, min), by the same intervals, so that a bound none of whose points is
  left out holds if and only if high is at most 1 (low at least 1);
- *rate*, no verdict: the slope of log(n*/bound) on the scale of each axis that varies, all at once, by likelihood. It
  is a functional of the curve *on this grid*: where the bound has the right rate but n* has a lower-order term it is
  not 0 (n* = μH + zσ√H against the bound H: −0.15 on H = 4..32).
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from jaxtyping import Float

from nail.checks import BadInput, require, require_known
from nail.complexity.expressions import Expression, parse_expression
from nail.complexity.fits import AXES, NAMED, is_censored, series, slopes
from nail.complexity.intervals import at_once
from nail.counting.columns import UNITS
from nail.theory.bounds import kappa
from nail.theory.online import episodes_per_level

SYMBOLS = {
    "H": "horizon, steps",
    "A": "number of actions",
    "S": "number of states a step (tabular tasks)",
    "eta": "corruption rate η",
    "delta": "δ, the mean regret that is allowed, or with the criterion pac a probability",
    "epsilon": "ε, the regret that is allowed with the criterion pac",
    "logPi": "log of the number of deterministic policies, nats",
    "R": "largest return of an episode",
    "q": "least chance of a right label under the run's ν",
    "kappa": "κ = 2(√q − √(η/A))², uniform ν only (docs/theory.md §5)",
    "mu": "μ(A, η), episodes that a level costs in mean, uniform ν only (docs/theory.md §4.2)",
}
"""what a bound may name"""
OF_UNIFORM_NOISE = ("kappa", "mu")
USUAL = {"noise_kernel": ("uniform",), "noise": ("huber",)}
"""columns of the noise → their words for uniform labels, each for itself"""
SIDES = ("upper", "lower")
COLUMNS = ("bound", "side", "unit", "question", "axis", "value", "low", "high", "verdict", "points", "censored",
           "left_out", "grid", "note")  # fmt: skip
"""of bounds.csv after those that name the series"""


class Bound(NamedTuple):
    """A bound on n*: a formula in `SYMBOLS`, or a function that takes those that its parameters name, one point at a
    time, as numbers."""

    name: str
    expression: str | Callable[..., float]
    side: str = "upper"
    """upper or lower"""
    unit: str = "episodes"
    """episodes or labels: what it counts"""

    def values(self, rows: pd.DataFrame) -> Float[np.ndarray, " n"]:
        """The bound at each row, in its unit; infinite where it is too large for float64.

        Raises `BadInput` for a formula that is none, a symbol that it does not know or the rows do not have, κ or μ for
        another kernel than the uniform one, and where it divides by zero or is no number.
        """
        what = f"bound {self.name!r}"
        formula = self._formula(what)
        symbols = {name: _symbol(rows, name, what) for name in formula.symbols}
        return _evaluate(formula, symbols, rows, what)

    def _formula(self, what: str) -> "Expression | Function":
        if isinstance(self.expression, str):
            return parse_expression(self.expression, SYMBOLS, what)
        require(callable(self.expression), what, self.expression, "a formula or a function")
        return _function(self.expression, what)


class Function(NamedTuple):
    """A user's function of symbols, point by point."""

    function: Callable[..., float]
    symbols: frozenset[str]

    def __call__(self, values: Mapping[str, Float[np.ndarray, " n"]]) -> Float[np.ndarray, " n"] | float:
        if not values:
            return self._one({})
        points = pd.DataFrame(values).to_dict("records")
        return np.array([self._one(point) for point in points], float)

    def _one(self, point: dict[str, float]) -> float:
        try:
            return float(self.function(**point))
        except Exception as error:
            raise FloatingPointError(f"{type(error).__name__}: {error}") from error


def _function(function: Callable[..., float], what: str) -> Function:
    """The symbols are its parameters; those with a default that are no symbols keep it."""
    named = []
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise BadInput(f"{what} must be a function whose parameters can be read, got {function}") from error
    for name, parameter in parameters.items():
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if by_name and name in SYMBOLS:
            named.append(name)
        elif parameter.default is parameter.empty:
            raise BadInput(f"{what}: the parameter {name} must be one of {', '.join(SYMBOLS)}, or have a default")
    return Function(function, frozenset(named))


def parse(text: str, side: str = "upper", unit: str = "episodes") -> Bound:
    """The bound 'NAME: FORMULA', or 'FORMULA', which then is its name. Raises `BadInput` for a formula that is none, an
    unknown side or unit."""
    name, colon, formula = text.partition(":")
    bound = Bound(name.strip(), (formula if colon else text).strip(), side, unit)
    _check_bound(bound)
    return bound


def _check_bound(bound: Bound) -> None:
    require(isinstance(bound.name, str) and bound.name.strip() != "", "name of a bound", repr(bound.name), "a text")
    require_known("side of a bound", bound.side, SIDES)
    require_known("unit of a bound", bound.unit, UNITS)
    bound._formula(f"bound {bound.name!r}")


def check(bounds: Sequence[Bound], rows: pd.DataFrame) -> None:
    """Raise `BadInput`, one sentence, unless each bound has a name of its own and is a positive finite number at every
    row. The rows need the options of the grid, `q`, `R` and `logPi`, and no results."""
    names = [bound.name for bound in bounds]
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, "names of bounds", repr(twice), "different")
    for bound in bounds:
        _check_bound(bound)
        values = bound.values(rows)
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            where = _place(rows, int(bad[0]))
            raise BadInput(f"bound {bound.name!r} must be positive and finite, got {values[bad[0]]:g}{where}")


def _place(rows: pd.DataFrame, at: int) -> str:
    """ " at H=4, eta=0.3": the symbols of one row that are options."""
    row = rows.iloc[at]
    known = [f"{axis}={row[axis]:g}" for axis in AXES if axis in rows and not pd.isna(row[axis])]
    return f" at {', '.join(known)}" if known else ""


def _symbol(rows: pd.DataFrame, name: str, what: str) -> Float[np.ndarray, " n"]:
    if name in OF_UNIFORM_NOISE:
        _require_uniform(rows, name, what)
        function = {"kappa": kappa, "mu": _mu}[name]
        settings = zip(rows["A"].astype(int).tolist(), rows["eta"].astype(float).tolist(), strict=True)
        return np.array([function(*setting) for setting in settings], float)
    values = rows[name].to_numpy(float) if name in rows else np.full(len(rows), np.nan)
    if np.isnan(values).any():
        at = int(np.flatnonzero(np.isnan(values))[0])
        instance = rows["instance"].iloc[at] if "instance" in rows else "this instance"
        raise BadInput(f"{what} names {name} ({SYMBOLS[name]}), which {instance} does not have here")
    return values


_mu = lru_cache(maxsize=4096)(episodes_per_level)


def _require_uniform(rows: pd.DataFrame, name: str, what: str) -> None:
    """Raise `BadInput` unless all rows have the uniform kernel, labels each for itself: by the words for it, and by the
    chance of a right label."""
    for column, usual in USUAL.items():
        if column in rows:
            other = ~(rows[column].isna() | rows[column].isin(usual)).to_numpy()
            if other.any():
                _refuse_noise(name, what, rows[column].to_numpy()[other][0])
    if "q" in rows:
        A, eta, q = (rows[symbol].to_numpy(float) for symbol in ("A", "eta", "q"))
        other = ~(np.abs(q - (1.0 - eta + eta / A)) < 1e-5)
        if other.any():
            _refuse_noise(name, what, f"q = {q[other][0]:g}")


def _refuse_noise(name: str, what: str, got: Any) -> NoReturn:
    raise BadInput(f"{what} names {name}, which is known for the uniform kernel and independent labels only, got {got}")


def _evaluate(
    formula: Expression | Function, symbols: dict[str, Float[np.ndarray, " n"]], rows: pd.DataFrame, what: str
) -> Float[np.ndarray, " n"]:
    """The formula at all rows; where it is no number, a `BadInput` that names the first such row."""
    try:
        return np.broadcast_to(np.asarray(formula(symbols), float), len(rows)).copy()
    except FloatingPointError:
        pass
    for at in range(len(rows)):
        try:
            formula({name: values[at : at + 1] for name, values in symbols.items()})
        except FloatingPointError as error:
            raise BadInput(f"{what} is no number{_place(rows, at)}: {error}") from None
    raise AssertionError(f"{what} is a number at each point and not at all of them")


def judge(
    rows: pd.DataFrame, bounds: Sequence[Bound], axes: Sequence[str], planned: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table bounds.csv: one row a bound, series and question (this module's head).

    `axes` are the columns of the rows that vary. `value` is, of a constant, C at the values of n*, and of a rate the
    slope on the scale of `axis`; `low` and `high` are their 95 % intervals; `verdict` is that of *holds*, empty
    elsewhere. `grid` says where the points are, `note` why a rate has none. `planned` are the points that were asked
    for, by `run` as the rows, with the columns that name series: those that have no row, as behind one that is beyond
    its budget, are `left_out`. Without it the rows are taken for all. Raises `BadInput` as `check`, and for rows
    without the intervals that are needed.
    """
    check(bounds, rows)
    found = [
        {**name, "bound": bound.name, "side": bound.side, "unit": bound.unit, **answer, "points": len(group),
         "censored": int(is_censored(group).sum()), "left_out": left_out, "grid": _grid(group, axes)}
        for bound in bounds
        for name, group, vary, left_out in _with_left_out(rows, axes, planned)
        for answer in _answers(bound, group, vary, left_out)
    ]  # fmt: skip
    table = pd.DataFrame(found)
    names = [column for column in dict.fromkeys([*NAMED, *axes]) if column in table]
    return table.reindex(columns=[*names, *COLUMNS])


def _with_left_out(
    rows: pd.DataFrame, axes: Sequence[str], planned: pd.DataFrame | None
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, list[str], int]]:
    """`series` of the rows, each with the number of its planned points that have none."""
    if planned is None:
        yield from ((*one, 0) for one in series(rows, axes))
        return
    for table, what in ((planned, "planned"), (rows, "rows")):
        require("run" in table, f"columns of {what}", list(table.columns), "those of points, with 'run'")
    strange = int((~rows["run"].isin(planned["run"])).sum())
    require(not strange, "rows", f"{strange} others", "of points that were planned")
    for name, asked, _ in series(planned, axes):
        group = rows[rows["run"].isin(asked["run"])]
        if len(group):
            vary = [axis for axis in axes if axis in AXES and group[axis].nunique() > 1]
            yield name, group, vary, len(asked) - len(group)


def _answers(bound: Bound, rows: pd.DataFrame, vary: Sequence[str], left_out: int) -> Iterator[dict[str, Any]]:
    value, points = bound.values(rows), at_once(rows, bound.unit, len(rows) + left_out)
    n, low, high = (points[column].to_numpy() for column in ("n", "low", "high"))
    if bound.side == "upper":
        refuted, holds, touch = (low > value).any(), (high <= value).all(), np.max
    else:
        refuted, holds, touch = (high < value).any(), (low >= value).all(), np.min
    verdict = "refuted" if refuted else "holds" if holds and not left_out else "undecided"
    yield {"question": "holds", "verdict": verdict}
    ends = {name: float(touch(column / value)) for name, column in (("value", n), ("low", low), ("high", high))}
    yield {"question": "constant", **ends, "verdict": ""}
    if not vary:
        return
    try:
        plane = slopes(rows, vary, value, bound.unit)
    except BadInput as error:
        yield {"question": "rate", "axis": " ".join(vary), "verdict": "", "note": f"not fitted: {error}"}
        return
    for j, axis in enumerate(vary):
        yield {"question": "rate", "axis": axis, "value": plane.slopes[j], "low": plane.low[j], "high": plane.high[j],
               "verdict": ""}  # fmt: skip


def _grid(rows: pd.DataFrame, axes: Sequence[str]) -> str:
    """Where the points are: "H=4..16 (5 values), eta=0.3..0.5 (2 values)"."""
    numbers = [axis for axis in axes if axis in AXES]
    spans = ((axis, rows[axis].min(), rows[axis].max(), rows[axis].nunique()) for axis in numbers)
    return ", ".join(f"{axis}={a:g}" if k == 1 else f"{axis}={a:g}..{b:g} ({k} values)" for axis, a, b, k in spans)

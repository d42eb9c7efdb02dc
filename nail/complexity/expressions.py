"""Formulas that a user writes, as numbers: Python's grammar, of which nothing but arithmetic is evaluated.

Allowed are numbers, the named symbols, + − * / **, parentheses, and `FUNCTIONS`. All arithmetic is that of float64
arrays (so 9**9**9 is infinite and takes no time); no name is looked up anywhere but among the symbols.
"""

import ast
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nail.checks import BadInput

LONGEST = 1000
"""characters of a formula"""
FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "log": (np.log, 1), "log2": (np.log2, 1), "exp": (np.exp, 1), "sqrt": (np.sqrt, 1),
    "min": (np.minimum, 2), "max": (np.maximum, 2),
}  # fmt: skip
"""name → the function and its least number of arguments; those with two take more"""
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
    ast.USub: np.negative, ast.UAdd: np.positive,
}  # fmt: skip


class Expression(NamedTuple):
    """A formula that has been checked."""

    text: str
    tree: ast.expr
    symbols: frozenset[str]
    """those that it names"""

    def __call__(self, values: Mapping[str, Float[np.ndarray, " n"]]) -> Float[np.ndarray, " n"] | np.float64:
        """The numbers of the formula where each symbol has these values; a single one where it names no symbol.

        What is too large for float64 is infinite. Raises `FloatingPointError` where it divides by zero (or takes the
        logarithm of zero) or is no number, even where a later step would hide that.
        """
        with np.errstate(over="ignore", under="ignore", divide="raise", invalid="raise"):
            return _value(self.tree, values)


def parse_expression(text: str, known: Collection[str], name: str = "expression") -> Expression:
    """The formula `text` in the symbols `known`.

    Raises `BadInput`, one sentence that begins with `name` and points at the place, for what is no formula.
    """

    if not text.strip() or len(text) > LONGEST:
        raise BadInput(f"{name} must be a formula of 1..{LONGEST} characters, got {len(text.strip())}")
    line = re.sub(r"\s", " ", text)
    start = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(line.strip(), mode="eval").body
        found: set[str] = set()
        _check(tree, known, found)
    except _Refused as bad:
        what, column = bad.what, len(line.strip().encode()[: bad.node.col_offset].decode())
    except SyntaxError as error:
        what, column = error.msg, error.offset - 1 if error.offset else len(line.strip())
    except (RecursionError, MemoryError, ValueError):
        raise BadInput(f"{name} must be a formula that can be read, got {text!r}") from None
    else:
        return Expression(line.strip(), tree, frozenset(found))
    raise BadInput(f"{name}: {what} at column {start + column + 1} of {line!r}")


class _Refused(Exception):
    def __init__(self, what: str, node: ast.expr):
        self.what, self.node = what, node


def _check(node: ast.expr, known: Collection[str], found: set[str]) -> None:
    """Raise `_Refused` at the first place that is not allowed; names of symbols go to `found`."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return
        case ast.Name():
            if node.id not in known:
                raise _Refused(f"unknown symbol {node.id!r} (known: {', '.join(known)})", node)
            found.add(node.id)
        case ast.BinOp() if type(node.op) in OPERATORS:
            _check(node.left, known, found)
            _check(node.right, known, found)
        case ast.BinOp(op=ast.BitXor()):
            raise _Refused("a power is written **, not ^,", node)
        case ast.UnaryOp() if type(node.op) in OPERATORS:
            _check(node.operand, known, found)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS and not node.keywords:
            least = FUNCTIONS[name][1]
            if len(node.args) < least or (least == 1 and len(node.args) > 1):
                raise _Refused(f"{name} takes {'one value' if least == 1 else 'two values or more'}", node)
            for argument in node.args:
                _check(argument, known, found)
        case ast.Call():
            raise _Refused(f"a call of something else than {', '.join(FUNCTIONS)}", node)
        case _:
            raise _Refused("something else than numbers, symbols, + - * / ** and calls", node)


def _value(node: ast.expr, values: Mapping[str, np.ndarray]) -> np.ndarray | np.float64:
    match node:
        case ast.Constant():
            return _number(node.value)
        case ast.Name():
            return values[node.id]
        case ast.BinOp():
            return OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
        case ast.UnaryOp():
            return OPERATORS[type(node.op)](_value(node.operand, values))
        case ast.Call(func=ast.Name(id=name)):
            function, least = FUNCTIONS[name]
            arguments = [_value(argument, values) for argument in node.args]
            return function(*arguments) if least == 1 else reduce(function, arguments)
    raise AssertionError(f"{ast.dump(node)} was not refused")


def _number(value: int | float) -> np.float64:
    try:
        return np.float64(value)
    except OverflowError:
        return np.float64(np.inf)

"""Tables of what a user can name (methods, tasks, noise laws, students), and fingerprints of what was added to them.

Rows of the package are identified by their names: their code is part of every row's `source_hash`. A row that was added
from outside is identified by its name and by what it is, so that results of an older definition are not taken for the
new one's.
"""

import functools
import hashlib
import inspect
import json
import site
import sysconfig
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nail.checks import BadInput, require_known

_PREFIXES = tuple(
    str(Path(folder).resolve())
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), *site.getsitepackages(),
        Path(__file__).parent,
    }
)  # fmt: skip
"""folders of installed code and of this package: its functions are known by their names"""


class Table(dict[str, Any]):
    """name → row (anything with a `name`) of one kind of definition, in the order of a list for people."""

    def __init__(self, kind: str, rows: Iterable[Any]):
        super().__init__((row.name, row) for row in rows)
        self.kind, self.own = kind, frozenset(self)

    def find(self, name: str) -> Any:
        """The row called `name`; raises `BadInput` with the nearest name if there is none."""
        require_known(self.kind, name, self)
        return self[name]

    def add(self, row: Any) -> None:
        """Add a row from outside, in place of one of that name that was added before.

        Raises `BadInput` if the name is one of the package's own.
        """
        if row.name in self.own:
            raise BadInput(f"name of a new {self.kind} must be one that the package does not use, got {row.name!r}")
        self[row.name] = row

    def fingerprint(self, name: str) -> str | None:
        """What the row is, as a hash, if it was added from outside; None for the package's own."""
        return None if name in self.own else fingerprint(self[name])


def fingerprint(value: Any) -> str:
    """12 hexadecimal digits that change with a definition: code, parameters, closures, and globals that are read.

    Functions of installed packages (and of this one) count by their names; comments and places in a file do not count.
    """
    text = json.dumps(_content(value, frozenset()), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content(value: Any, above: frozenset[int]) -> Any:
    """`value` as plain lists and text; `above` are the objects that contain it."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return [type(value).__name__, repr(value)]
    if id(value) in above:
        return "itself"
    inner = functools.partial(_content, above=above | {id(value)})
    if isinstance(value, types.CodeType):
        return ["code", value.co_code.hex(), list(value.co_names), [inner(c) for c in value.co_consts]]
    if isinstance(value, types.ModuleType):
        return ["module", value.__name__, None if _installed(value) else inspect.getsource(value)]
    if isinstance(value, functools.partial):
        return ["partial", inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, types.MethodType):
        return ["method", inner(value.__self__), inner(value.__func__)]
    if isinstance(value, dict):
        return ["dict", sorted((str(key), inner(item)) for key, item in value.items())]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(map(repr, value))]
    if isinstance(value, (list, tuple)):
        return [_name(type(value)), [inner(item) for item in value]]
    if isinstance(value, types.FunctionType):
        return _name(value) if _installed(value) else _function(value, inner)
    if isinstance(value, type):
        body = {} if _installed(value) else {k: v for k, v in vars(value).items() if callable(v) or k[0] != "_"}
        return ["class", _name(value), inner(body)]
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return ["array", str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if hasattr(value, "__wrapped__"):
        return ["wrapped", inner(value.__wrapped__)]
    return ["object", inner(type(value)), inner(vars(value)) if hasattr(value, "__dict__") else _name(type(value))]


def _function(function: types.FunctionType, inner: Any) -> Any:
    """A function's code, defaults, closure, and the globals that its code (or code inside it) names."""
    read = {n: function.__globals__[n] for n in sorted(_names(function.__code__)) if n in function.__globals__}
    closure = [cell.cell_contents for cell in function.__closure__ or () if cell.cell_contents is not function]
    kept = [function.__code__, function.__defaults__, function.__kwdefaults__, closure, read]
    return ["function", *map(inner, kept)]


def _names(code: types.CodeType) -> set[str]:
    nested = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return {*code.co_names, *(name for part in nested for name in _names(part))}


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _installed(value: Any) -> bool:
    """Whether code belongs to an installed package or to this one; what has no file is built in, or a user's input."""
    try:
        return str(Path(inspect.getfile(value)).resolve()).startswith(_PREFIXES)
    except (TypeError, OSError):
        return getattr(value, "__module__", "builtins") != "__main__"

"""Tables of what a user can name (methods, tasks, noise laws, students), and fingerprints of what was added to them.

Rows of the package are identified by their names: their code is part of every row's `source_hash`. A row that was added
from outside is identified by its name and by what it is, so that results of an older definition are not taken for the
new one's.
"""

import ast
import dis
import functools
import hashlib
import inspect
import json
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nail.checks import BadInput, require_known
from nail.sources import is_library, own_code

_NO_HOMES = frozenset({"", "nail", "jax", "jaxlib", "numpy", "scipy", "flax", "optax", *sys.stdlib_module_names})
"""packages that definitions use and do not come from"""


@dataclass(frozen=True)
class Options:
    """Options of a task or a student: a frozen dataclass that inherits from this one. Without fields: none."""

    def check(self) -> None:
        """Raise `BadInput` naming the first option that is out of range."""


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


def document_fields(module: str) -> None:
    """Have `help` show, of the fields of a module's named tuples, the texts that stand below them in the source, or
    their types; Python itself keeps neither. To be called at the end of the module."""
    found = sys.modules[module]
    for tree in ast.parse(Path(found.__file__).read_text(encoding="utf-8")).body:
        kind = getattr(found, tree.name, None) if isinstance(tree, ast.ClassDef) else None
        for field, after in pairwise([*tree.body, ast.Pass()]) if hasattr(kind, "_fields") else ():
            if isinstance(field, ast.AnnAssign):
                text = after.value.value if isinstance(after, ast.Expr) else ast.unparse(field.annotation)
                getattr(kind, field.target.id).__doc__ = inspect.cleandoc(text)


def fingerprint(value: Any) -> str:
    """12 hexadecimal digits that change with a definition: code, parameters, closures, and globals that are read.

    Code that is followed is that of the packages that the definition's own functions come from, and of modules beside
    them (`nail.sources.own_code`); other code counts by its name, wherever it is installed. Comments, docstrings
    and places in a file do not count; the version of Python, which compiles the code, does.
    Raises `BadInput` for an object whose content cannot be read.
    """
    text = json.dumps(_Reader(own_code(_homes(value))).read(value, frozenset()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Reader:
    """Definitions as plain lists and text."""

    is_own: Callable[[str], bool]
    """whether the code of a top-level module counts, and not its name alone"""

    def read(self, value: Any, above: frozenset[int]) -> Any:
        """`value` in plain parts; `above` are the objects that contain it."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return [type(value).__name__, repr(value)]
        if id(value) in above:
            return "itself"
        inner = functools.partial(self.read, above=above | {id(value)})
        for kind, read in _KINDS:
            if isinstance(value, kind):
                return [kind.__name__, *read(value, inner)]
        if isinstance(value, type):
            return ["class", *self._class(value, inner)]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__, {} if self._known(value) else _sources(value)]
        if hasattr(value, "__wrapped__"):
            return ["wrapped", inner(value.__wrapped__), inner(self._parameters(value))]
        if isinstance(value, types.FunctionType):
            if self._known(value):
                return ["function", _name(value), inner(self._parameters(value))]
            return ["function", self._function(value, inner)]
        if hasattr(value, "dtype") and hasattr(value, "__array__"):
            return ["array", str(value.dtype), *_array(value, inner)]
        return ["object", *self._object(value, inner)]

    def _parameters(self, function: Any) -> list[Any]:
        """What installed code around a function closes over: numbers, texts, functions; the rest is its own affair."""

        def counts(cell: Any) -> bool:
            if isinstance(cell, (list, tuple)):
                return all(map(counts, cell))
            plain = (bool, int, float, complex, str, bytes, types.NoneType, types.FunctionType)
            return isinstance(cell, plain)

        return [cell for cell in _cells(function) if counts(cell)] if isinstance(function, types.FunctionType) else []

    def _known(self, value: Any) -> bool:
        """Whether code counts by its name."""
        return self._library(value.__name__ if isinstance(value, types.ModuleType) else value.__module__)

    def _library(self, module: Any) -> bool:
        """Whether a module is another's. What was made without a module is not, nor is what stands in a notebook."""
        top = str(module).split(".")[0]
        return top in sys.modules and top != "__main__" and not self.is_own(top)

    def _function(self, function: types.FunctionType, inner: Any) -> Any:
        """Code, defaults, closure, and the globals that the code (or code inside it) reads."""
        read = {n: function.__globals__[n] for n in _globals(function.__code__) if n in function.__globals__}
        return inner([function.__code__, function.__defaults__, function.__kwdefaults__, _cells(function), read])

    def _class(self, kind: type, inner: Any) -> list[Any]:
        """What a class and those that it inherits from define, down to installed ones, but for generated methods."""
        own = [k for k in kind.__mro__ if not self._known(k)]
        bodies = [
            {n: v for n, v in vars(k).items() if n not in _OF_EVERY_CLASS and not self._generated(v)} for k in own
        ]  # fmt: skip
        return [[_name(k) for k in kind.__mro__ if k not in own], inner(bodies)]

    def _generated(self, value: Any) -> bool:
        """Whether a member of a class was written by `dataclass`, `NamedTuple`, Python itself or a library."""
        function = getattr(value, "__func__", value)
        function = inspect.unwrap(function) if callable(function) else None
        code = getattr(function, "__code__", None)
        if code is None:
            return type(value).__name__ in ("_tuplegetter", "member_descriptor", "getset_descriptor")
        written = code.co_filename == "<string>" and code.co_name.startswith("__")
        return written or self._library(function.__globals__.get("__name__"))

    def _object(self, value: Any, inner: Any) -> list[Any]:
        """Class and attributes; without attributes, what pickling would keep."""
        if hasattr(value, "__qualname__"):
            return [_name(value)]
        kept = {n: getattr(value, n) for k in type(value).__mro__ for n in _slots(k) if hasattr(value, n)}
        members = {n: v for k in type(value).__mro__ for n, v in vars(k).items()}
        cached = {n for n, v in members.items() if isinstance(v, functools.cached_property)}
        kept |= {n: v for n, v in getattr(value, "__dict__", {}).items() if n not in cached}
        if kept:
            return [inner(type(value)), inner(kept)]
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:
            raise BadInput(f"a definition must hold objects that can be told apart, and {value!r} cannot") from error
        rest = made if isinstance(made, str) else [list(part) if hasattr(part, "__next__") else part for part in made]
        return [inner(type(value)), inner(rest)]


def _items(value: Any, inner: Any) -> list[Any]:
    """Elements of a list or tuple, with the class of a named one."""
    return [inner(type(value)) if hasattr(value, "_fields") else "", [inner(item) for item in value]]


def _sorted(values: Any, inner: Any) -> list[Any]:
    return sorted((inner(value) for value in values), key=json.dumps)


_KINDS: tuple[tuple[type, Callable[[Any, Any], Iterable[Any]]], ...] = (
    (types.CodeType, lambda c, inner: [c.co_code.hex(), list(c.co_names), *map(inner, _constants(c))]),
    (functools.partial, lambda p, inner: map(inner, (p.func, p.args, p.keywords))),
    (types.MethodType, lambda m, inner: map(inner, (m.__self__, m.__func__))),
    (property, lambda p, inner: map(inner, (p.fget, p.fset))),
    (functools.cached_property, lambda p, inner: [inner(p.func)]),
    (staticmethod, lambda m, inner: [inner(m.__func__)]),
    (classmethod, lambda m, inner: [inner(m.__func__)]),
    (Mapping, lambda d, inner: _sorted(d.items(), inner)),
    (Set, _sorted),
    (list, _items),
    (tuple, _items),
)
"""type → what an object of it consists of"""
_OF_EVERY_CLASS = frozenset(
    "__dict__ __weakref__ __module__ __qualname__ __doc__ __annotations__ __annotate__ __annotate_func__ "
    "__annotations_cache__ __dataclass_fields__ __dataclass_params__ __match_args__ __orig_bases__ __parameters__ "
    "__firstlineno__ __static_attributes__ __abstractmethods__ _abc_impl __slots__ _fields __protocol_attrs__".split()
)
"""names in a class's body that say nothing, or what others there say too"""


def _homes(value: Any) -> set[str]:
    """Packages that a definition comes from: those of its functions, and of what these are given or close over, unless
    that is an installed library's."""
    named: set[str] = set()
    within: set[str] = set()
    seen: set[int] = set()
    todo = [(value, named)]
    while todo:
        part, found = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, functools.partial):
            todo += [(part.func, found), *((given, within) for given in (*part.args, *part.keywords.values()))]
        elif isinstance(part, types.MethodType):
            todo += [(part.__func__, found), (part.__self__, within)]
        elif isinstance(part, (tuple, list)):
            todo += [(item, found) for item in part]
        elif hasattr(part, "__wrapped__"):
            todo.append((part.__wrapped__, found))
        else:
            found.add(str(getattr(part, "__module__", "")).split(".")[0])
            todo += [(cell, within) for cell in _cells(part)] if isinstance(part, types.FunctionType) else []
    return (named | {top for top in within - named - _NO_HOMES if not is_library(top)}) - _NO_HOMES


def _constants(code: types.CodeType) -> list[Any]:
    """The constants of code, without its docstring."""
    first = code.co_consts[:1]
    documented = first and isinstance(first[0], str) and not code.co_name.startswith("<")
    return [None, *code.co_consts[1:]] if documented and code.co_flags & inspect.CO_OPTIMIZED else [*code.co_consts]


def _globals(code: types.CodeType) -> list[str]:
    """Names of the globals that code reads, and code inside it."""
    read = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    nested = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return sorted(read.union(*(_globals(part) for part in nested)))


def _cells(function: types.FunctionType) -> list[Any]:
    """What a function closes over; a cell that is not filled yet counts as empty."""
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:
            found.append(None)
    return found


def _array(value: Any, inner: Any) -> list[Any]:
    if str(value.dtype).startswith("key<"):
        import jax

        value = jax.random.key_data(value)
    content = np.asarray(value)
    return [list(content.shape), inner(content.tolist()) if content.dtype == object else
            hashlib.sha256(content.tobytes()).hexdigest()]  # fmt: skip


def _sources(module: types.ModuleType) -> dict[str, str]:
    """Hashes of the files of a module and of its loaded submodules."""
    files = {name: getattr(found, "__file__", None) for name, found in list(sys.modules.items())
             if f"{name}.".startswith(f"{module.__name__}.")}  # fmt: skip
    return {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in files.items() if file}


def _slots(kind: type) -> tuple[str, ...]:
    found = vars(kind).get("__slots__", ())
    return (found,) if isinstance(found, str) else tuple(found)


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"

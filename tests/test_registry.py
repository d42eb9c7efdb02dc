"""Tables of names, fingerprints of what is added to them, and their part in the identity of runs."""

import functools
import importlib
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nail
from nail.checks import BadInput
from nail.envs.instances import poison_chain
from nail.envs.noises import NOISES
from nail.envs.tasks import TASKS
from nail.methods import METHOD, Method
from nail.noise import Huber
from nail.policies.students import STUDENTS
from nail.registry import Table, fingerprint
from nail.training.config import TrainConfig, content_hash, run_id, static_part


class Row(NamedTuple):
    name: str
    value: object = None


def test_own_names_stay_and_added_ones_are_replaced():
    table = Table("thing", [Row("own", 1)])
    with pytest.raises(BadInput, match="name of a new thing must be one that the package does not use, got 'own'"):
        table.add(Row("own", 2))
    table.add(Row("mine", 3))
    table.add(Row("mine", 4))
    assert [(row.name, row.value) for row in table.values()] == [("own", 1), ("mine", 4)]
    assert table.find("mine").value == 4
    with pytest.raises(BadInput, match="unknown thing 'mien'; did you mean 'mine'"):
        table.find("mien")


def test_only_what_was_added_has_a_fingerprint():
    for table in (TASKS, NOISES, METHOD, STUDENTS):
        assert not any(table.fingerprint(name) for name in table)
    table = Table("thing", [Row("own", 1)])
    prints = []
    for value in (3, 3, 4):
        table.add(Row("mine", value))
        prints.append(table.fingerprint("mine"))
    assert prints[0] == prints[1] != prints[2]


def made(source, **read):
    """The function `f` of a source text, as a user's file defines it."""
    names = {**read}
    exec(compile(source, "mine.py", "exec"), names)
    return names["f"]


def outer(a):
    return lambda x: x + a


SIMPLE = "def f(x, y=2, *, z=3):\n    return x + y"


def simple(source=SIMPLE, **read):
    return made(source, **read)


def own(body, then="", base="object", field=""):
    """A user's class `Base`, as `f`, or what `then` makes of it."""
    return made(f"class Base({base}):\n {field}\n {body}\n{then or 'f = Base'}", NamedTuple=NamedTuple, __name__="mine")


PAIRS = {  # two definitions that differ
    "code": (simple(), simple(SIMPLE.replace("x + y", "x - y"))),
    "a constant": (simple("def f(x): return x + 1"), simple("def f(x): return x + 2")),
    "a name in the code": (simple("def f(x): return x.real"), simple("def f(x): return x.imag")),
    "code of a function inside": (
        simple("def f(x):\n    def g(): return x + 1\n    return g"),
        simple("def f(x):\n    def g(): return x + 2\n    return g"),
    ),
    "a default": (simple(), simple(SIMPLE.replace("y=2", "y=5"))),
    "a keyword's default": (simple(), simple(SIMPLE.replace("z=3", "z=5"))),
    "a closure": (outer(1), outer(2)),
    "an array in a closure": (outer(np.zeros(3)), outer(np.array([0, 0, 1e-9]))),
    "type of an array": (outer(np.zeros(3, np.float32)), outer(np.zeros(3, np.int32))),
    "shape of an array": (outer(jnp.zeros((2, 3))), outer(jnp.zeros((3, 2)))),
    "a global": (simple("def f(x): return x + SCALE", SCALE=1), simple("def f(x): return x + SCALE", SCALE=2)),
    "a global of a function inside": (
        simple("def f(x): return [SCALE for _ in x]", SCALE=1), simple("def f(x): return [SCALE for _ in x]", SCALE=2),
    ),
    "code of a function that is called": (
        simple("def f(x): return g(x)", g=outer(1)), simple("def f(x): return g(x)", g=outer(2)),
    ),
    "a partial's argument": (functools.partial(simple(), 1), functools.partial(simple(), 2)),
    "a partial's keyword": (functools.partial(simple(), y=1), functools.partial(simple(), y=2)),
    "a partial's function": (functools.partial(simple(), 1), functools.partial(outer(1), 1)),
    "a parameter of an installed function": (functools.partial(np.add, 1), functools.partial(np.add, 2)),
    "an installed function": (np.add, np.subtract),
    "a method's object": (Row("a", 1)._replace, Row("a", 2)._replace),
    "a class's function": (type("K", (), {"f": outer(1)}), type("K", (), {"f": outer(2)})),
    "a class's number": (type("K", (), {"n": 1}), type("K", (), {"n": 2})),
    "an entry": ({"a": 1, "b": 2}, {"a": 1, "b": 3}),
    "an element": ({1, 2}, {1, 3}),
    "the order of a list": ([1, 2], [2, 1]),
    "a type": (1, 1.0),
    "the type of a key": ({1: 2}, {"1": 2}),
    "a function inside a transformation": (
        made("f = jax.jit(jax.vmap(lambda x: x + 1))", jax=jax),
        made("f = jax.jit(jax.vmap(lambda x: x + 2))", jax=jax),
    ),
    "a transformation's parameter": (
        made("f = jax.vmap(lambda x: x, in_axes=0)", jax=jax), made("f = jax.vmap(lambda x: x, in_axes=1)", jax=jax),
    ),
    "a function that is transformed and called": (
        simple("def f(x): return g(x)", g=jax.checkpoint(outer(1))),
        simple("def f(x): return g(x)", g=jax.checkpoint(outer(2))),
    ),
    "a property": (own("@property\n def p(self): return 1"), own("@property\n def p(self): return 2")),
    "a private number of a class": (own("_n = 1"), own("_n = 2")),
    "a class that is inherited from": (own("n = 1", "class f(Base): pass"), own("n = 2", "class f(Base): pass")),
    "a method of a named tuple": (
        own("def g(self): return 1", "f = Base(3)", "NamedTuple", "a: int"),
        own("def g(self): return 2", "f = Base(3)", "NamedTuple", "a: int"),
    ),
    "a slot": (own("__slots__ = ('a',)", "f = Base()\nf.a = 1"), own("__slots__ = ('a',)", "f = Base()\nf.a = 2")),
    "a generator's state": (np.random.default_rng(0), np.random.default_rng(1)),
    "a function of Python": (max, min),
    "a range": (range(3), range(4)),
    "an array of objects": (np.array([1, "a"], object), np.array([1, "b"], object)),
    "a key": (jax.random.key(0), jax.random.key(1)),
}  # fmt: skip


@pytest.mark.parametrize("what", PAIRS)
def test_a_changed_definition_changes_its_fingerprint(what):
    first, second = PAIRS[what]
    assert fingerprint(first) == fingerprint(first)
    assert fingerprint(first) != fingerprint(second)


@pytest.mark.parametrize(
    "other",
    [
        simple(), simple("# a comment\n\n\n" + SIMPLE), simple(SIMPLE.replace("return", "# why\n    return")),
        simple(UNUSED=3),
        simple(SIMPLE.replace("return", "'''What it is.'''\n    return")),
    ],
)  # fmt: skip
def test_what_changes_nothing_does_not_count(other):
    """Comments, places in a file, and globals that are not read."""
    assert fingerprint(other) == fingerprint(simple())


def test_the_same_definition_made_again_is_the_same():
    assert fingerprint(outer(3)) == fingerprint(outer(3))
    assert fingerprint(outer(np.arange(3))) == fingerprint(outer(np.arange(3)))
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})


DEFINITION = """
import functools
import beside, library
def helped(x): return beside.f(x) + library.f(x)
def given(g, x): return g(x)
made = {
    "function": helped, "partial": functools.partial(given, helped), "handed to a library": library.made(beside.f),
    "part of a partial": functools.partial(library.given, beside.f), "inside": ("name", (helped,)),
    "given another's": functools.partial(given, library.f),
}
"""
LIBRARY = "def f(x): return x * {n}\ndef made(g): return lambda x: g(x)\ndef given(g, x): return g(x) + {n}\n"


@pytest.fixture
def prints(tmp_path, monkeypatch):
    """Fingerprints of the definitions in a user's module, whose helper and library have a number each."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "library").mkdir()
    for entry in ("library", ""):
        monkeypatch.syspath_prepend(tmp_path / entry)

    def make(of_helper, of_library):
        (tmp_path / "definition.py").write_text(DEFINITION)
        (tmp_path / "beside.py").write_text(f"def f(x): return x + {of_helper}")
        (tmp_path / "library" / "library.py").write_text(LIBRARY.format(n=of_library))
        for name in ("definition", "beside", "library"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return {name: fingerprint(value) for name, value in importlib.import_module("definition").made.items()}

    yield make
    for name in ("definition", "beside", "library"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("where", ["on the path", "a folder of installed packages"])
def test_helpers_beside_a_definition_count_and_libraries_do_not(where, prints, tmp_path):
    """Wherever the library lies; a function of its own, if it is the definition itself, counts all the same, and one
    that the definition is given if it is not installed."""
    of_library = {"part of a partial", "given another's"}
    if where != "on the path":
        (tmp_path / "library" / "library-1.0.dist-info").mkdir()
        of_library.remove("given another's")
    first, helped, other = prints(1, 1), prints(2, 1), prints(1, 2)
    assert {name for name in first if first[name] != helped[name]} == {*first} - {"given another's"}
    assert {name for name in first if first[name] != other[name]} == of_library
    assert prints(1, 1) == first


def test_definitions_that_contain_themselves_end():
    def again(n):
        return again(n - 1) if n else 0

    ring = []
    ring.append(ring)
    assert len(fingerprint(again)) == len(fingerprint(ring)) == 12


def add_chain(secret):
    nail.add_instance("mine", "", lambda options, seed: poison_chain(2, 3, np.array(secret)))


def add_law(action):
    nail.add_noise("mine", "", lambda c, env, numbers: Huber(numbers.eta, jnp.eye(env.n_actions)[action]))


def add_learner(temperature):
    nail.add_method(Method("mine", "Mine", "student", temperature=temperature))


@pytest.mark.parametrize(
    ("add", "one", "other", "named"),
    [(add_chain, [2, 1], [1, 2], "task"), (add_law, 0, 1, "noise"), (add_learner, 0.5, 0.6, "method")],
)
def test_one_name_with_another_definition_is_another_run(add, one, other, named, tables):
    """Neither the run nor its program is taken for the older one's; the same definition again is the same run."""
    fields = {"task": "poison-chain", named: "mine"}
    runs, programs = [], []
    for value in (one, other, one):
        add(value)
        config = TrainConfig(**fields)
        runs.append(run_id(config))
        programs.append(content_hash(static_part(config)))
    for found in (runs, programs):
        assert found[0] == found[2] != found[1]


def test_own_definitions_enter_the_identity_by_name_alone(tables):
    """Adding something does not change the runs of the package's own names."""
    before = run_id(TrainConfig()), run_id(TrainConfig(task="garnet"))
    add_chain([2, 1])
    add_law(0)
    add_learner(0.5)
    assert (run_id(TrainConfig()), run_id(TrainConfig(task="garnet"))) == before

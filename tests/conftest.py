"""Types and shapes are checked at run time, warnings are errors (pyproject.toml), and two host devices are used.

Compiled programs are kept in one folder for all workers, the processes that tests start, and the next time.
"""

import os
from pathlib import Path

os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# drawn examples are the same ones each time
settings.register_profile("nail", deadline=None, derandomize=True, database=None)
settings.load_profile("nail")

install_import_hook("nail", "beartype.beartype")

import nail_experiments  # noqa: E402, F401  (figures are registered by importing them)

from nail.cli.programs import EIGEN, known_flags  # noqa: E402
from nail.training.devices import QUICK  # noqa: E402

if "XLA_FLAGS" not in os.environ:  # workers of xdist have it from the process that starts them
    # compile quickly: the tests' programs are tiny
    os.environ["XLA_FLAGS"] = known_flags(EIGEN, *(f"--{name}={str(value).lower()}" for name, value in QUICK))


@pytest.fixture
def tables():
    """The tables of names, put back as they were afterwards."""
    from nail.envs.noises import NOISES
    from nail.envs.tasks import TASKS
    from nail.methods import METHOD

    kept = [(table, dict(table)) for table in (TASKS, NOISES, METHOD)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)

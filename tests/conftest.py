"""Types and shapes are checked at run time, warnings are errors (pyproject.toml), and two host devices are used."""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

from jaxtyping import install_import_hook

install_import_hook("nail", "beartype.beartype")

"""Types and shapes are checked at run time, warnings are errors (pyproject.toml), and two host devices are used."""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "2"
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
"""compile quickly: the tests' programs are tiny"""
os.environ.setdefault("XLA_FLAGS", f"--xla_cpu_multi_thread_eigen=false {QUICK}")

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("nail", "beartype.beartype")

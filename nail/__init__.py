"""Imitation learning from noisy experts: theory, environments, learners and figures in JAX.

The doors below are what most users need; each is imported when it is first used, and JAX with it.
"""

from importlib import import_module
from typing import Any

_DOORS = {
    "TrainConfig": "nail.training.config",
    "grid": "nail.sweep.grid",
    "run": "nail.sweep.run",
    "stages": "nail.sweep.stages",
    "read_rows": "nail.sweep.table",
    "load": "nail.sweep.trained_policy",
    "make_train": "nail.training.train",
    "n_star": "nail.counting.nstar",
    "n_star_grid": "nail.complexity.grid",
    "add_task": "nail.training.doors",
    "add_noise": "nail.training.doors",
    "add_method": "nail.training.doors",
    "add_learner": "nail.training.doors",
    "Method": "nail.methods",
    "add_instance": "nail.training.doors",
    "check_task": "nail.envs.play",
}
__all__ = list(_DOORS)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("nail")
    if name not in _DOORS:
        raise AttributeError(f"module 'nail' has no attribute {name!r}")
    return getattr(import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), "__version__", *_DOORS]

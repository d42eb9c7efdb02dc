"""Add a task, a noise law or a method from outside the package: three calls that fill the package's own tables.

What was added is known in this process only, so the same calls come first in every process that uses it. Runs are
identified by names: after a change of a definition, take another name or another output folder.
"""

from collections.abc import Callable

from nail.checks import require
from nail.envs.environment import Environment
from nail.envs.instances import Instance
from nail.methods import METHOD, Method
from nail.noise import Channel
from nail.training.config import NOISES, TASKS, TrainConfig
from nail.training.problem import CHANNEL, INSTANCES, TABULAR, TASK, Numbers


def add_tabular_task(name: str, summary: str, instance: Callable[[TrainConfig], Instance]) -> None:
    """`TrainConfig(task=name)` is then the finite MDP `instance(config)`, with a softmax table as student.

    `instance` reads H = m and A = p from the configuration. Raises `BadInput` if the name is taken.
    """
    _require_new("task", name, TASKS)
    TASKS[name], INSTANCES[name], TASK[name] = summary, instance, TABULAR


def add_noise(name: str, summary: str, channel: Callable[[TrainConfig, Environment, Numbers], Channel]) -> None:
    """`TrainConfig(noise=name)` then corrupts the expert by `channel(config, environment, numbers)`.

    The channel is anything with `probs` (nail/noise.py), made of the traced numbers of a run (η, …), so that a grid of
    them stays one program. Raises `BadInput` if the name is taken.
    """
    _require_new("noise", name, NOISES)
    NOISES[name], CHANNEL[name] = summary, channel


def add_method(method: Method) -> None:
    """`TrainConfig(method=method.name)` is then this row of the methods table. Raises `BadInput` if it is taken."""
    _require_new("method", method.name, METHOD)
    METHOD[method.name] = method


def _require_new(what: str, name: str, known: dict) -> None:
    require(name not in known, f"name of a new {what}", repr(name), "one that is not taken")

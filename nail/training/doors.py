"""Doors: add a task, an instance, a noise law or a method from outside the package, by one call each.

What was added is then known by its name to the command line (`--task`, `--noise`, `--method`), `nail list`, `nail
bench`, legends and rows, in every process that imports the module with the call: `nail --import MODULE …`, or an entry
point of the group `nail.plugins`. Its definition enters the identity of runs, so that results of another definition of
the same name are never taken for it. No door starts JAX: a module may be imported before its devices are set.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_type_hints

from nail.checks import BadInput, require
from nail.envs.noises import NOISES, Noise
from nail.envs.tasks import TASKS, Task, tabular_task
from nail.methods import METHOD, Method, check_method
from nail.policies.students import STUDENTS
from nail.registry import Options
from nail.training.config import TrainConfig
from nail.training.kinds import kinds_of


def add_task(
    name: str, summary: str, environment: Callable[[Any, int, int], Any], options: type = Options,
    student: str = "transformer", rewards: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """`TrainConfig(task=name, …)` then acts in `environment(options, bank seed, held-out contexts)`.

    `options` is a frozen dataclass with defaults, whose fields become fields of the configuration and options of the
    command line; a method `check()` may raise `BadInput`. `student` is transformer (a `TokenTask`: contexts are prompts
    of `prompt_length` tokens; see `nail.envs.environment`) or table. `rewards` names what a verifier may say of its
    score (answer, chain; the usual one first), for methods that read a reward. Raises `BadInput` for a name or a field
    that the package uses, or options that are no frozen dataclass; a task whose parts contradict each other is refused
    when its environment is first made, by `check_task` with the default options (call that to know it at once).

        >>> from nail.envs.modadd import make_modadd
        >>> add_task("parity", "running parity of 6 bits", lambda o, seed, n: make_modadd(2, 6, "none", seed, n))
        >>> TrainConfig(task="parity").width
        512
    """
    _add(Task(name, summary, options, environment, student=student, rewards=rewards))


def add_instance(name: str, summary: str, instance: Callable[[Any, int], Any], options: type = Options) -> None:
    """`TrainConfig(task=name, …)` is then the finite MDP `instance(options, seed)`, with a softmax table as student.

    The seed is the configuration's `bank_seed`; `nail n-star --instance NAME` and `nail.n_star` take it by name too.
    `options` and errors are as for `add_task`.

        >>> from nail.envs.instances import cliff
        >>> add_instance("cliff", "a mistake leaves the path for good", lambda options, seed: cliff(4, 3))
        >>> TrainConfig(task="cliff", method="dagger").task
        'cliff'
    """
    _add(tabular_task(name, summary, options, instance, renamed=()))


def add_noise(name: str, summary: str, channel: Callable[[Any, Any, Any], Any]) -> None:
    """`TrainConfig(noise=name)` then corrupts the expert by `channel(configuration, environment, numbers)`.

    The channel is anything with `probs` (nail/noise.py; docs/noise.md), made of the traced numbers of a run
    (`numbers.eta`, …), so that a grid of them stays one program. Which of them it reads is not known: none is refused
    as unread, as numbers of the package's own laws are (`Noise.reads`). Raises `BadInput` if the package uses the name.

        >>> import jax.numpy as jnp
        >>> from nail.noise import Huber
        >>> add_noise("stubborn", "plays action 0", lambda c, env, n: Huber(n.eta, jnp.eye(env.n_actions)[0]))
        >>> TrainConfig(noise="stubborn").noise
        'stubborn'
    """
    require(callable(channel), f"channel of the noise {name}", repr(channel), "a function")
    NOISES.add(Noise(name, summary, channel))


def add_method(method: Method) -> None:
    """`TrainConfig(method=method.name)` is then this row of the table; `n_star` takes it where it can be derived.

    Raises `BadInput` if the package uses the name or a field is not what `Method` says of it.

        >>> add_method(Method("nail-warm", "NAIL-F at T = 0.3", "student", temperature=0.3))
        >>> TrainConfig(method="nail-warm").rollout_temperature
        0.3
    """
    METHOD.add(check_method(method))


def _add(task: Task) -> None:
    options, student = task.options, STUDENTS.find(task.student)
    frozen = dataclasses.is_dataclass(options) and options.__dataclass_params__.frozen
    require(frozen, f"options of the task {task.name}", options, "a frozen dataclass")
    taken = {field.name for kind in (TrainConfig, student.options) for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(options):
        what, field.type = f"the option {field.name} of the task {task.name}", get_type_hints(options)[field.name]
        require(field.name not in taken, what, field.name, "a name that no run has yet")
        kinds = set(kinds_of(field)) - {NoneType}
        require(len(kinds) == 1 and kinds <= {int, float, str, bool}, what, field.type,
                "of one type of int, float, str or bool (or None)")  # fmt: skip
        if field.default is dataclasses.MISSING:
            raise BadInput(f"{what} must have a default")
    if not issubclass(options, Options):
        made = type(
            options.__name__, (options, Options), {"__doc__": options.__doc__, "__module__": options.__module__}
        )
        task = task._replace(options=dataclass(frozen=True)(made))
    TASKS.add(task)

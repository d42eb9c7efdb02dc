"""Doors: add a task, an instance, a noise law, a method or a learner from outside the package, by one call each.

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
from nail.learners import Functions
from nail.method_checks import check_method
from nail.methods import METHOD, Method
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


def add_learner(
    name: str, init: Callable[..., Any], play: Callable[..., Any], update: Callable[..., Any],
    decide: Callable[..., Any], ask: Callable[..., Any] | None = None, oracle: Any = "labels", label: str = "",
    summary: str = "",
) -> None:  # fmt: skip
    """`nail.n_star(instance, name, …)` then runs a count-based learner with a state of its own: pure functions of one
    replicate, in JAX, which the package compiles and runs in thousands of replicates.

    `nail.learners.Functions` says what each is given and returns, `Problem` and `Episode` beside it what the first and
    third argument of `init` and `update` hold. In short, with H steps, S states a step and A actions:

    - init(problem) → the state before the first episode, any pytree of arrays whose shapes stay;
    - play(state, h, s, key) → an action (), or A: the noisy expert plays the step, which counts as an answer;
    - ask(state, h, s, key) → whether the expert is asked there, a bool (); without it, at every step;
    - update(state, episode, key) → the state after an episode: its states, actions, labels, probabilities and asked,
      (H,) each; a label is A where none was asked for;
    - decide(state) → the policy that is judged, actions (H, S).

    A learner reads what it asked for, the states it came through (two that follow each other are a transition), and the
    channel as believed. Nothing else: neither π* nor the noisy law nor the reward is given to it. `oracle` is what an
    answer is, and what the learner counts as: "labels", "probabilities" (the exact probability of the action that was
    played) or "labels and probabilities", where an answer counts as two.

    Here the first half of the steps is played and answered by the expert, the rest by the learner:

        >>> import jax.numpy as jnp
        >>> def init(problem):
        ...     return jnp.zeros((problem.horizon, problem.n_states, problem.n_actions), int)
        >>> def play(labels, h, s, key):
        ...     H, S, A = labels.shape
        ...     return jnp.where(h < H // 2, A, labels[h, s].argmax())
        >>> def update(labels, episode, key):
        ...     return labels.at[jnp.arange(len(labels)), episode.states, episode.labels].add(1)
        >>> def decide(labels):
        ...     return labels.argmax(-1)
        >>> add_learner("half-and-half", init, play, update, decide)
        >>> found = nail.n_star("poison-chain", "half-and-half", 4, 4, eta=0.3, delta=0.1)
        >>> found.queries == 4 * found.value
        True

    On "poison-chain" there are two states a step, 0 on the path and 1 off it; "hidden-path" is refused by that name
    (give the tree, `nail.envs.instances.hidden_path`). Raises `BadInput` if the package uses the name, for what is no
    function, for an unknown oracle; and, when a run begins and before anything is computed, naming the function, for
    shapes or types that are not these, and for functions that are not pure (each is traced twice).
    """
    functions = Functions(init, play, update, decide, ask, oracle)
    add_method(Method(name, label or name, "student", functions=functions, summary=summary))


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

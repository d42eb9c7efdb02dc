"""`check_task`: play a task at random, and say in a sentence what its parts disagree about."""

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nail.checks import BadInput, require_known
from nail.envs.environment import Environment, TokenTask
from nail.envs.tasks import TASKS, Task

EPISODES = 8
"""episodes of each kind that are played"""
CLOSE = 1e-5
"""largest difference of two probabilities that are to be the same"""


def check_task(task: str | Environment, **options: Any) -> Environment:
    """Play a task and raise `BadInput` with one sentence if its parts contradict each other; returns its environment.

    `task` is a name (with the task's options) or an environment. Checked on training and validation contexts, for
    episodes of the clean expert, of uniformly random actions and of both mixed: laws are laws (A numbers ≥ 0, sum 1);
    `laws` is `law` at each state, and `poisoned` is `lost`; `observations` is what `observe` shows after `advance`; the
    clean expert gives its own `clean_actions` a positive probability; observations and prompt tokens are in range;
    scores lie in [0, 1], and that of the clean actions is 1; a `noise_profile` is one number in [0, 1] for each step.

        >>> check_task("modadd", p=3, m=4).horizon
        4
    """
    env, name = (_environment(task, options), task) if isinstance(task, str) else (task, type(task).__name__)
    kind = TokenTask if isinstance(task, str) and TASKS[task].student == "transformer" else Environment
    missing = [part for part in _parts(kind) if not hasattr(env, part)]
    if missing:
        raise BadInput(f"the environment of the task {name} must have {', '.join(missing)}: see nail.envs.environment")
    _judge_profile(env, name)
    rng, play = np.random.default_rng(0), jax.jit(lambda context, actions: _play(env, context, actions))
    clean_actions = jax.jit(env.clean_actions)
    for stream in (jax.jit(env.train_context), jax.jit(env.validation_context)):
        for index in range(min(EPISODES, env.n_validation)):
            with _sentence(name, "played"):
                context = stream(jnp.uint32(index))
                clean = np.asarray(clean_actions(context), np.int32)
            wild = rng.integers(env.n_actions, size=env.horizon).astype(np.int32)
            mixed = np.where(rng.random(env.horizon) < 0.8, clean, wild)
            for actions in (clean, wild, mixed):
                with _sentence(name, "played"):
                    played = jax.device_get(play(context, jnp.asarray(actions)))
                _judge(env, name, actions, played, on_path=np.array_equal(actions, clean))
            if kind is TokenTask:
                _judge_prompt(env, name, np.asarray(context))
    return env


@cache
def check_once(task: Task) -> None:
    """`check_task` of a row that was added from outside, before its first environment or instance."""
    if task.name not in TASKS.own:
        check_task(task.name)


def _parts(kind: type) -> list[str]:
    """Names that a protocol asks for."""
    return sorted(n for k in kind.__mro__ for n in (*inspect.get_annotations(k), *vars(k)) if not n.startswith("_"))


def _environment(name: str, options: dict[str, Any]) -> Any:
    task = TASKS.find(name)
    for option in options:
        require_known(f"option of the task {name}", option, [field.name for field in dataclasses.fields(task.options)])
    chosen = task.options(**options)
    chosen.check()
    with _sentence(name, "made"):
        return task.environment(chosen, 0, 4 * EPISODES)


@contextlib.contextmanager
def _sentence(name: str, what: str) -> Iterator[None]:
    """An exception of the task's own code as one sentence."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise BadInput(f"task {name} cannot be {what}: {type(error).__name__}: {first}") from error


def _require(ok: Any, name: str, what: str, wrong: str, where: str) -> None:
    if not bool(ok):
        raise BadInput(f"task {name}: {what} {wrong} ({where})")


class Played(NamedTuple):
    """An episode, step by step and in one pass."""

    seen: Any
    laws: Any
    lost: Any
    observations: Any
    laws_at_once: Any
    poisoned: Any
    score: Any


def _play(env: Environment, context: Any, actions: jax.Array) -> Played:
    def step(state, action):
        return env.advance(state, action), (env.observe(state), env.law(state), env.lost(state))

    seen, laws, lost = jax.lax.scan(step, env.start(context), actions)[1]
    observed = env.observations(context, actions)
    at_once = env.laws(context, observed), env.poisoned(context, observed)
    return Played(seen, laws, lost, observed, *at_once, env.score(context, actions))


def _judge(env: Environment, name: str, actions: np.ndarray, played: Played, on_path: bool) -> None:
    """Raise `BadInput` for the first contradiction of an episode."""
    laws, seen = np.asarray(played.laws, float), played.seen
    shape = (env.horizon, env.n_actions)
    _require(laws.shape == shape, name, "`law`", f"has the shape {laws.shape[1:]} instead of {shape[1:]}", "each step")
    for h, law in enumerate(laws):
        wrong = f"is no probability vector: sum {law.sum():.6g}, least {law.min():.3g}"
        _require(law.min() >= 0 and abs(law.sum() - 1) < CLOSE, name, "`law`", wrong, f"step {h + 1}")
    _same(name, "`observations`", "what `observe` shows after `advance`", played.observations, seen)
    most = env.n_observations - 1
    _require(seen.min() >= 0 and seen.max() <= most, name, "an observation", f"is outside 0..{most}", f"{seen.max()}")
    _same(name, "`laws`", "`law` at the states of the same episode", played.laws_at_once, laws)
    _same(name, "`poisoned`", "`lost` at the states of the same episode", played.poisoned, played.lost)
    for part, value in played.score._asdict().items():
        value = np.asarray(value, float)
        _require(np.all((value >= 0) & (value <= 1)), name, f"the score `{part}`", "lies outside [0, 1]", str(value))
    if on_path:
        chance = laws[np.arange(env.horizon), actions]
        wrong = "has probability 0 under the clean law on its own path: `advance` and `clean_actions` disagree"
        _require(chance.min() > 0, name, "a clean action", wrong, f"step {int(chance.argmin()) + 1}")
        _require(played.score.full_exact == 1, name, "the score of the clean actions", "is not 1", "full_exact")


def _judge_profile(env: Environment, name: str) -> None:
    profile = np.asarray(getattr(env, "noise_profile", np.ones(env.horizon)), float)
    fits = profile.shape == (env.horizon,) and profile.min() >= 0 and profile.max() <= 1
    _require(fits, name, "`noise_profile`", f"is not {env.horizon} numbers in [0, 1]", str(profile)[:80])


def _judge_prompt(env: Environment, name: str, prompt: np.ndarray) -> None:
    wrong = f"is not a prompt of {env.prompt_length} tokens in 0..{env.n_actions - 1}"
    fits = prompt.shape == (env.prompt_length,) and prompt.min() >= 0 and prompt.max() < env.n_actions
    _require(fits, name, "a context", wrong, str(prompt)[:80])


def _same(name: str, one: str, other: str, first: Any, second: Any) -> None:
    """Equal shapes and, up to rounding, numbers."""
    first, second = np.asarray(first), np.asarray(second)
    _require(first.shape == second.shape, name, one, f"has another shape than {other}", f"{first.shape} {second.shape}")
    apart = np.abs(first.astype(float) - second.astype(float)).reshape(len(first), -1).max(-1)
    _require(apart.max() < CLOSE, name, one, f"is not {other}", f"step {int(apart.argmax()) + 1}")

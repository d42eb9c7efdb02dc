"""From a configuration to its objects: method, environment, channel, clean expert, policy."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nail.checks import BadInput
from nail.envs.environment import Environment
from nail.envs.instances import Instance
from nail.envs.noises import NOISES
from nail.envs.play import check_once
from nail.envs.tasks import TASKS
from nail.methods import METHOD, Method
from nail.noise import Corruption
from nail.policies.policy import Policy
from nail.policies.students import STUDENTS
from nail.training.config import TrainConfig
from nail.training.experts import Expert, NetworkExpert, Oracle
from nail.training.own_loss import check_loss


class Numbers(NamedTuple):
    """The traced numbers of a run; a leading axis makes them the numbers of a batch of runs."""

    seed: Int[Array, "*runs"]
    eta: Float[Array, "*runs"]
    beta: Float[Array, "*runs"]
    temperature: Float[Array, "*runs"]
    rule_number: Float[Array, "*runs"]
    expert_temperature: Float[Array, "*runs"]
    lr: Float[Array, "*runs"]
    burst: Float[Array, "*runs"]


class Setup(NamedTuple):
    """All that an update needs beside its numbers and the state."""

    config: TrainConfig
    method: Method
    env: Environment
    policy: Policy
    expert: Expert


def numbers_of(configs: tuple[TrainConfig, ...]) -> Numbers:
    """Stack the traced numbers of `configs` along a leading runs axis; rollouts have the numbers that are played."""
    played = {"seed": "stream", "temperature": "rollout_temperature", "rule_number": "rollout_number"}

    def column(name: str) -> Array:
        values = [getattr(config, played.get(name, name)) for config in configs]
        return jnp.asarray(np.array(values, np.int32 if name == "seed" else np.float32))

    return Numbers(*map(column, Numbers._fields))


def make_instance(config: TrainConfig) -> Instance:
    """The finite MDP of a tabular task, drawn from `bank_seed`; raises `BadInput` for a task that is not tabular."""
    instance = TASKS.find(config.task).instance
    if instance is None:
        raise BadInput(f"task must be a tabular one, and {config.task} is not")
    return instance(config, config.bank_seed)


def make_environment(config: TrainConfig) -> Environment:
    """The environment that `config` names; `BadInput` for a task from outside whose parts contradict each other."""
    task = TASKS.find(config.task)
    check_once(task)
    return task.environment(config, config.bank_seed, config.n_validation)


def make_policy(config: TrainConfig, env: Environment) -> Policy:
    """The student, also the architecture of a trained expert: a transformer, or a softmax table."""
    return STUDENTS.find(TASKS.find(config.task).student).policy(config, env)


def make_setup(config: TrainConfig, expert_params: Any = None) -> Setup:
    """Method, environment, student and clean expert: the oracle, or the network with `expert_params`.

    Raises `BadInput` for a method's own loss that is no pure function of such an environment's laws.
    """
    env, method = make_environment(config), METHOD.find(config.method)
    check_loss(method, config.estimator, env.n_actions)
    policy = make_policy(config, env)
    expert = Oracle(env) if expert_params is None else NetworkExpert(env, policy, expert_params)
    return Setup(config, method, env, policy, expert)


def require_loss(config: TrainConfig) -> None:
    """Raise `BadInput` as `make_setup` does for a method's own loss, if it has one."""
    if METHOD.find(config.method).loss is not None:
        make_setup(config)


def make_channel(setup: Setup, numbers: Numbers) -> Corruption:
    """The corruption of a run at its traced numbers, to be bound to prompts by `nail.noise.over`."""
    return NOISES.find(setup.config.noise).channel(setup.config, setup.env, numbers)

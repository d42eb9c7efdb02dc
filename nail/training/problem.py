"""From a configuration to its objects: environment, channel, clean expert, policy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from nail.envs.environment import Environment
from nail.envs.instances import Instance, garnet, hidden_path, poison_chain
from nail.envs.modadd import make_modadd
from nail.envs.tabular import make_tabular
from nail.noise import Channel, Huber, Temperature, uniform_kernel
from nail.policies.policy import Policy
from nail.policies.softmax_table import SoftmaxTable
from nail.policies.transformer import Decoder, TransformerPolicy
from nail.training.config import TrainConfig
from nail.training.experts import Expert, NetworkExpert, Oracle


class Numbers(NamedTuple):
    """The traced numbers of a run; a leading axis makes them the numbers of a batch of runs."""

    seed: Int[Array, "*runs"]
    eta: Float[Array, "*runs"]
    beta: Float[Array, "*runs"]
    temperature: Float[Array, "*runs"]
    expert_temperature: Float[Array, "*runs"]
    lr: Float[Array, "*runs"]


class Problem(NamedTuple):
    """What a learner is given."""

    env: Environment
    policy: Policy
    expert: Expert


def numbers_of(configs: tuple[TrainConfig, ...]) -> Numbers:
    """Stack the traced numbers of `configs` along a leading runs axis."""

    def column(values, dtype):
        return jnp.array(list(values), dtype)

    return Numbers(
        column((c.seed for c in configs), jnp.int32),
        column((c.eta for c in configs), jnp.float32),
        column((c.beta for c in configs), jnp.float32),
        column((c.rollout_temperature for c in configs), jnp.float32),
        column((c.expert_temperature for c in configs), jnp.float32),
        column((c.lr for c in configs), jnp.float32),
    )


class Task(NamedTuple):
    """How a configuration of one task becomes objects."""

    environment: Callable[[TrainConfig], Environment]
    policy: Callable[[TrainConfig, Environment], Policy]


def _modadd(config: TrainConfig) -> Environment:
    return make_modadd(config.p, config.m, config.recovery, config.bank_seed, config.n_validation)


def compute_dtype(precision: str) -> jnp.dtype:
    """Type of activations and products; parameters, softmax, loss and optimiser are float32 in any case."""
    return jnp.dtype("bfloat16" if precision == "bfloat16" else "float32")


def product_precision(precision: str) -> Precision | None:
    """XLA's precision of the products: HIGHEST for float32 on every device, the device's fast default otherwise."""
    return Precision.HIGHEST if precision == "float32" else None


def _transformer(config: TrainConfig, env: Environment) -> Policy:
    return TransformerPolicy(
        Decoder(
            n_actions=env.n_actions,
            m=config.m,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            init_std=config.initial_std,
            dtype=compute_dtype(config.precision),
            precision=product_precision(config.precision),
        )
    )


def make_instance(config: TrainConfig) -> Instance:
    """The finite MDP of a tabular task with H = m and A = p, its right actions (or its whole MDP) from `bank_seed`.

    Raises `KeyError` for a task that is not tabular.
    """
    return INSTANCES[config.task](config)


def _secret(config: TrainConfig) -> np.ndarray:
    """Right actions, uniform on A^H."""
    return np.random.default_rng(config.bank_seed).integers(config.p, size=config.m)


def _tabular(config: TrainConfig) -> Environment:
    return make_tabular(make_instance(config), config.bank_seed, config.n_validation)


def _softmax_table(config: TrainConfig, env: Environment) -> Policy:
    return SoftmaxTable(env.horizon, env.n_observations, env.n_actions)


INSTANCES: dict[str, Callable[[TrainConfig], Instance]] = {
    "poison-chain": lambda c: poison_chain(c.m, c.p, _secret(c)),
    "hidden-path": lambda c: hidden_path(c.m, c.p, _secret(c)),
    "garnet": lambda c: garnet(c.bank_seed, c.m, n_states=c.p, n_actions=c.p, branching=2),
}
TABULAR = Task(_tabular, _softmax_table)
TASK: dict[str, Task] = {"modadd": Task(_modadd, _transformer), **dict.fromkeys(INSTANCES, TABULAR)}


def make_environment(config: TrainConfig) -> Environment:
    """The environment that `config` names."""
    return TASK[config.task].environment(config)


def make_policy(config: TrainConfig, env: Environment) -> Policy:
    """The student, also the architecture of a trained expert: a transformer, or a softmax table."""
    return TASK[config.task].policy(config, env)


def make_problem(config: TrainConfig, expert_params: Any = None) -> Problem:
    """Environment, student and clean expert: the oracle, or the network with `expert_params`."""
    env = make_environment(config)
    policy = make_policy(config, env)
    expert = Oracle(env) if expert_params is None else NetworkExpert(env, policy, expert_params)
    return Problem(env, policy, expert)


def _uniform(config: TrainConfig, env: Environment, numbers: Numbers) -> Channel:
    kernel = uniform_kernel(env.n_actions, env.noise_support)
    return Huber(numbers.eta, jnp.asarray(kernel, jnp.float32))


CHANNEL: dict[str, Callable[[TrainConfig, Environment, Numbers], Channel]] = {
    "uniform": _uniform,
    "temperature": lambda config, env, numbers: Temperature(numbers.expert_temperature),
}
"""noise law → its channel at the traced numbers of one run"""


def make_channel(config: TrainConfig, env: Environment, numbers: Numbers) -> Channel:
    """The corruption channel of `config` at the traced numbers of one run."""
    return CHANNEL[config.noise](config, env, numbers)

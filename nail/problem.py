"""From a configuration to its objects: environment, channel, clean expert, policy."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nail.config import TrainConfig
from nail.envs.environment import Environment
from nail.envs.modadd import make_modadd
from nail.experts import Expert, NetworkExpert, Oracle
from nail.noise import Channel, Huber, Temperature, uniform_kernel
from nail.policies.policy import Policy
from nail.policies.transformer import Decoder, TransformerPolicy


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


def make_environment(config: TrainConfig) -> Environment:
    """The environment that `config` names."""
    return make_modadd(config.p, config.m, config.recovery, config.bank_seed, config.n_validation)


def make_policy(config: TrainConfig, env: Environment) -> Policy:
    """The student network, also the architecture of a trained expert."""
    return TransformerPolicy(
        Decoder(
            n_actions=env.n_actions,
            m=config.m,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            init_std=config.initial_std,
            dtype=jnp.dtype(config.precision),
        )
    )


def make_problem(config: TrainConfig, expert_params: Any = None) -> Problem:
    """Environment, student and clean expert: the oracle, or the network with `expert_params`."""
    env = make_environment(config)
    policy = make_policy(config, env)
    expert = Oracle(env) if expert_params is None else NetworkExpert(env, policy, expert_params)
    return Problem(env, policy, expert)


def make_channel(config: TrainConfig, env: Environment, numbers: Numbers) -> Channel:
    """The corruption channel of `config` at the traced numbers of one run."""
    if config.noise == "temperature":
        return Temperature(numbers.expert_temperature)
    kernel = uniform_kernel(env.n_actions, env.noise_support)
    return Huber(numbers.eta, jnp.asarray(kernel, jnp.float32))

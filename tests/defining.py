"""What tests of `defclass` share: prompts, words and setups."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from programs import one
from readers import DEFCLASS_TOKENS

from nail.envs.defclass import HELD_OUT, make_defclass
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_setup, numbers_of

SMALL = dict(width=16, heads=2, batch=8, steps=6, eval_every=3, warmup=2, lr=1e-3, n_validation=5)
HELD = [DEFCLASS_TOKENS[token] for token in HELD_OUT]


def words(tokens):
    return [DEFCLASS_TOKENS[token] for token in np.asarray(tokens).tolist()]


def vector(law):
    return np.array([float(law.get(word, 0)) for word in DEFCLASS_TOKENS])


@functools.cache
def prompts(epsilon, which="train", n=4_000, seed=0, negated=0.0):
    env = make_defclass(epsilon, 0.3, seed, n, negated)
    return np.asarray(jax.jit(jax.vmap(getattr(env, f"{which}_context")))(jnp.arange(n, dtype=jnp.uint32)))


def world(noise="canonical", **options):
    config = TrainConfig(task="defclass", noise=noise, **{**SMALL, **options})
    setup = make_setup(config)
    return setup, make_channel(setup, one(numbers_of((config,))))

"""What a user adds from outside: running parity of bits, a token task with a class of its own."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from nail.envs.bank import Bank, make_bank
from nail.envs.tokens import exact_match


class Place(NamedTuple):
    """Where an episode stands."""

    bits: Int[Array, " H"]
    step: Int[Array, ""]
    token: Int[Array, ""]
    parity: Int[Array, ""]
    """of the bits so far"""
    wrong: Bool[Array, ""]
    """whether a token was"""


class Parity(NamedTuple):
    """Prompt x_1..x_H of bits and "=" (token 2); target y_t = x_1 ⊕ … ⊕ x_t. After a mistake the expert is uniform."""

    horizon: int
    bank: Bank
    n_actions: int = 3
    n_observations: int = 3
    noise_support: tuple[int, ...] = (0, 1)

    prompt_length = property(lambda self: self.horizon)
    n_validation = property(lambda self: self.bank.n_validation)

    def train_context(self, index):
        return self.bank.train(index)

    def validation_context(self, index):
        return self.bank.validation(index)

    def start(self, bits):
        return Place(bits, jnp.int32(0), jnp.int32(2), jnp.int32(0), jnp.bool_(False))

    def observe(self, place):
        return place.token

    def advance(self, place, action):
        parity = place.parity ^ place.bits[place.step]
        return Place(place.bits, place.step + 1, action, parity, place.wrong | (action != parity))

    def law(self, place):
        return _law(place.parity ^ place.bits[place.step], place.wrong)

    def lost(self, place):
        return place.wrong

    def clean_actions(self, bits):
        return jax.lax.associative_scan(jnp.bitwise_xor, bits)

    def observations(self, bits, actions):
        return jnp.concatenate([jnp.array([2]), actions[:-1]])

    def laws(self, bits, observations):
        return jax.vmap(_law)(self.clean_actions(bits), self.poisoned(bits, observations))

    def poisoned(self, bits, observations):
        wrong = observations[1:] != self.clean_actions(bits)[:-1]
        return jnp.concatenate([jnp.array([False]), jnp.cumsum(wrong) > 0])

    def score(self, bits, actions):
        return exact_match(actions, self.clean_actions(bits))


def _law(target, lost):
    return jnp.where(lost, jnp.array([0.5, 0.5, 0.0]), (jnp.arange(3) == target).astype(jnp.float32))


@dataclass(frozen=True)
class ParityOptions:
    """Options of running parity."""

    m: int = 6
    """number of bits"""


def make_parity(options, seed, n_validation):
    """The environment of `nail.add_task`."""
    return Parity(options.m, make_bank(2, options.m, seed, n_validation))

"""Prompt banks without memory: prompt number i is the image of i under a keyed permutation of Z_p^m.

A Feistel network on base-p digits is a bijection of the p^m prompts for any keyed round function. Prompts are
therefore distinct until all have been used, training and validation prompts are disjoint by construction, and a bank of
any size is a few integer operations per prompt.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

ROUNDS = 4
_MAX_INDEX = 2**32 - 1


class Bank(NamedTuple):
    """A fixed order of the p^m prompts of m residues mod p: the first `n_validation` of it are held out.

    `train` cycles through the other p^m − n_validation when a run outlasts them.
    """

    p: int
    m: int
    seed: int
    n_validation: int

    @property
    def n_train(self) -> int:
        """Distinct training prompts (at most 2^32 − 1 of them can be indexed)."""
        return min(self.p**self.m, _MAX_INDEX) - self.n_validation

    def validation(self, index: UInt32[Array, ""]) -> Int[Array, " m"]:
        """Validation prompt `index`, residues x_1..x_m."""
        return permute(index, self.p, self.m, self.seed)

    def train(self, index: UInt32[Array, ""]) -> Int[Array, " m"]:
        """Training prompt `index`, residues x_1..x_m."""
        index = jnp.uint32(index) % jnp.uint32(self.n_train)
        return permute(jnp.uint32(self.n_validation) + index, self.p, self.m, self.seed)


def make_bank(p: int, m: int, seed: int, n_validation: int) -> Bank:
    """A bank that holds out `n_validation` prompts, or a tenth of all p^m (at least one) where that is fewer."""
    return Bank(p, m, seed, min(n_validation, max(1, p**m // 10)))


def permute(index: UInt32[Array, ""], p: int, m: int, seed: int) -> Int[Array, " m"]:
    """The m base-p digits of `index`, passed through a keyed bijection of Z_p^m.

    Luby–Rackoff: in turn, each half of the digits is shifted mod p by a hash of the other half. Every digit is
    uniform over Z_p up to the rounding of 2^24 hash values to p classes. With m = 1 there is one half only, and
    the bijection is x → a·x + c mod p with a coprime to p.
    """
    powers = [p**j for j in range(m) if p**j <= _MAX_INDEX]
    digits = (jnp.uint32(index) // jnp.array(powers, jnp.uint32)) % jnp.uint32(p)
    digits = jnp.pad(digits, (0, m - len(powers)))
    words = np.random.default_rng(seed)
    if m == 1:
        factor = next(a for a in words.permutation(np.arange(1, p)) if np.gcd(a, p) == 1)
        return ((digits * jnp.uint32(factor) + jnp.uint32(words.integers(p))) % p).astype(jnp.int32)
    halves = [digits[: m // 2], digits[m // 2 :]]
    for r in range(ROUNDS):
        source, target = halves[r % 2], halves[1 - r % 2]
        odd = jnp.array(words.integers(0, 2**31, source.shape[0]) * 2 + 1, jnp.uint32)
        salt = jnp.array(words.integers(0, 2**32, target.shape[0]), jnp.uint32)
        mixed = mix(jnp.sum((source + 1) * odd, dtype=jnp.uint32))
        shift = (mix(mixed ^ salt) >> 8) % jnp.uint32(p)
        halves[1 - r % 2] = (target + shift) % jnp.uint32(p)
    return jnp.concatenate(halves).astype(jnp.int32)


def mix(word: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32-bit words in which every input bit reaches every output bit (xor-shift-multiply rounds)."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)

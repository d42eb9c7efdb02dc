"""Composition of m permutations of five symbols with a chain of thought (docs/token_tasks.md §2)."""

import itertools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from nail.envs.bank import Bank, make_bank
from nail.envs.tokens import Score, exact_match

OPEN, CLOSE, EQUALS, ONE = 0, 1, 2, 3
"""tokens "(", ")", "=", and the first of the digits 1..5"""
SYMBOLS, BLOCK, VOCABULARY = 5, 7, 8
"""digits of a permutation, tokens of its block "(d1 d2 d3 d4 d5)", and all tokens"""
PERMUTATIONS = np.array(list(itertools.permutations(range(SYMBOLS))), np.int32)
"""the 120 permutations in lexicographic order, symbols from 0"""

Perms = Int[Array, "m 5"]


class Place(NamedTuple):
    """Where an episode stands."""

    context: Int[Array, " L"]
    clean: Int[Array, " H"]
    """the clean chain"""
    step: Int[Array, ""]
    token: Int[Array, ""]
    before: Int[Array, " 5"]
    """tokens at the digits of the block before, as the prefix spells them; the identity before the first"""
    now: Int[Array, " 5"]
    """tokens at the digits of this block so far"""
    mistaken: Bool[Array, ""]
    """whether a key digit of the prefix is wrong"""


class S5(NamedTuple):
    """Prompt: m permutations σ_1..σ_m as blocks, and "="; chain: the blocks of run_k[i] = run_{k−1}[σ_k[i]], k = 1..m.

    The clean expert composes σ_k with the block before as the *prefix* spells it, and is uniform over the digits where
    that holds no digit; parentheses are always right. With `recovery` "none" it is uniform at all digits after a wrong
    key digit (one digit a block: block b = 0..m−1 has its key at coordinate b mod 5), wrong meaning another one than
    that of the clean chain: the random suffix. With "follow" it goes on.
    """

    m: int
    recovery: Literal["none", "follow"]
    bank: Bank

    n_actions = VOCABULARY
    n_observations = VOCABULARY

    @property
    def horizon(self) -> int:
        """H = 7m tokens."""
        return BLOCK * self.m

    @property
    def prompt_length(self) -> int:
        """L = 7m tokens, before the "=" that is observed first."""
        return BLOCK * self.m

    @property
    def n_validation(self) -> int:
        """Number of held-out prompts."""
        return self.bank.n_validation

    @property
    def noise_support(self) -> tuple[int, ...]:
        """The digits."""
        return tuple(range(ONE, VOCABULARY))

    @property
    def noise_profile(self) -> Float[np.ndarray, " H"]:
        """1 at the digits of the chain, 0 at its parentheses: what the rate of uniform noise is multiplied by."""
        block = [0.0, *[1.0] * SYMBOLS, 0.0]
        return np.tile(np.array(block, np.float32), self.m)

    @property
    def key_profile(self) -> Float[np.ndarray, " H"]:
        """1 at the key digits, 0 elsewhere: what the rate of semantic-key noise is multiplied by."""
        blocks = np.arange(self.m)
        profile = np.zeros((self.m, BLOCK), np.float32)
        profile[blocks, 1 + blocks % SYMBOLS] = 1.0
        return profile.ravel()

    def train_context(self, index: UInt32[Array, ""]) -> Int[Array, " L"]:
        """Tokens of training prompt `index`."""
        return spell(jnp.asarray(PERMUTATIONS)[self.bank.train(index)])

    def validation_context(self, index: UInt32[Array, ""]) -> Int[Array, " L"]:
        """Tokens of validation prompt `index`."""
        return spell(jnp.asarray(PERMUTATIONS)[self.bank.validation(index)])

    def clean_actions(self, context: Int[Array, " L"]) -> Int[Array, " H"]:
        """The blocks of the running compositions."""
        after = lambda run, sigma: jnp.take_along_axis(run, sigma, axis=-1)  # noqa: E731
        return spell(jax.lax.associative_scan(after, digits(context) - ONE))

    def observations(self, context: Int[Array, " L"], actions: Int[Array, " H"]) -> Int[Array, " H"]:
        """ "=" and the tokens a_1..a_{H−1}."""
        return jnp.concatenate([jnp.array([EQUALS], jnp.int32), actions[:-1]])

    def start(self, context: Int[Array, " L"]) -> Place:
        """Nothing emitted yet."""
        zero, identity = jnp.int32(0), ONE + jnp.arange(SYMBOLS, dtype=jnp.int32)
        clean = self.clean_actions(context)
        return Place(context, clean, zero, jnp.int32(EQUALS), identity, jnp.zeros_like(identity), jnp.bool_(False))

    def observe(self, state: Place) -> Int[Array, ""]:
        """The token before the one to be emitted."""
        return state.token

    def advance(self, state: Place, action: Int[Array, ""]) -> Place:
        """Append `action` to the chain."""
        place, action = state.step % BLOCK, action.astype(jnp.int32)
        now = jnp.where(jnp.arange(SYMBOLS) == place - 1, action, state.now)
        before = jnp.where(place == BLOCK - 1, now, state.before)
        wrong = (jnp.asarray(self.key_profile)[state.step] > 0) & (action != state.clean[state.step])
        return Place(state.context, state.clean, state.step + 1, action, before, now, state.mistaken | wrong)

    def law(self, state: Place) -> Float[Array, " A"]:
        """The clean expert's next-token law at this prefix."""
        sigma = digits(state.context)[state.step // BLOCK] - ONE
        return _block(state.before, sigma, jnp.broadcast_to(self.lost(state), (BLOCK,)))[state.step % BLOCK]

    def lost(self, state: Place) -> Bool[Array, ""]:
        """Whether the digits are uniform from here on."""
        return state.mistaken & (self.recovery == "none")

    def laws(self, context: Int[Array, " L"], observations: Int[Array, " H"]) -> Float[Array, "H A"]:
        """The clean expert's law at every prefix of the chain that `observations` = ("=", a_1, …, a_{H−1}) spells."""
        identity = ONE + jnp.arange(SYMBOLS, dtype=jnp.int32)
        before = jnp.concatenate([identity[None], digits(jnp.roll(observations, -1))[:-1]])
        lost = self.poisoned(context, observations).reshape(self.m, BLOCK)
        return jax.vmap(_block)(before, digits(context) - ONE, lost).reshape(self.horizon, VOCABULARY)

    def poisoned(self, context: Int[Array, " L"], observations: Int[Array, " H"]) -> Bool[Array, " H"]:
        """Whether a key digit strictly before each position is wrong and the expert does not recover from it."""
        if self.recovery == "follow":
            return jnp.zeros(self.horizon, bool)
        wrong = (observations[1:] != self.clean_actions(context)[:-1]) & (jnp.asarray(self.key_profile)[:-1] > 0)
        return jnp.concatenate([jnp.zeros(1, bool), jnp.cumsum(wrong) > 0])

    def score(self, context: Int[Array, " L"], actions: Int[Array, " H"]) -> Score:
        """Against the running compositions; the answer is the whole last block."""
        clean = self.clean_actions(context)
        answer = (actions[-BLOCK:] == clean[-BLOCK:]).all()
        return exact_match(actions, clean)._replace(answer_exact=answer)


def spell(perms: Perms) -> Int[Array, " tokens"]:
    """Permutations of the symbols 0..4 as tokens "(d1 d2 d3 d4 d5)", one block after the other."""
    ends = [jnp.full((len(perms), 1), token, jnp.int32) for token in (OPEN, CLOSE)]
    return jnp.concatenate([ends[0], ONE + perms.astype(jnp.int32), ends[1]], axis=1).ravel()


def digits(tokens: Int[Array, " tokens"]) -> Perms:
    """The tokens at the digits of each block."""
    return tokens.reshape(-1, BLOCK)[:, 1 : 1 + SYMBOLS]


def _block(before: Int[Array, " 5"], sigma: Int[Array, " 5"], lost: Bool[Array, " 7"]) -> Float[Array, "7 A"]:
    """Laws at the seven tokens of a block: "(", before[σ[i]] for i = 1..5, ")"; uniform digits where lost."""
    actions = jnp.arange(VOCABULARY)
    target = jnp.concatenate([jnp.array([OPEN]), before[sigma], jnp.array([CLOSE])])
    digit = (jnp.arange(BLOCK) > 0) & (jnp.arange(BLOCK) < BLOCK - 1)
    certain = (actions[None] == target[:, None]).astype(jnp.float32)
    uniform = (actions >= ONE).astype(jnp.float32) / SYMBOLS
    unsure = digit & (lost | (target < ONE))
    return jnp.where(unsure[:, None], uniform[None], certain)


def make_s5(m: int, recovery: Literal["none", "follow"], bank_seed: int, n_validation: int) -> S5:
    """The task with its bank of 120^m prompts."""
    return S5(m, recovery, make_bank(len(PERMUTATIONS), m, bank_seed, n_validation))

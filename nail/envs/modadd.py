"""Modular addition with a chain of thought (docs/paper.md §1.1): sum m residues mod p, one running sum at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from nail.envs.bank import Bank, make_bank
from nail.envs.tokens import Recovery, Score, exact_match

ECHO = 0.9
"""probability with which the "echo" expert repeats the last token after a mistake"""


class ChainState(NamedTuple):
    """Where an episode stands: the step, the token just emitted, and whether a mistake has been made."""

    context: Int[Array, " m"]
    step: Int[Array, ""]
    token: Int[Array, ""]
    total: Int[Array, ""]
    """clean running sum y_t of the steps done so far"""
    mistaken: Bool[Array, ""]


class ModAdd(NamedTuple):
    """Prompt x_1..x_m and "="; target y_t = (x_1+…+x_t) mod p for t = 1..m. Vocabulary 0..p−1 and "=" (token p).

    `recovery` says what the clean expert does after a mistake: "none": uniform over the residues, so that
    feedback carries no information there; "echo": it repeats the last token with probability `ECHO` and is uniform
    over the residues else, which carries none either (docs/post_training.md §1.4); "follow": it adds x_t to the last
    token of the prefix, whatever that is. The position of the first mistake itself still has an informative label. "="
    has no residue: after it the "follow" and the "echo" expert are uniform for one position.
    """

    p: int
    m: int
    recovery: Recovery
    bank: Bank

    @property
    def horizon(self) -> int:
        """H = m target tokens."""
        return self.m

    @property
    def prompt_length(self) -> int:
        """L = m residues, before the "=" that is observed first."""
        return self.m

    @property
    def n_actions(self) -> int:
        """A = p + 1 tokens."""
        return self.p + 1

    @property
    def n_observations(self) -> int:
        """Tokens again."""
        return self.n_actions

    @property
    def equals(self) -> int:
        """The token "=": end of the prompt, never a target."""
        return self.p

    @property
    def n_validation(self) -> int:
        """Number of held-out prompts."""
        return self.bank.n_validation

    @property
    def noise_support(self) -> tuple[int, ...]:
        """The actions that uniform noise chooses among: the residues, the clean one included, never "="."""
        return tuple(range(self.p))

    def train_context(self, index: UInt32[Array, ""]) -> Int[Array, " m"]:
        """Residues of training prompt `index`."""
        return self.bank.train(index)

    def validation_context(self, index: UInt32[Array, ""]) -> Int[Array, " m"]:
        """Residues of validation prompt `index`."""
        return self.bank.validation(index)

    def clean_actions(self, context: Int[Array, " m"]) -> Int[Array, " m"]:
        """The running sums y_1..y_m."""
        return jnp.cumsum(context) % self.p

    def observations(self, context: Int[Array, " m"], actions: Int[Array, " m"]) -> Int[Array, " m"]:
        """ "=" and the tokens a_1..a_{m−1}."""
        return jnp.concatenate([jnp.array([self.equals], jnp.int32), actions[:-1]])

    def start(self, context: Int[Array, " m"]) -> ChainState:
        """Nothing emitted yet; the last token is the prompt's "="."""
        zero = jnp.int32(0)
        return ChainState(context, zero, jnp.int32(self.equals), zero, jnp.bool_(False))

    def observe(self, state: ChainState) -> Int[Array, ""]:
        """The token before the one to be emitted."""
        return state.token

    def advance(self, state: ChainState, action: Int[Array, ""]) -> ChainState:
        """Append `action` to the chain."""
        total = (state.total + state.context[state.step]) % self.p
        mistaken = state.mistaken | (action != total)
        return ChainState(state.context, state.step + 1, action.astype(jnp.int32), total, mistaken)

    def law(self, state: ChainState) -> Float[Array, " A"]:
        """The clean expert's next-token law at this prefix."""
        x = state.context[state.step]
        clean = (state.total + x) % self.p
        return self._law(x, state.step == 0, state.token, clean, self.lost(state))

    def lost(self, state: ChainState) -> Bool[Array, ""]:
        """Whether the expert knows nothing of the sum from here on: an earlier mistake, and it does not follow."""
        return state.mistaken & (self.recovery != "follow")

    def laws(self, context: Int[Array, " m"], observations: Int[Array, " m"]) -> Float[Array, "m A"]:
        """The clean expert's law at every prefix of the chain that `observations` = ("=", a_1, …, a_{m−1}) spells."""
        lost = self.poisoned(context, observations)
        first = jnp.arange(self.m) == 0
        return jax.vmap(self._law)(context, first, observations, self.clean_actions(context), lost)

    def poisoned(self, context: Int[Array, " m"], observations: Int[Array, " m"]) -> Bool[Array, " m"]:
        """Whether a mistake was made strictly before each position and the expert does not recover from it."""
        if self.recovery == "follow":
            return jnp.zeros(self.m, bool)
        wrong = observations[1:] != self.clean_actions(context)[:-1]
        return jnp.concatenate([jnp.zeros(1, bool), jnp.cumsum(wrong) > 0])

    def score(self, context: Int[Array, " m"], actions: Int[Array, " m"]) -> Score:
        """The emitted chain against the running sums."""
        return exact_match(actions, self.clean_actions(context))

    def _law(self, x, first, token, clean, lost) -> Float[Array, " A"]:
        """One-hot at the right next residue; uniform over the residues, or an echo, where the expert is lost."""
        if self.recovery == "follow":
            target = jnp.where(first, x, (token + x) % self.p)
            lost = ~first & (token == self.equals)
        else:
            target = clean
        actions = jnp.arange(self.n_actions)
        certain = (actions == target).astype(jnp.float32)
        uniform = (actions < self.p).astype(jnp.float32) / self.p
        if self.recovery == "echo":
            repeated = ECHO * (actions == token) + (1 - ECHO) * uniform
            uniform = jnp.where(token == self.equals, uniform, repeated)
        return jnp.where(lost, uniform, certain)


def make_modadd(p: int, m: int, recovery: Recovery, bank_seed: int, n_validation: int) -> ModAdd:
    """The task with its prompt bank."""
    return ModAdd(p, m, recovery, make_bank(p, m, bank_seed, n_validation))

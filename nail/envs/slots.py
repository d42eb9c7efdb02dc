"""Prompts with slots at their end, for what a teacher may see and a student may not (docs/post_training.md §5.2)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from nail.envs.environment import TokenTask
from nail.envs.tokens import Score, exact_match

STREAM = 2**32 - 3
"""of the chance that slots are filled; the streams of prompts have small numbers instead"""

Prompt = Int[Array, " L"]


class Place(NamedTuple):
    """Where an episode stands: the task's state, the whole prompt, and the step."""

    own: Any
    context: Prompt
    step: Int[Array, ""]


class Slotted(NamedTuple):
    """A token task whose prompts of L₀ tokens have `size` slots behind them: L = L₀ + size, all else is the task's.

    Empty slots hold the token `pad`, and then all is as in the task. Held-out prompts have empty slots. Where the slots
    are filled the expert does what they show, whatever the task says: its chain is the demonstrated one, or the
    task's `chain_to` the answer. Of the training prompts a share `shown` is of this kind, with a uniform answer of
    `answers`. A network that learns from these prompts too learns to follow what stands in its prompt.
    """

    task: TokenTask
    size: int
    """slots: 1, the answer; or H, a whole chain"""
    pad: int
    answers: tuple[int, ...]
    """tokens that an answer can be"""
    shown: float
    bank_seed: int

    @property
    def horizon(self) -> int:
        """H of the task."""
        return self.task.horizon

    @property
    def prompt_length(self) -> int:
        """L = L₀ + size."""
        return self.task.prompt_length + self.size

    @property
    def n_actions(self) -> int:
        """A of the task."""
        return self.task.n_actions

    @property
    def n_observations(self) -> int:
        """Those of the task."""
        return self.task.n_observations

    @property
    def n_validation(self) -> int:
        """Held-out prompts of the task."""
        return self.task.n_validation

    @property
    def noise_support(self) -> tuple[int, ...]:
        """That of the task."""
        return self.task.noise_support

    def train_context(self, index: UInt32[Array, ""]) -> Prompt:
        """Training prompt `index` of the task, its slots filled in a share `shown` of them."""
        own = self.task.train_context(index)
        empty = self.empty(own)
        if self.shown == 0:
            return empty
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.bank_seed), jnp.uint32(STREAM)), index)
        k_share, k_answer = jax.random.split(key)
        answer = jax.random.choice(k_answer, jnp.array(self.answers, jnp.int32))
        filled = self.filled(empty, self.task.chain_to(own, answer))
        return jnp.where(jax.random.uniform(k_share) < self.shown, filled, empty)

    def validation_context(self, index: UInt32[Array, ""]) -> Prompt:
        """Validation prompt `index` of the task, its slots empty."""
        return self.empty(self.task.validation_context(index))

    def empty(self, own: Int[Array, " L0"]) -> Prompt:
        """A prompt of the task with empty slots."""
        return jnp.concatenate([own, jnp.full(self.size, self.pad, own.dtype)])

    def filled(self, context: Prompt, chain: Int[Array, " H"]) -> Prompt:
        """The prompt with the last tokens of `chain` in its slots: an answer, or all of it."""
        return jnp.concatenate([self.own(context), chain[self.horizon - self.size :].astype(context.dtype)])

    def own(self, context: Prompt) -> Int[Array, " L0"]:
        """The task's own part of a prompt."""
        return context[: self.task.prompt_length]

    def held_out(self, prompt: Prompt) -> Bool[Array, ""]:
        """Whether the task's own part is a prompt of validation."""
        return self.task.held_out(self.own(prompt))

    def teacher(self, context: Prompt, eta: Float[Array, ""] | float) -> Any:
        """The channel of the task's noise law by prompt, where it has one."""
        return self.task.teacher(self.own(context), eta)

    def misreader(self, context: Prompt, eta: Float[Array, ""] | float) -> Any:
        """The channel of the task's other noise law by prompt, where it has one."""
        return self.task.misreader(self.own(context), eta)

    def told(self, context: Prompt) -> Bool[Array, ""]:
        """Whether the slots are filled."""
        return context[-1] != self.pad

    def shown_chain(self, context: Prompt) -> Int[Array, " H"]:
        """The chain that filled slots stand for."""
        slots = context[self.task.prompt_length :]
        return slots if self.size == self.horizon else self.task.chain_to(self.own(context), slots[-1])

    def clean_actions(self, context: Prompt) -> Int[Array, " H"]:
        """The right chain, or the one that is shown."""
        return jnp.where(self.told(context), self.shown_chain(context), self.task.clean_actions(self.own(context)))

    def observations(self, context: Prompt, actions: Int[Array, " H"]) -> Int[Array, " H"]:
        """Those of the task."""
        return self.task.observations(self.own(context), actions)

    def start(self, context: Prompt) -> Place:
        """The state at step 1."""
        return Place(self.task.start(self.own(context)), context, jnp.int32(0))

    def observe(self, state: Place) -> Int[Array, ""]:
        """The token before the one to be emitted."""
        return self.task.observe(state.own)

    def advance(self, state: Place, action: Int[Array, ""]) -> Place:
        """The state after `action`."""
        return Place(self.task.advance(state.own, action), state.context, state.step + 1)

    def law(self, state: Place) -> Float[Array, " A"]:
        """The clean expert's law: the task's, or all on the token that is shown for this step."""
        shown = self._certain(self.shown_chain(state.context)[state.step])
        return jnp.where(self.told(state.context), shown, self.task.law(state.own))

    def laws(self, context: Prompt, observations: Int[Array, " H"]) -> Float[Array, "H A"]:
        """The clean expert's law at every prefix."""
        own = self.task.laws(self.own(context), observations)
        return jnp.where(self.told(context), self._certain(self.shown_chain(context)), own)

    def lost(self, state: Place) -> Bool[Array, ""]:
        """As in the task; nowhere where slots are filled."""
        return ~self.told(state.context) & self.task.lost(state.own)

    def poisoned(self, context: Prompt, observations: Int[Array, " H"]) -> Bool[Array, " H"]:
        """`lost` at every prefix."""
        return ~self.told(context) & self.task.poisoned(self.own(context), observations)

    def score(self, context: Prompt, actions: Int[Array, " H"]) -> Score:
        """As in the task, or against the chain that is shown."""
        own, shown = self.task.score(self.own(context), actions), exact_match(actions, self.shown_chain(context))
        return jax.tree.map(lambda a, b: jnp.where(self.told(context), a, b), shown, own)

    def _certain(self, tokens: Int[Array, "*n"]) -> Float[Array, "*n A"]:
        """All mass on these tokens."""
        return jax.nn.one_hot(tokens, self.n_actions, dtype=jnp.float32)

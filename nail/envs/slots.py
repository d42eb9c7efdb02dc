"""Prompts with slots at their end, for what a teacher may see and a student may not (docs/post_training.md §5.2)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from nail.envs.environment import TokenTask
from nail.envs.tokens import Score

STREAM = 2**32 - 3
"""of the chance that slots are filled; the streams of prompts have small numbers instead"""

Prompt = Int[Array, " L"]


class Slotted(NamedTuple):
    """A token task whose prompts of L₀ tokens have `size` slots behind them: L = L₀ + size, all else is the task's.

    Empty slots hold the token `pad`. Held-out prompts have empty slots; of the training prompts a share `shown` has the
    last `size` tokens of the right chain there. The expert, the scores and the right chain read the task's own part.
    """

    task: TokenTask
    size: int
    """slots: 1, the answer; or H, a whole chain"""
    pad: int
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
        filled = self.filled(empty, self.task.clean_actions(own))
        return jnp.where(jax.random.uniform(key) < self.shown, filled, empty)

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

    def clean_actions(self, context: Prompt) -> Int[Array, " H"]:
        """The right chain."""
        return self.task.clean_actions(self.own(context))

    def observations(self, context: Prompt, actions: Int[Array, " H"]) -> Int[Array, " H"]:
        """Those of the task."""
        return self.task.observations(self.own(context), actions)

    def start(self, context: Prompt) -> Any:
        """The task's state at step 1."""
        return self.task.start(self.own(context))

    def observe(self, state: Any) -> Int[Array, ""]:
        """The token before the one to be emitted."""
        return self.task.observe(state)

    def advance(self, state: Any, action: Int[Array, ""]) -> Any:
        """The task's state after `action`."""
        return self.task.advance(state, action)

    def law(self, state: Any) -> Float[Array, " A"]:
        """The clean expert's law."""
        return self.task.law(state)

    def laws(self, context: Prompt, observations: Int[Array, " H"]) -> Float[Array, "H A"]:
        """The clean expert's law at every prefix."""
        return self.task.laws(self.own(context), observations)

    def lost(self, state: Any) -> Bool[Array, ""]:
        """As in the task."""
        return self.task.lost(state)

    def poisoned(self, context: Prompt, observations: Int[Array, " H"]) -> Bool[Array, " H"]:
        """As in the task."""
        return self.task.poisoned(self.own(context), observations)

    def score(self, context: Prompt, actions: Int[Array, " H"]) -> Score:
        """As in the task."""
        return self.task.score(self.own(context), actions)

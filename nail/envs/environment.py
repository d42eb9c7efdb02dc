"""What the learner loop asks of an environment, token task and tabular MDP alike.

An episode has a context x and H steps. At each step the agent sees an observation (a token, or a state index), the
clean expert has a law over the A actions, and an action advances the state. Everything is unbatched: the caller vmaps.

An environment may have a part that a noise law reads (docs/token_tasks.md §1): `noise_profile`, numbers in [0, 1] for
each of the H positions that multiply the rate of the uniform noise.
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, UInt32

from nail.envs.tokens import Score

Context = Any
State = Any


@runtime_checkable
class Environment(Protocol):
    """H steps, A actions; contexts from a bank that is a function of its seed, states, laws and scores."""

    horizon: int
    n_actions: int
    n_observations: int
    n_validation: int
    noise_support: tuple[int, ...]
    """the actions that uniform noise chooses among"""

    def train_context(self, index: UInt32[Array, ""]) -> Context:
        """Context of training episode `index` (0, 1, 2, …), the same for every method and seed."""

    def validation_context(self, index: UInt32[Array, ""]) -> Context:
        """Context of validation episode `index` in 0..n_validation−1, never a training context."""

    def start(self, context: Context) -> State:
        """The state at step 1."""

    def observe(self, state: State) -> Int[Array, ""]:
        """What the policy sees at this state."""

    def law(self, state: State) -> Float[Array, " A"]:
        """Clean expert's law π*(·|s) at this state."""

    def advance(self, state: State, action: Int[Array, ""]) -> State:
        """The state after `action`."""

    def laws(self, context: Context, observations: Int[Array, " H"]) -> Float[Array, "H A"]:
        """`law` at each of the H states that led to these observations, in one parallel pass."""

    def clean_actions(self, context: Context) -> Int[Array, " H"]:
        """The action sequence of the clean expert from this context."""

    def observations(self, context: Context, actions: Int[Array, " H"]) -> Int[Array, " H"]:
        """What is observed at each of the H states that these actions lead through."""

    def lost(self, state: State) -> Bool[Array, ""]:
        """Whether an earlier mistake has made the expert's feedback here uninformative, for good."""

    def poisoned(self, context: Context, observations: Int[Array, " H"]) -> Bool[Array, " H"]:
        """`lost` at each of the H states, in one parallel pass."""

    def score(self, context: Context, actions: Int[Array, " H"]) -> Score:
        """How well an episode's actions did, each part in [0, 1]; `exact_match` with the clean actions is the usual."""


@runtime_checkable
class TokenTask(Environment, Protocol):
    """An environment that a transformer can learn: a context is the prompt itself, L tokens in 0..A−1, and what is
    observed at a step is the token before the one to be emitted (at the first step one that ends the prompt). L and H
    may differ."""

    prompt_length: int

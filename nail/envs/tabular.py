"""A finite MDP behind the learner loop's interface: the instances of nail/envs/instances.py as environments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from nail.envs.instances import Instance
from nail.envs.mdp import TabularMDP
from nail.envs.tokens import Score, exact_match
from nail.noise import sample, words

TRAINING, VALIDATION = 2**32 - 1, 2**32 - 2
"""streams of contexts; a run's own keys fold in its small update numbers instead"""


class Chance(NamedTuple):
    """A context: the first state s_1 and the random words that pick every later state."""

    first: Int[Array, ""]
    bits: UInt32[Array, " H"]


class Place(NamedTuple):
    """Where an episode stands."""

    bits: UInt32[Array, " H"]
    step: Int[Array, ""]
    state: Int[Array, ""]


class Transitions(NamedTuple):
    """P_h(·|s, a) by its successors: b of them for each (h, s, a), with their probabilities (0 for padding)."""

    states: Int[Array, "H S A b"]
    probs: Float[Array, "H S A b"]


class TabularEnvironment(NamedTuple):
    """H steps through the states of an `Instance`; the observation is the state's number, the layer is the step.

    All chance of the dynamics is in the context: s_{h+1} is the successor of (h, s_h, a_h) that the random word of h
    picks, so episode i is the same world for every learner. Feedback is uninformative (`lost`) where the clean law is
    uniform over the actions: what "no recovery" is for a token task. Laws are float32.
    """

    law_table: Float[Array, "H S A"]
    """clean expert's law"""
    transitions: Transitions
    rho: Float[Array, " S"]
    bank_seed: int
    n_validation: int
    kernel: Float[Array, "... A"]
    """the instance's noise kernel ν, (A,) or (H, S, A)"""

    @property
    def horizon(self) -> int:
        """H."""
        return self.law_table.shape[0]

    @property
    def n_observations(self) -> int:
        """S states a layer."""
        return self.law_table.shape[1]

    @property
    def n_actions(self) -> int:
        """A."""
        return self.law_table.shape[2]

    @property
    def noise_support(self) -> tuple[int, ...]:
        """All actions."""
        return tuple(range(self.n_actions))

    def train_context(self, index: UInt32[Array, ""]) -> Chance:
        """Chance of training episode `index`."""
        return self._chance(TRAINING, index)

    def validation_context(self, index: UInt32[Array, ""]) -> Chance:
        """Chance of validation episode `index`, from a stream of its own."""
        return self._chance(VALIDATION, index)

    def start(self, context: Chance) -> Place:
        """Step 1 in the context's first state."""
        return Place(context.bits, jnp.int32(0), context.first)

    def observe(self, state: Place) -> Int[Array, ""]:
        """The state's number."""
        return state.state

    def law(self, state: Place) -> Float[Array, " A"]:
        """π*_h(·|s)."""
        return self.law_table[state.step, state.state]

    def advance(self, state: Place, action: Int[Array, ""]) -> Place:
        """The successor that this step's random word picks."""
        successors, probs = (table[state.step, state.state, action] for table in self.transitions)
        picked = successors[sample(probs, state.bits[state.step])]
        return Place(state.bits, state.step + 1, picked)

    def laws(self, context: Chance, observations: Int[Array, " H"]) -> Float[Array, "H A"]:
        """π*_h(·|s_h) at the H states observed."""
        return self.law_table[jnp.arange(self.horizon), observations]

    def clean_actions(self, context: Chance) -> Int[Array, " H"]:
        """Most probable action of the clean expert at each state of its own path; ties to the lowest."""

        def step(state, _):
            action = jnp.argmax(self.law(state)).astype(jnp.int32)
            return self.advance(state, action), action

        return jax.lax.scan(step, self.start(context), length=self.horizon)[1]

    def observations(self, context: Chance, actions: Int[Array, " H"]) -> Int[Array, " H"]:
        """The states that these actions lead through, with the context's chance."""

        def step(state, action):
            return self.advance(state, action), state.state

        return jax.lax.scan(step, self.start(context), actions)[1]

    def lost(self, state: Place) -> Bool[Array, ""]:
        """Whether the clean law is uniform here."""
        return _uniform(self.law(state))

    def poisoned(self, context: Chance, observations: Int[Array, " H"]) -> Bool[Array, " H"]:
        """`lost` at the H states observed."""
        return _uniform(self.laws(context, observations))

    def score(self, context: Chance, actions: Int[Array, " H"]) -> Score:
        """The actions against those of the clean expert's own path."""
        return exact_match(actions, self.clean_actions(context))

    def _chance(self, stream: int, index: UInt32[Array, ""]) -> Chance:
        key = jax.random.fold_in(jax.random.key(self.bank_seed), jnp.uint32(stream))
        bits = words(jax.random.fold_in(key, index), (self.horizon + 1,))
        return Chance(sample(self.rho, bits[-1]), bits[:-1])


def make_tabular(instance: Instance, bank_seed: int, n_validation: int) -> TabularEnvironment:
    """`instance` as an environment with contexts from `bank_seed`.

    Where nothing is left to chance (one first state, one successor each) a single validation context is exact, and
    `n_validation` is 1.
    """
    transitions = _transitions(instance.mdp)
    certain = transitions.states.shape[-1] == 1 and np.max(instance.mdp.rho) == 1.0
    return TabularEnvironment(
        jnp.asarray(np.asarray(instance.expert, np.float32)),
        transitions,
        jnp.asarray(np.asarray(instance.mdp.rho, np.float32)),
        bank_seed,
        1 if certain else n_validation,
        jnp.asarray(np.asarray(instance.kernel, np.float32)),
    )


def _transitions(mdp: TabularMDP) -> Transitions:
    """The non-zero entries of P, padded to the largest number of successors; layer by layer, as P may be large."""
    layers = mdp.P[:1] if mdp.P.strides[0] == 0 else mdp.P
    most = max(int((layer > 0).sum(-1).max()) for layer in layers)
    states = np.stack([np.sort(np.argpartition(-layer, most - 1, axis=-1)[..., :most], axis=-1) for layer in layers])
    probs = np.stack([np.take_along_axis(layer, s, axis=-1) for layer, s in zip(layers, states, strict=True)])
    shape = (mdp.horizon, *states.shape[1:])
    states, probs = np.broadcast_to(states, shape).astype(np.int32), np.broadcast_to(probs, shape).astype(np.float32)
    return Transitions(jnp.asarray(states), jnp.asarray(probs))


def _uniform(law: Float[Array, "*n A"]) -> Bool[Array, "*n"]:
    return law.max(-1) - law.min(-1) < 1e-6

"""Clean experts behind one interface: the environment's own law (the oracle), or a trained network."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nail.envs.environment import Environment
from nail.policies.policy import Policy


@runtime_checkable
class Expert(Protocol):
    """The clean expert's law, at all prefixes at once or step by step; corruption is a `nail.noise.Channel` on top."""

    def laws(self, contexts: Any, observations: Int[Array, "B H"]) -> Float[Array, "B H A"]:
        """π*(·|s) at each visited prefix."""

    def start(self, contexts: Any) -> Any:
        """What a rollout that the expert drives carries."""

    def step(self, cache: Any, step: Int[Array, ""], states: Any) -> tuple[Float[Array, "B A"], Any]:
        """π*(·|s) at the current states, and the advanced carry."""


class Oracle(NamedTuple):
    """The exact clean law of the environment."""

    env: Environment

    def laws(self, contexts: Any, observations: Int[Array, "B H"]) -> Float[Array, "B H A"]:
        """`env.laws` for each episode."""
        return jax.vmap(self.env.laws)(contexts, observations)

    def start(self, contexts: Any) -> tuple:
        """Nothing to carry: the state says all."""
        return ()

    def step(self, cache: tuple, step: Int[Array, ""], states: Any) -> tuple[Float[Array, "B A"], tuple]:
        """`env.law` at each state."""
        return jax.vmap(self.env.law)(states), cache


class NetworkExpert(NamedTuple):
    """A trained network as the clean expert; where the expert is lost for good it has the oracle's law.

    Which prefixes are lost is the environment's word (recovery "none" and "echo": after the first token that differs
    from the clean chain). Prefixes of a "follow" expert are left to the network.
    """

    env: Environment
    policy: Policy
    params: Any

    def laws(self, contexts: Any, observations: Int[Array, "B H"]) -> Float[Array, "B H A"]:
        """Softmax of the network's logits, or the environment's law at lost prefixes."""
        own = jax.nn.softmax(self.policy.forward(self.params, contexts, observations)[0])
        lost = jax.vmap(self.env.poisoned)(contexts, observations)
        return jnp.where(lost[..., None], jax.vmap(self.env.laws)(contexts, observations), own)

    def start(self, contexts: Any) -> Any:
        """The network's cache after the prompts."""
        return self.policy.start(self.params, contexts)

    def step(self, cache: Any, step: Int[Array, ""], states: Any) -> tuple[Float[Array, "B A"], Any]:
        """One step of the network, or the environment's law at lost states."""
        logits, cache = self.policy.step(self.params, cache, step, jax.vmap(self.env.observe)(states))
        lost = jax.vmap(self.env.lost)(states)
        return jnp.where(lost[:, None], jax.vmap(self.env.law)(states), jax.nn.softmax(logits)), cache

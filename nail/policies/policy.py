"""What the learner loop asks of a policy: a decoder transformer and a table look-up both answer it."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, PRNGKeyArray

Params = Any
Cache = Any


@runtime_checkable
class Policy(Protocol):
    """Pure functions of `params`, over an explicit batch of B episodes."""

    def init(self, key: PRNGKeyArray) -> Params:
        """Initial parameters."""

    def logits(self, params: Params, contexts: Any, observations: Int[Array, "B H"]) -> Float[Array, "B H A"]:
        """Logits at every visited prefix in one parallel pass (what is differentiated)."""

    def start(self, params: Params, contexts: Any) -> Cache:
        """What a rollout carries from the contexts."""

    def step(
        self, params: Params, cache: Cache, step: Int[Array, ""] | int, observations: Int[Array, " B"]
    ) -> tuple[Float[Array, "B A"], Cache]:
        """Logits at step `step` = 0..H−1 given what was just observed, and the advanced cache."""

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

    def forward(
        self, params: Params, contexts: Any, observations: Int[Array, "B H"], known: Cache | None = None
    ) -> tuple[Float[Array, "B H A"], Cache]:
        """Logits at every visited prefix in one parallel pass (what is differentiated), and the cache that a rollout
        over them would leave.

        `known` is such a cache, of the same prefixes at the same parameters: a constant, whose values need not be
        computed again. Logits and their gradient with respect to `params` are the same with it, up to rounding.
        """

    def start(self, params: Params, contexts: Any, keep: bool = False) -> Cache:
        """What a rollout carries from the contexts; with `keep` it ends as what `forward` takes as known."""

    def step(
        self, params: Params, cache: Cache, step: Int[Array, ""] | int, observations: Int[Array, " B"]
    ) -> tuple[Float[Array, "B A"], Cache]:
        """Logits at step `step` = 0..H−1 given what was just observed, and the advanced cache."""

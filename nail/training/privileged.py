"""Teachers that are the student's own network, on prompts of which they may see more (docs/post_training.md §5).

    q_h = π_θ̄(· | x⁺, a_<h),  x⁺ the prompt x with its slots filled,  θ̄ frozen, live or averaged

in the place of the noisy expert's law: of labels, of whole laws, and of what the "expert" plays. No gradient flows
through θ̄.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nail.envs.environment import Environment
from nail.noise import Channel, drawn
from nail.policies.policy import Policy
from nail.training.config import TrainConfig
from nail.training.experts import Expert
from nail.training.problem import Setup
from nail.training.rollout import draw, rollout

STREAM = 2**32 - 2
"""of a demonstration's chance, among the numbers of an update"""


class Seeing(NamedTuple):
    """A network as an expert that sees prompts of its own in the place of those that it is asked with."""

    env: Environment
    policy: Policy
    params: Any
    prompts: Any
    """x⁺ of each episode of the batch"""

    def laws(self, contexts: Any, observations: Int[Array, "B H"]) -> Float[Array, "B H A"]:
        """Softmax of the network's logits at each visited prefix."""
        return jax.nn.softmax(self.policy.forward(self.params, self.prompts, observations)[0])

    def start(self, contexts: Any) -> Any:
        """The network's cache after its prompts."""
        return self.policy.start(self.params, self.prompts)

    def step(self, cache: Any, step: Int[Array, ""], states: Any) -> tuple[Float[Array, "B A"], Any]:
        """One step of the network."""
        logits, cache = self.policy.step(self.params, cache, step, jax.vmap(self.env.observe)(states))
        return jax.nn.softmax(logits), cache


class AsItIs(NamedTuple):
    """The channel that changes nothing: what a network says is the law that is learned from."""

    def probs(self, clean: Float[Array, "... A"]) -> Float[Array, "... A"]:
        """The law itself."""
        return clean


def own_teacher(
    setup: Setup, channel: Channel, params: Any, contexts: Any, key: PRNGKeyArray
) -> tuple[Expert, Channel]:  # fmt: skip
    """The teacher with these parameters, and the channel that its laws pass, in the place of the noisy expert's.

    `channel` is the noisy expert's, bound to the contexts, and `key` that of a batch: of them a demonstration is made.
    """
    prompts = privileged(setup, channel, contexts, key)
    return Seeing(setup.env, setup.policy, params, prompts), AsItIs()


def privileged(setup: Setup, channel: Channel, contexts: Any, key: PRNGKeyArray) -> Any:
    """x⁺: the contexts with the right answer in their slots, or with a chain of the noisy expert; or as they are."""
    config, env = setup.config, setup.env
    if config.teacher_sees == "prompt":
        return contexts
    if config.teacher_sees == "answer":
        chains = jax.vmap(env.clean_actions)(contexts)
    else:
        key = jax.random.fold_in(key, jnp.uint32(STREAM))
        draws = draw(key, config.batch, env, False, False)
        chains = rollout(
            env, setup.policy, None, contexts, driver="expert", draws=draws, expert=setup.expert,
            channel=drawn(channel, key, (config.batch, env.horizon)), parallel=config.decode == "parallel",
        ).actions  # fmt: skip
    return jax.vmap(env.filled)(contexts, chains)


def began_with(config: TrainConfig, pairs: bool) -> bool:
    """Whether a run keeps the parameters that it began with: for `pairs`, a frozen teacher, or to see what is kept."""
    return pairs or config.teacher == "frozen" or bool(config.old_task)


def follow(average: Any, params: Any, rate: float) -> Any:
    """The moving average after an update: (1−ρ)θ̄ + ρθ."""
    return jax.tree.map(lambda old, new: (1 - rate) * old + rate * new, average, params)

"""Verifiable rewards of episodes, and what an update makes of them within a group (docs/post_training.md §4).

B episodes are B/G groups of G, one after the other: rollouts of one prompt. Everything here is data of an update: it is
computed inside the compiled program, from the episodes alone, without an expert.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nail.envs.environment import Environment
from nail.envs.tokens import Score

REWARDS = {"answer": "answer_exact", "chain": "full_exact"}
"""name of a reward → the part of `Score` that it is: 1[answer right], 1[whole chain right]"""


def verify(env: Environment, reward: str, contexts: Any, actions: Int[Array, "B H"]) -> Float[Array, " B"]:
    """r of each episode, in [0, 1]: the part of the environment's score that the reward stands for."""

    def one(context, actions):
        score: Score = env.score(context, actions)
        return jnp.asarray(getattr(score, REWARDS[reward]), jnp.float32)

    return jax.vmap(one)(contexts, actions)


def weights(kind: str, rewards: Float[Array, " B"], group: int) -> Float[Array, " B"]:
    """What the log loss of an episode's played tokens is multiplied by, without gradient.

    standardised: (r − mean)/std within the group, the standard deviation over its G rewards (GRPO, arXiv 2402.03300);
    centred: r − mean (Dr. GRPO, arXiv 2503.20783). These are policy gradients, of the reward under the law q that
    plays: their log loss is −log q (`nail.rules.rollout_law`). filter: r (rejection sampling), which is fine-tuning on
    the chains accepted, whoever played them: −E_q[r log p], the likelihood under p, the student at temperature 1.
    A group whose rewards are all equal has the advantages 0 exactly. There is one update a rollout batch, so the ratio
    of new to old probabilities is 1 and clipping it changes nothing; and there is no KL term.
    """
    if kind == "filter":
        return rewards
    grouped = rewards.reshape(-1, group)
    centred = grouped - grouped.mean(1, keepdims=True)
    differ = (grouped != grouped[:, :1]).any(1, keepdims=True)
    spread = jnp.where(differ, grouped.std(1, keepdims=True), 1.0) if kind == "standardised" else 1.0
    return jnp.where(differ, centred / spread, 0.0).ravel()


def preference(lifts: Float[Array, " B"], rewards: Float[Array, " B"], group: int, beta: float) -> Float[Array, ""]:
    """DPO (arXiv 2305.18290): −log σ(β(d_w − d_l)), d = log p(chain) − log p_ref(chain) the `lifts`, in nats.

    p is the student at temperature 1, whatever law played the chains: what is fitted is a preference between two chains
    that are given. The mean over all pairs (w, l) of a group with r_w > r_l, then over all groups; one without a pair
    counts as 0.
    """
    d, r = lifts.reshape(-1, group), rewards.reshape(-1, group)
    pairs = r[:, :, None] > r[:, None, :]
    values = jax.nn.softplus(-beta * (d[:, :, None] - d[:, None, :]))
    return (jnp.sum(values, axis=(1, 2), where=pairs) / jnp.maximum(pairs.sum((1, 2)), 1)).mean()

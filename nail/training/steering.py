"""The student's answers before and after its prompt is perturbed (docs/token_tasks.md §3.5)."""

from typing import Any

import jax
from jaxtyping import Array, Int

from nail.envs.defclass import answer, answered
from nail.envs.environment import TokenTask
from nail.policies.policy import Policy
from nail.training.rollout import rollout


def answers(env: TokenTask, policy: Policy, params: Any, prompts: Int[Array, "n L"]) -> Int[Array, " n"]:
    """The class that the student's greedy chain ends with at each prompt of `defclass`, −1 for no class."""
    return jax.vmap(answered)(rollout(env, policy, params, prompts).actions)


def right_answers(prompts: Int[Array, "n L"]) -> Int[Array, " n"]:
    """The right class of each prompt of `defclass`."""
    return jax.vmap(answer)(prompts)

"""The student's labels before and after its prompt is perturbed (docs/token_tasks.md §3.5), and their columns of a row.

What a task perturbs, and how an episode is read as a label, is its row's (`nail.envs.tasks.Task.steering`).
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from nail.envs.environment import TokenTask
from nail.envs.steering import Steering
from nail.envs.tasks import TASKS
from nail.policies.policy import Policy
from nail.training.config import TrainConfig
from nail.training.problem import Setup
from nail.training.rollout import rollout
from nail.training.steerability import Labels, false_flips, follow_rate, over_selection, steerability_interval

ITEMS = 512


def answers(
    steering: Steering, env: TokenTask, policy: Policy, params: Any, prompts: Any, parallel: bool = False
) -> Int[Array, " n"]:
    """The class that the student's greedy chain ends with at each prompt, −1 for no class."""
    return jax.vmap(steering.given)(rollout(env, policy, params, prompts, parallel=parallel).actions)


def labelled(setup: Setup, params: Any) -> Labels:
    """The labels of `ITEMS` items."""
    config, _, env, policy, _ = setup
    steering = TASKS.find(config.task).steering()
    prompts = steering.items(env, ITEMS)
    right = (jax.vmap(steering.right)(part) for part in prompts)
    return Labels(
        *right, *(answers(steering, env, policy, params, part, config.decode == "parallel") for part in prompts)
    )


def columns(config: TrainConfig, labels: Labels) -> dict[str, float]:
    """Of a run's labels: steerability with its 95 % bootstrap interval over items (drawn from the bank's seed), follow
    rate, false flips; over-selection of class 0 and the share of right answers at the perturbed prompts
    (`perturbed_exact`), and that at the prompts before (`usual_exact`)."""
    labels = Labels(*map(np.asarray, labels))
    found = steerability_interval(
        labels, TASKS.find(config.task).steering().classes, np.random.default_rng(config.bank_seed)
    )
    return {
        "steerability": found.estimate,
        "steerability_low": found.low,
        "steerability_high": found.high,
        "follow_rate": follow_rate(labels),
        "false_flips": false_flips(labels),
        "over_selection": over_selection(labels.right_after, labels.given_after),
        "usual_exact": float(np.mean(labels.given == labels.right)),
        "perturbed_exact": float(np.mean(labels.given_after == labels.right_after)),
    }

"""Simulated environment steps per second of a count-based learner, beside how fast numpy alone draws as many labels."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from nail.cli.bench import tell
from nail.cli.bench.steps import best_seconds
from nail.counting.drivers import Setting, complete
from nail.counting.learners import learner
from nail.counting.levels import advance, begin
from nail.noise import Huber, uniform_kernel
from nail.sweep.identity import provenance

HORIZON, N_ACTIONS, ETA = 20, 4, 0.5
REPLICATES, EPISODES = 1024, 64


def bench_steps(seconds: float = 2.0, method: str = "nail-f", out: Path | None = None) -> dict[str, Any]:
    """Print and return a row, also written to `out` as CSV.

    It holds steps/s of `method` on the poison chain (one label a step, off-path steps counted: an episode is H steps),
    and labels/s of numpy drawing the same number from the same noisy law in two ways.

    numpy draws (episodes·H) labels of all replicates in one call, with no learner around it: by inverting the
    distribution function of one shared law (`numpy_labels_per_s`), and by `Generator.choice` (`numpy_choice_per_s`).
    Each number is the best of a few calls within `seconds`. One device, one process.
    Raises `BadInput` for an unknown method.
    """
    row, setting = learner(method, by_level=True), complete(Setting(ETA), N_ACTIONS)
    state = begin(HORIZON, N_ACTIONS, REPLICATES, 0)
    labels = REPLICATES * EPISODES * HORIZON
    law = np.asarray(Huber(ETA, uniform_kernel(N_ACTIONS)).probs(jnp.eye(N_ACTIONS)[0]))
    law = law.astype(float) / law.sum(dtype=float)
    edges, rng = np.cumsum(law)[:-1].astype(np.float32), np.random.default_rng(0)
    shape = (REPLICATES, HORIZON)

    def invert() -> None:
        for _ in range(EPISODES):
            np.searchsorted(edges, rng.random(shape, np.float32), side="right")

    def choose() -> None:
        for _ in range(EPISODES):
            rng.choice(N_ACTIONS, shape, p=law)

    steps = labels / best_seconds(advance, row, state, setting, EPISODES, 1, seconds=seconds)
    inverted, chosen = (labels / best_seconds(draw, seconds=seconds) for draw in (invert, choose))
    found = {
        "method": method, "instance": "poison-chain", "horizon": HORIZON, "n_actions": N_ACTIONS, "eta": ETA,
        "replicates": REPLICATES, "episodes": EPISODES, "steps_per_s": steps, "numpy_labels_per_s": inverted,
        "numpy_choice_per_s": chosen, "steps_over_numpy": steps / inverted, "steps_over_choice": steps / chosen,
    }  # fmt: skip
    tell([found], provenance(), out)
    return found

"""Noise laws by name: how the corruption channel of a run is made of its traced numbers (docs/theory.md §1).

Nothing here loads JAX before a channel is made: the command line lists these rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from nail.registry import Table


class Noise(NamedTuple):
    """A noise law."""

    name: str
    summary: str
    """one line for `nail list`"""
    channel: Callable[[Any, Any, Any], Any]
    """(configuration, environment, traced numbers of one run) → `nail.noise.Channel`"""


def _uniform(config: Any, env: Any, numbers: Any) -> Any:
    import jax.numpy as jnp

    from nail.noise import Huber, uniform_kernel

    return Huber(numbers.eta, jnp.asarray(uniform_kernel(env.n_actions, env.noise_support), jnp.float32))


def _temperature(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import Temperature

    return Temperature(numbers.expert_temperature)


NOISES = Table(
    "noise",
    [
        Noise("uniform", "Huber mixture with the uniform kernel", _uniform),
        Noise("temperature", "the expert's own law, tempered", _temperature),
    ],
)

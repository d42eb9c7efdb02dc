"""Stages: runs that begin with the final parameters of other runs, by their ids (docs/stages.md §1).

    θ₀ of a stage = θ_T of the run `start`;  moments, update counter, warm-up and prompts as those of a fresh run

A chain is a tuple of configurations, first stage first; a sweep may hold chains among its runs.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from nail.checks import require
from nail.training.config import TrainConfig, run_id

Runs = Iterable[TrainConfig | Sequence[TrainConfig]]
"""what a sweep is made of: configurations, and chains of them"""


def stages(*chain: TrainConfig) -> tuple[TrainConfig, ...]:
    """The configurations of a chain, each but the first with the one before it as its `start`.

        >>> first = TrainConfig(task="poison-chain", A=3, H=2, method="loglossbc", steps=20)
        >>> first, second = stages(first, dataclasses.replace(first, method="nail-f", steps=10))
        >>> second.start == run_id(first)
        True

    Raises `BadInput` if one of them has another start already.
    """
    linked: list[TrainConfig] = []
    for config in chain:
        if linked:
            before = run_id(linked[-1])
            require(config.start in ("", before), "start", config.start,
                    f"left out in a chain, or the run before ({before})")  # fmt: skip
            config = dataclasses.replace(config, start=before)
        linked.append(config)
    return tuple(linked)


def flat(runs: Runs) -> tuple[TrainConfig, ...]:
    """The runs of a sweep with those of its chains in their order, each once (a first stage that chains share too)."""
    chains = (stages(run) if isinstance(run, TrainConfig) else stages(*run) for run in runs)
    return tuple({run_id(config): config for chain in chains for config in chain}.values())


def by_id(configs: Iterable[TrainConfig]) -> dict[str, TrainConfig]:
    """run → its configuration."""
    return {run_id(config): config for config in configs}


def before(config: TrainConfig, known: Mapping[str, TrainConfig]) -> tuple[TrainConfig, ...]:
    """The runs that a run goes on from, first stage first, as far as they are `known`."""
    found: list[TrainConfig] = []
    while config.start in known:
        config = known[config.start]
        found.insert(0, config)
    return tuple(found)


def first_of(config: TrainConfig, known: Mapping[str, TrainConfig]) -> TrainConfig:
    """The first stage of a run's chain, or the run itself."""
    return (*before(config, known), config)[0]

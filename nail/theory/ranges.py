"""What options of `nail theory` and of sample complexities must be, wherever they occur."""

from collections.abc import Callable, Mapping
from typing import Any

from nail.checks import LARGE, MAX_COUNT, SMALL, require

MAX_EPISODES = 2**30
"""largest budget of `nail n-star`: its counters are 32-bit"""
MAX_INSTANCES = 10_000
"""largest number of instances of `nail n-star`"""
MAX_LEVELS = 10**6
"""largest H or T of a dynamic programme over levels"""
LARGEST = 10**290
"""largest number of episodes, or of steps, that the exact binomial tails are asked for"""
MAX_ACTIONS = 10**5
"""largest A: what is tabulated for a plurality grows with it"""
LEAST_DELTA = 1e-9
"""smallest δ: success probabilities are exact to about 1e-10"""
MOST_ETA = 1 - 1e-9
"""largest η: what is beyond is 1 to the precision of these numbers"""

RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "H": (lambda x: 1 <= x <= LARGEST, "an integer in 1..1e290"),
    "A": (lambda x: 2 <= x <= MAX_ACTIONS, f"an integer in 2..{MAX_ACTIONS}"),
    "T": (lambda x: 1 <= x <= MAX_LEVELS, f"an integer in 1..{MAX_LEVELS}"),
    "n": (lambda x: 0 <= x <= LARGEST, "an integer of at least 0 (and at most 1e290)"),
    "eta": (lambda x: 0 <= x <= MOST_ETA, "in [0, 1 − 1e-9]"),
    "delta": (lambda x: LEAST_DELTA <= x < 1, "in [1e-9, 1)"),
    "epsilon": (lambda x: SMALL <= x <= LARGE, "in [1e-30, 1e30]"),
    "eps": (lambda x: SMALL <= x < 1, "in [1e-30, 1)"),
    "C": (lambda x: 1 <= x <= LARGE, "in [1, 1e30]"),
    "c": (lambda x: SMALL <= x <= LARGE, "in [1e-30, 1e30]"),
    "recovery": (lambda x: 1 <= x <= MAX_COUNT, f"an integer in 1..{MAX_COUNT}"),
    "replicates": (lambda x: 1 <= x <= MAX_COUNT, f"an integer in 1..{MAX_COUNT}"),
    "instances": (lambda x: 1 <= x <= MAX_INSTANCES, f"an integer in 1..{MAX_INSTANCES}"),
    "max_episodes": (lambda x: 1 <= x <= MAX_EPISODES, f"an integer in 1..{MAX_EPISODES}"),
    "seed": (lambda x: 0 <= x < 2**31, "an integer of at least 0 and below 2^31"),
}
"""what each option must be, wherever it occurs and is given"""


def require_ranges(options: Mapping[str, Any]) -> None:
    """Raise `BadInput` naming the first option that is given and out of its range."""
    for name, (ok, allowed) in RANGES.items():
        value = options.get(name)
        require(value is None or ok(value), name, value, allowed)

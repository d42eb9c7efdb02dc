"""Noise kernels ν by name, on any instance: a law over absolute actions, or one that follows π*.

uniform         over all A actions
never-right     over the actions that π* does not play (over all, at a state where π* plays all)
worst           all on one action a state, the one of least Q*; on the poison chain and the hidden path one wrong
                action a level. Ties to the lowest action
0.1,0.6,0.2,0.1 these numbers, one an action, at every state
"""

import math
import re
from typing import Any

import numpy as np
from jaxtyping import Float

from nail.checks import require, require_known

OWN = "own"
"""the instance's own kernel, where none is asked for"""
FOLLOWS = ("never-right", "worst")
NAMES = ("uniform", *FOLLOWS)
WORDS = {
    "never-right": "never right: uniform over the actions that π* does not play",
    "worst": "worst: all on one action a state, the one of least Q*",
}


def kernel_text(kernel: Any) -> str:
    """A kernel as tables name it: a name, or numbers with commas between, from a text or a sequence of numbers.

    Raises `BadInput` for another name, and for numbers that are no law.
    """
    if kernel is None or kernel == OWN:
        return OWN
    try:
        words = re.split(r"[\s,]+", kernel.strip()) if isinstance(kernel, str) else [repr(float(x)) for x in kernel]
        law = [float(word) for word in words]
    except (TypeError, ValueError):
        require_known("kernel", str(kernel), [*NAMES, "A numbers with commas between"])
        return str(kernel)
    total = math.fsum(law) if all(map(math.isfinite, law)) else math.inf
    fine = all(x >= 0 for x in law) and abs(total - 1) < 1e-9
    require(fine, "kernel", ",".join(words), f"a law: numbers of at least 0 with sum 1 (theirs is {total:.12g})")
    return ",".join(map(repr, law))


def check_kernel(kernel: str, method: str, n_actions: int | None) -> None:
    """Raise `BadInput` for a law of another length, where A is known, and for a learner that would be told π* by the
    kernel that it knows."""
    from nail.counting.kernels import refuse_told

    if kernel in FOLLOWS:
        refuse_told(method)
    elif n_actions is not None and (law := _numbers(kernel)) is not None:
        require(len(law) == n_actions, "kernel", kernel, f"a law of A = {n_actions} numbers")


def level_kernel(kernel: str, n_actions: int) -> Any:
    """The `kernel` of a `Setting` for the poison chain and the hidden path, whose right actions differ by replicate."""
    from nail.counting.kernels import Wrong

    if kernel not in FOLLOWS:
        return _numbers(kernel)
    wrong = n_actions - 1
    return Wrong(np.full(wrong, 1.0 / wrong) if kernel == "never-right" else np.eye(wrong)[0])


def with_kernel(instance: Any, kernel: str) -> Any:
    """An `Instance` with this kernel: (A,), or (H, S, A) where it follows π*.

    Raises `BadInput` for a law of another length, and for never-right where π* plays all actions at every state.
    """
    from nail.envs.instances import worst_kernel
    from nail.noise import uniform_kernel

    if kernel == OWN:
        return instance
    n_actions = instance.mdp.n_actions
    if kernel == "uniform":
        return instance._replace(kernel=uniform_kernel(n_actions))
    if kernel == "worst":
        return instance._replace(kernel=worst_kernel(instance.mdp))
    if kernel == "never-right":
        left = np.asarray(instance.expert) == 0
        require(left.any(), "kernel", kernel, f"another one: the expert of {instance.name} plays all actions")
        left |= ~left.any(-1, keepdims=True)
        return instance._replace(kernel=left / left.sum(-1, keepdims=True))
    law = _numbers(kernel)
    require(len(law) == n_actions, "kernel", kernel, f"a law of A = {n_actions} numbers")
    return instance._replace(kernel=law)


def in_words(kernel: str, own: Any = None) -> str:
    """What was used, for people: the name's meaning, or the numbers of ν (A,) or (H, S, A), of the instance's `own`
    where no other was asked for."""
    if kernel in WORDS:
        return WORDS[kernel]
    law = _numbers(kernel) if kernel != OWN else own
    return "uniform" if kernel == "uniform" or law is None else noise_of(law)


def noise_of(kernel: Any) -> str:
    """A noise kernel ν (A,) or (H, S, A) in words: its numbers, where it is the same at every state."""
    laws = np.asarray(kernel).reshape(-1, np.shape(kernel)[-1])
    if (laws != laws[0]).any():
        return "ν(·|h, s), a law for each step and state"
    if (laws[0] == laws[0, 0]).all():
        return "uniform"
    return f"ν = ({', '.join(f'{x:.6g}' for x in laws[0])})"


def _numbers(kernel: str) -> Float[np.ndarray, " A"] | None:
    """The law that a kernel of numbers is; None for a name."""
    return None if kernel in (OWN, *NAMES) else np.array([float(x) for x in kernel.split(",")])

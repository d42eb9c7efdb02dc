"""Noise laws by name: how the corruption channel of a run is made of its traced numbers (docs/theory.md §1; those that
differ by position or prompt: docs/token_tasks.md §1).

Nothing here loads JAX before a channel is made: the command line lists these rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from nail.checks import require
from nail.registry import Table


class Noise(NamedTuple):
    """A noise law."""

    name: str
    summary: str
    """one line for `nail list`"""
    channel: Callable[[Any, Any, Any], Any]
    """(configuration, environment, traced numbers of one run) → `nail.noise.Corruption`"""
    tasks: tuple[str, ...] = ()
    """the tasks that have this law; empty: every task"""
    reads: tuple[str, ...] | None = None
    """fields of a configuration that the channel depends on, of eta, expert_temperature and the task's own; None: it is
    not known, as of laws from outside the package"""
    check: Callable[[Any, int | None], None] = lambda config, horizon: None
    """(configuration, H or None where it is not known yet): raises `BadInput` for numbers that make no channel"""
    one_kernel: bool = False
    """whether ν is the same at all states, so that an instance with a ν by state is refused"""

    def allowed(self, task: str) -> bool:
        """Whether a task has this law."""
        return not self.tasks or task in self.tasks


def check_burst(eta: Any, rho: Any) -> None:
    """Raise `BadInput` unless η and ρ are numbers with max(0, 2 − 1/η) ≤ ρ < 1: P(clean → corrupted) =
    η(1−ρ)/(1−η) is then a probability (docs/theory.md §1.1)."""
    number = not getattr(eta, "shape", ())
    require(number, "eta", f"an array {getattr(eta, 'shape', ())}", "one number where noise comes in bursts")
    least = max(0.0, 2.0 - 1.0 / max(float(eta), 0.5))
    fits = not getattr(rho, "shape", ()) and least <= float(rho) < 1.0
    require(fits, "burst", rho, f"in [max(0, 2 − 1/η), 1) = [{least:.6g}, 1) at η = {float(eta):g}")


def _bursts_fit(config: Any, horizon: int | None) -> None:
    check_burst(config.eta, config.burst)


def _profile_fits(config: Any, horizon: int | None) -> None:
    try:
        weights = _weights(config)
    except ValueError:
        weights = []
    many = "numbers" if horizon is None else f"{horizon} numbers"
    fits = weights and all(0 <= weight <= 1 for weight in weights) and len(weights) == (horizon or len(weights))
    require(fits, "profile", repr(config.profile), f"{many} in [0, 1] with blanks between, one a position")


def _weights(config: Any) -> list[float]:
    return [float(word) for word in config.profile.split()]


def _kernel(env: Any) -> Any:
    """ν of a task: that of a tabular task's instance, else uniform over the noise's tokens."""
    import jax.numpy as jnp

    from nail.noise import uniform_kernel

    own = getattr(env, "kernel", None)
    return jnp.asarray(uniform_kernel(env.n_actions, env.noise_support), jnp.float32) if own is None else own


def check_kernel(noise: str, env: Any) -> None:
    """Raise `BadInput` for a law of one kernel for all states, where the instance's differs from state to state."""
    own = getattr(env, "kernel", None)
    fine = own is None or own.ndim == 1 or not NOISES[noise].one_kernel
    require(fine, "noise", noise, "uniform (or one of your own) where the kernel of the instance differs by state")


def _huber(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import ByState, Huber

    own, profile = getattr(env, "kernel", None), getattr(env, "noise_profile", None)
    if own is not None and own.ndim > 1:
        return ByState(numbers.eta, own)
    return Huber(numbers.eta if profile is None else numbers.eta * profile, _kernel(env))


def _profile(config: Any, env: Any, numbers: Any) -> Any:
    import jax.numpy as jnp

    from nail.noise import Huber

    return Huber(numbers.eta * jnp.asarray(_weights(config), jnp.float32), _kernel(env))


def _bursts(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import Bursts

    return Bursts(numbers.eta, numbers.burst, _kernel(env))


def _distributional(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import Within

    return Within(numbers.eta, (_kernel(env) > 0).astype("float32"))


def _semantic_key(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import Huber

    return Huber(numbers.eta * env.key_profile, _kernel(env))


def _canonical(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import ByPrompt

    return ByPrompt(lambda context: env.teacher(context, numbers.eta))


def _misread(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import ByPrompt

    return ByPrompt(lambda context: env.misreader(context, numbers.eta))


def _temperature(config: Any, env: Any, numbers: Any) -> Any:
    from nail.noise import Temperature

    return Temperature(numbers.expert_temperature)


NOISES = Table(
    "noise",
    [
        Noise(
            "uniform", "Huber mixture with the uniform kernel, in a tabular task with the instance's own", _huber,
            reads=("eta",),
        ),
        Noise("temperature", "the expert's own law, tempered", _temperature, reads=("expert_temperature",)),
        Noise(
            "distributional", "the law's mass on the noise's tokens is mixed among them", _distributional,
            reads=("eta",), one_kernel=True,
        ),
        Noise(
            "profile", "as uniform, at the rate eta × profile by position", _profile,
            reads=("eta", "profile"), check=_profile_fits, one_kernel=True,
        ),
        Noise(
            "bursts", "as uniform, corrupted steps in bursts of ρ = burst", _bursts,
            reads=("eta", "burst"), check=_bursts_fit, one_kernel=True,
        ),
        Noise("semantic-key", "s5: uniform digits at one digit of each permutation", _semantic_key, ("s5",), ("eta",)),
        Noise(
            "canonical", "defclass: definitions that are not the usual ones are read as the usual ones at rate eta_new",
            _canonical, ("defclass",), ("eta", "eta_new"),
        ),
        Noise(
            "misread", "defclass: a negated criterion that the item has is said to be met at rate eta", _misread,
            ("defclass",), ("eta",),
        ),
    ],
)  # fmt: skip

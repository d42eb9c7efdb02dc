"""Who drives an episode of a count-based learner, and what an episode leaves behind, level by level.

Both instances have one informative state a level: the on-path state of the chain, the secret prefix of the tree. A
label there follows the noisy expert's law; off path the expert is uniform whatever the secret, so labels there carry
nothing about it and are not simulated. A greedy student's rollout is informative up to and including its first wrong
level; what it plays at off-path prefixes, visited before or not, changes nothing. So every learner that decides level
by level has the same law on both instances and its state is a table (H, A). (LogLossBC on the hidden path decides
over whole paths instead: nail/counting/paths.py.)

Right actions are drawn uniformly per replicate and ties go to the lowest action. For one look at labels with uniform
noise that is, in mean over secrets, the uniform tie split of the theory. For another kernel it is not (the preference
is for an action that the noise may favour), nor for repeated looks at one level, where the preference is the same each
time: docs/theory.md §4.2 has the exact laws of both rules.

Replicate j uses fold_in(key, j): its secret fold_in(·, 0), its episode i = 1, 2, .. fold_in(·, i), whatever the number
of episodes run: n and n' share their first min(n, n') episodes.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from nail.checks import require
from nail.counting.kernels import Wrong
from nail.envs.mdp import check_laws
from nail.methods import expert_share
from nail.noise import Huber, Temperature, sample, uniform, uniform_kernel, words
from nail.policies.softmax_table import add_labels, plurality
from nail.registry import document_fields

ETA = 0.5
"""corruption rate where none is given"""
Data = TypeVar("Data")
"""what a learner keeps: a `Tally`, or its own state (nail/counting/own.py)"""


class Setting(NamedTuple):
    """The numbers of a simulation; all traced, so a grid of them compiles once."""

    eta: float | None = None
    """corruption rate η of the labels, in [0, 1); None: `ETA`"""
    kernel: Float[Array, " A"] | Float[np.ndarray, " A"] | Wrong | None = None
    """noise kernel ν of the labels; None: uniform"""
    told_eta: float = 0.05
    """η that NAIL (wrong η) believes"""
    told_kernel: Float[Array, " A"] | Float[np.ndarray, " A"] | None = None
    """ν that NAIL (wrong ν) believes; None: uniform"""
    beta: float = 0.5
    """weight of the reverse part of NAIL-β"""
    decay: float = 0.9
    """decay of DAgger's β_i (`nail.methods.expert_share`), in rounds of one episode"""


def channel(setting: Setting, told: str = "truth") -> Huber:
    """The channel of the labels, or what a learner takes it for: `told_eta` for its η, or `told_kernel` for its ν."""
    return Huber(
        setting.told_eta if told == "eta" else setting.eta,
        setting.told_kernel if told == "kernel" else setting.kernel,
    )


def is_number(value: Any) -> bool:
    """Whether `value` is one number, of Python, numpy or JAX."""
    return np.ndim(value) == 0 and isinstance(np.asarray(value).item(), (int, float))


def complete(
    setting: Setting, n_actions: int, kernel: np.ndarray | None = None, states: tuple[int, ...] = ()
) -> Setting:
    """The setting with η filled in, and its kernels (ν by `kernel`, else uniform) as float32 laws (A,) or (*states, A).

    Raises `BadInput` for A < 2, η or the told η that is no number in [0, 1), β or decay that is none in [0, 1], or a
    kernel that is not made of probability vectors of length A.
    """
    require(n_actions >= 2, "n_actions", n_actions, "at least 2")
    setting = setting._replace(eta=ETA if setting.eta is None else setting.eta)
    for name, value in setting._asdict().items():
        if name in ("eta", "told_eta"):
            require(is_number(value) and 0.0 <= value < 1.0, name, value, "a number in [0, 1)")
        elif name in ("beta", "decay"):
            require(is_number(value) and 0.0 <= value <= 1.0, name, value, "a number in [0, 1]")

    def filled(name, given, default):
        if isinstance(given, Wrong):
            check_laws(name, np.asarray(given.law), (n_actions - 1,))
            return Wrong(jnp.asarray(given.law, jnp.float32))
        law = np.asarray(given if given is not None else uniform_kernel(n_actions) if default is None else default)
        check_laws(name, law, (n_actions,), (*states, n_actions))
        return jnp.asarray(law, jnp.float32)

    return setting._replace(
        kernel=filled("kernel", setting.kernel, kernel), told_kernel=filled("told_kernel", setting.told_kernel, None)
    )


class World(NamedTuple):
    """One replicate: what is to be learned and what labels come from. The axes `*level` are (H,), one informative
    state a level, or (H, S) in a general MDP (nail/counting/layered.py); all laws and scores work on the last axis."""

    secret: Int[Array, "*level"]
    """the clean expert's most probable action"""
    noisy: Float[Array, "*level A"]
    """law of a label"""
    told: Huber
    """the channel that a channel-aware learner believes in"""
    beta: Float[Array, ""] | float
    decay: Float[Array, ""] | float
    candidates: Float[Array, "N *level A"] | None = None
    """clean laws of a finite class Π, for `class_score`"""
    off: Float[Array, "*level A"] | None = None
    """law of a label where the clean expert is uniform, as it is off the path of the chain"""


def world(
    told: str, setting: Setting, expert: Float[Array, "*level A"], candidates: Float[Array, "N *level A"] | None = None
) -> World:
    """What a learner that is told `told` learns from where the clean expert's law is `expert`."""
    off = uniform_kernel(expert.shape[-1]) if isinstance(setting.kernel, Wrong) else setting.kernel
    if isinstance(setting.kernel, Wrong):
        setting = setting._replace(kernel=setting.kernel.at(plurality(expert)))
    noisy = channel(setting).probs(expert)
    off = channel(setting._replace(kernel=off)).probs(jnp.full_like(expert, 1.0 / expert.shape[-1]))
    return World(plurality(expert), noisy, channel(setting, told), setting.beta, setting.decay, candidates, off)


class Tally(NamedTuple):
    """What a learner has gathered in one replicate."""

    labels: Int[Array, "*level A"]
    """labels by level and action; for the expert's own episodes only the first wrong label, see `_read_exits`"""
    seen: Bool[Array, "*level A"]
    """actions whose noisy-expert probability was queried (reverse KL)"""
    episodes: Int[Array, ""]


def no_data(shape: tuple[int, ...], *batch: int) -> Tally:
    """What has been gathered before the first episode, for levels and actions of this shape."""
    return Tally(jnp.zeros((*batch, *shape), jnp.int32), jnp.zeros((*batch, *shape), bool), jnp.zeros(batch, jnp.int32))


class Play(NamedTuple):
    """What a driver may use in one episode, level by level."""

    greedy: Int[Array, "*level"]
    law: Float[Array, "*level A"]
    label: Int[Array, "*level"]
    expert_share: Float[Array, ""]
    bits: UInt32[Array, "*level"]
    """the driver's own randomness"""


class Driver(NamedTuple):
    """Who drives."""

    plays: Callable[[Play], Int[Array, "..."]]
    """the actions of an episode, given what may be used"""
    episode: Callable[..., Tally]
    """`episode(learner, world, tally, key)`: one episode, level by level"""
    read: Callable[[Tally, World], Tally]
    """completes a tally before it is looked at"""
    walk: Callable[..., Any] | None = None
    """`walk(learner, mdp, world, kept, key)`: one episode in any finite MDP; None: that of counts (layered.py)"""


def _student(plays: Callable[[Play], Int[Array, "*level"]]) -> Driver:
    """A driver whose action at each on-path level is `plays`; every level up to the first wrong action is labelled."""

    def episode(row, world, tally, key):
        horizon = tally.labels.shape[0]
        bits = words(key, (row.draws, horizon))
        law = row.law(tally, world)
        label = sample(world.noisy, bits[0])
        share = expert_share(world.decay, tally.episodes, 1)
        action = plays(Play(plurality(row.score(tally, world)), law, label, share, bits[row.draws // 2]))
        wrong = jnp.append(action != world.secret, True)
        reached = (jnp.arange(horizon) <= jnp.argmax(wrong)).astype(jnp.int32)
        seen = tally.seen
        if row.query is not None:
            queried = row.query(law, action, bits[-1])
            seen = add_labels(seen.astype(jnp.int32), queried, reached) > 0
        return Tally(add_labels(tally.labels, label, reached), seen, tally.episodes + 1)

    return Driver(plays, episode, lambda tally, world: tally)


def _exit_episode(row, world, tally, key):
    """The noisy expert plays: right until its first wrong label, after which nothing is informative. So an episode is
    one exit (level, or none, and wrong label), drawn by two words."""
    bits, horizon = words(key, (2,)), world.secret.shape[0]
    exits, wrong = exit_laws(world)
    level = sample(exits, ~bits[0])
    at = jnp.minimum(level, horizon - 1)
    labels = tally.labels.at[at, sample(wrong[at], bits[1])].add((level < horizon).astype(jnp.int32))
    return Tally(labels, tally.seen, tally.episodes + 1)


def exit_laws(world: World) -> tuple[Float[Array, " levels_and_none"], Float[Array, "H A"]]:
    """Laws of the level h of the first wrong label, Π_{i<h} q_i·(1−q_h), or of none, the last entry, and of the wrong
    label there; each with an error that is relative to its probability, however small that is."""
    right = world.secret[:, None] == jnp.arange(world.noisy.shape[1])
    wrong = jnp.where(right, 0.0, world.noisy)
    mass = wrong.sum(1)
    survival = jnp.append(1.0, jnp.cumprod(jnp.sum(world.noisy, axis=1, where=right)))
    return jnp.append(survival[:-1] * mass, survival[-1]), wrong / jnp.where(mass > 0, mass, 1.0)[:, None]


def _read_exits(tally: Tally, world: World) -> Tally:
    """Labels from exits: right labels at level h = episodes − exits at levels 1..h."""
    right = tally.episodes - jnp.cumsum(tally.labels.sum(1))
    is_right = jnp.arange(tally.labels.shape[1])[None, :] == world.secret[:, None]
    return tally._replace(labels=jnp.where(is_right, right[:, None], tally.labels))


def repeat(
    episode: Callable[[Data, Key[Array, ""]], Data], read: Callable[[Data], Any], tally: Data, key: Key[Array, ""],
    stride: Int[Array, ""] | int, points: int,
) -> tuple[Data, Any]:  # fmt: skip
    """`points` times: `stride` more episodes, then what `read` sees; episode number i uses fold_in(key, i)."""

    def one(_, tally):
        return episode(tally, jax.random.fold_in(key, tally.episodes + 1))

    def point(tally, _):
        tally = lax.fori_loop(0, stride, one, tally)
        return tally, read(tally)

    return lax.scan(point, tally, length=points)


EXPERT = Driver(lambda play: play.label, _exit_episode, _read_exits)
MIXTURE = _student(lambda play: jnp.where(uniform(play.bits) < play.expert_share, play.label, play.greedy))
GREEDY = _student(lambda play: play.greedy)


@lru_cache
def sampled(temperature: float) -> Driver:
    """A student that samples from its law at this temperature."""
    tempered = (lambda law: law) if temperature == 1 else Temperature(temperature).probs
    return _student(lambda play: sample(tempered(play.law), play.bits))


document_fields(__name__)

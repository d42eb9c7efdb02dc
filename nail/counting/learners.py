"""Count-based learners as rows of one table, and how they live on the poison chain and the hidden path.

Both instances have one informative state a level: the on-path state of the chain, the secret prefix of the tree. A
label there follows the noisy expert's law; off path the expert is uniform whatever the secret, so labels there carry
nothing about it and are not simulated. A greedy student's rollout is informative up to and including its first wrong
level; what it plays at off-path prefixes, visited before or not, changes nothing. So every learner that decides level
by level has the same law on both instances and its state is a table (H, A). (LogLossBC on the hidden path decides
over whole paths instead: nail/counting/paths.py.)

Right actions are drawn uniformly per replicate and ties go to the lowest action, which in mean over secrets is the
uniform tie split of the theory. Replicate j uses fold_in(key, j): its secret fold_in(·, 0), its episode i = 1, 2, ..
fold_in(·, i), whatever the number of episodes run: n and n' share their first min(n, n') episodes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nail.noise import Huber, sample
from nail.policies.softmax_table import add_labels, frequencies, plurality

FLOOR = 1e-10
"""floor of probabilities inside logarithms"""


class Setting(NamedTuple):
    """The numbers of a simulation; all traced, so a grid of them compiles once."""

    eta: float = 0.5
    """corruption rate η of the labels, in [0, 1)"""
    kernel: Float[Array, " A"] | Float[np.ndarray, " A"] | None = None
    """noise kernel ν of the labels; None: uniform"""
    told_eta: float = 0.05
    """η that NAIL (wrong η) believes"""
    told_kernel: Float[Array, " A"] | Float[np.ndarray, " A"] | None = None
    """ν that NAIL (wrong ν) believes; None: uniform"""
    beta: float = 0.5
    """weight of the reverse part of NAIL-β"""
    decay: float = 0.9
    """DAgger: the expert plays a step of episode i with probability decay^i"""


def truth(setting: Setting) -> Huber:
    """The channel as it is."""
    return Huber(setting.eta, setting.kernel)


def wrong_eta(setting: Setting) -> Huber:
    """The right ν with `told_eta`."""
    return Huber(setting.told_eta, setting.kernel)


def wrong_nu(setting: Setting) -> Huber:
    """The right η with `told_kernel`."""
    return Huber(setting.eta, setting.told_kernel)


class World(NamedTuple):
    """One replicate: what is to be learned and what labels come from. The axes `*level` are (H,), one informative
    state a level, or (H, S) in a general MDP (nail/counting/layered.py); all laws and scores work on the last axis."""

    secret: Int[Array, "*level"]
    noisy: Float[Array, "*level A"]
    """law of a label at each on-path level"""
    told: Huber
    """the channel that a channel-aware learner believes in"""
    beta: Float[Array, ""] | float
    candidates: Float[Array, "N *level A"] | None = None
    """clean laws of a finite class Π, for `class_score`"""


class Tally(NamedTuple):
    """What a learner has gathered in one replicate."""

    labels: Int[Array, "*level A"]
    """labels by level and action; for the expert's own episodes only the first wrong label, see `_read_exits`"""
    seen: Bool[Array, "*level A"]
    """actions whose noisy-expert probability was queried (reverse KL)"""
    episodes: Int[Array, ""]


class Play(NamedTuple):
    """What a driver may use in one episode, level by level."""

    greedy: Int[Array, "*level"]
    law: Float[Array, "*level A"]
    label: Int[Array, "*level"]
    expert_share: Float[Array, ""]
    uniform: Float[Array, "*level"]
    """the driver's own randomness"""


def label_law(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """Forward KL at its optimum: label frequencies (uniform at an unlabelled level)."""
    return frequencies(tally.labels)


def queried_law(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """Reverse KL at its optimum: the noisy law itself wherever its probability was queried, the rest of the mass spread
    over the other actions.

    The reverse KL's score function reads log t(a) of the noisy expert at the student's own token a: a density, not a
    sample. Its minimiser is p = t, so a level with all actions queried is fitted without error, and this is the law of
    largest entropy that agrees with every answer so far.
    """
    known = jnp.where(tally.seen, world.noisy, 0.0)
    unseen = (~tally.seen).sum(-1, keepdims=True)
    return jnp.where(tally.seen, known, (1.0 - known.sum(-1, keepdims=True)) / jnp.maximum(unseen, 1))


def mixed_law(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """NAIL-β: (1−β)·`label_law` + β·`queried_law`; both parts, hence the mixture, have the optimum p = t."""
    return (1.0 - world.beta) * label_law(tally, world) + world.beta * queried_law(tally, world)


def label_counts(tally: Tally, world: World) -> Int[Array, "*level A"]:
    """Plurality: the 0–1 loss minimiser over labels, without η or ν (NAILGUN, and the mode of `label_law`)."""
    return tally.labels


def channel_score(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """log P(labels | clean action a) + const = n_a·log(1 + (1−η)/(η ν(a))), η and ν as told.

    The Bayes rule of a learner that knows (or is wrong about) the channel. ην is floored at 1e−10. For uniform ν any
    told η gives the plurality.
    """
    floor = jnp.maximum(world.told.eta * world.told.kernel, FLOOR)
    weight = jnp.log1p((1.0 - world.told.eta) / floor)
    return tally.labels * weight.reshape((1,) * (tally.labels.ndim - weight.ndim) + weight.shape)


def class_score(tally: Tally, world: World) -> Float[Array, "*level A"]:
    """Bayes mixture over the finite class Π = `world.candidates`, uniform prior: Σ_i w_i π_i(a|s) with
    log w_i = Σ_{h,s,b} n_{h,s,b}·log π_{i,η}(b|s) + const, π_{i,η} the candidate through the told channel."""
    noisy = world.told.probs(world.candidates)
    axes = tuple(range(1, noisy.ndim))
    log_weight = (tally.labels[None] * jnp.log(jnp.maximum(noisy, FLOOR))).sum(axes)
    return jnp.tensordot(jax.nn.softmax(log_weight), world.candidates, 1)


def _mixture_plays(play: Play) -> Int[Array, "*level"]:
    expert = play.uniform < play.expert_share
    return jnp.where(expert, play.label, play.greedy)


def _sampled_plays(play: Play) -> Int[Array, "*level"]:
    return sample(play.law, play.uniform)


class Driver(NamedTuple):
    """Who drives."""

    plays: Callable[[Play], Int[Array, "..."]]
    """the actions of an episode, given what may be used"""
    episode: Callable[..., Tally]
    """`episode(row, world, tally, share, key)`: one episode, level by level"""
    read: Callable[[Tally, World], Tally]
    """completes a tally before it is looked at"""


def _student(plays: Callable[[Play], Int[Array, "*level"]]) -> Driver:
    """A driver whose action at each on-path level is `plays`; every level up to the first wrong action is labelled."""

    def episode(row, world, tally, share, key):
        horizon = tally.labels.shape[0]
        uniform = jax.random.uniform(key, (row.draws, horizon))
        law = row.law(tally, world)
        label = sample(world.noisy, uniform[0])
        action = plays(Play(plurality(row.score(tally, world)), law, label, share, uniform[row.draws // 2]))
        wrong = jnp.append(action != world.secret, True)
        reached = (jnp.arange(horizon) <= jnp.argmax(wrong)).astype(jnp.int32)
        seen = tally.seen
        if row.query is not None:
            queried = row.query(law, action, uniform[-1])
            seen = add_labels(seen.astype(jnp.int32), queried, reached) > 0
        return Tally(add_labels(tally.labels, label, reached), seen, tally.episodes + 1)

    return Driver(plays, episode, lambda tally, world: tally)


def _exit_episode(row, world, tally, share, key):
    """The noisy expert plays: right until its first wrong label, after which nothing is informative. So an episode is
    one exit (level, wrong label), drawn from two 32-bit numbers; 24 bits would misplace survivals near 1e−5 by 1 %."""
    bits = jax.random.bits(key, (2,), jnp.uint32)
    horizon = world.secret.shape[0]
    q = jnp.take_along_axis(world.noisy, world.secret[:, None], axis=1)[:, 0]
    survival = jnp.cumprod(q)
    below = jnp.minimum(survival * 2.0**32, 2.0**32 - 256).astype(jnp.uint32)
    level = jnp.sum((bits[0] < below) | (survival >= 1.0))
    at = jnp.minimum(level, horizon - 1)
    wrong = world.noisy[at] * (jnp.arange(world.noisy.shape[1]) != world.secret[at])
    label = sample(wrong, (bits[1] >> 8) * jnp.float32(2.0**-24))
    labels = tally.labels.at[at, label].add((level < horizon).astype(jnp.int32))
    return Tally(labels, tally.seen, tally.episodes + 1)


def _read_exits(tally: Tally, world: World) -> Tally:
    """Labels from exits: right labels at level h = episodes − exits at levels 1..h."""
    right = tally.episodes - jnp.cumsum(tally.labels.sum(1))
    is_right = jnp.arange(tally.labels.shape[1])[None, :] == world.secret[:, None]
    return tally._replace(labels=jnp.where(is_right, right[:, None], tally.labels))


EXPERT = Driver(lambda play: play.label, _exit_episode, _read_exits)
MIXTURE = _student(_mixture_plays)
GREEDY = _student(lambda play: play.greedy)
SAMPLED = _student(_sampled_plays)


def fresh_token(
    law: Float[Array, "*level A"], action: Int[Array, "*level"], uniform: Float[Array, "*level"]
) -> Int[Array, "*level"]:
    """The reverse KL's auxiliary token: drawn from the student at the visited prefix."""
    return sample(law, uniform)


def own_token(
    law: Float[Array, "*level A"], action: Int[Array, "*level"], uniform: Float[Array, "*level"]
) -> Int[Array, "*level"]:
    """The rollout's own token, reused."""
    return action


class Learner(NamedTuple):
    """One learner: who drives, what is estimated, how it decides. The loop reads these and no name."""

    name: str
    label: str
    driver: Driver
    law: Callable[[Tally, World], Float[Array, "*level A"]] = label_law
    """fitted law: what a sampling student and an auxiliary token are drawn from"""
    score: Callable[[Tally, World], Array] = label_counts
    """the final policy, and a greedy student, play its argmax; ties to the lowest action"""
    query: Callable[..., Int[Array, "*level"]] | None = None
    """the token whose noisy-expert probability is read; None: only labels are read"""
    draws: int = 1
    """uniform numbers a level and episode: 1 for the label alone, 2 if the driver's play or the queried token is random
    too, 3 if both are"""
    told: Callable[[Setting], Huber] = truth
    """the channel that `channel_score` believes in"""


LEARNERS: tuple[Learner, ...] = (
    Learner("loglossbc", "LogLossBC", EXPERT),
    Learner("dagger", "DAgger", MIXTURE, draws=2),
    Learner("opd-f", "OPD-F", SAMPLED, draws=2),
    Learner("opd-r", "OPD-R", SAMPLED, queried_law, queried_law, own_token, draws=2),
    Learner("nail-f", "NAIL-F", GREEDY),
    Learner("nail-r", "NAIL-R", GREEDY, queried_law, queried_law, fresh_token, draws=2),
    Learner("nail-beta", "NAIL-β", GREEDY, mixed_law, mixed_law, fresh_token, draws=2),
    Learner("nailgun", "NAILGUN", GREEDY),
    Learner("nail-channel", "NAIL (η, ν known)", GREEDY, score=channel_score),
    Learner("nail-class", "NAIL (finite class)", GREEDY, score=class_score),
    Learner("nail-wrong-eta", "NAIL (wrong η)", GREEDY, score=channel_score, told=wrong_eta),
    Learner("nail-wrong-nu", "NAIL (wrong ν)", GREEDY, score=channel_score, told=wrong_nu),
)
LEARNER: dict[str, Learner] = {row.name: row for row in LEARNERS}

"""The learner of the general bound (docs/theory.md §5): a Bayes mixture a layer over a finite class, played as it is.

Layer h has N candidate laws π_j(a|s) and a posterior of its own, w_j ∝ Π π_{j,η}(label|s) over the labels at that layer
so far, seen through the channel as told. In episode i the policy π̂_i = Σ_j w_j π_j drives, sampled; its distances to
the expert are weighted by its own state distribution, exact by a forward recursion, all in float64.
"""

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from nail.checks import require
from nail.envs.mdp import TabularMDP, check_laws, occupancy, q_values
from nail.noise import Huber, sample, uniform_kernel
from nail.policies.softmax_table import deterministic, plurality

TOGETHER = 256
"""episodes whose random numbers are drawn together"""


class Layered(NamedTuple):
    """An MDP with a layered class Π = Π_1 × … × Π_H and the expert in it; ν is uniform."""

    mdp: TabularMDP
    candidates: Float[np.ndarray, "H N S A"]
    """clean laws"""
    right: Int[np.ndarray, " H"]
    """which candidate of each layer is the expert"""

    @property
    def expert(self) -> Float[np.ndarray, "H S A"]:
        """π*_h(a|s)."""
        return self.candidates[np.arange(len(self.right)), self.right]


class Sums(NamedTuple):
    """What is added up over the episodes i <= n, π̂_i the policy that drives episode i."""

    tv2: Float[np.ndarray, "K R n"]
    """Σ_i Σ_h E_{s ~ d^{π̂_i}} TV(π*, π̂_i)²"""
    tv: Float[np.ndarray, "K R n"]
    """Σ_i Σ_h E_{s ~ d^{π̂_i}} TV(π*, π̂_i)"""
    kl: Float[np.ndarray, "K R n"]
    """Σ_i Σ_h E_{s ~ d^{π̂_i}} KL(π*_η ‖ mixture_η), nats, η the true one"""
    regret: Float[np.ndarray, "K R n"]
    """Σ_i |J(π*) − J(π̂_i)|"""
    log_weight: Float[np.ndarray, "K R n"]
    """Σ_h log of the expert's posterior mass after n episodes (not a sum over i)"""


class _World(NamedTuple):
    """A problem as the episodes see it; `q` is Q^{π*} (H, S, A), `noisy` the law of labels."""

    mdp: TabularMDP
    candidates: Float[Array, "H N S A"]
    right: Int[Array, " H"]
    expert: Float[Array, "H S A"]
    q: Float[Array, "H S A"]


def _episode(world, channel, told, greedy, log_weight, sums, bits):
    """One episode of the mixture: the posterior after its labels, and the sums with what it adds."""
    horizon = len(world.right)
    mixture = jnp.einsum("hn,hnsa->hsa", jax.nn.softmax(log_weight), world.candidates)
    policy = jnp.where(greedy, deterministic(plurality(mixture), mixture.shape[-1]), mixture)
    visits, noisy = occupancy(world.mdp, policy), channel.probs(world.expert)
    tv = 0.5 * jnp.abs(policy - world.expert).sum(-1)
    kl = jax.scipy.special.rel_entr(noisy, channel.probs(mixture)).sum(-1)
    # the difference of values, as Σ_h E_{s ~ d^π̂} Σ_a (π* − π̂)(a|s)·Q^{π*}_h(s, a)
    gap = (visits * ((world.expert - policy) * world.q).sum(-1)).sum()

    def layer(state, at):
        h, word = at
        action, label = sample(policy[h, state], word[1]), sample(noisy[h, state], word[2])
        return sample(world.mdp.P[h, state, action], word[0]), (state, label)

    first = sample(world.mdp.rho, bits[horizon, 0])
    _, (states, labels) = lax.scan(layer, first, (jnp.arange(horizon), bits[:horizon]))
    seen = told.probs(world.candidates)[jnp.arange(horizon), :, states, labels]
    added = ((visits * tv**2).sum(), (visits * tv).sum(), (visits * kl).sum(), jnp.abs(gap))
    return jax.nn.log_softmax(log_weight + jnp.log(seen)), jax.tree.map(jnp.add, sums, added)


@jax.jit
def _advance(worlds: _World, eta, told_eta, greedy, state, bits: UInt32[Array, "n K R _ 3"], count):
    """The state, log-weights (K, R, H, N) and the sums over episodes (K, R), after `count` <= n more episodes."""
    channel, told = (Huber(rate, jnp.asarray(uniform_kernel(worlds.q.shape[-1]))) for rate in (eta, told_eta))
    one = jax.vmap(jax.vmap(_episode, (None, None, None, None, 0, 0, 0)), (0, None, None, None, 0, 0, 0))
    return lax.fori_loop(0, count, lambda i, at: one(worlds, channel, told, greedy, *at, bits[i]), state)


def mixture_sums(
    problems: list[Layered], eta: float, marks: list[int], replicates: int, seed: int, told_eta: float | None = None,
    greedy: bool = False,
) -> Sums:  # fmt: skip
    """`Sums` (problems K, replicates R, marks) of the Bayes mixture after each of `marks` episodes (rising).

    It is told the true η unless `told_eta` is given; with `greedy` it plays, and is judged by, the mixture's argmax (as
    the method nail-class does), which is outside the guarantee. Problems share their shapes. Raises `BadInput` for no
    problems, laws that are no laws, η or the told η outside [0, 1), marks that do not rise from 1 on, replicates < 1.
    Source: docs/theory.md §5.
    """
    told_eta = eta if told_eta is None else told_eta
    for name, rate in (("eta", eta), ("told_eta", told_eta)):
        require(0.0 <= rate < 1.0, name, rate, "in [0, 1)")
    require(len(problems) >= 1, "number of problems", len(problems), "at least 1")
    require(bool(np.all(np.diff([0, *marks]) > 0)) and len(marks) > 0, "marks", marks, "rising from 1 on")
    require(replicates >= 1, "replicates", replicates, "at least 1")
    for one in problems:
        check_laws("candidates", one.candidates)
    rng, found = np.random.default_rng(seed), []
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        worlds = [_World(*one, one.expert, q_values(one.mdp, one.expert)) for one in problems]
        stacked = jax.tree.map(lambda *tables: jnp.asarray(np.stack(tables)), *worlds)
        runs, shape = (len(problems), replicates), stacked.candidates.shape[1:3]
        state = (jnp.full((*runs, *shape), -np.log(shape[1])), (jnp.zeros(runs),) * 4)
        for first, mark in pairwise([0, *marks]):
            for done in range(first, mark, TOGETHER):
                bits = rng.integers(2**32, size=(TOGETHER, *runs, shape[0] + 1, 3), dtype=np.uint32)
                state = _advance(stacked, eta, told_eta, greedy, state, bits, min(TOGETHER, mark - done))
            right = jnp.take_along_axis(state[0], stacked.right[:, None, :, None], axis=-1).sum((-1, -2))
            found.append(Sums(*map(np.asarray, (*state[1], right))))
    return Sums(*(np.stack(each, axis=-1) for each in zip(*found, strict=True)))

"""Finite layered MDPs, solved exactly: value, occupancy, optimal policy and regret by dynamic programming.

Every public function takes float64 tables, runs in float64 whatever the package's default precision is, and gives
float64 numpy arrays back. Leading axes broadcast: policies (N, H, S, A) on one MDP, one policy on instances stacked
along a leading axis, or both. Inside a `jax.jit` or `jax.vmap` they run at the caller's precision instead.
"""

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nail.checks import require
from nail.registry import document_fields

Table = Float[Array, "... H S A"] | Float[np.ndarray, "... H S A"]
TIE = 1e-12
"""actions whose values differ by less are tied, in units of the largest expected sum of |rewards| from there on: what
values are made of, so what their rounding is relative to"""


class TabularMDP(NamedTuple):
    """A finite-horizon MDP: s_1 ~ ρ, s_{h+1} ~ P_h(·|s_h, a_h), reward r_h(s_h, a_h), h = 1..H. Build by `make_mdp`."""

    P: Float[np.ndarray, "... H S A S"] | Float[Array, "... H S A S"]
    """transition probabilities"""
    r: Float[np.ndarray, "... H S A"] | Float[Array, "... H S A"]
    """rewards"""
    rho: Float[np.ndarray, "... S"] | Float[Array, "... S"]
    """law of the first state"""

    @property
    def horizon(self) -> int:
        """H, steps an episode."""
        return self.r.shape[-3]

    @property
    def n_states(self) -> int:
        """S."""
        return self.r.shape[-2]

    @property
    def n_actions(self) -> int:
        """A."""
        return self.r.shape[-1]


def check_laws(name: str, table: np.ndarray, *shapes: tuple[int, ...]) -> None:
    """Raise `BadInput` unless every last-axis row of `table` is a probability vector, the worst row being named, and
    unless its shape is one of `shapes`, if there are any."""
    wanted = " or ".join(dict.fromkeys(map(str, shapes)))
    require(table.shape in (shapes or (table.shape,)), f"shape of {name}", table.shape, wanted)
    require(bool(np.all(np.isfinite(table))), name, "one that is not", "finite")
    error = np.maximum(np.abs(table.sum(-1) - 1.0), -table.min(-1) * table.shape[-1])
    worst = np.unravel_index(np.argmax(error), error.shape)
    row = f" row ({', '.join(str(int(i)) for i in worst)})" if worst else ""
    require(
        bool(error[worst] < 1e-9), f"{name}{row}", f"sum {table[worst].sum():.12g}, least {table[worst].min():.3g}",
        "a probability vector (sum 1, no negative entry)",
    )  # fmt: skip


def make_mdp(P: np.ndarray, r: np.ndarray, rho: np.ndarray, horizon: int | None = None) -> TabularMDP:
    """A checked `TabularMDP` in float64.

    `P` (H, S, A, S) and `r` (H, S, A) by layer, or stationary (S, A, S) and (S, A), which are repeated `horizon` times;
    `rho` (S,). `horizon` is needed only if both are stationary. Raises `BadInput` if H < 1, A < 2, shapes do not fit, a
    row of P or ρ is not a probability vector (the worst one is named), or a reward is not finite.
    """
    P, r, rho = (np.asarray(x, np.float64) for x in (P, r, rho))
    require(P.ndim in (3, 4), "shape of P", P.shape, "(H, S, A, S) or (S, A, S)")
    require(r.ndim in (2, 3), "shape of r", r.shape, "(H, S, A) or (S, A)")
    layers = {n for n in (len(P) if P.ndim == 4 else None, len(r) if r.ndim == 3 else None, horizon) if n is not None}
    require(len(layers) == 1, "horizon", sorted(layers) or "none", "given once, the same for P and r")
    steps = layers.pop()
    n_states, n_actions = r.shape[-2:]
    require(steps >= 1, "horizon", steps, "at least 1")
    require(n_actions >= 2, "number of actions", n_actions, "at least 2")
    require(
        P.shape[-3:] == (n_states, n_actions, n_states) and rho.shape == (n_states,), "shapes of P, r, rho",
        (P.shape, r.shape, rho.shape), "(.., S, A, S), (.., S, A), (S,)",
    )  # fmt: skip
    check_laws("P", P)
    check_laws("rho", rho)
    require(bool(np.all(np.isfinite(r))), "rewards", "one that is not", "finite")
    return TabularMDP(
        np.broadcast_to(P, (steps, n_states, n_actions, n_states)),
        np.broadcast_to(r, (steps, n_states, n_actions)),
        rho,
    )


def _exact(rest: str) -> Callable[[Callable], Callable]:
    """Vectorise a function of an MDP over leading axes, compile it, and run it in float64 outside of traces; `rest` is
    what its signature has after the tables of the MDP."""

    def wrap(core: Callable) -> Callable:
        def of_tables(P, r, rho, *others):
            return core(TabularMDP(P, r, rho), *others)

        run = jax.jit(jnp.vectorize(of_tables, signature=f"(h,s,a,s),(h,s,a),(s){rest}"))

        @wraps(core)
        def exact(*args, **named):
            leaves = jax.tree.leaves((args, named))
            if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
                with jax.numpy_rank_promotion("allow"):
                    return run(*leaves)
            with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
                return np.asarray(run(*(np.asarray(leaf, np.float64) for leaf in leaves)))

        return exact

    return wrap


def _lowest_best(q: Float[Array, "S A"], size: Float[Array, "S A"]) -> Float[Array, "S A"]:
    """One-hot of the lowest action whose value is within rounding of the best, `size` being the sums of |rewards|."""
    tied = q >= q.max(-1, keepdims=True) - TIE * size.max(-1, keepdims=True)
    return jax.nn.one_hot(jnp.argmax(tied, axis=-1), q.shape[-1], dtype=q.dtype)


def _backward(mdp: TabularMDP, backup: Callable, *extra: Array) -> Array:
    """Q_h = r_h + P_h V_{h+1}, (V_h, out_h) = backup(Q_h, x_h), from h = H down; `backup` sees one layer."""

    def layer(v, tables):
        q = tables[1] + tables[0] @ v
        return backup(q, *tables[2:])

    return lax.scan(layer, jnp.zeros(mdp.n_states, mdp.r.dtype), (mdp.P, mdp.r, *extra), reverse=True)[1]


@_exact("->(h,s,a)")
def optimal_policy(mdp: TabularMDP) -> Table:
    """π*_h(s) = argmax_a Q*_h(s, a) by backward induction, ties (`TIE`) to the lowest action; one-hot, (..., H, S, A).

    The same for rewards in other units.
    """

    def layer(values, tables):
        v, most = values
        transitions, rewards = tables
        q, size = rewards + transitions @ v, jnp.abs(rewards) + transitions @ most
        policy = _lowest_best(q, size)
        return ((policy * q).sum(-1), size.max(-1)), policy

    nothing = jnp.zeros(mdp.n_states, mdp.r.dtype)
    return lax.scan(layer, (nothing, nothing), (mdp.P, mdp.r), reverse=True)[1]


@_exact(",()->(h,s,a)")
def _soft(mdp, temperature):
    def backup(q):
        v = temperature * jax.nn.logsumexp(q / temperature, axis=-1)
        return v, jax.nn.softmax(q / temperature, axis=-1)

    return _backward(mdp, backup)


def soft_optimal_policy(mdp: TabularMDP, temperature: float) -> Table:
    """π_h(a|s) ∝ exp(Q_h(s, a)/τ), Q_h = r_h + P_h V_{h+1}, V_h = τ log Σ_a exp(Q_h/τ); (..., H, S, A).

    The optimal policy of the entropy-regularised problem; τ = `temperature` is in units of reward. Raises
    `BadInput` unless τ > 0. Source: docs/theory.md §4.5.
    """
    require(temperature > 0, "temperature", temperature, "positive")
    return _soft(mdp, temperature)


@_exact(",(h,s,a)->(h,s,a)")
def q_values(mdp: TabularMDP, policy: Table) -> Table:
    """Q^π_h(s, a): expected reward from step h on, after playing a at s; (..., H, S, A), in units of reward."""
    return _backward(mdp, lambda q, pi: ((pi * q).sum(-1), q), policy)


@_exact(",(h,s,a)->(h,s)")
def occupancy(mdp: TabularMDP, policy: Table) -> Float[Array, "... H S"] | Float[np.ndarray, "... H S"]:
    """d^π_h(s) = P(s_h = s): d_1 = ρ, d_{h+1}(t) = Σ_{s,a} d_h(s) π_h(a|s) P_h(t|s, a); each layer sums to 1."""

    def layer(d, tables):
        p, pi = tables
        return jnp.einsum("s,sa,sat->t", d, pi, p), d

    return lax.scan(layer, mdp.rho, (mdp.P, policy))[1]


@_exact(",(h,s,a)->()")
def value(mdp: TabularMDP, policy: Table) -> Float[Array, "..."] | Float[np.ndarray, "..."]:
    """J(π) = Σ_s ρ(s) V^π_1(s), V^π_h(s) = Σ_a π_h(a|s) Q^π_h(s, a): the expected reward of an episode."""

    def backup(q, pi):
        v = (pi * q).sum(-1)
        return v, v

    return _backward(mdp, backup, policy)[0] @ mdp.rho


def regret(mdp: TabularMDP, policy: Table, expert: Table) -> Float[Array | np.ndarray, "..."] | float:
    """J(π*) − J(π), π* = `expert` (the clean one); negative if the policy is better."""
    return value(mdp, expert) - value(mdp, policy)


document_fields(__name__)

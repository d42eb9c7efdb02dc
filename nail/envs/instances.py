"""The instances of docs/theory.md §4 as finite MDPs: transitions and rewards, clean expert law, noise kernel.

Each docstring points to the closed form (nail/theory/exact.py, bounds.py) that holds for it.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from nail.checks import MAX_ENTRIES, MAX_TREE, require
from nail.envs.mdp import TabularMDP, check_laws, make_mdp, optimal_policy, q_values, soft_optimal_policy
from nail.noise import Huber, uniform_kernel
from nail.registry import document_fields


class Instance(NamedTuple):
    """An MDP with the clean expert's law and a noise kernel, all in float64."""

    name: str
    mdp: TabularMDP
    expert: Float[np.ndarray, "H S A"]
    """clean law π*_h(a|s), the behaviour off its path included"""
    kernel: Float[np.ndarray, "... A"]
    """noise kernel ν, (A,) or (H, S, A)"""

    def noisy(self, eta: float) -> Float[np.ndarray, "H S A"]:
        """π*_η = (1−η)π* + ην in float64, through the one channel; raises `BadInput` for η outside [0, 1)."""
        require(0.0 <= eta < 1.0, "eta", eta, "in [0, 1)")
        with jax.enable_x64(True):
            return np.asarray(Huber(eta, self.kernel).probs(jnp.asarray(self.expert)))


def check_instance(instance: Instance) -> None:
    """Raise `BadInput` with the worst row unless dynamics, the expert's laws (H, S, A) and the kernel's (A,) or
    (H, S, A) are probability vectors."""
    mdp = make_mdp(*instance.mdp)
    check_laws(f"expert of {instance.name}", np.asarray(instance.expert), mdp.r.shape)
    check_laws(f"kernel of {instance.name}", np.asarray(instance.kernel), (mdp.n_actions,), mdp.r.shape)


def erring(instance: Instance, error: float) -> Float[np.ndarray, "H S A"]:
    """The expert of a deterministic instance that errs: (1−ε)π* + ε·uniform over the other actions; (H, S, A).

    Raises `BadInput` for ε = `error` outside [0, 1].
    """
    require(0.0 <= error <= 1.0, "error", error, "in [0, 1]")
    others = (1.0 - instance.expert) / (instance.mdp.n_actions - 1)
    return (1.0 - error) * instance.expert + error * others


def _secret(horizon: int, n_actions: int, secret: Int[np.ndarray, " H"] | None) -> Int[np.ndarray, " H"]:
    require(horizon >= 1, "horizon", horizon, "at least 1")
    require(n_actions >= 2, "n_actions", n_actions, "at least 2")
    secret = np.zeros(horizon, int) if secret is None else np.asarray(secret, int)
    require(
        secret.shape == (horizon,) and bool(np.all((secret >= 0) & (secret < n_actions))),
        "secret", secret.tolist(), f"{horizon} actions in 0..{n_actions - 1}",
    )  # fmt: skip
    return secret


def poison_chain(horizon: int, n_actions: int, secret: Int[np.ndarray, " H"] | None = None) -> Instance:
    """Poison chain (docs/theory.md §4.2): state 0 is on path, state 1 off; the right action `secret`[h] keeps you on,
    any other sends you off for good; reward 1 for a right action at the last step.

    The expert is right on path and uniform off it; ν uniform. R = 1, J(π*) = 1, and J of a noisy expert is q^H.
    `secret` is (H,), all zeros by default. Closed forms: `exact.bc_exact`, `bounds.phased_nail`, `exact.survival`.
    Raises `BadInput` for H < 1, A < 2, a secret outside 0..A−1.
    """
    secret = _secret(horizon, n_actions, secret)
    right = np.eye(n_actions)[secret]
    P = np.zeros((horizon, 2, n_actions, 2))
    P[:, 0, :, 0], P[:, 0, :, 1], P[:, 1, :, 1] = right, 1.0 - right, 1.0
    r = np.zeros((horizon, 2, n_actions))
    r[-1, 0] = right[-1]
    expert = np.full((horizon, 2, n_actions), 1.0 / n_actions)
    expert[:, 0] = right
    return Instance("poison-chain", make_mdp(P, r, np.array([1.0, 0.0])), expert, uniform_kernel(n_actions))


def hidden_path(horizon: int, n_actions: int, secret: Int[np.ndarray, " H"] | None = None) -> Instance:
    """Hidden path (docs/theory.md §4.1) as an explicit tree: the state at step h is the number of the prefix a_<h in
    base A, so only the first A^{h−1} states of layer h are ever visited; reward 1 if a_{1:H} = `secret`.

    The expert is right on the secret prefix and uniform elsewhere; ν uniform. For A^{H−1} <= 1024 (tests;
    nail/counting/levels.py and paths.py need no tree). Closed forms: `exact.genie_success`, `exact.n_offline`. Raises
    `BadInput` for H < 1, A < 2, a secret outside 0..A−1, a tree that is too large.
    """
    secret = _secret(horizon, n_actions, secret)
    n_states = n_actions ** (horizon - 1)
    require(n_states <= MAX_TREE, "number of prefixes A^(H-1)", n_states, f"at most {MAX_TREE}")
    require(n_states**2 * n_actions <= MAX_ENTRIES, "entries of P, A^(2H-1)", n_states**2 * n_actions,
            f"at most {MAX_ENTRIES}")  # fmt: skip
    state, action = np.arange(n_states)[:, None], np.arange(n_actions)[None, :]
    P = np.zeros((n_states, n_actions, n_states))
    P[state, action, (state * n_actions + action) % n_states] = 1.0
    r = np.zeros((horizon, n_states, n_actions))
    expert = np.full((horizon, n_states, n_actions), 1.0 / n_actions)
    prefix = 0
    for h in range(horizon):
        expert[h, prefix] = np.eye(n_actions)[secret[h]]
        prefix = prefix * n_actions + secret[h]
    r[-1].flat[prefix] = 1.0
    rho = np.eye(n_states)[0]
    return Instance("hidden-path", make_mdp(P, r, rho), expert, uniform_kernel(n_actions))


def cliff(horizon: int, n_actions: int, recovery: int | None = None) -> Instance:
    """Cliff (docs/theory.md §4.3): action 0 is right on path and earns 1; a mistake costs that step's 1 and leaves the
    path, for good (`recovery` None) or until u = `recovery` steps after the mistake was made.

    State 0 is on path; state k >= 1 is off path with k steps left until it is regained (state 1 is absorbing without
    recovery). T = H, R = T, J(π*) = T, so regret is the expected cost `exact.compounding_cost` of `erring`.
    The expert is uniform off path; ν uniform. Raises `BadInput` for H < 1, A < 2, u < 1.
    """
    _secret(horizon, n_actions, None)
    require(recovery is None or recovery >= 1, "recovery", recovery, "at least 1 (or None)")
    n_states = 2 if recovery is None else recovery
    P = np.zeros((n_states, n_actions, n_states))
    P[0, 0, 0] = 1.0
    P[0, 1:, 1 if recovery is None else recovery - 1] = 1.0
    for state in range(1, n_states):
        P[state, :, state if recovery is None else state - 1] = 1.0
    r = np.zeros((n_states, n_actions))
    r[0, 0] = 1.0
    expert = np.full((horizon, n_states, n_actions), 1.0 / n_actions)
    expert[:, 0] = np.eye(n_actions)[0]
    mdp = make_mdp(P, r, np.eye(n_states)[0], horizon)
    return Instance("cliff", mdp, expert, uniform_kernel(n_actions))


def rare_action(
    horizon: int, c: float, theta: int, noise: Literal["uniform", "dominated"] = "uniform", domination: float = 1.0,
    sign: int = 1,
) -> Instance:  # fmt: skip
    """Rare action (docs/theory.md §4.4): H steps whatever is played, two actions; π_θ plays action 1 with probability
    Δ(1+θ), Δ = c/H; reward `sign` the first time that action 1 is played (state 1: it was), so J is `sign` times
    1 − (1−Δ(1+θ))^H.

    ν uniform, or ν(1) = CΔ with C = `domination` (`dominated`, so that ν <= Cπ_θ). Closed form: `exact.lrt_error`.
    Raises `BadInput` for H < 1, c outside (0, H/2], θ not 0 or 1, C outside [1, H/c], a sign that is not 1 or −1.
    """
    require(horizon >= 1, "horizon", horizon, "at least 1")
    require(0.0 < c <= horizon / 2, "c", c, f"in (0, H/2 = {horizon / 2}]")
    require(theta in (0, 1), "theta", theta, "0 or 1")
    require(sign in (1, -1), "sign", sign, "1 or -1")
    require(noise in ("uniform", "dominated"), "noise", noise, "'uniform' or 'dominated'")
    require(1.0 <= domination <= horizon / c, "domination", domination, f"in [1, H/c = {horizon / c}]")
    P = np.zeros((2, 2, 2))
    P[0, 0, 0] = P[0, 1, 1] = 1.0
    P[1, :, 1] = 1.0
    r = np.array([[0.0, float(sign)], [0.0, 0.0]])
    rare = c / horizon * (1 + theta)
    expert = np.broadcast_to(np.array([1.0 - rare, rare]), (horizon, 2, 2)).copy()
    noise_rate = 0.5 if noise == "uniform" else domination * c / horizon
    mdp = make_mdp(P, r, np.array([1.0, 0.0]), horizon)
    return Instance("rare-action", mdp, expert, np.array([1.0 - noise_rate, noise_rate]))


def worst_kernel(mdp: TabularMDP) -> Float[np.ndarray, "H S A"]:
    """ν(·|h, s) all on the worst action argmin_a Q*_h(s, a); ties to the lowest (docs/theory.md §4.5)."""
    return np.eye(mdp.n_actions)[np.argmin(q_values(mdp, optimal_policy(mdp)), axis=-1)]


def garnet(
    seed: int, horizon: int, n_states: int, n_actions: int, branching: int,
    expert: Literal["optimal", "soft"] = "optimal", temperature: float = 0.1,
    noise: Literal["uniform", "adversarial"] = "uniform",
) -> Instance:  # fmt: skip
    """Garnet MDP (docs/theory.md §4.5): in every layer each (s, a) has `branching` different successors with
    Dirichlet(1) probabilities, rewards uniform on [0, 1/H] (so R = 1), s_1 uniform; a function of `seed`.

    `expert`: optimal, or soft-optimal with `temperature` (in units of H·reward per step, i.e. of R). `noise`: uniform,
    or all on the worst action (`adversarial`, `worst_kernel`). Values, occupancies and regret:
    nail/envs/mdp.py. Raises `BadInput` for H < 1, A < 2, branching outside 1..S, unknown names, temperature <= 0.
    """
    require(n_states >= 1, "n_states", n_states, "at least 1")
    _secret(horizon, n_actions, None)
    require(1 <= branching <= n_states, "branching", branching, f"in 1..{n_states}")
    require(expert in ("optimal", "soft"), "expert", expert, "'optimal' or 'soft'")
    require(noise in ("uniform", "adversarial"), "noise", noise, "'uniform' or 'adversarial'")
    rng = np.random.default_rng(seed)
    shape = (horizon, n_states, n_actions)
    successors = np.argsort(rng.random((*shape, n_states)), axis=-1)[..., :branching]
    P = np.zeros((*shape, n_states))
    np.put_along_axis(P, successors, rng.dirichlet(np.ones(branching), shape), axis=-1)
    mdp = make_mdp(P, rng.random(shape) / horizon, np.full(n_states, 1.0 / n_states))
    best = optimal_policy(mdp)
    law = best if expert == "optimal" else soft_optimal_policy(mdp, temperature)
    kernel = uniform_kernel(n_actions)
    if noise == "adversarial":
        kernel = worst_kernel(mdp)
    return Instance("garnet", mdp, law, kernel)


document_fields(__name__)

"""Exact dynamic programming against enumeration of every trajectory, and against random search."""

import itertools

import jax
import numpy as np
import pytest

from nail.checks import BadInput
from nail.envs import mdp as tabular


def random_mdp(seed=0, horizon=3, n_states=3, n_actions=2):
    rng = np.random.default_rng(seed)
    shape = (horizon, n_states, n_actions)
    P = rng.dirichlet(np.ones(n_states), shape)
    return tabular.make_mdp(P, rng.random(shape), rng.dirichlet(np.ones(n_states)))


def random_policy(mdp, seed, *batch):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(mdp.n_actions), (*batch, mdp.horizon, mdp.n_states))


def trajectories(mdp, policy):
    """(probability, states, actions) of every trajectory."""
    steps = itertools.product(range(mdp.n_states), range(mdp.n_actions))
    for path in itertools.product(list(steps), repeat=mdp.horizon):
        p = mdp.rho[path[0][0]]
        for h, (s, a) in enumerate(path):
            p *= policy[h, s, a]
            if h + 1 < mdp.horizon:
                p *= mdp.P[h, s, a, path[h + 1][0]]
        yield p, [s for s, _ in path], [a for _, a in path]


def test_value_and_occupancy_equal_enumeration():
    mdp = random_mdp()
    policy = random_policy(mdp, 1)
    value, visits = 0.0, np.zeros((3, 3))
    for p, states, actions in trajectories(mdp, policy):
        value += p * sum(mdp.r[h, s, a] for h, (s, a) in enumerate(zip(states, actions, strict=True)))
        for h, s in enumerate(states):
            visits[h, s] += p
    np.testing.assert_allclose(tabular.value(mdp, policy), value, atol=1e-12)
    np.testing.assert_allclose(tabular.occupancy(mdp, policy), visits, atol=1e-12)


def test_optimal_policy_beats_every_deterministic_policy():
    mdp = random_mdp(2, horizon=2)
    best = tabular.value(mdp, tabular.optimal_policy(mdp))
    tables = np.stack([np.eye(2)[np.array(x).reshape(2, 3)] for x in itertools.product(range(2), repeat=6)])
    np.testing.assert_allclose(best, tabular.value(mdp, tables).max(), atol=1e-12)


def test_occupancies_sum_to_one_and_performance_difference_lemma_holds():
    """J(π') − J(π) = Σ_h E_{s~d^π'}[Σ_a π'(a|s) Q^π(s,a) − V^π(s)]."""
    mdp = random_mdp(3, 5, 4, 3)
    one, two = random_policy(mdp, 4), random_policy(mdp, 5)
    d = tabular.occupancy(mdp, two)
    np.testing.assert_allclose(d.sum(1), 1.0, atol=1e-12)
    q = tabular.q_values(mdp, one)
    gain = (d * ((two * q).sum(-1) - (one * q).sum(-1))).sum()
    np.testing.assert_allclose(tabular.regret(mdp, one, two), gain, atol=1e-12)


def test_ties_go_to_the_lowest_action_and_soft_policy_tends_to_the_optimum():
    P = np.full((2, 3, 2), 0.5)
    mdp = tabular.make_mdp(P, np.array([[0.3, 0.1 + 0.2, 0.0]] * 2), np.array([1.0, 0.0]), horizon=3)
    assert (tabular.optimal_policy(mdp).argmax(-1) == 0).all()
    other = random_mdp(6, 4, 3, 3)
    soft = tabular.soft_optimal_policy(other, 1e-3)
    np.testing.assert_allclose(tabular.regret(other, soft, tabular.optimal_policy(other)), 0.0, atol=1e-3)
    np.testing.assert_allclose(tabular.soft_optimal_policy(other, 1e6), 1 / 3, atol=1e-5)


def test_soft_policy_maximises_reward_plus_entropy():
    mdp = random_mdp(7, 1, 2, 3)
    temperature = 0.4
    soft = tabular.soft_optimal_policy(mdp, temperature)

    def objective(policy):
        return (mdp.rho[:, None] * (policy * mdp.r - temperature * policy * np.log(policy))).sum()

    rivals = [random_policy(mdp, seed) for seed in range(50)]
    assert all(objective(soft) > objective(rival) for rival in rivals)
    np.testing.assert_allclose(soft[0], np.exp(mdp.r[0] / 0.4) / np.exp(mdp.r[0] / 0.4).sum(-1, keepdims=True))


def test_batches_of_policies_and_instances_and_vmap_agree():
    mdps = [random_mdp(seed) for seed in range(4)]
    policies = random_policy(mdps[0], 8, 4)
    stacked = tabular.TabularMDP(*(np.stack(leaves) for leaves in zip(*mdps, strict=True)))
    single = np.array([tabular.value(m, p) for m, p in zip(mdps, policies, strict=True)])
    assert single.dtype == np.float64
    np.testing.assert_allclose(tabular.value(stacked, policies), single, atol=1e-14)
    many = tabular.value(mdps[0], policies)
    np.testing.assert_allclose(jax.vmap(lambda p: tabular.value(mdps[0], p))(policies), many, atol=1e-5)


def test_bad_tables_are_refused_by_name():
    mdp = random_mdp()
    P = mdp.P.copy()
    P[1, 2, 0] *= 1.1
    with pytest.raises(BadInput, match=r"P row \(1, 2, 0\)"):
        tabular.make_mdp(P, mdp.r, mdp.rho)
    with pytest.raises(BadInput, match="rewards"):
        tabular.make_mdp(mdp.P, mdp.r * np.nan, mdp.rho)
    with pytest.raises(BadInput, match="rho"):
        tabular.make_mdp(mdp.P, mdp.r, 2 * mdp.rho)
    with pytest.raises(BadInput, match="number of actions"):
        tabular.make_mdp(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1), horizon=2)
    with pytest.raises(BadInput, match="horizon"):
        tabular.make_mdp(np.ones((1, 2, 1)), np.ones((1, 2)), np.ones(1), horizon=0)
    with pytest.raises(BadInput, match="horizon"):
        tabular.make_mdp(np.ones((1, 2, 1)), np.ones((1, 2)), np.ones(1))
    with pytest.raises(BadInput, match="temperature"):
        tabular.soft_optimal_policy(mdp, 0.0)


def test_a_shape_that_is_wanted_is_named_once():
    """Where the shape of one state's law and that of all states' laws are the same."""
    for shapes, named in (([(3,), (3,)], r"\(3,\)"), ([(3,), (2, 3)], r"\(3,\) or \(2, 3\)")):
        with pytest.raises(BadInput, match=rf"^shape of kernel must be {named}, got \(2,\)$"):
            tabular.check_laws("kernel", np.ones(2) / 2, *shapes)

"""n* against the exact dynamic programme, against known curves, and when the budget does not suffice."""

import doctest
import itertools
import math
from inspect import unwrap

import numpy as np
import pytest

from nail.checks import BadInput
from nail.counting import levels, paths
from nail.counting.crossing import crossing
from nail.counting.drivers import Setting, complete
from nail.counting.layered import learned_regret
from nail.counting.learners import learner
from nail.counting.nstar import instance_octaves, n_star, oracle
from nail.envs.instances import garnet, hidden_path, poison_chain
from nail.theory import bounds, exact, online


@pytest.mark.quick
def test_loglossbc_agrees_with_the_exact_number():
    """The interval of 2,000 replicates at level 95 %, widened by its own width: error probability below 1e-6."""
    found = n_star("poison-chain", "loglossbc", 6, 4, 0.5, 0.1, 2000, 0)
    expected = exact.n_bc(6, 4, 0.5, 0.1)
    width = found.interval[1] - found.interval[0]
    assert found.interval[0] - width <= expected <= found.interval[1] + width
    assert width < 0.25 * expected
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found.queries == 6 * found.value
    assert not found.censored


def test_resolution_beyond_the_exact_range_and_repeatability():
    found = n_star("poison-chain", "loglossbc", 11, 4, 0.5, 0.1, 500, 1)
    assert found == n_star("poison-chain", "loglossbc", 11, 4, 0.5, 0.1, 500, 1)
    assert found.value > 512
    assert 1 < found.resolution <= found.value / 128
    expected = exact.n_bc(11, 4, 0.5, 0.1)
    assert abs(found.value / expected - 1) < 0.25


def test_hidden_path_is_exponential_offline_and_easy_greedily():
    offline = n_star("hidden-path", "loglossbc", 6, 4, 0.5, 0.1, 400, 0)
    greedy = n_star("hidden-path", "nail-f", 6, 4, 0.5, 0.1, 400, 0)
    width = offline.interval[1] - offline.interval[0]
    assert offline.value + width > exact.n_offline(6, 4, 0.5, 0.1)
    assert greedy.value < offline.value / 2
    assert greedy.value == n_star("poison-chain", "nail-f", 6, 4, 0.5, 0.1, 400, 0).value


def test_the_best_path_does_not_depend_on_where_the_search_is_cut():
    """Right, wrong and best guesses bound the search at different prefixes and leave the answer as it is."""
    for horizon, n_actions, eta, n in ((6, 3, 0.5, 40), (8, 2, 0.7, 90), (4, 3, 0.0, 5), (10, 4, 0.5, 300)):
        data, right = paths.expert_paths(horizon, n_actions, Setting(eta), 60, 3, n)
        best = paths.best_path(data, n_actions, eta)
        assert (best == right).all(1).any()
        for guess in (right, best, np.zeros_like(right), data[:, 0]):
            np.testing.assert_array_equal(paths.best_path(data, n_actions, eta, guess), best)


@pytest.mark.parametrize("method", ["nail-f", "opd-f"])
def test_the_hidden_path_on_its_own_tree_has_the_chains_law(method):
    """Losses after 4, 8, .. 32 episodes of the loop for any finite MDP, 150 replicates of each of 8 secrets, against
    the exact law (NAIL-F) or 1,200 replicates of the chain's loop: 5 standard errors, error probability 5e-6."""
    secrets = itertools.product(range(2), repeat=3)
    tree = [hidden_path(3, 2, np.array(secret)) for secret in secrets]
    octaves = instance_octaves(tree, method, Setting(0.5), 1_200, 0, 100, pool=True)
    _, (checkpoints, losses) = next(octaves), next(octaves)
    found, variance = losses.mean(0), losses.var(0) / 1_200
    if method == "nail-f":
        expected = 1.0 - online.success_curve(online.level_table(2, 0.5, 32, ties="lowest"), [3])[0, checkpoints]
    else:
        row, state = learner(method, by_level=True), levels.begin(3, 2, 1_200, 1)
        chain = 1.0 - np.asarray(levels.advance(row, state, complete(Setting(0.5), 2), 1, 32)[1], float)
        expected, variance = chain.mean(0), variance + chain.var(0) / 1_200
    assert losses.shape == (1_200, 32)
    assert (np.abs(found - expected) < 5 * np.sqrt(variance))[3::4].all()


def test_what_a_query_is():
    """Reverse KL reads probabilities, another oracle than labels; NAIL-β reads both."""
    known = {"loglossbc": "labels", "nail-f": "labels", "dagger": "labels", "nailgun": "labels",
             "nail-r": "probabilities", "opd-r": "probabilities", "nail-beta": "labels and probabilities"}  # fmt: skip
    assert {name: oracle(name) for name in known} == known
    found = n_star("poison-chain", "nail-r", 2, 2, 0.3, 0.1, 16, 0)
    assert (found.oracle, found.queries) == ("probabilities", 2 * found.value)
    both = n_star("poison-chain", "nail-beta", 2, 2, 0.3, 0.1, 16, 0)
    assert both.queries == 2 * 2 * both.value
    assert both.query_interval == tuple(4 * end for end in both.interval)


def test_a_budget_that_does_not_suffice_is_censored():
    found = n_star("poison-chain", "loglossbc", 11, 4, 0.5, 0.1, 500, 1, max_episodes=100)
    assert found.censored
    assert found.value is None
    assert found.queries is None
    assert found.interval == (100.0, math.inf)
    assert found.mean_loss > 0.5


def test_crossing_finds_the_smallest_episode_of_a_known_curve():
    def octaves(runs):
        for before, stride in ((0, 1), (8, 1), (16, 2), (32, 4)):
            n = before + stride * np.arange(1, 9)
            yield n, np.broadcast_to(10.0 / n, (runs, 8))

    heard = []
    found = crossing(octaves(5), 0.5, 3, 64, watch=lambda *seen: heard.append(seen))
    assert heard == [(8, 10 / 8), (16, 10 / 16), (32, 10 / 32)]
    assert (found.value, found.interval, found.queries, found.resolution) == (20, (19.0, 20.0), 60, 2)
    exactly = crossing(octaves(5), 1.0, 3, 64)
    assert (exactly.value, exactly.interval, exactly.resolution) == (10, (10.0, 10.0), 1)
    never = crossing(octaves(5), 0.1, 3, 64)
    assert never.censored
    capped = crossing(octaves(5), 0.5, 3, 19)
    assert capped.censored
    assert capped.interval == (19.0, math.inf)


def test_any_mdp_by_exact_regret():
    instance = garnet(0, 3, 4, 2, 2)
    easy = n_star(instance, "nail-f", eta=0.3, delta=0.05, replicates=40, max_episodes=256)
    hard = n_star(instance, "nail-f", eta=0.3, delta=0.005, replicates=40, max_episodes=256)
    assert easy.value <= hard.value
    assert hard.mean_loss <= 0.005
    assert n_star(instance, "nail-f", eta=0.5, delta=1e-9, replicates=40, max_episodes=16).censored


def test_the_example_of_the_docstring():
    """A function of the seed: 20 instances with 10 replicates each."""
    (example,) = doctest.DocTestFinder().find(n_star, globs={"n_star": n_star})
    done = doctest.DocTestRunner().run(example)
    assert (done.attempted, done.failed) == (2, 0)


def test_a_fixed_instance_profits_from_ties_and_random_ones_do_not():
    """Right actions 0 are played before any label; random ones are found as on the chain that is simulated by level."""
    n = {"eta": 0.0, "delta": 0.1, "replicates": 120}

    def random_chain(seed):
        return poison_chain(4, 3, np.random.default_rng(seed).integers(3, size=4))

    fixed = n_star(poison_chain(4, 3), "nail-f", **{**n, "replicates": 3})
    drawn = n_star(random_chain, "nail-f", instances=40, **n)
    by_level = n_star("poison-chain", "nail-f", 4, 3, **n)
    assert fixed.value == 0 < drawn.interval[0]
    assert drawn.interval[0] <= by_level.interval[1]
    assert by_level.interval[0] <= drawn.interval[1]


def test_a_tabular_task_is_its_instance_at_the_default_options():
    few = {"eta": 0.3, "delta": 0.05, "replicates": 4, "instances": 2, "seed": 5, "max_episodes": 64}
    assert n_star("garnet", "nail-f", **few) == n_star(lambda seed: garnet(seed, 8, 8, 4, 2), "nail-f", **few)


def test_eta_is_said_once():
    """In either place, the same number; of `eta` and a setting without η both count."""
    point, few = ("poison-chain", "nail-f", 3, 3), {"delta": 0.2, "replicates": 50}
    skewed = np.array([0.8, 0.1, 0.1])
    one, other = n_star(*point, 0.1, **few), n_star(*point, 0.6, **few)
    assert one == n_star(*point, setting=Setting(0.1), **few) == n_star(*point, 0.1, setting=Setting(0.1), **few)
    assert one.value < other.value
    both = n_star(*point, 0.6, setting=Setting(kernel=skewed), **few)
    assert both == n_star(*point, setting=Setting(0.6, skewed), **few)
    assert n_star(*point, **few) == n_star(*point, 0.5, **few)


def test_laws_that_are_no_laws_are_refused():
    good = poison_chain(2, 3)
    P = good.mdp.P * np.array([1.0, 0.9])
    for bad, words in (
        (good._replace(expert=good.expert * 0.9), r"expert of poison-chain row \(\d, \d\)"),
        (good._replace(expert=good.expert - 0.5 + 0.5 * np.eye(3)[0] * 3), "no negative entry"),
        (good._replace(expert=good.expert[:1]), "shape of expert"),
        (good._replace(kernel=np.array([0.5, 0.6, 0.0])), "kernel of poison-chain"),
        (good._replace(kernel=np.ones(2) / 2), "shape of kernel"),
        (good._replace(mdp=good.mdp._replace(P=P)), "P row"),
    ):
        with pytest.raises(BadInput, match=words):
            n_star(bad, "nail-f")


def test_with_probability_on_the_two_names_is_in_mean():
    """Regret is 0 or 1 there, whatever ε."""
    for point in (("poison-chain", "nail-f", 3, 3, 0.3, 0.1, 200), ("hidden-path", "loglossbc", 3, 3, 0.3, 0.1, 200)):
        assert n_star(*point) == n_star(*point, criterion="pac", epsilon=0.4)


def test_with_probability_on_a_random_mdp():
    """Regrets of 10 replicates, counted here. Over instances: 40 with 10 replicates each have Chernoff's interval, 35
    no upper end; with one replicate each they are right or wrong."""
    few = {"eta": 0.3, "delta": 0.1, "criterion": "pac", "epsilon": 0.05}

    def draw(seed):
        return garnet(seed, 4, 6, 3, 2)

    one = n_star(draw(0), "nail-f", replicates=10, **few)
    beyond = (learned_regret(draw(0), "nail-f", Setting(0.3), 1, 64, 10, 0) > 0.05).mean(0)
    assert one.value == 1 + np.flatnonzero(beyond <= 0.1)[0]
    assert one.mean_loss == beyond[one.value - 1]
    many = n_star(draw, "nail-f", replicates=400, instances=40, **few)
    octaves = instance_octaves([draw(i) for i in range(40)], "nail-f", Setting(0.3), 400, 0, 256, pool=True)
    shares = ((at, (loss > 0.05).reshape(40, 10, -1).mean(1)) for at, loss in octaves)
    assert many.interval == crossing(shares, 0.1, 4, 256, shares=True).interval
    assert n_star(draw, "nail-f", replicates=350, instances=35, **few).interval[1] == math.inf > many.interval[1]
    (_, none), *_ = instance_octaves([draw(0), draw(1)], "nail-f", Setting(0.3), 2, 0, 64, epsilon=0.05)
    assert (none.dtype, none.shape) == (bool, (2, 1))


def test_bad_input():
    for call in (
        lambda: n_star("poison-chain", "nail-f", 3, 2, criterion="probably"),
        lambda: n_star("poison-chain", "nail-f", 3, 2, criterion="pac"),
        lambda: n_star("poison-chain", "nail-f", 3, 2, epsilon=0.1),
        lambda: n_star("poison-chain", "nail-f", 3, 2, criterion="pac", epsilon=1.0),
        lambda: n_star(poison_chain(3, 2), "nail-f", criterion="pac", epsilon=0.0),
        lambda: n_star(poison_chain(3, 2), "nail-f", criterion="pac", epsilon=2.0, delta=1.0),
        lambda: n_star("poison-chain", "nail-f", 3, 2, points=0),
        lambda: n_star("poison", "nail-f", 3, 2, 0.5, 0.1),
        lambda: n_star("poison-chain", "nail-g", 3, 2, 0.5, 0.1),
        lambda: n_star("poison-chain", "nail-f", 3, 2, 0.5, 0.0),
        lambda: n_star("poison-chain", "nail-f", 0, 2, 0.5, 0.1),
        lambda: n_star("hidden-path", "loglossbc", 0, 2, 0.5, 0.1),
        lambda: n_star("poison-chain", "nail-f", 3, 2, 1.0, 0.1),
        lambda: n_star("poison-chain", "nail-f", 3, 2, 0.5, 0.1, max_episodes=0),
        lambda: n_star("poison-chain", "nail-f"),
        lambda: n_star("poison-chain", "nail-f", 3, 2, eta=0.5, setting=Setting(0.4)),
        lambda: n_star("poison-chain", "nail-f", 3, 2, setting=Setting(np.array([0.1, 0.2]))),
        lambda: n_star("poison-chain", "nail-f", 3, 2, setting=Setting(0.1, beta=np.ones(2))),
        lambda: unwrap(n_star)("poison-chain", "nail-f", 3, 2, eta=np.array([0.1, 0.2])),
        lambda: unwrap(n_star)("poison-chain", "nail-f", 3, 2, delta=np.array([0.1, 0.2])),
        lambda: unwrap(n_star)("poison-chain", "nail-f", 3, 2, replicates=20.0),
        lambda: n_star("poison-chain", "jsd-beta", 3, 2),
        lambda: n_star(poison_chain(3, 2), "nail-f", 3, 2),
        lambda: n_star(poison_chain(3, 2), "nail-f", delta=0.0),
        lambda: n_star(poison_chain(3, 2), "nail-f", setting=Setting(kernel=np.ones(2))),
        lambda: n_star(lambda seed: poison_chain(3 + seed, 2), "nail-f"),
        lambda: n_star(lambda seed: poison_chain(3, 2), "nail-f", instances=0),
        lambda: n_star("modadd", "nail-f"),
        lambda: n_star(lambda seed: poison_chain(3, 2).mdp, "nail-f"),
    ):
        with pytest.raises(BadInput):
            call()


def test_a_level_costs_a_little_more_than_one_over_kappa():
    """docs/theory.md §4.2, §5: κμ is in 1.01–1.20 for A = 4 and η = 0.1, .., 0.8."""
    for eta in np.arange(1, 9) / 10:
        assert 1.01 <= bounds.kappa(4, eta) * online.episodes_per_level(4, eta) <= 1.20


@pytest.mark.parametrize(("n_actions", "replicates"), [(2, 0), (4, 4_000)])
def test_the_laws_n_star_looks_sublinear_and_its_exponent_tends_to_one(n_actions, replicates):
    """docs/theory.md §4.2: a power law fitted on H = 4..40 has an exponent below 0.9, 0.84 at A = 4; the exponents over
    the last three doublings up to H = 200 rise, the last being above 0.9 and at most 1."""
    level, places = online.level_table(n_actions, 0.5, 720, replicates=replicates), [25, 50, 100, 200]
    n = {h: online.n_star_online(level, h, 0.1) for h in (*range(4, 41), *places)}
    power = np.polyfit(np.log(range(4, 41)), [math.log(n[h]) for h in range(4, 41)], 1)[0]
    octaves = np.diff([math.log2(n[h]) for h in places])
    assert power == pytest.approx({2: 0.79, 4: 0.84}[n_actions], abs=0.015)
    assert (np.diff(octaves) > 0).all()
    assert 0.9 < octaves[-1] <= 1

"""The interval of n* holds n* as often as it says, whatever the number of runs, and no unit of reward matters."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nail.counting import paths
from nail.counting.crossing import crossing
from nail.counting.drivers import Setting
from nail.counting.nstar import instance_octaves, n_star
from nail.envs.instances import garnet
from nail.envs.mdp import make_mdp, optimal_policy, value

PARTS = tuple(itertools.pairwise((0, 1, 33, 65, 129, 257, 513)))
N = np.arange(513)
SHAPE = (4, 6, 3, 2)
"""of random MDPs; with 10 replicates each they share a program"""
UNITS = 10.0 ** np.arange(-12, 13, 3)
SURE = 1e-4
"""probability with which a right interval fails a test of coverage (one-sided, binomial); seeds are fixed"""


def in_parts(losses):
    """Octaves of losses (R, T) after 0, 1, .. T−1 episodes."""
    return ((np.arange(*ends), losses[:, slice(*ends)]) for ends in PARTS)


def holds(found, truth):
    return found.interval[0] <= truth <= found.interval[1]


@pytest.mark.parametrize("runs", [2, 3, 5, 20])
def test_over_instances(runs):
    """Losses size·e^(−rate·n) with noise along the curve, rate of a gamma law: mean (1 + n/200)^−20, n* = 25 at 0.1."""
    truth, hits = math.ceil(200 * (0.1 ** (-1 / 20) - 1)), 0
    for seed in range(300):
        rng = np.random.default_rng([seed, runs])
        rate, size = rng.gamma(20, 1 / 200, (runs, 1)), rng.uniform(0.5, 1.5, (runs, 1))
        losses = size * np.exp(-rate * N) * rng.gamma(20, 1 / 20, (runs, len(N)))
        hits += holds(crossing(in_parts(losses), 0.1, 1, 512), truth)
    assert stats.binom.cdf(hits, 300, 0.95) > SURE


def test_over_instances_of_a_random_mdp():
    """2, 3, 5 and 20 of 80 Garnet instances, 10 replicates each, against n* of all."""
    drawn = [garnet(seed, *SHAPE) for seed in range(80)]
    octaves = list(instance_octaves(drawn, "nail-f", Setting(0.3), 800, 0, 128))
    whole = crossing(iter(octaves), 0.05, 4, 128)
    rng = np.random.default_rng(0)
    for runs in (2, 3, 5, 20):
        picks = (rng.choice(80, runs, replace=False) for _ in range(200))
        found = [crossing(((n, loss[pick]) for n, loss in octaves), 0.05, 4, 128) for pick in picks]
        assert stats.binom.cdf(sum(holds(one, whole.value) for one in found), 200, 0.95) > SURE
        assert all(one.interval[0] <= one.value <= one.interval[1] for one in found)


@pytest.mark.parametrize(("runs", "target", "common"), [(75, 0.05, True), (300, 0.2, True), (300, 0.2, False)])
def test_over_replicates(runs, target, common):
    """Right or wrong: each replicate is right from a geometric time on, or afresh at each checkpoint; a mean loss of
    0.9^n is at 0.2 after 16 episodes and at 0.05 after 29."""
    truth, hits = math.ceil(math.log(target) / math.log(0.9)), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        wrong = rng.geometric(0.1, (runs, 1)) > N if common else rng.random((runs, len(N))) < 0.9**N
        hits += holds(crossing(in_parts(wrong), target, 1, 512), truth)
    assert stats.binom.cdf(hits, 300, 0.95) > SURE


def test_too_few_runs_have_no_upper_end_and_search_no_longer():
    """None wrong of 35 leaves 10.01 % possible at 95 %, two-sided, of 36 9.74 %; one curve has no spread."""
    heard = []
    for runs, end in ((35, math.inf), (36, 20.0)):
        found = crossing(in_parts(np.tile(N < 20, (runs, 1))), 0.1, 1, 512, watch=lambda n, _: heard.append(n))
        assert (found.value, found.interval[1]) == (20, end)
    assert heard == [0, 32, 0, 32]
    one = crossing(in_parts(np.exp2(-N / 8.0)[None]), 0.25, 1, 512)
    assert (one.value, one.interval) == (16, (0.0, math.inf))


def test_an_upper_end_that_does_not_come_down_is_infinite_and_does_not_take_the_budget():
    """Two curves that fall as n^−0.2, one three times the other: t is 12.7, and the upper end is at 0.5 after 2·10^7
    episodes. The search ends at 8 times the first octave end that is good, but not before 512 episodes."""
    for target, known, last in ((0.5, 1023, 8191), (1.5, 4, 512)):
        heard, ends = [], itertools.pairwise((0, 1, *(2 ** np.arange(6, 20))))
        parts = ((n, np.array([[1.0], [3.0]]) * (1.0 + n) ** -0.2) for n in (np.arange(*each) for each in ends))
        slow = crossing(parts, target, 1, 10**6, watch=lambda n, _, heard=heard: heard.append(n))
        assert (slow.value, slow.interval[1], slow.censored) == (known, math.inf, False)
        assert last <= heard[-1] <= 2 * last


def test_wider_intervals_are_read_to_their_end_and_change_nothing_else():
    """100 runs, each wrong until a time of its own. A share of at most 0.1 is shown by at most 4 wrong ones at 95 %, 2
    at 1 − 0.05/4, none at 1 − 0.05/128 (binomial): from 31, 70, 400 episodes on, and parts end at 64, 128, 512."""
    until = np.concatenate([np.full(90, 20), [22, 24, 26, 28, 30, 31, 60, 70, 150, 400]])
    wrong, last, first = until[:, None] > N, {}, None
    for points, end, read in ((1, 31, 64), (3, 70, 128), (128, 400, 512)):
        found = crossing(in_parts(wrong), 0.1, 1, 512, points=points, watch=lambda n, _: last.update(n=n))
        at = (points - 1).bit_length()
        ends = [found.interval, *found.wider]
        tail = 0.025 / 2**at
        low = N[np.flatnonzero(stats.binom.sf(wrong.sum(0) - 1, 100, 0.1) >= tail)[0]]
        assert (ends[at], last["n"]) == ((low, end), read)
        assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(ends))
        first = first or found
        assert (found.value, found.interval, found.mean_loss) == (first.value, first.interval, first.mean_loss)
    assert first.wider[6] == (low, math.inf)


@pytest.mark.parametrize("each", [True, False])
def test_shares_of_instances_that_are_hard_or_not(each):
    """Of instances 3 % are hard: right after 40 episodes, the others after 10; all their replicates (`each`), or half
    of them at random. So the share of wrong ones is 0.03 or 0.015 in between, and n* at 0.025 is 40 or 10. Of 40
    instances often none is hard, and where shares are 0 or 1 Student's interval is wrong in every fourth time."""
    truth, hits, student = 40 if each else 10, 0, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        hard = rng.random((40, 1, 1)) < 0.03
        wrong = (N < 10) | ((N < 40) & hard & (each | (rng.random((40, 8, 1)) < 0.5)))
        shares = np.broadcast_to(wrong, (40, 8, len(N))).mean(1)
        hits += holds(crossing(in_parts(shares), 0.025, 1, 512, shares=True), truth)
        student += holds(crossing(in_parts(shares), 0.025, 1, 512), truth)
    assert stats.binom.cdf(hits, 300, 0.95) > SURE
    assert not each or stats.binom.cdf(student, 300, 0.95) < SURE


def test_units_of_loss_and_target_do_not_matter():
    """Rewards and δ in other units: the same n*, interval, optimal policy, on random curves and on random MDPs."""
    rng = np.random.default_rng(1)
    curves = rng.uniform(0.5, 1.5, (4, 1)) * np.exp(-rng.uniform(0.05, 0.1, (4, 1)) * N)
    found = [crossing(in_parts(unit * curves), 0.1 * unit, 1, 512) for unit in UNITS]
    assert len({(one.value, one.interval) for one in found}) == 1

    def scaled(seed, unit):
        one = garnet(seed, *SHAPE)
        return one._replace(mdp=one.mdp._replace(r=unit * one.mdp.r))

    few = {"eta": 0.3, "replicates": 40, "instances": 4, "max_episodes": 256}
    known = [n_star(lambda seed, unit=unit: scaled(seed, unit), "nail-f", delta=0.05 * unit, **few)
             for unit in (1e-12, 1.0, 1e12)]  # fmt: skip
    assert {(one.value, one.interval) for one in known} == {(known[1].value, known[1].interval)}
    assert 10 < known[1].value < 30


def test_ties_do_not_depend_on_the_unit_of_reward():
    """Of random MDPs, and of one where 0.3 at once ties with 0.1 + 0.2, rounded differently, while in a state that is
    far from the others in rewards a true difference counts."""
    rng = np.random.default_rng(0)
    P, rho = rng.dirichlet(np.ones(4), (3, 4, 3)), np.ones(4) / 4
    mdp = make_mdp(P, rng.normal(size=(3, 4, 3)), rho)
    best = optimal_policy(mdp)
    for unit in UNITS:
        np.testing.assert_array_equal(optimal_policy(mdp._replace(r=unit * mdp.r)), best)
    every = np.eye(3)[np.array(list(itertools.product(range(3), repeat=4)))]
    last = mdp._replace(P=mdp.P[2:], r=mdp.r[2:])
    assert value(last, optimal_policy(last)) == pytest.approx(value(last, every[:, None]).max(), rel=1e-12)

    P = np.zeros((2, 3, 2, 3))
    P[:, 0, 0, 1], P[:, 0, 1, 2], P[:, 1:, :, 1:] = 1, 1, np.eye(2)[:, None]
    r = np.zeros((2, 3, 2))
    r[0, 0], r[1, 2], r[0, 1] = [0.3, 0.1], 0.2, [1e-14, 2e-14]
    assert 0.1 + 0.2 > 0.3
    for unit in UNITS:
        found = optimal_policy(make_mdp(P, unit * r, np.ones(3) / 3)).argmax(-1)
        np.testing.assert_array_equal(found[:, :2], [[0, 1], [0, 0]])


def test_the_likeliest_path_does_not_depend_on_the_unit_of_its_score():
    """Of three trajectories of one step the majority, however near η is to 1: a step is worth about 1 − η nats."""
    data = np.array([[[1], [1], [0]]], np.uint8)
    for eta in (0.0, 0.5, 1 - 1e-6, 1 - 1e-12):
        assert paths.best_path(data, 3, eta) == [[1]]


def test_no_episode_at_all_is_looked_at():
    """Before any label the mean regret of a random MDP is about a third, and a path of one step in two is right with
    probability ½."""
    found = n_star(lambda seed: garnet(seed, *SHAPE), "nail-f", eta=0.3, delta=0.9, replicates=200)
    assert (found.value, found.interval, found.queries) == (0, (0.0, 0.0), 0)
    assert 0.2 < found.mean_loss < 0.5
    path = n_star("hidden-path", "loglossbc", 1, 2, 0.5, 0.7, 200)
    assert (path.value, path.mean_loss) == (0, pytest.approx(0.5, abs=0.2))

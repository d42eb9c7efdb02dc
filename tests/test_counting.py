"""Count-based learners against exact dynamic programmes and against enumeration over paths.

Tolerances of simulations are 5 standard errors of the number of replicates: error probability 6e-7 each, fixed seeds.
Tests share numbers of replicates, levels (up to padding) and actions where they can, and so compiled programs.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nail.checks import BadInput
from nail.counting import levels, nstar, paths
from nail.counting.drivers import Play, Setting, Tally, World, complete
from nail.counting.layered import greedy, learned_regret, simulation
from nail.counting.learners import (
    channel_score,
    clean_estimate,
    clean_law,
    learner,
    learner_of,
    queried_law,
)
from nail.counting.rows import level_methods
from nail.counting.spare import lent
from nail.envs.instances import garnet, hidden_path, poison_chain
from nail.envs.mdp import value
from nail.methods import METHOD, expert_share
from nail.noise import Huber
from nail.policies.softmax_table import deterministic
from nail.theory import exact

RUNS = 8000
"""replicates of simulations by level"""


def success_at(method, horizon, n_actions, setting, n, runs, seed):
    """Per replicate, whether the greedy policy is right at all levels of the chain after `n` episodes."""
    row, state = learner(method, by_level=True), levels.begin(horizon, n_actions, runs, seed)
    return np.asarray(levels.advance(row, state, complete(setting, n_actions), n, 1)[1])[:, 0]


def five_errors(p, n):
    return 5 * np.sqrt(p * (1 - p) / n) + 1e-9


@pytest.mark.parametrize(
    ("horizon", "n_actions", "eta", "n"),
    [
        (4, 3, 0.4, 20),
        (8, 5, 0.6, 300),
        (4, 3, 0.8, 60),
        (4, 3, 0.0, 1),
        (4, 3, 0.5, 0),
    ],
)
def test_loglossbc_on_the_chain_equals_the_exact_dynamic_programme(horizon, n_actions, eta, n):
    wins = success_at("loglossbc", horizon, n_actions, Setting(eta), n, RUNS, 1)
    expected = exact.bc_exact(horizon, n_actions, eta, n)
    assert abs(wins.mean() - expected) < five_errors(expected, RUNS)


@pytest.mark.parametrize("method", ["nail-f", "dagger", "opd-f", "opd-channel"])
def test_one_level_is_plurality_for_every_label_learner(method):
    wins = success_at(method, 1, 3, Setting(0.6), 9, RUNS, 2)
    expected = exact.plurality_right(3, 0.6, 9)[9]
    assert abs(wins.mean() - expected) < five_errors(expected, RUNS)


def two_level_nail(eta, n):
    """Greedy NAIL-F at H = 2, A = 2: exact, by enumeration of counts (right − wrong) episode by episode."""
    q = 1 - eta / 2
    total = 0.0
    for favoured in itertools.product((0, 1), repeat=2):  # whether the right action is the lower one, at each level
        law = {(0, 0): 1.0}
        for _ in range(n):
            new = {}
            for (x, y), p in law.items():
                reached = x > 0 or (x == 0 and favoured[0])
                for dx, px in ((1, q), (-1, 1 - q)):
                    for dy, py in ((1, q), (-1, 1 - q)) if reached else ((0, 1.0),):
                        new[x + dx, y + dy] = new.get((x + dx, y + dy), 0.0) + p * px * py
            law = new

        def good(lead, lower):
            return lead > 0 or (lead == 0 and lower)

        total += sum(p for (x, y), p in law.items() if good(x, favoured[0]) and good(y, favoured[1])) / 4
    return total


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_greedy_nail_equals_the_exact_two_level_law(n):
    expected = two_level_nail(0.6, n)
    wins = success_at("nail-f", 2, 2, Setting(0.6), n, RUNS, 3)
    assert abs(wins.mean() - expected) < five_errors(expected, RUNS)


def test_sampling_students_are_as_slow_as_offline_and_greedy_ones_are_not():
    slow, fast = ("loglossbc", "opd-f", "opd-r"), ("dagger", "nail-f", "nail-r", "nail-beta", "nail-channel")
    rates = {m: success_at(m, 14, 5, Setting(0.5), 200, 200, 4).mean() for m in slow + fast}
    assert all(rates[m] < 0.1 for m in slow)
    assert all(rates[m] > 0.97 for m in fast)


def test_common_random_numbers_are_prefixes():
    """n episodes in one go, in two, or read along the way: the same labels, bit for bit."""
    setting = complete(Setting(0.5), 5)
    for method in ("loglossbc", "nail-r"):
        row, empty = learner(method), levels.begin(14, 5, 200, 5)
        whole, _ = levels.advance(row, empty, setting, 12, 1)
        half, _ = levels.advance(row, empty, setting, 6, 1)
        parts, read = levels.advance(row, half, setting, 6, 1)
        np.testing.assert_array_equal(whole.tally.labels, parts.tally.labels)
        np.testing.assert_array_equal(whole.tally.seen, parts.tally.seen)
    other = levels.advance(row, levels.begin(14, 5, 200, 6), setting, 12, 1)[0]
    assert not np.array_equal(whole.tally.labels, other.tally.labels)
    np.testing.assert_array_equal(levels.begin(14, 5, 20, 5).secret, empty.secret[:20])
    assert read.shape == (200, 1)


def test_nailgun_needs_no_channel_but_nail_told_a_wrong_one_fails():
    """ν puts its mass on action 1. Told that ν is uniform one gets the plurality, right for η < 1/2; told the η of a
    different world one discounts labels of action 1 by the wrong amount; told the truth one does best."""
    kernel = np.array([0.0, 1.0, 0.0])
    setting = Setting(0.45, kernel, told_eta=0.02)
    rate = {m: success_at(m, 3, 3, setting, 60, RUNS, 7).mean()
            for m in ("nail-channel", "nailgun", "nail-wrong-nu", "nail-wrong-eta")}  # fmt: skip
    assert rate["nail-channel"] > 0.99
    assert rate["nailgun"] == rate["nail-wrong-nu"]
    assert 0.5 < rate["nailgun"] < rate["nail-channel"] - 0.05
    told_wrong = Setting(0.3, np.array([0.2, 0.8, 0.0]), told_kernel=np.array([0.98, 0.01, 0.01]))
    wrong = success_at("nail-wrong-nu", 3, 3, told_wrong, 200, RUNS, 8).mean()
    right = success_at("nailgun", 3, 3, told_wrong, 200, RUNS, 8).mean()
    assert wrong < right - 0.2


def test_channel_score_is_the_log_likelihood():
    labels, kernel, eta = jnp.array([[3, 1, 2]]), jnp.array([0.5, 0.3, 0.2]), 0.4
    told = Huber(eta, kernel)
    world = World(jnp.zeros(1, jnp.int32), jnp.ones((1, 3)) / 3, told, 0.5, 0.9)
    score = channel_score(Tally(labels, labels > 0, jnp.int32(6)), world)[0]
    likelihood = np.log(told.probs(jnp.eye(3))) @ np.asarray(labels[0])
    np.testing.assert_allclose(score - score[0], likelihood - likelihood[0], rtol=1e-5)


@pytest.mark.parametrize("n_actions", [2, 3, 5])
def test_clean_law_is_the_maximum_likelihood_behind_the_channel(n_actions):
    """docs/theory.md §2: against 3,000 steps of EM in float64, any ν and η; some actions are at their floor, and some
    laws at the true one behind exact frequencies. An unlabelled level is uniform."""
    rng = np.random.default_rng(n_actions)
    labels = rng.poisson(rng.choice([0.3, 3.0, 30.0], (60, n_actions)))
    labels[0] = 0
    kernel = rng.dirichlet(np.full(n_actions, 0.5), 60)
    for eta in (0.0, 0.3, 0.9):
        told = Huber(eta, jnp.asarray(kernel, jnp.float32))
        tally = Tally(jnp.asarray(labels), jnp.asarray(labels) > 0, jnp.int32(0))
        found = np.asarray(clean_law(tally, World(jnp.zeros(60, jnp.int32), None, told, 0.5, 0.9)), float)
        np.testing.assert_allclose(found[labels.sum(1) == 0], 1 / n_actions, rtol=1e-6)
        seen = labels.sum(1) > 0
        counts, noise, law = labels[seen], kernel[seen], np.full((seen.sum(), n_actions), 1 / n_actions)
        for _ in range(3_000):
            clean = counts * (1 - eta) * law / np.maximum((1 - eta) * law + eta * noise, 1e-300)
            law = clean / clean.sum(1, keepdims=True)

        def score(law, counts=counts, noise=noise, eta=eta):
            return (counts * np.log(np.where(counts > 0, (1 - eta) * law + eta * noise, 1.0))).sum(1)

        np.testing.assert_allclose(score(found[seen]), score(law), rtol=1e-5, atol=1e-3)
        assert np.abs(found[seen] - law).max() < 0.02
        behind = clean_estimate(told.probs(jnp.asarray(kernel[::-1].copy(), jnp.float32)), told)
        np.testing.assert_allclose(behind, kernel[::-1], atol=1e-5)


def test_queried_law_agrees_with_every_answer_and_ends_at_the_noisy_law():
    noisy = jnp.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    seen = jnp.array([[False, False, False], [False, True, False], [True, True, True]])
    world = World(jnp.zeros(3, jnp.int32), noisy, Huber(0.3, jnp.ones(3) / 3), 0.5, 0.9)
    law = queried_law(Tally(jnp.zeros((3, 3), jnp.int32), seen, jnp.int32(0)), world)
    np.testing.assert_allclose(law, [[1 / 3] * 3, [0.4, 0.2, 0.4], [0.7, 0.2, 0.1]], atol=1e-6)


def log_score(path, data, n_actions, eta):
    q, total = exact.right_probability(n_actions, eta), 0.0
    for h in range(len(path)):
        before = (data[:, :h] == path[:h]).all(1).sum()
        after = (data[:, : h + 1] == path[: h + 1]).all(1).sum()
        total += after * np.log(q * n_actions) + (before - after) * np.log(eta)
    return total


@pytest.mark.parametrize(
    ("horizon", "n_actions", "eta", "n"), [(4, 3, 0.5, 9), (5, 2, 0.7, 30), (3, 4, 0.3, 1), (1, 3, 0.6, 5)]
)
def test_best_path_equals_the_search_over_all_paths(horizon, n_actions, eta, n):
    data, _ = paths.expert_paths(horizon, n_actions, Setting(eta), 40, 0, n)
    found = paths.best_path(data, n_actions, eta)
    for trajectories, path in zip(data, found, strict=True):
        scores = {
            other: log_score(np.array(other), trajectories, n_actions, eta)
            for other in itertools.product(range(n_actions), repeat=horizon)
        }
        best = max(scores.values())
        lowest = min(other for other, score in scores.items() if score > best - 1e-6)
        assert tuple(path) == lowest


def test_loglossbc_on_the_hidden_path_stays_below_the_genie():
    for n in (20, 100):
        data, secrets = paths.expert_paths(6, 3, Setting(0.5), 2000, 1, n)
        rate, genie = paths.success(data, secrets, 3, 0.5).mean(), exact.genie_success(6, 3, 0.5, n)
        assert rate < genie + five_errors(genie, 2000)
        assert rate > 0.6 * genie
        clean = (data == secrets[:, None]).all(2).mean()
        survival = exact.survival(6, 3, 0.5)
        assert abs(clean - survival) < five_errors(survival, 2000 * n)


def test_general_simulator_agrees_with_the_level_one_on_both_instances():
    """Fixed secret (0, 1, 1), against the level simulator's uniform secrets restricted to that one."""
    secret, n, runs = np.array([0, 1, 1]), 6, 1500
    state = levels.begin(3, 2, RUNS, 0)
    same = (np.asarray(state.secret)[:, :3] == secret).all(1)
    level = success_at("nail-f", 3, 2, Setting(0.5), n, RUNS, 0)[same]
    for build in (poison_chain, hidden_path):
        general = 1 - learned_regret(build(3, 2, secret), "nail-f", Setting(0.5), n // 3, 3, runs, 1)[:, 2]
        p = level.mean()
        assert abs(general.mean() - p) < five_errors(p, runs) + five_errors(p, same.sum())


def test_general_simulator_learns_garnet_and_reports_exact_regret():
    mdp = garnet(0, 3, 4, 2, 2)
    actions = simulation(greedy, mdp, "nail-f", Setting(0.5), 1500, 0)(16, 3)
    regret = learned_regret(mdp, "nail-f", Setting(0.5), 16, 3, 1500, 0)
    one = np.asarray(deterministic(jnp.asarray(actions[4, 1]), 2), float)
    assert regret[4, 1] == pytest.approx(value(mdp.mdp, mdp.expert) - value(mdp.mdp, one))
    assert regret.min() > -1e-12
    assert regret[:, 2].mean() < 0.5 * regret[:, 0].mean()


def test_finite_class_learner_beats_plurality_and_needs_its_class():
    secrets = [np.array(s) for s in itertools.product(range(2), repeat=3)]
    candidates = np.stack([hidden_path(3, 2, s).expert for s in secrets])
    tree = hidden_path(3, 2, secrets[5])
    bayes = learned_regret(tree, "nail-class", Setting(0.4), 8, 3, 1500, 0, candidates).mean(0)
    plain = learned_regret(tree, "nail-f", Setting(0.4), 8, 3, 1500, 0).mean(0)
    assert bayes[1] < 0.05
    assert bayes[0] <= plain[0]
    with pytest.raises(BadInput, match="candidates"):
        learned_regret(tree, "nail-class", Setting(0.4), 8, 2, 4, 0)


def test_a_method_from_outside_is_derived_from_its_row():
    """Rows that differ in names alone are one program; a tempered student samples from law^(1/T)."""

    assert learner_of(METHOD["nail-f"]._replace(name="mine")) == learner("nail-f") == learner("nailgun")
    tempered = learner_of(METHOD["opd-f"]._replace(temperature=0.5)).driver
    law, words = jnp.array([0.6, 0.3, 0.1]), jnp.arange(1000, dtype=jnp.uint32) * 4_294_967
    play = Play(jnp.int32(0), jnp.broadcast_to(law, (1000, 3)), jnp.int32(0), jnp.float32(0), words)
    shares = np.bincount(tempered.plays(play), minlength=3) / 1000
    np.testing.assert_allclose(shares, np.array([0.36, 0.09, 0.01]) / 0.46, atol=2e-3)
    assert "jsd-beta" not in level_methods()
    assert "nail-class" not in level_methods()
    for changed in (
        {"divergence": "jsd"}, {"beta": 0.3}, {"rule": METHOD["opd-top-p"].rule}, {"driver": "expert", "beta": 1.0},
        {"driver": "mixture", "temperature": 1.0}, {"support": "renormalised", "beta": 1.0, "top_k_teacher": 2},
    ):  # fmt: skip
        with pytest.raises(BadInput, match="of the count-based learner mine must be"):
            learner_of(METHOD["nail-f"]._replace(name="mine", **changed))


def test_dagger_starts_with_the_experts_own_episode_and_ends_greedy():
    """β_0 = 1 at every decay: one episode is LogLossBC's in law; and at decay 1 all of them are."""
    assert [float(expert_share(0.5, episode, 3)) for episode in (0, 2, 3, 8, 9)] == [1, 1, 0.5, 0.25, 0.125]
    one, whole = Setting(0.6, decay=0.0), Setting(0.6, decay=1.0)
    for setting, n in ((one, 1), (whole, 20)):
        expected = exact.bc_exact(4, 3, 0.6, n)
        wins = success_at("dagger", 4, 3, setting, n, RUNS, 9)
        assert abs(wins.mean() - expected) < five_errors(expected, RUNS)


def test_bad_input():
    for call in (
        lambda: success_at("nail", 3, 2, Setting(0.5), 5, 10, 0),
        lambda: success_at("nail-class", 3, 2, Setting(0.5), 5, 10, 0),
        lambda: success_at("nail-f", 0, 2, Setting(0.5), 5, 10, 0),
        lambda: success_at("nail-f", 3, 2, Setting(1.0), 5, 10, 0),
        lambda: success_at("nail-f", 3, 2, Setting(0.5, np.array([0.5, 0.6])), 5, 10, 0),
        lambda: paths.expert_paths(3, 2, Setting(0.5, np.array([0.9, 0.1])), 2, 0, 3),
    ):
        with pytest.raises(BadInput):
            call()


def test_replicates_in_parts_on_two_devices_are_the_same(monkeypatch):
    """Bit for bit, from the second advance on, where both parts go through in blocks of the same size."""
    monkeypatch.setattr(nstar, "LONG", 64)
    found = []
    for free in ([], jax.local_devices()[1:2]):
        back = []
        with lent(lambda free=free: free.pop() if free else None, back.append):
            octaves = nstar.level_octaves("opd-f", 4, 3, Setting(0.7), 256, 0, 192)
            found.append(np.concatenate([failed for _, failed in octaves], axis=1))
    assert len(back) == 1
    assert found[0].shape == (256, 193)
    assert 0.1 < found[0][:, 65:].mean() < 0.9
    np.testing.assert_array_equal(*found)
    whole = levels.begin(2, 3, 48, 0)
    assert len(levels.shared([whole], lambda: pytest.fail("a block of 48 would become two of 24"))) == 1

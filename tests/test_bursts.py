"""Labels that are wrong in bursts, and rates by position and state: in counts and in updates, against enumeration.

Simulations are within 5 standard errors (error probability 6e-7 each), chi-square tests at 1e-6; seeds are fixed.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import nail
from nail.checks import BadInput
from nail.cli.main import main
from nail.counting import levels, paths
from nail.counting.channels import by_level, label_laws, with_noise
from nail.counting.drivers import Setting, complete, exit_laws, world
from nail.counting.layered import learned_regret, simulation
from nail.counting.learners import channel_score, clean_estimate, learner
from nail.envs.instances import garnet, poison_chain
from nail.noise import Bursts, ByState, Huber, at, at_states, drawn, sample, uniform_kernel, words
from nail.policies.softmax_table import deterministic
from nail.theory import bursts, exact
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_setup, numbers_of
from nail.training.ranges import check
from nail.training.train import make_train
from nail.training.update import collect

RUNS = 8000
"""replicates"""
CHAINS = [(0.6, 0.95), (0.6, 0.4), (0.6, 0.6)]
"""η and ρ: long bursts, the shortest ones nearly, independent steps"""


def coins_law(eta, rho, horizon):
    """P of each sequence of coins (2,)*H, by its definition."""
    law = np.zeros((2,) * horizon)
    for coins in itertools.product((0, 1), repeat=horizon):
        p = (1 - eta, eta)[coins[0]]
        for before, after in itertools.pairwise(coins):
            corrupted = rho if before else eta * (1 - rho) / (1 - eta)
            p *= corrupted if after else 1 - corrupted
        law[coins] = p
    return law


def label_law(eta, rho, kernel, horizon):
    """P of each sequence of labels (A,)*H of a clean expert who always plays 0."""
    law, given = np.zeros((len(kernel),) * horizon), np.array([np.eye(len(kernel))[0], kernel])
    for labels in itertools.product(range(len(kernel)), repeat=horizon):
        chance = given[:, labels]  # by coin, step
        steps = np.ix_(*chance.T)
        law[labels] = (coins_law(eta, rho, horizon) * np.prod(np.broadcast_arrays(*steps), axis=0)).sum()
    return law


def five_errors(p, n):
    return 5 * np.sqrt(p * (1 - p) / n) + 1e-9


def two_levels(eta, rho, n, greedy, favoured):
    """P(both levels right) at A = 2 after n episodes, by counts (right − wrong); level 2 is labelled where level 1 was
    decided right (`greedy`), or labelled right. `favoured`: whether the right action is the lower one."""
    pairs, law = label_law(eta, rho, [0.5, 0.5], 2), {(0, 0): 1.0}
    for _ in range(n):
        new = {}
        for ((x, y), p), (one, two) in itertools.product(law.items(), itertools.product((0, 1), repeat=2)):
            reached = (x > 0 or (x == 0 and favoured[0])) if greedy else one == 0
            to = x + 1 - 2 * one, y + (1 - 2 * two) * reached
            new[to] = new.get(to, 0.0) + p * pairs[one, two]
        law = new
    good = lambda lead, lower: lead > 0 or (lead == 0 and lower)  # noqa: E731
    return sum(p for (x, y), p in law.items() if good(x, favoured[0]) and good(y, favoured[1]))


@pytest.mark.parametrize(("eta", "rho"), CHAINS)
def test_coins_are_the_markov_chain_and_labels_follow_them(eta, rho):
    """Chi-square of the 16 sequences of four coins, then of the 27 of three labels through both shapes of laws."""
    n, kernel = 10_000, np.array([0.2, 0.5, 0.3])
    coins = np.asarray(Bursts(eta, rho, kernel).coins(words(jax.random.key(1), (n, 4))))
    seen = np.bincount(coins @ [8, 4, 2, 1], minlength=16)
    assert stats.chisquare(seen, coins_law(eta, rho, 4).ravel() * n).pvalue > 1e-6
    clean = deterministic(jnp.zeros(3, jnp.int32), 3)
    for expert in (clean, jnp.broadcast_to(clean[:, None], (3, 2, 3))):
        here = world("truth", complete(Setting(eta, kernel, burst=rho), 3), expert)
        np.testing.assert_allclose(here.noisy[..., 0], 1 - eta + eta * 0.2, atol=1e-6)
        keys = jax.random.split(jax.random.key(2), n)
        laws = jax.vmap(lambda key, here=here: label_laws(here, key))(keys).reshape(n, 3, -1, 3)[:, :, -1]
        labels = np.asarray(sample(laws, words(jax.random.key(3), (n, 3))))
        seen = np.bincount(labels @ [9, 3, 1], minlength=27)
        assert stats.chisquare(seen, label_law(eta, rho, kernel, 3).ravel() * n).pvalue > 1e-6


@pytest.mark.parametrize(("eta", "rho"), CHAINS)
def test_the_first_wrong_label_has_the_law_of_an_enumeration(eta, rho):
    """Of the count loop in float32 and of the theory in float64, a kernel that favours the right action."""
    kernel, right = np.array([0.2, 0.5, 0.3]), label_law(eta, rho, [0.2, 0.5, 0.3], 4)
    alive = [right[(0,) * h].sum() for h in range(1, 5)]
    found = bursts.burst_survival(4, 3, eta, rho, share=0.2)
    np.testing.assert_allclose(found, alive, rtol=1e-12)
    here = world("truth", complete(Setting(eta, kernel, burst=rho), 3), deterministic(jnp.zeros(4, jnp.int32), 3))
    exits, wrong = exit_laws(here)
    np.testing.assert_allclose(exits, [*-np.diff([1.0, *alive]), alive[-1]], rtol=2e-6)
    np.testing.assert_allclose(wrong, np.tile([0, 0.625, 0.375], (4, 1)), rtol=1e-6)
    if rho == eta:
        np.testing.assert_allclose(exits, exit_laws(here._replace(noise=None))[0], rtol=2e-6)


def test_the_rate_of_a_long_trajectory_is_the_leading_eigenvalue():
    for eta, rho in [*CHAINS, (0.3, 0.0), (0.5, 0.999)]:
        alive = bursts.burst_survival(400, 4, eta, rho)
        assert np.log(alive[199] / alive[399]) / 200 == pytest.approx(bursts.burst_rate(4, eta, rho), rel=1e-9)
    assert bursts.burst_rate(4, 0.5, 0.0, share=0.0) == np.inf
    assert bursts.burst_rate(4, 0.6, 0.6) == pytest.approx(-np.log(exact.right_probability(4, 0.6)), rel=1e-12)


def by_enumeration(labels, n_actions):
    """P(plurality right at every level), fresh tie splits, given the (n, H) labels; a level counts what is alive."""
    alive, chance = np.ones(len(labels), bool), 1.0
    for level in labels.T:
        count = np.bincount(level[alive], minlength=n_actions)
        chance *= (count[0] == count.max()) / (count == count.max()).sum()
        alive &= level == 0
    return chance


@pytest.mark.parametrize(("eta", "rho"), CHAINS)
def test_loglossbc_in_bursts_is_exact(eta, rho):
    """Three trajectories of three levels at A = 2 and two of two at A = 3: all their labels; and equal rates."""
    for n_actions, horizon, n in ((2, 3, 3), (3, 2, 2)):
        law = label_law(eta, rho, np.full(n_actions, 1 / n_actions), horizon)
        every = np.array(list(itertools.product(range(n_actions), repeat=horizon)))
        expected = sum(
            np.prod([law[tuple(every[i])] for i in rows]) * by_enumeration(every[list(rows)], n_actions)
            for rows in itertools.product(range(len(every)), repeat=n)
        )
        rates = bursts.burst_rates(horizon, n_actions, eta, rho)
        assert bursts.bc_by_level(n_actions, rates, n) == pytest.approx(expected, abs=1e-9)
    assert bursts.bc_by_level(3, np.full(5, eta), 40) == pytest.approx(exact.bc_exact(5, 3, eta, 40), abs=1e-12)
    assert bursts.n_bc_by_level(3, np.full(5, eta), 0.1) == exact.n_bc(5, 3, eta, 0.1)


FAVOURED = list(itertools.product((False, True), repeat=2))


@pytest.mark.parametrize(
    ("method", "decay", "greedy", "noise"),
    [
        ("loglossbc", 0.9, False, Bursts(0.6, 0.95)),
        ("dagger", 1.0, False, Bursts(0.6, 0.95)),
        ("nail-f", 0.9, True, Bursts(0.6, 0.95)),
    ],
)
def test_learners_of_the_chain_have_the_law_of_two_levels_in_bursts(method, decay, greedy, noise):
    """Without bursts LogLossBC, and DAgger whose expert always plays, are right with 0.772; here with 0.844."""
    n = 9
    setting = complete(with_noise(Setting(decay=decay), noise), 2)
    state = levels.begin(2, 2, RUNS, 3)
    wins = np.asarray(levels.advance(learner(method), state, setting, n, 1)[1])
    expected = np.mean([two_levels(0.6, 0.95, n, greedy, favoured) for favoured in FAVOURED])
    assert abs(wins.mean() - expected) < five_errors(expected, RUNS)


def test_bursts_in_a_general_mdp_and_on_the_hidden_path():
    secret, n = np.array([1, 0]), 9
    found = learned_regret(poison_chain(2, 2, secret), "loglossbc", Setting(0.6, burst=0.95), n, 1, RUNS, 0)
    expected = 1 - two_levels(0.6, 0.95, n, False, (False, True))
    assert abs(found.mean() - expected) < five_errors(expected, RUNS)
    data, right = paths.expert_paths(5, 3, Setting(0.6, burst=0.9), 50, 0, 800)
    steps = (data == right[:, None]).cumprod(-1).sum(-1)
    alive = np.append(1.0, bursts.burst_survival(5, 3, 0.6, 0.9))
    seen = np.bincount(steps.ravel(), minlength=6)
    assert stats.chisquare(seen, [*-np.diff(alive) * 40_000, alive[-1] * 40_000]).pvalue > 1e-6


def test_a_rate_by_level_and_a_channel_of_ones_own():
    """LogLossBC with η_h against the exact programme; a confusion matrix that is uniform noise gives its n*."""
    rates, runs = np.array([0.8, 0.0, 0.5]), RUNS
    setting = by_level(complete(with_noise(Setting(), Huber(rates, None)), 3), 3, levels.padded(3))
    wins = np.asarray(levels.advance(learner("loglossbc"), levels.begin(3, 3, runs, 1), setting, 12, 1)[1])
    expected = bursts.bc_by_level(3, rates, 12)
    assert abs(wins.mean() - expected) < five_errors(expected, runs)
    matrix = 0.5 * np.eye(3, dtype=np.float32) + np.float32(0.5 / 3)
    few = {"horizon": levels.PAD, "n_actions": 3, "replicates": 160}
    assert nail.n_star("poison-chain", "nail-f", noise=Confusion(matrix), **few) == nail.n_star(
        "poison-chain", "nail-f", eta=0.5, **few
    )


def test_a_channel_of_ones_own_gets_the_laws_of_h_levels():
    """Not those of padded ones; one that cannot take them is one sentence."""
    weights = jnp.linspace(0.1, 0.5, 5)[:, None]
    found = nail.n_star("poison-chain", "nail-f", 5, 3, noise=ByLevel(weights), replicates=160)
    assert found.interval[0] <= found.value <= found.interval[1]
    with pytest.raises(BadInput, match=r"noise must be a map from laws \(6, 3\) to laws"):
        nail.n_star("poison-chain", "nail-f", 6, 3, noise=ByLevel(weights), replicates=160)


class ByLevel(NamedTuple):
    """Uniform noise with a rate a level, (H, 1)."""

    rates: Any

    def probs(self, clean):
        return (1 - self.rates) * clean + self.rates / clean.shape[-1]


class Confusion(NamedTuple):
    """A label b where the clean one is a, with probability `matrix`[a, b]."""

    matrix: np.ndarray

    def probs(self, clean):
        return clean @ self.matrix


@pytest.mark.parametrize("shape", [(4,), (3, 1), (3, 4)])
def test_a_rate_by_state_is_looked_up_in_both_loops(shape):
    """Laws of labels, scores and clean laws of the counts, and the laws of an update at the states it visits."""
    instance = garnet(0, 3, 4, 3, 2)
    eta, kernel = np.random.default_rng(0).uniform(0, 0.9, shape), np.random.default_rng(1).dirichlet(np.ones(3), 4)
    wide = np.broadcast_to(eta, (3, 4))[..., None]
    noisy = (1 - wide) * instance.expert + wide * kernel

    def read(row, setting, here, tally):
        counts = tally._replace(labels=tally.labels + 1)
        return jnp.stack([here.noisy, channel_score(counts, here), clean_estimate(here.noisy, here.told)])

    setting = with_noise(Setting(), ByState(eta, kernel))
    found = simulation(read, instance, "nail-channel", setting, 1, 0)(0, 1)[0, 0]
    weight = np.log1p((1 - wide) / np.maximum(wide * kernel, 1e-10))
    for one, expected in zip(found, (noisy, weight, instance.expert), strict=True):
        np.testing.assert_allclose(one, expected, rtol=2e-4, atol=2e-5)
    noise = ByState(np.broadcast_to(eta, (3, 4)) if len(shape) > 1 else eta, kernel)
    states = jnp.array([[0, 3, 1], [2, 2, 0]])
    clean = jnp.asarray(instance.expert[np.arange(3), states], jnp.float32)
    looked = at_states(noise, states).probs(clean)
    np.testing.assert_allclose(looked, noisy[np.arange(3), states], atol=1e-6)
    for h in range(3):
        step = at_states(at(noise, jnp.int32(h)), states[:, h]).probs(clean[:, h])
        np.testing.assert_allclose(step, looked[:, h], atol=1e-6)


def batch_of(config):
    setup = make_setup(config)
    numbers = jax.tree.map(lambda x: x[0], numbers_of((config,)))
    params = setup.policy.init(jax.random.key(0))
    gather = jax.jit(lambda key: collect(setup, make_channel(setup, numbers), numbers, params, jnp.int32(0), key))
    return gather(jax.random.key(5))


@pytest.mark.parametrize("decode", ["sequential", "parallel"])
def test_an_update_learns_from_labels_in_bursts(decode):
    """The expert's episodes stay clean as long as the chain says; what is fed back is what was labelled; the laws are
    the marginals."""
    n, common = 20_000, {"task": "poison-chain", "A": 3, "H": 4, "method": "loglossbc", "eta": 0.6}
    seen = batch_of(TrainConfig(**common, noise="bursts", burst=0.9, batch=n, decode=decode))
    np.testing.assert_array_equal(seen.actions, seen.labels)
    right = np.asarray(make_setup(TrainConfig(**common)).env.clean_actions(jax.tree.map(lambda x: x[0], seen.contexts)))
    steps = np.bincount((np.asarray(seen.actions) == right).cumprod(1).sum(1), minlength=5)
    alive = np.append(1.0, bursts.burst_survival(4, 3, 0.6, 0.9))
    assert stats.chisquare(steps, [*-np.diff(alive) * n, alive[-1] * n]).pvalue > 1e-6
    first = np.full(3, 0.2) + 0.4 * np.eye(3)[right[0]]
    np.testing.assert_allclose(seen.laws[:, 0], np.tile(first, (n, 1)), atol=1e-6)


@pytest.mark.parametrize("decode", ["sequential", "parallel"])
def test_an_update_looks_rates_up_at_the_states_it_visits(decode, tables):
    eta = np.random.default_rng(0).uniform(0, 0.9, (3, 4))
    nail.add_noise("by-state", "a table", lambda config, env, numbers: ByState(eta * numbers.eta, uniform_kernel(3)))
    config = TrainConfig(task="garnet", S=4, A=3, H=3, method="loglossbc", noise="by-state", eta=0.5, batch=64,
                         decode=decode)  # fmt: skip
    seen = batch_of(config)
    rate = 0.5 * eta[np.arange(3), seen.observations][..., None]
    clean = np.asarray(make_setup(config).env.law_table)[np.arange(3), seen.observations]
    np.testing.assert_allclose(seen.laws, (1 - rate) * clean + rate / 3, atol=1e-6)
    np.testing.assert_array_equal(seen.actions, seen.labels)
    assert len(np.unique(seen.observations)) > 1


def test_a_profile_is_a_rate_by_position():
    config = check(TrainConfig(p=3, m=4, noise="profile", profile="0 0.5 1 0", eta=0.4))
    setup = make_setup(config)
    noise = make_channel(setup, jax.tree.map(lambda x: x[0], numbers_of((config,))))
    np.testing.assert_allclose(noise.eta, [0, 0.2, 0.4, 0], atol=1e-7)
    kernel = uniform_kernel(setup.env.n_actions, setup.env.noise_support)
    np.testing.assert_allclose(noise.kernel, kernel, atol=1e-7)


def test_channels_without_coins_are_left_as_they_are():
    flat = Huber(0.3, uniform_kernel(3))
    assert drawn(flat, jax.random.key(0), (2, 3)) is flat


def star(**fields):
    return nail.n_star("poison-chain", "nail-f", 3, 2, replicates=10, **fields)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: star(noise=Bursts(0.8, 0.7)), r"burst must be in \[max\(0, 2 − 1/η\), 1\) = \[0.75, 1\) at η = 0.8"),
        (lambda: star(noise=Bursts(0.3, -0.1)), "burst must be in"),
        (lambda: star(noise=Bursts(0.3, 1.0)), "burst must be in"),
        (lambda: star(noise=Bursts(np.full(3, 0.3), 0.5)), "eta must be one number where noise comes in bursts"),
        (lambda: star(noise=Huber(np.full(4, 0.3), None)), r"shape of eta must be \(H,\) = \(3,\), got \(4,\)"),
        (lambda: star(noise=Huber(np.full((3, 2), 0.3), None)), "shape of eta must be a number, or"),
        (lambda: star(noise=Huber(np.array([0.3, 1.0, 0]), None)), r"eta must be in \[0, 1\)"),
        (lambda: star(noise=Bursts(0.3, 0.5), eta=0.4), "eta must be that of noise, 0.3, or not given"),
        (lambda: with_noise(Setting(), 7), "noise must be a channel"),
        (lambda: star(noise=Confusion(np.eye(2) * 0.5)), "noise must be a map from laws"),
        (lambda: nail.n_star(garnet(0, 3, 4, 3, 2), "nail-f", noise=Huber(np.full(3, 0.2), None)),
         r"what broadcasts to \(H, S\) = \(3, 4\)"),
        (lambda: nail.n_star("poison-chain", "nail-channel", 3, 2, replicates=10, noise=Confusion(np.eye(2))),
         "method must be one that is not told the channel"),
        (lambda: nail.n_star("hidden-path", "loglossbc", 3, 2, replicates=10, noise=Huber(np.full(3, 0.2), None)),
         "noise must be Huber's with one η, or bursts"),
        (lambda: check(TrainConfig(noise="bursts", eta=0.9, burst=0.5)), "burst must be in"),
        (lambda: check(TrainConfig(burst=0.7)), "burst must be left out: the noise uniform reads no burst"),
        (lambda: check(TrainConfig(noise="profile", profile="0 2")), r"profile must be numbers in \[0, 1\]"),
        (lambda: make_train(TrainConfig(p=3, m=4, noise="profile", profile="1 0")),
         r"profile must be 4 numbers in \[0, 1\] with blanks between, one a position, got '1 0'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(BadInput, match=sentence):
        call()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--noise bursts", "burst must be given with noise bursts"),
        ("--burst 0.5", "burst must be given with noise bursts, and left out with huber"),
        ("--noise bursts --burst 0.1", "burst must be in [max(0, 2 − 1/η), 1) = [0.333333, 1)"),
    ],
)
def test_a_bad_command_line_exits_with_2(words, sentence, capsys):
    line = f"n-star --instance poison-chain --method nail-f --H 3 --A 2 --eta 0.6 --delta 0.1 {words}"
    assert main(line.split()) == 2
    assert sentence in capsys.readouterr().err

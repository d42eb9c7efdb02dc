"""Scores and laws of counts, and learners with a state of their own, in both count-based loops: against the package's
own rows bit for bit, and against enumeration in float64.

Tolerances of simulations are 5 standard errors of the number of replicates: error probability 6e-7 each, fixed seeds.
"""

import itertools
from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nail
from nail.checks import BadInput
from nail.counting.drivers import UNREVEALING, Setting, channel, complete
from nail.counting.kernels import Wrong
from nail.counting.layered import greedy_and_asked, simulation
from nail.counting.levels import PAD
from nail.counting.nstar import level_octaves, n_star
from nail.counting.own import begin_own
from nail.envs.instances import hidden_path, poison_chain
from nail.learners import halving, selective
from nail.methods import METHOD, Method
from nail.noise import Huber, Within, label_weight
from nail.policies.softmax_table import frequencies
from nail.theory import exact

RUNS, ETA = 4000, 0.6
FEW = {"eta": 0.4, "delta": 0.2, "replicates": 64, "max_episodes": 64}


def queried(counts):
    """`nail.counting.learners.queried_law`, from what a method may read."""
    rest = (1.0 - counts.probabilities.sum(-1, keepdims=True)) / jnp.maximum((~counts.seen).sum(-1, keepdims=True), 1)
    return jnp.where(counts.seen, counts.probabilities, rest)


SAME = {
    "nail-f": {"score": lambda counts: counts.labels},
    "dagger": {"score": lambda counts: counts.labels},
    "loglossbc": {"score": lambda counts: counts.labels},
    "opd-f": {"law": lambda counts: frequencies(counts.labels)},
    "opd-r": {"law": queried},
    "nail-channel": {
        "score": lambda counts: counts.labels * jnp.log1p((1 - counts.channel.eta) / counts.channel.eta
                                                          / counts.channel.kernel), "decides": "fit",
    },
}  # fmt: skip


@pytest.mark.parametrize("method", SAME)
def test_a_row_written_as_functions_of_counts_is_the_row(method, tables):
    """Both loops, every driver: the same losses after every episode, at an H without padded levels."""
    nail.add_method(METHOD[method]._replace(name="mine", **SAME[method]))
    setting = Setting(ETA, np.array([0.5, 0.5]))
    ends = [next(itertools.islice(level_octaves(m, PAD, 2, setting, 64, 0, 64), 1, 2)) for m in (method, "mine")]
    np.testing.assert_array_equal(*(losses for _, losses in ends))
    assert 0 < ends[0][1].mean() < 1
    chain = poison_chain(3, 2, np.array([0, 1, 1]))
    assert n_star(chain, "mine", **FEW) == n_star(chain, method, **FEW)


def test_functions_of_counts_get_the_levels_that_there_are(tables):
    """At an H that is no multiple of PAD: a score that reads H waits for 2H episodes without noise, and one with tables
    of its own runs."""

    def waits(counts):
        need = 2 * counts.labels.shape[0]
        return jnp.where(counts.labels.sum(-1, keepdims=True) >= need, 1, -1) * counts.labels

    nail.add_method(Method("waits", "Waits", "expert", score=waits))
    for horizon in (4, 5, 7):
        assert n_star("poison-chain", "waits", horizon, 3, 0.0, 0.1, 64, 0, 64).value == 2 * horizon
    table = np.zeros((5, 3), np.float32)
    for name in ("score", "law"):
        function = (
            (lambda counts: counts.labels + table) if name == "score" else lambda c: frequencies(c.labels) + table
        )
        nail.add_method(Method("adds", "Adds", "student", **{name: function}))
        rates = Huber(np.full(5, 0.3), None)
        noise = {"eta": 0.3} if name == "score" else {"noise": rates}
        assert not n_star("poison-chain", "adds", 5, 3, delta=0.2, replicates=64, max_episodes=64, **noise).censored


def test_counts_hold_no_probability_that_was_not_asked_for(tables):
    """A method of labels that plays the most probable action plays action 0, right where the secret is 0."""
    nail.add_method(Method("peeps", "Peeps", "student", score=lambda counts: counts.probabilities))
    _, (_, losses) = itertools.islice(level_octaves("peeps", 1, 2, Setting(0.3), 200, 0, 64), 2)
    assert (losses == losses[:, :1]).all()
    assert 0.35 < losses[:, 0].mean() < 0.65


def test_a_kernel_that_follows_the_right_actions_is_not_told(tables):
    """A method that plays the action that ν hits least, without a label, plays action 0 whatever the secret."""
    nail.add_method(Method("peeps", "Peeps", "student", score=lambda c: 0 * c.labels - c.channel.kernel))
    _, (_, losses) = itertools.islice(level_octaves("peeps", 1, 2, Setting(0.3, Wrong(np.ones(1))), 200, 0, 64), 2)
    assert 0.35 < losses.mean() < 0.65
    chain = poison_chain(1, 2, np.array([1]))._replace(kernel=1 - poison_chain(1, 2, np.array([1])).expert)
    assert n_star(chain, "peeps", **FEW).mean_loss == 1.0
    nail.add_learner("mine", **PARTS | {"init": lambda problem: table(problem) - problem.channel.kernel,
                                        "update": lambda known, episode, key: known})  # fmt: skip
    assert n_star(chain, "mine", **FEW).mean_loss == 1.0
    told = channel(complete(Setting(0.3, Wrong(np.array([0.5, 0.5]))), 3), UNREVEALING)
    np.testing.assert_allclose(told.probs(jnp.eye(3)), np.full((3, 3), 0.15) + 0.55 * np.eye(3), rtol=1e-6)


def table(problem):
    return jnp.zeros((problem.horizon, problem.n_states, problem.n_actions), jnp.int32)


def add(labels, episode, key):
    return labels.at[jnp.arange(len(labels)), episode.states, episode.labels].add(1)


PARTS = {
    "init": table, "play": lambda labels, h, s, key: jnp.argmax(labels[h, s]), "update": add,
    "decide": lambda labels: jnp.argmax(labels, -1),
}  # fmt: skip


# exact laws at H = 2, A = 2: states (1), (2, on the path), (2, off it), each (labels 0 − labels 1, dropped actions)


VALUE, LIMIT = np.log1p(2 * (1 - ETA) / ETA), np.log(2 * 2 / 0.1)
"""of a label in log likelihood, log(1 + (1−η)/(ην)) with ν uniform on two actions, and log(AH/δ)"""


class Halving:
    asks = staticmethod(lambda lead, dropped, level, step: True)
    plays = staticmethod(lambda lead, dropped: 1 if 0 in dropped else 0)

    @staticmethod
    def learns(lead, dropped):
        trailing = {1} if lead * VALUE > LIMIT else {0} if -lead * VALUE > LIMIT else set()
        return dropped or frozenset(trailing)


class Selective:
    asks = staticmethod(lambda lead, dropped, level, step: abs(lead) * VALUE < LIMIT)
    plays = staticmethod(lambda lead, dropped: int(lead < 0))
    learns = staticmethod(lambda lead, dropped: dropped)


class Stagger(Selective):
    asks = staticmethod(lambda lead, dropped, level, step: level == step)


class Wanders(Selective):
    """Plays action 0, so half of the secrets leave it off the path, and asks while its labels are nearly balanced."""

    asks = staticmethod(lambda lead, dropped, level, step: abs(lead) < 2)
    plays = staticmethod(lambda lead, dropped: 0)


def enumerated(rule, secret, episodes):
    """P(right) and the mean number of answers after `episodes`: a sum over all labels, and the labelled step."""
    q, start = 1 - ETA / 2, ((0, frozenset()),) * 3
    law, asked = {start: 1.0}, 0.0
    for _ in range(episodes):
        new = {}
        for (state, p), step, *labels in itertools.product(law.items(), (0, 1), (0, 1), (0, 1)):
            mass, after, at = p / 2, list(state), 0
            for level, label in enumerate(labels):
                lead, dropped = state[at]
                mass *= 0.5 if at == 2 else q if label == secret[level] else 1 - q
                if rule.asks(lead, dropped, level, step):
                    lead += 1 - 2 * label
                    after[at] = lead, rule.learns(lead, dropped)
                at = 1 if rule.plays(*state[0]) == secret[0] else 2
            places = (0, 1 if rule.plays(*state[0]) == secret[0] else 2)
            asked += mass * sum(rule.asks(*state[i], level, step) for level, i in enumerate(places))
            new[tuple(after)] = new.get(tuple(after), 0.0) + mass
        law = new
    return sum(p for s, p in law.items() if all(rule.plays(*s[i]) == secret[i] for i in (0, 1))), asked


def close(values, expected):
    return abs(values.mean() - expected) < 5 * values.std() / np.sqrt(len(values)) + 1e-6


RULES = {"halving": Halving, "nail-selective": Selective, "stagger": Stagger, "wanders": Wanders}


@pytest.mark.parametrize(("method", "rule"), RULES.items())
def test_learners_with_a_state_have_the_exact_law_in_both_loops(method, rule, tables):
    """Success and answers, those off the path included, after 3, 6, .. episodes; by level, over the secrets that each
    replicate draws, and on the chain as a finite MDP, for each secret."""
    zero = {"play": lambda labels, h, s, key: 0, "decide": lambda labels: 0 * labels[..., 0]}
    nail.add_learner("wanders", **PARTS | zero, ask=lambda labels, h, s, key: abs(labels[h, s] @ np.array([1, -1])) < 2)
    secrets = list(itertools.product((0, 1), repeat=2))
    found = {secret: [enumerated(rule, secret, n) for n in (3, 6, 9)] for secret in secrets}
    all_asked = []
    for secret in secrets:
        chain = poison_chain(2, 2, np.array(secret))
        actions, asked = simulation(greedy_and_asked, chain, method, Setting(ETA), RUNS, 5)(3, 3)
        all_asked.append(asked)
        right = (actions[:, :, :, 0] == secret).all(-1)
        for i, (success, answers) in enumerate(found[secret]):
            assert close(right[:, i].astype(float), success)
            assert close(asked[:, i], answers)
    success, answers = np.mean([found[secret] for secret in secrets], 0).T
    ((at, losses, mean),) = itertools.islice(level_octaves(method, 2, 2, Setting(ETA), 4 * RUNS, 6, 64), 1, 2)
    spread = np.concatenate(all_asked).std(0)
    for i, n in enumerate((2, 5, 8)):
        assert at[n] == (3, 6, 9)[i]
        assert close(1.0 - losses[:, n], success[i])
        assert abs(mean.mean(0)[n] - answers[i]) < 5 * spread[i] / np.sqrt(4 * RUNS) + 1e-6


def test_the_expert_may_drive_and_its_actions_are_answers(tables):
    """An expert that plays every step makes LogLossBC: its exact law on the chain, and H answers an episode."""
    nail.add_learner("mine", **PARTS | {"play": lambda labels, h, s, key: labels.shape[-1]},
                     ask=lambda labels, h, s, key: jnp.bool_(False))  # fmt: skip
    ((at, losses, mean),) = itertools.islice(level_octaves("mine", 4, 3, Setting(0.4), RUNS, 1, 64), 1, 2)
    assert close(1.0 - losses[:, 19], exact.bc_exact(4, 3, 0.4, 20))
    np.testing.assert_array_equal(mean.mean(0), 4 * at)


def test_queries_are_the_answers_that_were_asked_for(tables):
    nail.add_learner("mine", **PARTS)
    nail.add_learner("half", **PARTS, ask=lambda labels, h, s, key: h < 2)
    asks, half = (n_star("poison-chain", method, 4, 2, **FEW) for method in ("mine", "half"))
    assert (asks.queries, asks.query_interval) == (4 * asks.value, tuple(4 * end for end in asks.interval))
    assert half.censored
    assert (half.queries, half.query_interval) == (None, (2 * half.interval[0], np.inf))
    one = n_star(lambda seed: poison_chain(3, 2, np.array([seed % 2, 1, 0])), "stagger", instances=2, **FEW)
    assert (one.queries, one.query_interval[0]) == (one.value, one.interval[0])


def test_the_interval_in_labels_has_the_error_of_the_mean_number_of_answers(tables):
    """A learner of one level without noise asks every second time by chance: success 1 − 2^−(n+1), n/2 answers. At
    δ = 0.09 n* is 3, and 1.5 answers are in the interval in 40 repetitions but for 9 or fewer, with error probability
    2.1e-5 at a coverage of 95 %; n* alone, almost always known exactly, says nothing of them."""
    nail.add_learner("mine", **PARTS, ask=lambda labels, h, s, key: jax.random.bernoulli(key))
    few = {"eta": 0.0, "delta": 0.09, "replicates": 2000, "max_episodes": 64}
    found = [n_star("poison-chain", "mine", 1, 2, seed=seed, **few) for seed in range(40)]
    assert sum(low <= 1.5 <= high for low, high in (one.query_interval for one in found)) >= 31
    assert sum(one.interval[0] == one.interval[1] for one in found) >= 35
    assert max(high - low for low, high in (one.query_interval for one in found)) < 1
    single = n_star("poison-chain", "mine", 1, 2, **few | {"replicates": 1})
    assert (single.query_interval[0], single.query_interval[1]) == (0.0, single.wider[0][1])


@pytest.mark.parametrize("oracle", ["probabilities", "labels and probabilities"])
def test_a_probability_is_the_noisy_laws_own_and_counts_as_one_answer(oracle, tables):
    """Each action of a level is tried in turn; the most probable one is known after A episodes a level (three
    actions, three episodes), without chance. A learner of labels reads none."""

    def update(known, episode, key):
        return known.at[jnp.arange(len(known)), episode.states, episode.actions].set(episode.probabilities)

    def play(known, h, s, key):
        tried = known[h, s] > 0
        return jnp.where(tried.all(), jnp.argmax(known[h, s]), jnp.argmin(tried))

    def init(problem):
        return table(problem).astype(jnp.float32)

    nail.add_learner("mine", init, play, update, lambda known: jnp.argmax(known, -1), oracle=oracle)
    found = n_star("poison-chain", "mine", 1, 3, eta=ETA, delta=1e-3, replicates=64, max_episodes=64)
    assert (found.value, found.oracle) == (3, oracle)
    assert found.queries == 3 * (1 + (oracle != "probabilities"))
    right = 1 - ETA + ETA / 3
    nail.add_learner("mine", init, play, update, lambda known: (jnp.abs(known[..., 2] - right) < 1e-6).astype(int))
    nail.add_learner("its", init, play, update, METHOD["mine"].functions.decide, oracle=oracle)
    chain = poison_chain(1, 3, np.array([2]))
    for method, read in (("mine", 0), ("its", 1)):
        assert simulation(greedy_and_asked, chain, method, Setting(ETA), 1, 0)(3, 1)[0].item(0) == read


calls = itertools.count()
kept = []
BROKEN = {
    "init": [(lambda problem: object(), "init of the learner mine must be a pure function")],
    "play": [
        (lambda labels, h, s, key: labels[h, s], r"play of the learner mine returns .* an integer, got int32\[2\]"),
        (lambda labels, h, s, key: h + next(calls), "play of the learner mine must be a pure .* two programs"),
        (lambda labels, h, s, key: h + np.random.default_rng().integers(10**9), "two programs"),
        (lambda labels, h, s, key: kept.append(h) or h, "play of the learner mine must be a pure .* raised"),
        (lambda labels, h, s, key: 0 if h > 1 else 1, "play of the learner mine .* TracerBoolConversionError"),
    ],
    "ask": [(lambda labels, h, s, key: h, "ask of the learner mine returns must be a bool, got int32")],
    "update": [
        (lambda labels, episode, key: labels[:1], r"update of .* a state like that of init, int32\[2, 2, 2\], got"),
        (lambda labels, episode, key: labels + 0.5, r"got float32\[2, 2, 2\]"),
        (lambda labels, episode, key: (labels,), "update of the learner mine must return a state"),
    ],
    "decide": [
        (lambda labels: labels, r"decide of .* must be integers of shape \(2, 2\), got int32\[2, 2, 2\]"),
        (lambda labels: labels.max(-1) > 0, "got bool"),
    ],
}  # fmt: skip
CASES = [(part, function, words) for part, cases in BROKEN.items() for function, words in cases]


@pytest.mark.parametrize(("part", "function", "words"), CASES)
def test_functions_that_are_not_what_they_must_be_are_named(part, function, words, tables, monkeypatch):
    """In both loops, before anything is computed."""
    nail.add_learner("mine", **{**PARTS, part: function})
    monkeypatch.setattr(jax.lax, "map", None)
    for where in (("poison-chain", "mine", 2, 2), (poison_chain(2, 2), "mine")):
        with pytest.raises(BadInput, match=words):
            n_star(*where)
    kept.clear()


def test_bad_input(tables):
    student = Method("mine", "Mine", "student")
    for row, words in (
        (student._replace(score=3), "score of the method mine must be a function, got 3"),
        (student._replace(law=jnp.argmax, decides="channel"), "decides of the method mine must be fit beside"),
        (student._replace(score=jnp.argmax, reward="pairs", group=4, temperature=1.0), "reward of the method mine"),
        (METHOD["halving"]._replace(name="mine", temperature=1.0), "temperature of the method mine must be 0.0 beside"),
    ):
        with pytest.raises(BadInput, match=words):
            nail.add_method(row)
    for changed, words in (
        ({"ask": 1}, "ask of the learner mine must be a function"),
        ({"oracle": "rewards"}, "oracle of the learner mine must be one of labels, prob"),
    ):
        with pytest.raises(BadInput, match=words):
            unwrap(nail.add_learner)("mine", **{**PARTS, **changed})
    nail.add_method(student._replace(score=lambda counts: counts.labels.sum(-1)))
    with pytest.raises(BadInput, match=r"score of the method mine returns must be numbers of shape \(3, 2\), got"):
        n_star("poison-chain", "mine", 3, 2)
    nail.add_method(student._replace(law=lambda counts: counts.labels))
    with pytest.raises(BadInput, match=r"law of the method mine returns must be numbers of shape \(2, 2, 2\), got int"):
        n_star(poison_chain(2, 2), "mine")
    for delta in (0.0, 1.0):
        with pytest.raises(BadInput, match="delta must be in"):
            halving(delta)


def test_the_hidden_path_tells_nothing_that_a_learner_cannot_know(tables):
    """By its name only states on the path are simulated: a learner that would see which is refused there."""
    nail.add_method(METHOD["loglossbc"]._replace(name="mine", score=lambda counts: counts.labels))
    for method in ("halving", "mine"):
        with pytest.raises(BadInput, match="instance must be another one for the method"):
            n_star("hidden-path", method, 2, 2)
    tree = n_star(hidden_path(2, 2, np.array([1, 1])), "halving", **FEW)
    assert tree.queries == 2 * tree.value
    nail.add_method(METHOD["nail-f"]._replace(name="mine", score=lambda counts: counts.labels))
    assert n_star("hidden-path", "mine", PAD, 2, **FEW) == n_star("hidden-path", "nail-f", PAD, 2, **FEW)


def test_another_definition_is_another_method(tables):
    """What a point's identity takes (`METHOD.fingerprint`) changes with a function, what it reads, and its options."""
    prints = []
    for functions in (halving(0.1), halving(0.1), halving(0.2), selective(0.1)):
        nail.add_learner("mine", **functions._asdict())
        prints.append(METHOD.fingerprint("mine"))
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    for weight in (1, 2):
        nail.add_method(Method("mine", "Mine", "student", score=lambda counts, w=weight: w * counts.labels))
        prints.append(METHOD.fingerprint("mine"))
    assert prints[-1] != prints[-2]
    assert METHOD.fingerprint("halving") is None


def test_rates_by_level_and_channels_of_ones_own_are_told(tables):
    """At level h a label is worth log(1 + (1−η_h)A/η_h), two levels being no two states; a map of laws is told."""

    def init(problem):
        laws = table(problem).astype(float)
        return jnp.round(jnp.exp(jnp.broadcast_to(label_weight(problem.channel, laws), laws.shape)))

    nail.add_learner("mine", **PARTS | {"init": init, "update": lambda known, episode, key: known})
    for horizon in (2, 3):
        rates = jnp.array([0.5, 0.8, 0.2])[:horizon]
        begun = begin_own(METHOD["mine"], UNREVEALING, (horizon, 4), complete(Setting(), 4)._replace(eta=rates), 1)
        expected = np.array([5, 2, 17])[:horizon, None, None] * np.ones((2, 4))
        np.testing.assert_array_equal(begun.state[0], expected)
    own = Within(0.3, np.ones(2))
    nail.add_method(
        Method("weighs", "Weighs", "student", score=lambda c: c.labels @ jnp.log(c.channel.probs(jnp.eye(2))))
    )
    few = {name: value for name, value in FEW.items() if name != "eta"}
    assert n_star("poison-chain", "weighs", 3, 2, noise=own, **few) == n_star(
        "poison-chain", "nail-f", 3, 2, 0.3, **few
    )
    with pytest.raises(BadInput, match="noise must be Huber's or bursts for a learner that is told"):
        n_star("poison-chain", "halving", 3, 2, noise=own, **few)

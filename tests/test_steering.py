"""Steerability against cases by hand and SciPy's Spearman correlation, and its columns of rows."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defining import HELD, words
from programs import UNOPTIMISED, finished
from readers import NAMES, USUAL, defclass_chain, defclass_prompt
from scipy import stats

from nail.checks import BadInput
from nail.envs.steering import items
from nail.sweep.rows import make_row
from nail.training.config import TrainConfig
from nail.training.problem import make_setup
from nail.training.ranges import check
from nail.training.rollout import rollout
from nail.training.steerability import (
    Labels,
    false_flips,
    follow_rate,
    over_selection,
    shifts,
    steerability,
    steerability_interval,
)


def labels(right, right_after, given, given_after):
    return Labels(*map(np.array, (right, right_after, given, given_after)))


def drawn(rng, n, faith, classes=4):
    """Labels of a student that follows the definitions with probability `faith` and else keeps its answer."""
    right, after = rng.integers(classes, size=(2, n))
    follows = rng.random(n) < faith
    return Labels(right, after, right, np.where(follows, after, right))


def test_shifts_by_hand():
    np.testing.assert_array_equal(
        shifts(np.array([0, 1, -1]), np.array([2, 1, 0]), 3), [[-1, 0, 1], [0] * 3, [1, 0, 0]]
    )


def test_ends_by_hand():
    """A student that follows: 1; one that gives the opposite shift: −1; one that never moves: 0."""
    right, after = [0, 1, 2, 0], [1, 1, 0, 2]
    assert steerability(labels(right, after, right, after), 3) == pytest.approx(1)
    assert steerability(labels(right, after, after, right), 3) == pytest.approx(-1)
    assert steerability(labels(right, after, right, right), 3) == 0
    assert steerability(labels(right, right, right, after), 3) == 0


def test_a_correlation_by_hand():
    """Two items, two classes: E = (−1, 1, 0, 0), O = (0, 0, 0, 1): ranks (1, 4, 2.5, 2.5) and (2, 2, 2, 4), whose
    centred products sum to 0, and with O = (0, 1, 0, 0) to 3: ρ = 3/√(4.5·3) = 0.8165."""
    right, after = [0, 1], [1, 1]
    assert steerability(labels(right, after, [0, -1], [0, 1]), 2) == pytest.approx(0)
    assert steerability(labels(right, after, [-1, 1], [1, 1]), 2) == pytest.approx(3 / np.sqrt(4.5 * 3))


@pytest.mark.parametrize("seed", range(5))
def test_it_is_scipys_spearman(seed):
    rng = np.random.default_rng(seed)
    seen = Labels(*rng.integers(4, size=(2, 60)), *rng.integers(-1, 4, size=(2, 60)))
    pairs = [shifts(*pair, 4).ravel() for pair in ((seen.right, seen.right_after), (seen.given, seen.given_after))]
    assert steerability(seen, 4) == pytest.approx(stats.spearmanr(*pairs).statistic, abs=1e-12)


def test_rates_by_hand():
    seen = labels([0, 0, 1, 2, 0], [1, 0, 1, 0, 2], [0, 0, 0, 2, 0], [1, 2, 0, 2, 0])
    assert follow_rate(seen) == pytest.approx(1 / 3)
    assert false_flips(seen) == pytest.approx(1 / 2)
    assert over_selection(seen.right, seen.given) == pytest.approx(1 / 2)
    assert over_selection(seen.right, seen.given_after, majority=2) == pytest.approx(1 / 4)
    still = labels([0, 0], [0, 0], [0, 1], [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(follow_rate(still))
        assert np.isnan(over_selection(still.right, still.given))
    assert false_flips(still) == 0


def test_the_interval_covers_the_truth():
    """Of a student that follows with probability 0.6 the 90 % intervals of 60 samples of 80 items: hits of the value at
    40,000 items are not fewer than binomial with 0.85 allows at 1e−3."""
    rng = np.random.default_rng(1)
    truth = steerability(drawn(rng, 40_000, 0.6), 4)
    found = [steerability_interval(drawn(rng, 80, 0.6), 4, rng, 0.9, resamples=100) for _ in range(60)]
    hits = sum(one.low <= truth <= one.high for one in found)
    assert stats.binom.cdf(hits, 60, 0.85) > 1e-3
    assert all(one.low <= one.estimate <= one.high for one in found)
    assert 0.3 < truth < 0.8
    # items of a student that never moves are all the same to the bootstrap
    still = drawn(rng, 80, 0.0)
    assert steerability_interval(still, 4, rng, resamples=10) == (0, 0, 0)


def test_the_interval_is_that_of_resampled_items():
    """Quantiles of `steerability` of items drawn one set after the other with the same generator."""
    seen = drawn(np.random.default_rng(2), 90, 0.5)
    picks = np.random.default_rng(3).integers(90, size=(200, 90))
    each = [steerability(Labels(*(part[pick] for part in seen)), 4) for pick in picks]
    found = steerability_interval(seen, 4, np.random.default_rng(3), 0.8, resamples=200)
    np.testing.assert_allclose(found, [steerability(seen, 4), *np.quantile(each, [0.1, 0.9])], atol=1e-12)


def test_classes_of_an_item_are_resampled_together():
    """One item that moves among many that do not: resamples hold all of its classes or none, so ρ is 0 or 1."""
    seen = labels([0] * 80, [1] + [0] * 79, [0] * 80, [1] + [0] * 79)
    found = steerability_interval(seen, 4, np.random.default_rng(0), 0.5, resamples=500)
    assert found == (1, 0, 1)


def test_bad_input():
    good, rng = labels([0, 1], [1, 1], [0, 1], [1, 1]), np.random.default_rng(0)
    for bad, sentence in [
        (good._replace(right=np.array([0])), "numbers of labels must be one number of at least 1"),
        (labels([], [], [], []), "numbers of labels must be one number of at least 1"),
        (good._replace(right=np.array([0, 4])), r"a right label must be in 0\.\.3"),
        (good._replace(right_after=np.array([0, -1])), r"a right label must be in 0\.\.3"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            steerability(Labels(*(part.astype(int) for part in bad)), 4)
    with pytest.raises(BadInput, match="level must be in"):
        steerability_interval(drawn(rng, 80, 0.5), 4, rng, level=1.0)
    with pytest.raises(BadInput, match="resamples must be at least 1"):
        steerability_interval(drawn(rng, 80, 0.5), 4, rng, resamples=0)
    with pytest.raises(BadInput, match="number of items must be at least 80"):
        steerability_interval(drawn(rng, 79, 0.5), 4, rng)


CONFIG = TrainConfig(
    task="defclass", method="loglossbc", epsilon=0.6, width=16, heads=2, layers=1, init_std=0.5, lr=1e-2, warmup=2,
    batch=8, steps=4, eval_every=4, n_validation=20,
)  # fmt: skip


def program_of_items(config, n):
    env = make_setup(config).env
    return jax.jit(lambda: items(env, n)).lower()


def items_of(config, n):
    """Prompts of n items before and after their perturbation."""
    return jax.device_get(program_of_items(config, n).compile(dict(UNOPTIMISED))())


def test_items_are_canonical_prompts_and_each_is_perturbed_in_its_way():
    """Whatever ε is: swaps, new criteria, held-out criteria in turn; the same items for another seed of the run, and
    others for another bank."""
    before, after = items_of(CONFIG, 99)
    other = program_of_items(dataclasses.replace(CONFIG, epsilon=0.0, negated=1.0, seed=3), 99)
    assert other.as_text() == program_of_items(CONFIG, 99).as_text()
    assert (np.asarray(items_of(dataclasses.replace(CONFIG, bank_seed=1), 99)) != (before, after)).any()
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        (usual, item), (meaning, kept) = defclass_prompt(words(old)), defclass_prompt(words(new))
        assert item == kept
        assert usual == USUAL
        held = sum(meaning[name] in HELD for name in NAMES)
        assert (i % 3 == 2) == (held == 1)
        if i % 3 == 0:
            assert sorted(meaning.values()) == sorted(usual.values())
            assert sum(usual[name] != meaning[name] for name in NAMES) == 2


def test_rows_hold_what_the_final_parameters_answer():
    """Of two runs of one program, the last row: labels by the tests' own reader of chains, ρ by SciPy, rates by their
    definitions. The other columns are there as ever, and without the switch none of these."""
    configs = [dataclasses.replace(CONFIG, seed=seed, steer=True) for seed in (0, 1)]
    state, metrics = finished(*configs, options=UNOPTIMISED)
    env, policy = make_setup(CONFIG)[2:4]
    prompts = items_of(CONFIG, 512)
    right = [np.array([NAMES.index(defclass_chain(words(p))[-1]) for p in part]) for part in prompts]
    said = jax.jit(lambda params, part: rollout(env, policy, params, part).actions[:, -1] - 16)
    for i, config in enumerate(configs):
        row = make_row(config, metrics[-1], i, env.n_validation)
        params = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), state.params)
        given = [np.where((label >= 0) & (label < 4), label, -1) for label in (said(params, part) for part in prompts)]
        pairs = [[(b == c) * 1 - (a == c) for c in range(4)] for a, b in (right, given)]
        assert row["steerability"] == pytest.approx(stats.spearmanr(*map(np.ravel, pairs)).statistic, abs=1e-9)
        assert row["steerability_low"] < row["steerability"] < row["steerability_high"]
        moved = right[0] != right[1]
        assert row["follow_rate"] == pytest.approx((given[1] == right[1])[moved].mean())
        assert row["false_flips"] == pytest.approx((given[1] != given[0])[~moved].mean())
        assert row["over_selection"] == pytest.approx((given[1] == 0)[right[1] != 0].mean())
        assert row["usual_exact"] == pytest.approx((given[0] == right[0]).mean())
        assert row["perturbed_exact"] == pytest.approx((given[1] == right[1]).mean())
        plain = make_row(CONFIG, metrics[-1]._replace(labels=None), i, env.n_validation)
        assert {"full_exact", "val_loss"} <= set(plain) <= set(row)
        assert not {"steerability", "follow_rate", "steer"} & set(plain)


def test_a_task_without_perturbations_is_refused():
    with pytest.raises(
        BadInput, match=r"steer must be left out: modadd has no perturbations \(defclass has\), got True"
    ):
        check(TrainConfig(steer=True))
    assert check(dataclasses.replace(CONFIG, steer=True)).steer
    assert "steer" not in CONFIG.stored

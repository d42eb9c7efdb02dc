"""The learner of the general bound and the exact law of its hard classes (docs/theory.md §5)."""

import itertools

import numpy as np
import pytest
from nail_experiments._layered_classes import episodes, exact, hard, laws, problems

from nail.checks import BadInput
from nail.counting.mixture import Layered, mixture_sums
from nail.envs.mdp import occupancy, regret
from nail.theory.two_laws import binary_kl, spacing, wrong_weight

POINT = {"family": "random", "horizon": 3, "size": 3, "eta": 0.5, "n_states": 3, "n_actions": 3, "branching": 2}
RARE = {"family": "rare", "horizon": 3, "size": 4, "eta": 0.5, "factors": "1", "instances": 1}


def test_weight_of_the_wrong_laws_by_enumeration():
    right, wrong, size = 0.3, 0.6, 4
    for i, found in enumerate(wrong_weight(right, wrong, size, 6).T):
        w, chance = [], []
        for labels in itertools.product((0, 1), repeat=i):
            likely = [np.prod([p if label else 1 - p for label in labels]) for p in (right, wrong)]
            w.append((size - 1) * likely[1] / (likely[0] + (size - 1) * likely[1]))
            chance.append(likely[0])
        np.testing.assert_allclose(found, [np.dot(chance, w), np.dot(chance, np.square(w))], rtol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
def test_spacing_is_worth_what_it_says(centred):
    right, wrong = spacing(0.4, centred, 8, 500, 2.0)
    assert 500 * binary_kl(0.6 * right + 0.2, 0.6 * wrong + 0.2) == pytest.approx(2 * np.log(8))
    assert right == pytest.approx((1 - (wrong - right)) / 2 if centred else 0)


@pytest.mark.parametrize("greedy", [False, True])
def test_first_episode_by_dynamic_programming(greedy):
    """Before any label the mixture is the candidates' mean: distances and regret from nail/envs/mdp.py."""
    one = problems({**POINT, "instances": 2})[1]
    policy = one.candidates.mean(1)
    if greedy:
        policy = np.eye(3)[policy.argmax(-1)]
    tv = 0.5 * np.abs(policy - one.expert).sum(-1)
    visits = occupancy(one.mdp, policy)
    sums = mixture_sums([one], 0.5, [1], 1, 0, greedy=greedy)
    found = [float(x[0, 0, 0]) for x in (sums.tv2, sums.tv, sums.regret)]
    gap = abs(float(regret(one.mdp, policy, one.expert)))
    np.testing.assert_allclose(found, [(visits * tv**2).sum(), (visits * tv).sum(), gap], rtol=1e-9)
    assert gap <= found[1]


@pytest.mark.parametrize("greedy", [False, True])
def test_log_loss_telescopes_whoever_drives(greedy):
    """Mean of Σ KL − log|Π| − log-weight is 0, within 5 standard errors: error probability 6e-7 each."""
    sums = mixture_sums(problems({**POINT, "instances": 1}), 0.5, [3, 40], 400, 1, greedy=greedy)
    off = sums.kl - 3 * np.log(3) - sums.log_weight
    assert (np.abs(off.mean((0, 1))) < 5 * off.std((0, 1)) / 20).all()
    assert (off.std((0, 1)) < 3).all()


def test_rare_class_has_its_exact_law():
    """Within 5 standard errors: error probability 6e-7 each of two."""
    n = episodes(3, 4, 0.5, 1)
    one = hard(3, 4, *laws("rare", 4, 0.5, n))
    sums = mixture_sums([one], 0.5, [n], 400, 2)
    for name, mean in exact(RARE, n).items():
        found = getattr(sums, name.removeprefix("exact_"))
        assert abs(found.mean() - mean) < 5 * found.std() / 20


@pytest.mark.parametrize(
    "call",
    [
        lambda one: mixture_sums([], 0.5, [1], 1, 0),
        lambda one: mixture_sums([one], 1.0, [1], 1, 0),
        lambda one: mixture_sums([one], 0.5, [2, 2], 1, 0),
        lambda one: mixture_sums([one], 0.5, [1], 0, 0),
        lambda one: mixture_sums([Layered(one.mdp, 2 * one.candidates, one.right)], 0.5, [1], 1, 0),
        lambda one: wrong_weight(0.0, 0.5, 2, 3),
        lambda one: spacing(0.0, True, 2, 3, 1.0),
    ],
)
def test_bad_input(call):
    with pytest.raises(BadInput):
        call(hard(2, 2, 0.0, 0.5))

"""Drivers on a tree (docs/theory.md §4.8): enumeration against plain loops, the greedy limit, exact cases."""

import itertools

import numpy as np
import pytest
from nail_experiments import theory_drivers

from nail.checks import BadInput
from nail.counting.trees import greedy_limit, total_variation, trajectories, tree, unvisited_mass

DEPTH, ACTIONS = 3, 3


def plain(law, path):
    """Probability of a path, step by step, and the nodes that it passes."""
    mass, node, nodes = 1.0, 0, []
    for h, action in enumerate(path):
        nodes.append((h, node))
        mass *= law[h, node, action]
        node = node * law.shape[-1] + action
    return mass, nodes


def test_enumeration_is_the_plain_sum_over_paths():
    expert, other = (tree(seed, DEPTH, ACTIONS, "stochastic").expert for seed in (0, 1))
    labelled = np.random.default_rng(0).integers(2, size=expert.shape[:-1]).astype(float)
    paths = list(itertools.product(range(ACTIONS), repeat=DEPTH))
    masses = np.array([[plain(law, path)[0] for path in paths] for law in (expert, other)])
    np.testing.assert_allclose(trajectories(np.stack([expert, other])), masses)
    assert total_variation(other, expert) == pytest.approx(0.5 * np.abs(masses[0] - masses[1]).sum())
    missed = [any(not labelled[node] for node in plain(expert, path)[1]) for path in paths]
    assert unvisited_mass(labelled, expert) == pytest.approx(masses[0] @ missed)


def test_greedy_limit_is_the_most_probable_actions_one_after_the_other():
    expert = tree(2, DEPTH, ACTIONS, "stochastic").expert
    labelled, law = greedy_limit(expert)
    path = []
    for _ in range(DEPTH):
        node = plain(expert, [*path, 0])[1][-1]
        assert labelled[node] == 1
        np.testing.assert_array_equal(law[node], expert[node])
        path.append(int(expert[node].argmax()))
    assert labelled.sum() == DEPTH
    assert (law[labelled == 0] == 1 / ACTIONS).all()
    on_path = np.prod([expert[node].max() for node in plain(expert, path)[1][:-1]])
    assert unvisited_mass(labelled, expert) == pytest.approx(1 - on_path)


@pytest.mark.parametrize("expert", ["deterministic", "stochastic"])
def test_without_noise_a_greedy_driver_finds_a_deterministic_expert_and_no_other(expert):
    """No noise: each episode labels the first unlabelled node of the path, so as many as there are levels suffice."""
    point = theory_drivers.series("smoke")[0][0] | {"expert": expert, "eta": 0.0, "doublings": 2}
    last = theory_drivers.measure(point)[-1]
    assert (last["tv"] == last["unvisited"] == 0) == (expert == "deterministic")
    assert (last["tv_limit"] == last["unvisited_limit"] == 0) == (expert == "deterministic")


def test_drivers_meet_the_same_trees_and_share_no_random_numbers():
    points = [point for each in theory_drivers.series("cpu") for point in each]
    assert len({point["seed"] for point in points}) == len(points)
    trees = {method: [p["tree_seed"] for p in points if p["method"] == method] for method in theory_drivers.DRIVERS}
    assert len(set(map(tuple, trees.values()))) == 1
    assert len(set(trees["opd-f"])) == len(trees["opd-f"])


def test_bad_input():
    with pytest.raises(BadInput, match="expert must be deterministic or stochastic"):
        tree(0, 2, 2, "random")

"""Sampling with and without the channel (docs/theory.md §4.9): an exact law, what is one row, which runs are shared.

The simulation's tolerance is 5 standard errors, error probability 6e-7 each, fixed seeds.
"""

import numpy as np
import pytest
from nail_experiments import fig4, theory_sampling
from refuting import stored

from nail.counting import levels
from nail.counting.drivers import Setting, complete
from nail.counting.learners import learner

RUNS = 8000


def simulated(method, n_actions, setting, n):
    """Per replicate, whether both levels are right after `n` episodes, and how often the second was visited."""
    state = levels.begin(2, n_actions, RUNS, 0)
    state, right = levels.advance(learner(method), state, complete(setting, n_actions), n, 1)
    return np.asarray(right)[:, 0], np.asarray(state.tally.labels)[:, 1].sum(-1)


def two_levels(eta, n):
    """Channel-aware OPD-F at H = 2, A = 2: success probability and mean visits of level 2, exact, by enumeration of the
    right labels of both levels; ties to the lowest action, which is right half of the time."""
    right = 1 - eta / 2
    law = {(0, 0, 0): 1.0}
    for k in range(n):
        new = {}
        for (first, visits, second), p in law.items():
            clean = 0.5 if k == 0 else np.clip((first / k - eta / 2) / (1 - eta), 0, 1)
            for a, pa in ((1, right), (0, 1 - right)):
                for reached, b, pb in ((1, 1, clean * right), (1, 0, clean * (1 - right)), (0, 0, 1 - clean)):
                    key = first + a, visits + reached, second + b
                    new[key] = new.get(key, 0.0) + p * pa * pb
        law = new
    wins = {1: 1.0, 0: 0.5, -1: 0.0}
    success = sum(p * wins[np.sign(2 * a - n)] * wins[np.sign(2 * b - m)] for (a, m, b), p in law.items())
    return success, sum(p * m for (_, m, _), p in law.items())


@pytest.mark.parametrize("n", [1, 6, 25])
def test_channel_aware_opd_equals_the_exact_two_level_law(n):
    for found, expected in zip(simulated("opd-channel", 2, Setting(0.6), n), two_levels(0.6, n), strict=True):
        assert abs(found.mean() - expected) < 5 * found.std() / np.sqrt(RUNS)


def test_under_uniform_noise_channel_aware_nail_is_nail():
    """And it is not where the noise has a favourite."""
    uniform, skewed = Setting(0.5), Setting(0.5, np.array([0.8, 0.1, 0.05, 0.05]))
    for setting, same in ((uniform, True), (skewed, False)):
        found = (simulated(method, 4, setting, 12)[0] for method in ("nail-f", "nail-channel"))
        assert np.array_equal(*found) == same


def test_runs_without_the_channel_are_figure_4s():
    """At each preset, in the cells that both have; and points of the chain share no random numbers."""
    for preset, shared in (("smoke", 6), ("cpu", 60)):
        mine, others = set(theory_sampling.runs(preset)), set(fig4.runs(preset))
        assert len(mine & others) == shared
        assert {run.channel_aware for run in mine - others} >= {True}
    points = [point for each in theory_sampling.series("cpu") for point in each]
    assert len({point["seed"] for point in points}) == len(points)


def test_table_has_both_units_and_every_seed():
    rows = stored("theory_sampling")
    table = theory_sampling.analyse(rows)
    chain, trained = table[table.kind == "chain"], table[table.kind == "run"]
    np.testing.assert_allclose(chain.queries, chain.horizon * chain.episodes)
    assert len(trained) == len(theory_sampling.runs("cpu"))
    end = rows[(rows.kind == "run") & (rows.m == 10) & (rows.eta == 0.5) & (rows.seed == 2)]
    quarter = end[(end.episodes > 0.75 * end.episodes.max()) & (end.method == "opd-f") & (end.channel_aware == True)]  # noqa: E712
    cell = trained[(trained.method == "opd-channel") & (trained.m == 10) & (trained.eta == 0.5)]
    assert quarter.full_exact.median() in cell.accuracy.tolist()
    assert (cell["median"] == cell.accuracy.median()).all()

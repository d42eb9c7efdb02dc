"""Figures 1 to 5 on grids whose budget is too small: what no run solves decides nothing."""

import itertools

import numpy as np
import pytest
import scipy.stats
from nail_experiments import _training as training
from nail_experiments import fig4, fig5
from test_own_grids import size
from test_training_figures import NEVER, made_up

from nail.figures import experiment

SHORT = {
    "fig1": {}, "fig2": {"vary": {"eta": (0.0, 0.5)}}, "fig3": {}, "fig5": {},
    "fig4": {"vary": {"m": (3, 5, 8), "eta": (0.0, 0.25, 0.5)}},
}  # fmt: skip
"""grids of three seeds whose budget is at most enough without noise"""


def times_of(name, times, **own):
    """Statement → verdict, of rows of a grid of three seeds that are solved at `times(config)` episodes."""
    rows = made_up(name, times, size(name, "cpu", seeds=3, **(own or SHORT[name])))
    return {claim.claim: claim.holds for claim in experiment.load(name).claims(rows)}


def only(found, part):
    """The verdicts of the claims that say so."""
    assert any(part in claim for claim in found), part
    return {holds for claim, holds in found.items() if part in claim}


def too_small(config):
    """The longer two chains are beyond the budget with noise, four cells of nine, for every method alike."""
    offline = 16_000 + (config.method != "nail-f") * 32_000 * config.eta
    return NEVER if config.eta > 0 and config.m > 3 else offline


def test_cells_that_no_method_solves_in_the_budget_decide_nothing_of_figure_4():
    assert set(times_of("fig4", too_small).values()) == {None}


def test_methods_that_are_unsolved_together_are_not_ranked():
    """Of twelve cells no method solves the four rarest; in the others all are as fast."""
    own = {"vary": {"m": (3, 5, 8), "eta": (0.1, 0.2, 0.3, 0.5)}}
    found = times_of("fig4", lambda c: NEVER if training.clean_chance(c.p, c.m, c.eta) < 0.2 else 16_000, **own)
    assert only(found, "the rarer clean") == {False}
    assert only(found, "NAIL-F solves") == {None}


def test_a_rare_cell_that_no_method_solves_leaves_a_claim_about_all_of_them_undecided():
    """Of two such cells one is solved by NAIL-F; a seed of OPD-F solves it too, which refutes."""

    def times(config):
        solves = config.method == "nail-f" or (config.method == "opd-f" and config.seed == 0)
        return 16_000 if config.m == 8 and solves else NEVER

    found = times_of("fig4", times, vary={"m": (8, 10), "eta": (0.5,)})
    assert only(found, "LogLossBC does not solve any") == {None}
    assert only(found, "OPD-F does not solve any") == {False}


def test_ties_of_unsolved_cells_are_no_trend():
    """LogLossBC solves one cell only: no order of the others has a p value below 0.01."""

    def times(config):
        easiest = (config.m, config.eta) == (3, 0.0)
        return 16_000 if config.method == "nail-f" or easiest else NEVER

    assert only(times_of("fig4", times), "the rarer clean") == {None}


def test_a_cell_that_another_method_solves_refutes():
    """LogLossBC solves the rarest cell and NAIL-F does not; a cell that no method solves does not save them."""

    def times(config):
        if (config.m, config.eta) == (8, 0.5):
            return 16_000 if config.method == "loglossbc" else NEVER
        return NEVER if config.m == 5 else 16_000

    found = times_of("fig4", times)
    assert only(found, "NAIL-F solves") | only(found, "LogLossBC does not") == {False}
    assert only(found, "OPD-F does not") == {True}


@pytest.mark.parametrize("least", [0, 1, 3, 5])
def test_the_clearest_rows_of_a_trend_are_counted(least):
    """By going through all orders of five cells, two of which tie and of which `least` are not solved."""
    chances, never = [1.0, 1.0, 0.5, 0.2, 0.1], least
    ratios = [1.0, 2.0, 3.0, 4.0, 5.0][: 5 - never] + [np.inf] * never
    ranks, places = scipy.stats.rankdata(ratios), scipy.stats.rankdata([-chance for chance in chances])
    sums = np.array([np.dot(order, places) for order in itertools.permutations(ranks)])
    assert fig4._alike(chances, never) == (sums > sums.max() - 1e-9).sum()


@pytest.mark.parametrize("unsolved", [(0, 0), (1, 0), (2, 1), (2, 2), (3, 2), (3, 3)])
def test_the_clearest_rows_of_tests_within_seeds_are_counted(unsolved):
    """Page's and Friedman's, by going through all orders of three settings in two seeds."""
    times = np.array([[1.0, 2.0, 3.0][: 3 - never] + [np.inf] * never for never in unsolved])
    ranks = scipy.stats.rankdata(times, axis=1)
    sums = np.array([np.add(*pair) for pair in itertools.product(*map(itertools.permutations, ranks))])
    page, friedman = sums @ [1, 2, 3], sums.var(1)
    assert training.unsolved_ties(times) == (page > page.max() - 1e-9).sum()
    assert fig5.alike(times) == (friedman > friedman.max() - 1e-9).sum()


@pytest.mark.parametrize("name", ["fig1", "fig2", "fig3", "fig5"])
def test_solving_without_noise_decides_nothing_at_high_noise(name):
    found = times_of(name, lambda config: NEVER if config.eta > 0 else 16_000)
    noisy = {holds for claim, holds in found.items() if "η=0:" not in claim}
    assert noisy == {None}
    assert name in ("fig1", "fig3") or {True, False} <= set(found.values())


def test_times_beyond_the_budget_are_not_compared():
    """One run solves the task, another method has no time: figures 2, 3 and 5 rank nothing."""
    fig2 = times_of("fig2", lambda config: 16_000 if config.method == "opd-f" and config.seed == 0 else NEVER)
    assert only(fig2, "DAgger is as fast") == {None}
    assert only(fig2, "LogLossBC learns faster") == {False}
    dagger = times_of("fig2", lambda config: 16_000 if config.method == "dagger" else NEVER)
    assert only(dagger, "DAgger is as fast") == {False}
    assert only(dagger, "LogLossBC learns faster") == {None}
    late = times_of("fig2", lambda config: 160_000 if config.method == "dagger" else NEVER)
    assert only(late, "DAgger is as fast") == {None}
    fig3 = times_of("fig3", lambda config: 16_000 if config.method == "nail-r" else NEVER)
    assert only(fig3, "later NAIL-F") | only(fig3, "no seed of NAIL-F") == {None}
    fig5 = times_of("fig5", lambda config: 16_000 if config.beta == 0.25 and config.seed == 0 else NEVER)
    assert only(fig5, "speed depends") | only(fig5, "dependence is strong") == {None}


def test_a_reverse_kl_beyond_the_budget_takes_at_least_the_budget():
    """The forward KL takes 96,000 of 160,000 episodes, then 40,000."""
    for forward, holds in ((96_000, None), (40_000, True)):
        found = times_of("fig5", lambda c, forward=forward: NEVER if c.method == "nail-r" else forward)
        assert only(found, "dependence is strong") == {holds}
    found = times_of("fig5", lambda config: NEVER if config.method == "nail-f" else 40_000)
    assert only(found, "dependence is strong") == {False}

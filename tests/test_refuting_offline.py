"""Rows that turn the claims of the figures on offline learners, unknown noise, rare actions, mistakes, estimators."""

import pytest
from refuting import stored, unturned


def times(factor, *columns, **where):
    """A change: columns of the rows that agree with `where`, multiplied by a number."""

    def change(rows):
        chosen = (rows[list(where)] == where).all(axis=1)
        return rows.assign(**{c: rows[c].mask(chosen, rows[c] * factor) for c in columns})

    return change


def put(value, column, **where):
    """A change: a column of the rows that agree with `where`."""
    return lambda rows: rows.assign(**{column: rows[column].mask((rows[list(where)] == where).all(axis=1), value)})


def linear(rows):
    """n* in proportion to H."""
    return rows.assign(n_star=10 * rows.horizon, low=9 * rows.horizon, high=11 * rows.horizon)


N_STAR = ("n_star", "low", "high")
CHANGES = {
    "theory_offline_best": {
        "is a mode of the posterior": put(1, "off_mode", method="loglossbc", n=1),
        "as the posterior's mass": lambda rows: rows.assign(above=rows.above + 0.02),
        "contain it as often": lambda rows: rows.assign(exact=rows.exact + 0.02),
        "no offline learner": put(0.1, "above", method="margins", n=4),
        "the genie, told": lambda rows: rows.assign(genie=rows.genie - 0.02),
        "exponential in H": linear,
        "no fewer episodes": times(2, *N_STAR),
    },
    "theory_unknown_noise": {
        "NAILGUN, told nothing": put(1, "censored", method="nailgun", eta=0.46),
        "being outside its guarantee": put(0.4, "mean_loss", method="nailgun"),
        "n* of NAILGUN over H and η": times(1.3, "exact"),
        "whatever η' it is told": put(1, "censored", method="nail-wrong-eta", told_eta=0.5),
        "told η' = 0.9": times(0.5, *N_STAR, told_eta=0.9),
        "told η' = 0.01": times(2, *N_STAR, told_eta=0.01),
        "told the true η and ν": times(10, *N_STAR, method="nail-channel"),
        "a wrong ν fails": put(0, "censored", kind="floor"),
    },
    "theory_rare_action": {
        "do not grow with H": lambda rows: rows.assign(episodes=rows.episodes * rows.horizon),
        "grow linearly": put(100, "episodes"),
        "over η and c": lambda rows: rows.assign(guide=rows.guide * rows.eta),
        "the simulated test errs": times(2, "wrong"),
        "both signs of the reward": times(0.1, "positive", learner="moment"),
        "maximum likelihood": times(3, "positive", learner="ml"),
        "for action 1 alone": put(0.01, "positive", learner="always", sign=1),
        "the mean of signed regret": put(1.0, "signed", learner="moment"),
    },
    "theory_compounding": {
        "the dynamic programme's": times(1.001, "dynamic_programme", recovery=8),
        "the simulated cost's": lambda rows: rows.assign(simulated=rows.exact + 2 * rows.standard_error),
        "the cost is at most": times(1 / 3, "bound"),
        "the cost grows": lambda rows: rows.assign(exact=rows.exact * rows.horizon**0.2),
    },
    "estimator_variance": {
        "the enumeration of all": times(1.001, "enumerated_variance", horizon=4),
        "Monte Carlo mean": put(6.0, "mean_errors", gamma=0.5),
        "γ = 1 is unbiased": put(0.0, "bias", gamma=0),
        "martingale bound holds": times(0.01, "martingale_bound"),
        "variance grows as": lambda rows: rows.assign(variance=rows.variance * rows.horizon**0.2),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, stored(name), CHANGES[name])

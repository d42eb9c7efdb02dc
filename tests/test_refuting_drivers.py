"""Rows of the figures on drivers and on sampling that turn their claims, made from the stored ones."""

import numpy as np
import pytest
from refuting import stored, unturned


def where(rows, **wanted):
    return (rows[list(wanted)] == wanted).all(axis=1)


def power(exponent, scale=1.0, **wanted):
    """A change: the total variation of some rows is scale·n^exponent."""
    return lambda rows: rows.assign(tv=rows.tv.mask(where(rows, **wanted), scale * rows.episodes**exponent))


def times(factor, column, **wanted):
    """A change: a column of some rows, times a factor."""
    return lambda rows: rows.assign(**{column: rows[column].mask(where(rows, **wanted), factor * rows[column])})


def n_star(law, method):
    """A change: n* of a method on the chain is a function of H, known to 2 %."""

    def change(rows):
        chosen, n = where(rows, method=method, kind="chain"), law(rows.horizon)
        return rows.assign(censored=rows.censored.mask(chosen, 0), **{
            name: rows[name].mask(chosen, factor * n) for name, factor in (("n_star", 1), ("low", 0.98), ("high", 1.02))
        })  # fmt: skip

    return change


def accuracy(value, **wanted):
    """A change: the full-chain accuracy of some runs, from the start."""
    return lambda rows: rows.assign(full_exact=rows.full_exact.mask(where(rows, kind="run", **wanted), value))


DETERMINISTIC, STOCHASTIC = {"expert": "deterministic"}, {"expert": "stochastic"}
CHANGES = {
    "theory_drivers": {
        "driver greedy: the TV does not fall": power(-0.2, **STOCHASTIC, method="nail-channel"),
        "driver greedy: the TV ends": times(1.2, "tv", **STOCHASTIC, method="nail-channel"),
        "stochastic expert, driver sampled from the clean estimate: the TV": power(
            -0.25, **STOCHASTIC, method="opd-channel"
        ),
        "stochastic expert, driver sampled from the noisy law: the TV": power(-0.25, **STOCHASTIC, method="opd-f"),
        "driver sampled from the clean estimate ends nearer": times(1.1, "tv", **STOCHASTIC, method="opd-channel"),
        "deterministic expert, driver greedy: the TV": power(-0.25, **DETERMINISTIC, method="nail-channel"),
        "deterministic expert, driver sampled from the noisy law: the TV": power(
            -0.25, **DETERMINISTIC, method="opd-f"
        ),
        "deterministic expert, driver sampled from the clean estimate: the TV": power(
            -0.25, **DETERMINISTIC, method="opd-channel"
        ),
        "driver greedy ends nearer": times(2, "tv", **DETERMINISTIC, method="nail-channel"),
        "passes a node without": times(1.2, "unvisited", **STOCHASTIC, method="nail-channel"),
        "every other driver": lambda rows: rows.assign(unvisited=rows.unvisited + 0.02),
    },
    "theory_sampling": {
        "is exponential in H": n_star(lambda h: 10 * h, "opd-f"),
        "is polynomial in H": n_star(lambda h: np.exp(0.3 * h), "opd-channel"),
        "grows faster than H": n_star(lambda h: 7 * h, "opd-channel"),
        "at most 3 times": n_star(lambda h: 5 * h, "opd-channel"),
        "OPD-F, channel-aware, solves every cell": accuracy(1.0, method="opd-f", channel_aware=True),
        "NAIL-F, channel-aware, solves every cell": accuracy(
            0.9, method="nail-f", channel_aware=True, m=4, eta=0.25, seed=0
        ),
        "ends above every seed": accuracy(0.8, method="opd-f", channel_aware=False, m=10, eta=0.5, seed=3),
        "still solve sooner": accuracy(1.0, method="opd-f", channel_aware=True, m=10, eta=0.5, seed=0),
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, stored(name), CHANGES[name])

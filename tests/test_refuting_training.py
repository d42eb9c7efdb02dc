"""Rows of figures 1 to 5 that turn their claims, made from the stored ones."""

import pytest
from nail_experiments.fig5 import with_beta
from refuting import stored, unturned


def put(metric, value, **where):
    """A change: a metric of the rows that agree with `where`. One seed is enough where a claim speaks of every seed."""

    def change(rows):
        chosen = (rows[list(where)] == where).all(axis=1)
        return rows.assign(**{metric: rows[metric].mask(chosen, value)})

    return change


def alike(rows):
    """Every run has solved its task at the first evaluation after the start."""
    return rows.assign(full_exact=(rows.episodes > 0).astype(float))


def slower_with_beta(rows):
    """The pure reverse KL takes three times as long as the forward KL, and mixtures are between them."""
    rows = with_beta(rows)
    return rows.assign(full_exact=(rows.episodes >= 40_000 * (1 + 2 * rows.beta)).astype(float))


CHANGES = {
    "fig1": {"every seed of NAIL-F is above": put("full_exact", 1.0, method="opd-f", seed=0)},
    "fig2": {
        "NAIL-F drives the clean loss": put("val_loss", 0.06, method="nail-f", eta=0, seed=1),
        "NAIL-R drives the clean loss": put("val_loss", 0.01, method="nail-r", eta=0),
        "NAIL-F reaches perfect": put("full_exact", 0.98, method="nail-f", eta=0, seed=2),
        "NAIL-R reaches perfect": put("full_exact", 0.99, method="nail-r", eta=0),
        "OPD-F plateaus": put("val_loss", 0.5, method="opd-f", eta=0),
        "LogLossBC learns faster": put("full_exact", 1.0, method="nail-f", eta=0, seed=0),
        "DAgger is as fast": put("full_exact", 0.9, method="dagger", eta=0, seed=0),
        "NAIL-F solves the task": put("full_exact", 0.9, method="nail-f", eta=0.5, seed=0),
        "NAIL-R solves the task": put("full_exact", 0.9, method="nail-r", eta=0.5, seed=0),
        "η=0.5: DAgger solves the task": put("full_exact", 1.0, method="dagger", eta=0.5),
        "LogLossBC does not solve": put("full_exact", 0.5, method="loglossbc", eta=0.5, seed=0),
        "OPD-F does not solve": put("full_exact", 0.5, method="opd-f", eta=0.5, seed=0),
        "OPD-R does not solve": put("full_exact", 0.5, method="opd-r", eta=0.5, seed=0),
    },
    "fig3": {
        "the hotter the rollouts": alike,
        "no seed of NAIL-F": put("full_exact", 1.0, method="nail-f", temperature=0.4, seed=0),
        "no seed of NAIL-R": put("full_exact", 0.9, method="nail-r", temperature=0, seed=0),
        "sampled at T = 1": put("full_exact", 0.5, method="nail-r", temperature=1, seed=0),
    },
    "fig4": {
        "NAIL-F solves every cell": put("full_exact", 0.9, method="nail-f", m=4, eta=0.25, seed=0),
        "LogLossBC does not solve any cell": put("full_exact", 0.5, method="loglossbc", m=7, eta=0.5, seed=0),
        "OPD-F does not solve any cell": put("full_exact", 0.5, method="opd-f", m=7, eta=0.5, seed=0),
        "the more episodes": alike,
    },
    "fig5": {
        "η=0: every mixture": put("full_exact", 0.9, beta=0.25, method="nail-beta", eta=0, seed=0),
        "η=0.5: every mixture": put("full_exact", 0.9, beta=0.25, method="nail-beta", eta=0.5, seed=0),
        "η=0: speed": alike,
        "η=0: the dependence is strong": slower_with_beta,
        "η=0.5: speed": slower_with_beta,
        "η=0.5: the dependence is strong": slower_with_beta,
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, stored(name), CHANGES[name])

"""Rows that refute each claim of the figures on the general bound and on random MDPs."""

import numpy as np
import pandas as pd
import pytest
from nail_experiments import theory_garnet
from refuting import stored, unturned


def times(factor, column="tv2", **where):
    """A change: a column times a number, or a function of rows, in the rows that have `where`'s values."""

    def change(rows):
        chosen = np.logical_and.reduce([rows[name] == value for name, value in where.items()])
        by = factor(rows) if callable(factor) else factor
        return rows.assign(**{column: rows[column].where(~chosen, rows[column] * by)})

    return change


def driven_by(learner):
    """A change: the mixture's rows in the first setting are those of a learner that is outside the guarantee."""

    def change(rows):
        other = rows[rows.learner == learner]
        same = (rows[["horizon", "size", "eta"]] == other[["horizon", "size", "eta"]].iloc[0]).all(axis=1)
        kept = rows[~(same & (rows.family == "random") & (rows.learner == "mixture"))]
        return pd.concat([other.assign(learner="mixture"), kept])

    return change


def tilted(by, method, expert):
    """A change: one learner's loss on one kind of expert times n^by."""
    return times(lambda rows: rows.episodes**by, "loss", method=method, expert=expert)


def alike(one, other, expert):
    """A change: one learner's losses are another's, instance by instance."""

    def change(rows):
        kept = rows[~((rows.method == one) & (rows.expert == expert))]
        return pd.concat([kept, rows[(rows.method == other) & (rows.expert == expert)].assign(method=one)])

    return change


KEPT = "random: Σ TV² over its bound changes by a factor in "
CHANGES = {
    "theory_general_bound": {
        "random classes: Σ TV²": driven_by("greedy"),
        "exact means of Σ TV² and of": lambda rows: rows.assign(exact_regret=2 * rows.exact_regret),
        "coin and rare: simulated": times(1.2, family="coin"),
        "told the channel": lambda rows: rows.assign(log_weight=rows.log_weight - 1),
        "coin: Σ TV² over its bound is at least": times(0.8, family="coin"),
        "rare: mean regret over its bound is at least": times(0.5, "regret", family="rare"),
        KEPT + "[0.80": times(lambda rows: rows.horizon**0.5, family="random"),
        KEPT + "[0.67": times(lambda rows: rows["size"]**0.5, family="random"),
        "random: Σ TV² over its bound rises": times(lambda rows: 1 - rows.eta, family="random"),
        "random: mean regret over its bound falls": times(lambda rows: rows.horizon**3.0, "regret", family="random"),
        "rare: mean regret over its bound changes": times(lambda rows: rows.horizon**0.5, "regret", family="rare"),
        "the mixture's argmax": times(0.01, learner="greedy"),
        "told η' = 0": times(0.1, learner="wrong-eta"),
    },
    "theory_garnet": {
        "(optimal): over the last 3 octaves the loss of NAIL-F": tilted(1.5, "nail-f", "optimal"),
        "(optimal): over the last 3 octaves the loss of LogLossBC": lambda rows: rows.assign(loss=rows.loss + 0.001),
        "(optimal): over the last 3 octaves the loss of NAIL-R": tilted(1.5, "nail-r", "optimal"),
        "loss of OPD-F, channel-aware has": tilted(0.5, "opd-channel", "soft"),
        "(soft-optimal): over the last 3 octaves the loss of LogLossBC": tilted(0.5, "loglossbc", "soft"),
        "(soft-optimal): over the last 3 octaves the loss of NAIL-R": tilted(-0.5, "nail-r", "soft"),
        "loss of NAIL-F, greedy, falls slower": tilted(-0.5, "nail-f", "soft"),
        "(optimal): at the first": alike("loglossbc", "nail-f", "optimal"),
        "(optimal): at the last n where neither is 0": alike("loglossbc", "nail-f", "optimal"),
        "(soft-optimal): at the first": times(3, "loss", method="opd-channel", expert="soft"),
    },
}  # fmt: skip


def test_a_learner_told_the_channel_wrongly_breaks_the_inequality():
    part = "random classes: Σ TV²"
    rows = stored("theory_general_bound")
    left = unturned("theory_general_bound", rows, {part: driven_by("wrong-eta")})
    assert not [line for line in left if part in line]


def test_a_loss_that_reaches_0_has_its_exponent_before_and_none_without_three_octaves():
    """A curve n^−2 whose last evaluation is 0 in all instances but one; the same, 0 from the fourth on."""
    loss = np.tile(np.exp2(-2.0 * np.arange(6)), (3, 1)) * np.array([[0.9], [1.0], [1.1]])
    loss[1:, -1] = 0
    assert theory_garnet.last_positive(loss) == 4
    np.testing.assert_allclose(theory_garnet.exponent(loss), -2)
    np.testing.assert_allclose(theory_garnet.exponent(loss, loss), 0, atol=1e-12)
    loss[1:, 3:] = 0
    found = theory_garnet.exponent(loss)
    assert np.isnan(found).all()
    assert not theory_garnet.lies(found, -np.inf, -1)


def test_no_claim_holds_of_a_loss_that_is_0_throughout():
    rows = stored("theory_garnet")
    rows = rows.assign(loss=rows.loss.mask((rows.method == "loglossbc") & (rows.expert == "optimal"), 0.0))
    found = [c for c in theory_garnet.claims(rows) if "deterministic" in c.claim and "LogLossBC" in c.claim]
    assert len(found) == 3
    assert not any(c.holds for c in found)


@pytest.mark.parametrize("name", CHANGES)
def test_every_claim_is_turned_by_rows_that_refute_it(name):
    assert not unturned(name, stored(name), CHANGES[name])

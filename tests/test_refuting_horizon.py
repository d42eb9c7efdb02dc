"""Rows that refute what theory_horizon and theory_noise claim."""

import numpy as np
import pytest
from refuting import stored, unturned, verdicts

ENDS = ["n_star", "low", "high"]


def scaled(factor, **wanted):
    """Measured n* of the rows with the `wanted` values times `factor`, a number or a function of the rows."""

    def change(rows):
        found = rows.index[np.logical_and.reduce([rows[name] == value for name, value in wanted.items()])]
        times = factor(rows.loc[found]) if callable(factor) else factor
        rows = rows.astype(dict.fromkeys(ENDS, float))
        rows.loc[found, ENDS] = rows.loc[found, ENDS].mul(times, axis=0)
        return rows

    return change


def steeper(rows):
    """A fifth of the rate more a step, in n* and in the budget."""
    return np.exp(0.1 * rows.horizon)


def doubling(rows):
    """What turns n* into 10·e^{H/10}."""
    return 10 * np.exp(rows.horizon / 10) / rows.n_star


def leaning(curve, on, **wanted):
    """n* a tenth above the curve, each with an interval that contains it: only together they refute it."""

    def change(rows):
        found = rows.index[np.logical_and.reduce([rows[name] == value for name, value in wanted.items()])]
        known = rows[(rows.method == curve) & (rows.n_actions == rows.loc[found[0], "n_actions"])].set_index(on).n_star
        rows = rows.astype({**dict.fromkeys(ENDS, float), "censored": int})
        rows.loc[found, ENDS] = np.outer(rows.loc[found, on].map(known), [1.1, 0.99, 1.2])
        rows.loc[found, "censored"] = 0
        return rows

    return change


def beyond(**wanted):
    """No n* within the budget at the points but the first two, all below their curve: they say nothing."""

    def change(rows):
        found = rows.index[np.logical_and.reduce([rows[name] == value for name, value in wanted.items()])][2:]
        rows = rows.astype(dict.fromkeys([*ENDS, "allowed"], float))
        rows.loc[found, [*ENDS, "allowed"]] = [np.inf, 1.0, np.inf, 1.0]
        rows.loc[found, "censored"] = 1
        return rows

    return change


def without(**unwanted):
    """All rows but those with the values."""
    return lambda rows: rows[~np.logical_and.reduce([rows[name] == value for name, value in unwanted.items()])]


CHAIN, CURVES = {"instance": "poison-chain"}, {"part": "curves"}
CHANGES = {
    "theory_horizon": {
        "n* of LogLossBC is exponential": scaled(steeper, method="loglossbc"),
        "n* of OPD-F is exponential": scaled(steeper, method="opd-f", **CURVES),
        "n* of OPD-R (reads probabilities) is exponential": scaled(steeper, method="opd-r"),
        "n* of LogLossBC is the exact one": scaled(1.5, method="loglossbc", **CHAIN),
        "n* of NAIL-F is that of the law": scaled(1.2, method="nail-f", **CURVES),
        "n* of NAIL-F is not exponential": scaled(1.2, method="nail-f", **CURVES),
        "n* of DAgger is not exponential": scaled(1.5, method="dagger"),
        "n* of NAIL-R (reads probabilities) is not exponential": scaled(doubling, method="nail-r"),
        "at least the genie's number": scaled(0.5, method="loglossbc", instance="hidden-path"),
        "NAIL-F has the chain's exact n*": scaled(1.2, method="nail-f", part="tree"),
        "OPD-F has the chain's measured n*": scaled(1.3, method="opd-f", instance="hidden-path-tree"),
    },
    "theory_noise": {
        "n*(η) of LogLossBC is the exact one": scaled(1.5, method="loglossbc"),
        "n*(η) of NAIL-F is that of the law": scaled(1.3, method="nail-f"),
        "the more noise, the larger the factor": scaled(lambda rows: np.exp(-20 * rows.eta), method="loglossbc"),
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_claim_is_refuted_by_some_rows(name):
    assert not unturned(name, stored(name), CHANGES[name])


@pytest.mark.parametrize(
    ("name", "part", "change"),
    [
        ("theory_horizon", "LogLossBC is the exact one", leaning("n_bc", "horizon", method="loglossbc", **CHAIN)),
        ("theory_horizon", "NAIL-F is that of the law", leaning("n_greedy", "horizon", method="nail-f", **CURVES)),
        ("theory_noise", "LogLossBC is the exact one", leaning("n_bc", "eta", method="loglossbc")),
        ("theory_noise", "NAIL-F is that of the law", leaning("n_greedy", "eta", method="nail-f")),
        ("theory_horizon", "LogLossBC is the exact one", beyond(method="loglossbc", **CHAIN)),
        ("theory_noise", "LogLossBC is the exact one", beyond(method="loglossbc")),
        ("theory_noise", "the larger the factor", without(method="nail-f")),
        ("theory_noise", "LogLossBC is the exact one", without(method="n_bc")),
        ("theory_horizon", "hidden path: n* of LogLossBC is exp", without(method="loglossbc", instance="hidden-path")),
        ("theory_horizon", "genie", without(method="loglossbc", instance="hidden-path")),
        ("theory_horizon", "n* of OPD-F is exp", without(method="opd-f", **CURVES)),
        ("theory_horizon", "n* of NAIL-F is not exp", without(method="nail-f", **CURVES)),
        ("theory_horizon", "n* of DAgger is not exp", without(method="nail-f", **CURVES)),
        ("theory_horizon", "n* of NAIL-R", without(method="nail-r")),
        ("theory_horizon", "chain's exact n*", without(part="tree")),
        ("theory_horizon", "chain's measured n*", without(part="tree")),
        ("theory_horizon", "chain's measured n*", without(method="opd-f", part="tree", **CHAIN)),
    ],
)
def test_a_bias_that_intervals_hide_and_rows_that_are_missing_refute(name, part, change):
    after = [holds for claim, holds in verdicts(name, change(stored(name))).items() if part in claim]
    assert after
    assert not any(after)


def test_the_tree_is_compared_at_the_horizons_that_both_have():
    rows = stored("theory_horizon")
    found = verdicts("theory_horizon", without(method="opd-f", part="tree", horizon=5, **CHAIN)(rows))
    assert found["OPD-F has the chain's measured n* on the hidden path's own tree too"]


def test_a_factor_beyond_the_budget_is_a_lower_bound():
    """n* of LogLossBC unknown at the largest η: the factor still grows if the budget is large, not if it is small."""

    def cut(rows, budget):
        last = rows.index[(rows.method == "loglossbc") & (rows.eta == rows.eta.max())]
        rows = rows.astype(dict.fromkeys([*ENDS, "allowed"], float))
        rows.loc[last, [*ENDS, "allowed"]] = [np.inf, budget, np.inf, budget]
        rows.loc[last, "censored"] = 1
        return rows

    statement, rows = "the more noise, the larger the factor between LogLossBC and NAIL-F", stored("theory_noise")
    assert verdicts("theory_noise", cut(rows, 50_000.0))[statement]
    assert not verdicts("theory_noise", cut(rows, 50.0))[statement]

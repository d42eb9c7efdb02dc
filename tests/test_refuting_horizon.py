"""Rows that refute what theory_horizon and theory_noise claim."""

import numpy as np
import pytest
from refuting import stored, unturned

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


CHAIN, CURVES = {"instance": "poison-chain"}, {"part": "curves"}
CHANGES = {
    "theory_horizon": {
        "n* of LogLossBC is exponential": scaled(steeper, method="loglossbc"),
        "n* of OPD-F is exponential": scaled(steeper, method="opd-f", **CURVES),
        "n* of OPD-R (reads probabilities) is exponential": scaled(steeper, method="opd-r"),
        "n* of LogLossBC is the exact one": scaled(1.5, method="loglossbc", **CHAIN),
        "n* of NAIL-F is that of the law": scaled(1.2, method="nail-f", **CURVES),
        "n* of NAIL-F is linear": scaled(1.2, method="nail-f", **CURVES),
        "n* of DAgger is linear": scaled(1.5, method="dagger"),
        "n* of NAIL-R (reads probabilities) is not exponential": scaled(doubling, method="nail-r"),
        "at least the genie's number": scaled(0.5, method="loglossbc", instance="hidden-path"),
        "NAIL-F has the chain's exact n*": scaled(1.2, method="nail-f", part="tree"),
        "OPD-F has the chain's measured n*": scaled(1.3, method="opd-f", instance="hidden-path-tree"),
    },
    "theory_noise": {
        "n*(η) of LogLossBC is the exact one": scaled(1.5, method="loglossbc"),
        "n*(η) of NAIL-F is that of the law": scaled(1.3, method="nail-f"),
        "a level costs a greedy learner 1/κ(η)": scaled(1.2, method="n_levels"),
        "the more noise, the larger the factor": scaled(lambda rows: np.exp(-20 * rows.eta), method="loglossbc"),
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_claim_is_refuted_by_some_rows(name):
    assert not unturned(name, stored(name), CHANGES[name])

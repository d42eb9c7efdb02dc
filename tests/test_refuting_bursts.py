"""Rows that refute what theory_bursts claims."""

import numpy as np
import pytest
from refuting import stored, unturned, verdicts
from test_refuting_horizon import ENDS, beyond, scaled, without


def wronger(rows):
    """NAIL-F's policy wrong in a twentieth more episodes at every ρ."""
    found = rows.index[rows.method == "nail-f"]
    columns = ["wrong", "wrong_low", "wrong_high"]
    rows = rows.astype(dict.fromkeys(columns, float))
    rows.loc[found, columns] *= 1.05
    return rows


def dearer(rows):
    """What makes LogLossBC's n* at the largest ρ that at the least one."""
    return np.where(rows.rho == rows.rho.max(), rows.n_star[rows.rho.idxmin()] / rows.n_star, 1.0)


CHANGES = {
    "theory_bursts": {
        "n*(ρ) of LogLossBC is the exact one": scaled(1.3, method="loglossbc"),
        "the longer the bursts": scaled(dearer, method="loglossbc"),
        "wrong in μH episodes": wronger,
        "changes by a larger factor": scaled(dearer, method="loglossbc"),
    },
}


def test_each_claim_is_refuted_by_some_rows():
    assert not unturned("theory_bursts", stored("theory_bursts"), CHANGES["theory_bursts"])


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("is the exact one", beyond(method="loglossbc")),
        ("the longer", beyond(method="loglossbc")),
        ("larger factor", beyond(method="loglossbc")),
        ("is the exact one", without(method="n_bc")),
        ("is the exact one", without(method="loglossbc")),
        ("wrong in μH episodes", without(method="nail-f")),
        ("wrong in μH episodes", without(method="n_levels")),
        ("larger factor", without(method="nail-f")),
    ],
)
def test_rows_that_are_missing_or_beyond_the_budget_refute(part, change):
    after = [
        holds for claim, holds in verdicts("theory_bursts", change(stored("theory_bursts"))).items() if part in claim
    ]
    assert after
    assert not any(after)


def test_a_rise_between_neighbours_refutes():
    """One ρ with twice the n* of the one before it, and everything else as it was."""

    def change(rows):
        rows = rows.astype(dict.fromkeys(ENDS, float))
        own = rows[rows.method == "loglossbc"].sort_values("rho").index
        rows.loc[own[4], ENDS] = 2 * rows.loc[own[3], ENDS].to_numpy()
        return rows

    statement = "the longer the bursts, the fewer trajectories LogLossBC needs"
    assert verdicts("theory_bursts", stored("theory_bursts"))[statement]
    assert not verdicts("theory_bursts", change(stored("theory_bursts")))[statement]

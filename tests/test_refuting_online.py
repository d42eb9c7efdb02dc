"""Rows of theory_online_exact that turn its claims, made from the stored ones."""

import pytest
from refuting import stored, unturned, verdicts


def where(rows, **wanted):
    return (rows[list(wanted)] == wanted).all(axis=1)


def shifted(error, **wanted):
    """A change: measured success of some points, with its interval, is `error` higher."""
    return lambda rows: rows.assign(**{
        name: rows[name] + error * where(rows, kind="success", **wanted) for name in ("success", "low", "high")
    })  # fmt: skip


def n_star(law, kind="n_star", names=("n_star", "low", "high"), **wanted):
    """A change: some n*, measured with their intervals or of the curve, are a function of H and themselves."""

    def change(rows):
        chosen = where(rows, kind=kind, **wanted)
        return rows.assign(**{name: rows[name].mask(chosen, law(rows.horizon, rows[name])) for name in names})

    return change


def of_actions(n_actions, mu):
    """The changes for the claims at one number of actions: the learner is better than the law in a few points of a
    hundred; levels cost 6 % less; the excess over μH grows with H, not √H."""
    here = {"n_actions": n_actions}
    return {
        f"success(n) of simulated NAIL-F at A = {n_actions}": shifted(0.06, **here),
        f"measured n*(H) at A = {n_actions} is μH": n_star(lambda h, n: n - 0.06 * mu * h, **here),
        f"measured n*(H) − μH at A = {n_actions}": n_star(lambda h, n: n + 0.5 * h, **here),
    }


CHANGES = {
    "theory_online_exact": {
        **of_actions(2, 2.0),
        **of_actions(4, 2.72),
        "n*(H) of simulated NAIL-F is that": n_star(lambda h, n: 1.1 * n),
    }
}


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, stored(name), CHANGES[name])


@pytest.mark.parametrize(("part", "change"), [
    ("measured n*(H) − μH at A = 2", n_star(lambda h, n: 2.0 * h + 10, n_actions=2)),
    ("n*(H) of simulated NAIL-F is that", lambda rows: rows.assign(**{
        name: rows[name].mask(where(rows, kind="n_star"), factor * rows.exact)
        for name, factor in (("n_star", 1.03), ("low", 0.99), ("high", 1.07))
    })),
])  # fmt: skip
def test_other_ways_to_fail(part, change):
    """An excess that does not grow, intervals that all contain the curve but lean."""
    left = unturned("theory_online_exact", stored("theory_online_exact"), {part: change})
    assert not [line for line in left if "not turned" in line or "no claim" in line]


@pytest.mark.parametrize(
    ("kind", "part"), [("success", "success(n)"), ("n_star", "measured n*"), ("n_star", "n*(H) of")]
)
def test_without_points_no_claim_holds(kind, part):
    rows = stored("theory_online_exact")
    found = [
        holds for claim, holds in verdicts("theory_online_exact", rows[rows.kind != kind]).items() if part in claim
    ]
    assert found
    assert not any(found)

"""Rows of `opd_fixes` that turn its claims, made from rows under which all of them hold."""

import numpy as np
import pandas as pd
import pytest
from nail_experiments.opd_fixes import analyse, draw, prepared, runs
from refuting import unturned, verdicts

EPISODES = np.linspace(0, 64_000, 9)
CELL = " ".join(["{}"] * 10)


def expected():
    """Rows of the preset `cpu` as docs/post_training.md §1.6 expects them; nothing is computed."""
    rows = []
    for config in runs("cpu"):
        solves = 8_000 * (1 + config.rollout_number * 9) if config.rollout_number < 0.9 else np.inf
        echoing = config.recovery == "echo" and config.rollout_number == 1
        for step, episodes in enumerate(EPISODES):
            off = {"lsm": 0.6, "lsm-unrenormalised": 0.7}.get(config.method, 0.0) if step else 0.5
            repeats = 0.125 + 0.05 * step * echoing
            cells = {"off_support": off, "repeated": repeats, "advantage_mean": -0.5, "advantage_low": -2.0,
                     "advantage_negative": 0.5}  # fmt: skip
            rows.append({
                **config.columns(), "step": step, "episodes": episodes,
                "full_exact": float(config.method != "lsm-unrenormalised" and episodes >= solves),
                **{name: CELL.format(*[value] * 10) for name, value in cells.items()},
            })  # fmt: skip
    return pd.DataFrame(rows)


def put(metric, value, **where):
    """A change: a column of the rows that agree with `where`."""

    def change(rows):
        chosen = np.logical_and.reduce([rows[name] == wanted for name, wanted in where.items()])
        return rows.assign(**{metric: rows[metric].mask(chosen, value)})

    return change


def alike(rows):
    """Every run has solved its task at the first evaluation after the start."""
    return rows.assign(full_exact=(rows.episodes > 0).astype(float))


def cell(value):
    return CELL.format(*[value] * 10)


SAMPLED, FULL = ({"method": "opd-r-top-p", "estimator": kind, "recovery": "none"} for kind in ("mc", "full"))
ECHO = {"recovery": "echo"}
CHANGES = {
    "opd_fixes": {
        "sampled token: rollouts from nuclei of mass at most 0.5": put(
            "full_exact", 0.9, **SAMPLED, rule_number=0.5, seed=3
        ),
        "sampled token: rollouts from nuclei of mass 0.9": put("full_exact", 0.5, **SAMPLED, rule_number=0.9, seed=1),
        "sampled token: the wider": alike,
        "full law: rollouts from nuclei of mass at most 0.5": put("full_exact", 0.9, **FULL, rule_number=0.0, seed=0),
        "full law: rollouts from nuclei of mass 0.9": put("full_exact", 0.5, **FULL, rule_number=1.0, seed=4),
        "full law: the wider": alike,
        **{
            f"LSM, K = {k}: rollouts from nuclei of mass at most 0": put(
                "full_exact", 0.9, method="lsm", recovery="none", top_k_teacher=k, rule_number=0.0, seed=2
            )
            for k in (2, 4, 7)
        },
        "LSM, K = 2: rollouts from nuclei of mass 1": put(
            "full_exact", 0.5, method="lsm", top_k_teacher=2, rule_number=1.0, seed=0
        ),
        "LSM, K = 2, sampled": put("off_support", cell(0.35), method="lsm", top_k_teacher=2, rule_number=1.0, seed=0),
        "unrenormalised, K = 4": put("off_support", cell(0.63), method="lsm-unrenormalised", seed=2),
        "echo, sampled token: under sampled": put("repeated", cell(0.1), **ECHO, method="opd-r-top-p", seed=1),
        "echo, LSM, K = 4: under sampled": put("repeated", cell(0.1), **ECHO, method="lsm", seed=1),
        "echo, sampled token: greedy": put(
            "full_exact", 0.9, **ECHO, method="opd-r-top-p", rule_number=0.0, seed=1
        ),
        "echo, LSM, K = 4: greedy": put("repeated", cell(0.9), **ECHO, method="lsm", rule_number=0.0, seed=1),
    }
}  # fmt: skip


def test_expected_rows_hold():
    assert all(verdicts("opd_fixes", expected()).values())


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, expected(), CHANGES[name])


def test_the_table_holds_each_setting_and_can_be_drawn():
    """30 settings: 5 × 5, one unrenormalised, 2 × 2 with the echo; 5 seeds each, and 5 diagnostics at 10 positions."""
    rows = expected()
    table = analyse(rows)
    assert len(table) == 30 * (5 + 5 * 10)
    assert set(prepared(rows).objective) == {
        "sampled token", "full law", "LSM, K = 2", "LSM, K = 4", "LSM, K = 7", "unrenormalised, K = 4"
    }  # fmt: skip
    assert len(draw(table).axes) == 4

"""Rows of `routing` that turn its claims, made from rows under which all of them hold."""

import numpy as np
import pandas as pd
import pytest
from nail_experiments.routing import (
    ABSENT,
    DIAGONAL,
    EXECUTION,
    MISRANKED,
    REWARDED,
    STARTS,
    TREATMENTS,
    analyse,
    draw,
    first_stages,
    gains,
    runs,
    treated,
    treatment,
)
from refuting import FIGURES, unturned, verdicts

from nail.figures import experiment
from nail.sweep.stages import flat
from nail.sweep.table import read_rows
from nail.training.config import run_id

BEGIN = {EXECUTION: 0.6, ABSENT: 0.05, MISRANKED: 0.3}
CHANCE = {EXECUTION: 0.3, ABSENT: 1e-6, MISRANKED: 0.5}
"""of a sampled chain, as the geometric mean"""


def start_of(config, misled):
    """By the run's noise, or by that of the run that it goes on from: `misled` are the runs with an expert misread."""
    if config.noise == "misread" or config.start in misled:
        return MISRANKED
    return ABSENT if config.negated == 1 else EXECUTION


def expected():
    """Rows of the preset `cpu` as docs/post_training.md §3 expects them; nothing is computed."""
    rows, configs = [], flat(runs("cpu"))
    misled = {run_id(config) for config in configs if config.noise == "misread"}
    for config in configs:
        start, steps = start_of(config, misled), np.arange(0, config.steps + 1, config.eval_every)
        end = 0.9 if config.method == DIAGONAL[start] else 0.4 if start != EXECUTION else 0.8
        for step in steps:
            accuracy = BEGIN[start] + (end - BEGIN[start]) * step / config.steps
            rows.append({
                "start": "", "negated": np.nan, **config.columns(), "run": run_id(config), "step": step,
                "episodes": step * config.batch, "full_exact": accuracy, "val_loss": -np.log(CHANCE[start]) / 13,
            })  # fmt: skip
    return pd.DataFrame(rows)


def put(start, methods, change, at=slice(None), seed=3):
    """A change of `full_exact` or of `val_loss` in the rows of treatments of a start, of one seed."""

    def changed(rows):
        second = treated(rows)
        for method in methods:
            cell = second[(second.begun == start) & (second.method == method) & (second.seed == seed)].sort_values(
                "step"
            )
            for metric, value in change.items():
                rows.loc[cell.index[at], metric] = value
        return rows

    return changed


FIRST, LAST = slice(0, 1), slice(-1, None)
CHANGES = {
    "routing": {
        f"{EXECUTION}: the behaviour is there": put(EXECUTION, TREATMENTS, {"val_loss": -np.log(0.01) / 13}, FIRST),
        f"{ABSENT}: the behaviour is not": put(ABSENT, TREATMENTS, {"val_loss": -np.log(0.001) / 13}, FIRST),
        f"{MISRANKED}: a sampled chain": put(MISRANKED, TREATMENTS, {"full_exact": 0.5}, FIRST),
        f"{EXECUTION}: {TREATMENTS[DIAGONAL[EXECUTION]]} gains most": put(
            EXECUTION, ["loglossbc"], {"full_exact": 0.9}, LAST
        ),
        f"{ABSENT}: SFT gains most": put(ABSENT, ["grpo"], {"full_exact": 0.9}, LAST),
        f"{MISRANKED}: DPO gains most": put(MISRANKED, ["grpo"], {"full_exact": 0.95}, LAST),
        f"{ABSENT}: what learns": put(ABSENT, ["rft-online"], {"full_exact": 0.5}, LAST),
        f"{MISRANKED}: what learns": put(MISRANKED, ["nail-f"], {"full_exact": 0.5}, LAST),
    }
}


def test_expected_rows_hold():
    assert all(verdicts("routing", expected()).values())


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, expected(), CHANGES[name])


def test_fifteen_cells_begin_with_three_starts():
    """95 runs at `cpu`; the five treatments of a start and seed go on from one run, at one budget."""
    chains = runs("cpu")
    configs = flat(chains)
    assert len(chains) == 75
    assert len({run_id(config) for config in configs}) == len(configs) == 95
    assert [len(chain) for chain in chains] == [2] * 50 + [3] * 25
    treatments = [config for config in configs if config.start and (config.lr, config.steps) != (3e-4, 200)]
    first = {config.start for config in treatments}
    assert (len(treatments), len(first)) == (75, 15)
    for seconds in ([c for c in treatments if c.start == run] for run in first):
        assert {c.method for c in seconds} == set(TREATMENTS)
        assert len({(c.seed, c.steps, c.batch, c.negated, c.epsilon) for c in seconds}) == 1
        assert {c.reward_read for c in seconds if c.method in REWARDED} == {"chain"}
        assert len({(c.noise, c.eta) for c in seconds if c.asks}) == 1
    before, after = first_stages("cpu", ABSENT)[-1], treatment("cpu", ABSENT, "grpo")
    assert (before.negated, before.epsilon) == (0, 0) < (after.negated, after.epsilon) == (1, 1)


def test_the_table_holds_each_cell_and_can_be_drawn():
    table = analyse(expected())
    medians = table[table.kind == "median"].set_index(["begun", "method"])
    assert set(medians.index) == {(start, method) for start in STARTS for method in TREATMENTS}
    budget = treatment("cpu", MISRANKED, "dpo")
    rate = (0.9 - 0.3) / (budget.steps * budget.batch / 10_000)
    assert medians.value[MISRANKED, "dpo"] == pytest.approx(rate)
    cell = treated(expected()).query("begun == @MISRANKED and method == 'dpo'")
    np.testing.assert_allclose(gains(cell), [rate] * 5)
    assert len(draw(table).axes) == 5


def test_stored_claims_are_those_of_the_stored_rows():
    """figures/routing_claims.csv is what the rows beside it say."""
    claims = experiment.load("routing").claims(read_rows(FIGURES / "routing_rows.csv"))
    kept = pd.read_csv(FIGURES / "routing_claims.csv")
    assert [claim.measured for claim in claims] == kept.measured.tolist()
    assert [claim.holds for claim in claims] == (kept.holds == "holds").tolist()

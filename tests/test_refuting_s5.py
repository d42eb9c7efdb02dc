"""Rows of `s5` that turn its claims, made from rows under which all of them hold."""

import functools

import pandas as pd
import pytest
from nail_experiments.s5 import LAWS, LOGGED, NAIL, NOT_GREEDY, ORDER, analyse, compared, draw, repeated, runs
from refuting import unturned, verdicts

from nail.methods import METHOD
from nail.training.config import run_id

LABEL = {method: METHOD[method].label for method in ORDER}


@functools.cache
def expected(preset):
    """Rows of a preset as docs/token_tasks.md §2.5 expects them; nothing is computed."""
    found = []
    for config in runs(preset):
        solves = config.recovery == "follow" or config.method in NAIL
        for eighth in range(9):
            right = float(solves and eighth > 1)
            if (config.noise, config.method) == ("distributional", "opd-f") and preset == "paper" and eighth == 8:
                right = LOGGED[config.estimator].get(config.eta, right)
            step = config.steps * eighth // 8
            found.append({**config.columns(), "step": step, "episodes": step * config.batch, "full_exact": right,
                          "val_loss": 1.0 - right})  # fmt: skip
    return pd.DataFrame(found)


def put(value, law=None, last=False, **where):
    """A change: full-chain accuracy of the rows that agree, under a law, perhaps at the end alone."""

    def change(table):
        if law is not None:
            where.update(zip(("noise", "recovery"), LAWS[law], strict=True))
        chosen = (table[list(where)] == where).all(axis=1)
        if "eta" not in where:
            chosen &= table.eta == 0.8
        if last:
            chosen &= table.step == table.step.max()
        return table.assign(full_exact=table.full_exact.mask(chosen, value))

    return change


CHANGES = {
    **{
        f"{law}: {LABEL[method]} solves": put(0.94, law, method=method, seed=1) for law in LAWS for method in NAIL
    },
    **{
        f"{law}: LogLossBC and NAIL-F": put(0.85, law, method="loglossbc", seed=2)
        for law in ("distributional", "semantic key")
    },
    **{
        f"random suffix: {LABEL[method]} does not": put(0.5, "random suffix", method=method, seed=0)
        for method in NOT_GREEDY
    },
    **{
        f"random suffix: NAIL-F is ahead of {LABEL[method]}": put(1.0, "random suffix", method=method, seed=4)
        for method in NOT_GREEDY
    },
}  # fmt: skip
REPEATED = {
    f"OPD-F, {words}, repeats": put(LOGGED[kind][0.3] - 0.11, last=True, method="opd-f", estimator=kind, eta=0.3)
    for kind, words in (("mc", "sampled"), ("full", "whole law"))
}


@pytest.mark.parametrize(("preset", "changes"), [("cpu", CHANGES), ("paper", {**CHANGES, **REPEATED})])
def test_rows_can_refute_every_claim(preset, changes):
    assert all(verdicts("s5", expected(preset)).values())
    assert not unturned("s5", expected(preset), changes)


def test_runs_of_a_seed_share_their_first_stage():
    """75 runs after 5 first stages at `cpu`; at `paper` 75 from scratch and 20 that the authors logged, one of which is
    among the 75."""
    chains, alone = runs("cpu"), runs("paper")
    first = {run_id(config): config for config in chains if not config.start}
    later = [config for config in chains if config.start]
    assert (len(first), len(later), len(alone)) == (5, 75, 94)
    assert all(config.seed == first[config.start].seed for config in later)
    assert {config.eta for config in first.values()} == {0.0}
    assert not any(config.start for config in alone)


def test_the_table_holds_the_laws_and_the_authors_runs():
    """3 laws × 5 methods × 2 metrics × 9 evaluations; at `paper` 20 runs twice beside them."""
    for preset, more in (("cpu", 0), ("paper", 40)):
        rows = expected(preset)
        table = analyse(rows)
        assert len(table) == 3 * 5 * 2 * 9 + more
        assert len(compared(rows)) == 75 * 9
        assert len(repeated(rows)) == more
        assert len(draw(table).axes) == 6

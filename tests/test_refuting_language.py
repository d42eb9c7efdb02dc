"""Rows of `fig6` that turn its claims, made from rows under which all of them hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nail_experiments._language_claims import apart, final
from nail_experiments.fig6 import BETAS, OTHERS, SEEDS, SETTINGS, TEMPERATURES, analyse, draw, runs
from refuting import stored, unturned, verdicts

from nail.lm.config import PATHS, LmConfig, check
from nail.methods import METHOD

PRESETS = ("smoke", "cpu", "paper")


def configs(preset):
    return runs(preset, LmConfig(**{name: Path(name) for name in PATHS}, **SETTINGS[preset]))


def expected(preset):
    """Rows as the caption and the theory have them: forward learns fastest, at high noise only NAIL learns."""
    found = [] if preset == "paper" else [{"part": "expert made", "accuracy": 0.99, "step": 1}]
    low, high = TEMPERATURES[preset]
    for t, right in ((0.0, 0.98), (low, 0.7), (high, 0.02)):
        found.append({"part": "expert", "temperature": t, "accuracy": right, "accuracy_low": right - 0.01,
                      "accuracy_high": right + 0.01})  # fmt: skip
    for config in configs(preset):
        nail, noisy = config.method == "nail-beta", config.expert_temperature == high
        most = 0.1 if noisy and not nail else 0.9 - 0.1 * nail * config.beta
        for eighth in range(9):
            done = 1 - 0.5 ** (eighth * (1 - 0.5 * nail * config.beta))
            found.append({"part": "run", **config.columns(), "step": config.steps * eighth / 8, "test_questions": 256,
                          "accuracy": 0.2 + (most - 0.2) * done + 1e-3 * config.seed, "test_loss": 1.0})  # fmt: skip
    return pd.DataFrame(found)


def put(value, *, first=False, **where):
    """A change: accuracy of the rows that agree; of runs after the start, or with `first` at it."""

    def change(table):
        chosen = (table[list(where)] == where).all(axis=1)
        if where["part"] == "run":
            chosen &= (table.step == 0) if first else (table.step > 0)
        return table.assign(accuracy=table.accuracy.mask(chosen, value))

    return change


def changes(preset):
    """Part of a claim → a change that turns it."""
    low, high = (f"t = {t:g}" for t in TEMPERATURES[preset])
    at_low, at_high = ({"part": "run", "expert_temperature": t} for t in TEMPERATURES[preset])
    found = {
        f"{high}: the expert's samples": put(0.5, part="expert", temperature=TEMPERATURES[preset][1]),
        f"{low}: the more forward": put(0.5, **at_low),
        f"{low}: the best forward-heavy": put(0.99, **at_low, beta=1.0, seed=1),
        f"{low}: NAIL at every β, OPD": put(0.95, **at_low, method="loglossbc", seed=0, first=True),
        f"{high}: NAIL at every β": put(0.1, **at_high, method="nail-beta", beta=0.5, seed=0),
    }
    for name in OTHERS[preset]:
        found[f"ends above {METHOD[name].label}"] = put(0.95, **at_high, method=name, seed=1)
    if preset != "paper":
        found["greedy answers are right"] = put(0.94, part="expert", temperature=0.0)
    return found


CHANGES = {"fig6": changes("cpu")}


@pytest.mark.parametrize("preset", PRESETS)
def test_rows_can_refute_every_claim(preset):
    rows = expected(preset)
    before = verdicts("fig6", rows)
    if preset == "smoke":  # two seeds and three β cannot bring p below the level
        assert [claim for claim, holds in before.items() if not holds] == [c for c in before if "Page's test" in c]
        return
    assert all(before.values())
    assert not unturned("fig6", rows, changes(preset))


@pytest.mark.parametrize("preset", PRESETS)
def test_runs_are_all_methods_at_all_levels(preset):
    found = configs(preset)
    settings = len(BETAS[preset]) + len(OTHERS[preset])
    assert len(set(found)) == len(found) == settings * len(TEMPERATURES[preset]) * len(SEEDS[preset])
    assert all(check(config) for config in found)
    methods = [config.method for config in found]
    assert methods == sorted(methods, key=["nail-beta", *OTHERS[preset]].index), "runs of a method are not together"


def test_the_table_holds_what_is_drawn():
    """16 curves of 2 metrics and 9 evaluations, 16 ends, 3 rows of the expert; a number against one by hand."""
    rows = expected("cpu")
    table = analyse(rows)
    assert len(table) == 16 * 2 * 9 + 16 + 3
    chosen = rows[(rows.method == "opd-f") & (rows.expert_temperature == 1.0)]
    by_hand = [part.accuracy.iloc[-1] for _, part in chosen.groupby("seed")]
    np.testing.assert_allclose(final(chosen), by_hand)
    end = table[(table.kind == "end") & (table.method == "opd-f") & (table.expert_temperature == 1.0)].iloc[0]
    np.testing.assert_allclose([end["mean"], end.sd], [np.mean(by_hand), np.std(by_hand, ddof=1)])
    assert len(draw(table).axes) == 6


def test_how_often_alike_evaluations_are_apart():
    """20,000 pairs of evaluations of 256 questions, answered rightly with chance 0.4: 0.16 within 5 standard errors."""
    right = np.random.default_rng(0).binomial(256, 0.4, (2, 20_000)) / 256
    found = np.mean([apart(np.array([a]), np.array([b]), 256) for a, b in right.T])
    assert abs(found - 0.16) < 5 * np.sqrt(0.16 * 0.84 / 20_000) + 0.005  # accuracies are multiples of 1/256
    assert not apart(np.array([0.9, 0.5]), np.array([0.1, 0.5]), 256)


def test_stored_rows_are_those_of_the_runs():
    rows = stored("fig6")
    chosen = rows[rows.part == "run"]
    keys = ["method", "beta", "expert_temperature", "seed"]
    assert set(map(tuple, chosen[keys].to_numpy())) == {tuple(getattr(c, key) for key in keys) for c in configs("cpu")}
    assert set(chosen.steps) == {SETTINGS["cpu"]["steps"]}

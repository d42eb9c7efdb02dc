"""Rows of `self_distillation` that turn its claims, made from rows under which all of them hold."""

import numpy as np
import pandas as pd
from nail_experiments.self_distillation import CHAINS, analyse, draw, kept_at, prepared, runs
from refuting import unturned, verdicts

from nail.training.config import run_id

STEPS = np.arange(0, 301, 30)


def ends(config, shares):
    """(new, old) accuracy at the end as docs/post_training.md §5.5 expects it."""
    if config.slots == "demonstration":
        return (0.92, 0.8) if config.teacher == "expert" else (0.97, 0.95)
    if config.teacher == "expert":
        return 1 - config.eta * 0.5, 0.8
    return (0.5 if shares[config.start] == 0 else 0.8), 0.8


def expected():
    """Rows of the preset `cpu` as they are expected; nothing is computed."""
    configs, rows = runs("cpu"), []
    shares = {run_id(config): config.shown for config in configs}
    for config in configs:
        steps = STEPS if config.start else (0, 300)
        new, old = ends(config, shares) if config.start else (1.0, np.nan)
        for step in steps:
            part = min(1.0, step / 200)
            kept = {"old_answer_exact": 1 - (1 - old) * part, "old_kl": part} if config.start else {}
            rows.append({
                **config.columns(), "run": run_id(config), "step": step, "episodes": step * config.batch,
                "answer_exact": 0.2 + (new - 0.2) * part, **kept,
            })  # fmt: skip
    return pd.DataFrame(rows)


ROWS = expected()
ARMS = [f"{kind}, {teacher}" for kind in ("forward", "reverse") for teacher in ("average", "frozen", "live")]


def put(column, value, arm, seed, **where):
    """A change: a column of an arm's rows of one seed, from some step on."""
    found = prepared(ROWS)
    chosen = (found.arm == arm) & (found.seed == seed) & (found.step >= 200)
    for name, wanted in where.items():
        chosen &= found[name] == wanted
    at = found.index[chosen]
    assert len(at)

    def change(rows):
        rows.loc[at, column] = value
        return rows

    return change


TURNS = {
    "SFT learns": put("old_answer_exact", 0.96, "SFT", 2),
    **{f"{arm}: it keeps more": put("old_answer_exact", 0.75, arm, 1) for arm in ARMS},
    **{f"{arm}: it learns": put("answer_exact", 0.91, arm, 3) for arm in ARMS},
    "worse than a strong teacher": put("answer_exact", 1.0, CHAINS, 0, share=0.1),
    "better than a weak teacher": put("answer_exact", 0.9, "expert", 4, eta=0.9),
    "without a filled slot": put("answer_exact", 0.9, CHAINS, 1, share=0.0),
}
CHANGES = {"self_distillation": TURNS}


def test_expected_rows_hold():
    assert all(verdicts("self_distillation", ROWS).values())


def test_rows_can_refute_every_claim():
    assert not unturned("self_distillation", ROWS, TURNS)


def test_a_run_that_does_not_learn_refutes_the_first_claim():
    changed = put("answer_exact", 0.85, "SFT", 0)(ROWS.copy())
    assert not next(v for k, v in verdicts("self_distillation", changed).items() if k.startswith("SFT learns"))


def test_fine_tuning_is_stopped_at_its_first_evaluation_that_reaches():
    """By hand: new accuracies 0.2, 0.5, 0.4, 0.9 and old ones 1, 0.9, 0.8, 0.7."""
    rows = pd.DataFrame({
        "episodes": [0, 1, 2, 3] * 2, "seed": [0] * 4 + [1] * 4, "answer_exact": [0.2, 0.5, 0.4, 0.9] * 2,
        "old_answer_exact": [1.0, 0.9, 0.8, 0.7, 1.0, 0.9, 0.8, 0.6],
    })  # fmt: skip
    for new, kept in (((0.1, 0.1), (1.0, 1.0)), ((0.5, 0.6), (0.9, 0.6)), ((0.9, 0.95), (0.7, 0.6))):
        np.testing.assert_allclose(kept_at(rows, np.array(new)), kept)


def test_the_table_holds_each_setting_and_can_be_drawn():
    """7 arms, 4 rates of the expert, 2 shares of privileged chains; 5 seeds and 11 evaluations each."""
    table = analyse(ROWS)
    assert len(table) == 13 * (5 + 11)
    assert set(table.arm) == {"SFT", "expert", CHAINS, *ARMS}
    assert sorted(table[table.arm == CHAINS].share.unique()) == [0.0, 0.1]
    seeds = table[(table.kind == "seed") & table.arm.isin(ARMS)]
    assert seeds.stopped.notna().all()
    assert len(draw(table).axes) == 3

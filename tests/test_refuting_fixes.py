"""Rows of `opd_fixes` that turn its claims, made from the stored ones; and rows under which all of them hold."""

import dataclasses
import functools

import numpy as np
import pandas as pd
from nail_experiments._training import SEEDS
from nail_experiments.opd_fixes import SIZE, analyse, draw, prepared, runs
from refuting import stored, unturned, verdicts

from nail.figures.plotting import figure_style
from nail.sweep.stages import by_id, flat
from nail.training.config import run_id

H, STEPS = SIZE["cpu"].m, SIZE["cpu"].steps
CELL = " ".join(["{}"] * H)


def cell(value):
    return CELL.format(*[value] * H)


def expected():
    """Rows of the preset `cpu` as docs/post_training.md §1.6 expects them; nothing is computed."""
    rows = []
    for config in flat(runs("cpu")):
        solves = STEPS * (1 + config.rollout_number) / 4 if config.rollout_number <= 0.5 else np.inf
        fails = config.method in ("lsm-unrenormalised", "loglossbc")
        echoing = config.recovery == "echo" and config.rollout_number == 1
        for step in range(0, STEPS + 1, config.eval_every):
            off = {"lsm": 0.35 if config.start else 0.6, "lsm-unrenormalised": 0.7}.get(config.method, 0.0)
            repeats = 0.125 + 0.5 * step / STEPS * echoing
            cells = {"off_support": off if step else 0.5, "repeated": repeats, "advantage_mean": -0.5,
                     "advantage_low": -2.0, "advantage_negative": 0.5}  # fmt: skip
            rows.append({
                "start": "", **config.columns(), "run": run_id(config), "step": step, "episodes": step * config.batch,
                "full_exact": float(step >= solves and not fails), **{name: cell(x) for name, x in cells.items()},
            })  # fmt: skip
    return pd.DataFrame(rows)


def put(metric, value, begun=None, **where):
    """A change: a column of the rows that agree with `where`, of runs that are stages (True), fresh (False), or any."""

    def change(rows):
        chosen = [rows[name] == wanted for name, wanted in where.items()]
        chosen += [] if begun is None else [(rows.start != "") == begun]
        return rows.assign(**{metric: rows[metric].mask(np.logical_and.reduce(chosen), value)})

    return change


def every(*changes):
    """One change after the other."""
    return lambda rows: functools.reduce(lambda changed, change: change(changed), changes, rows)


def repeating(rows):
    """With the echo and sampled rollouts, after the start."""
    chosen = (rows.recovery == "echo") & (rows.rule_number == 1) & (rows.step > 0)
    return rows.assign(repeated=rows.repeated.mask(chosen, cell(0.9)))


def alike(rows):
    """Every run has solved its task at the first evaluation after the start."""
    return rows.assign(full_exact=(rows.step > 0).astype(float))


def nuclei(objective, begun, **where):
    """Changes for the claims on nuclei of an objective, from one start."""
    name = f"{objective}, {'from an offline start' if begun else 'from scratch'}"
    where = {"method": "opd-r-top-p", "recovery": "none", "begun": begun, **where}
    return {
        f"{name}: rollouts from nuclei of mass at most 0.5": put("full_exact", 0.9, rule_number=0.5, seed=3, **where),
        f"{name}: rollouts from nuclei of mass 0.9": put("full_exact", 0.5, rule_number=0.9, seed=1, **where),
        f"{name}: the wider": alike,
        f"{name}: past the threshold": put("full_exact", 1.0, rule_number=0.7, seed=2, **where),
    }


LSM, ECHO = {"method": "lsm", "recovery": "none"}, {"recovery": "echo"}
STARTS = {False: "from scratch", True: "from an offline start"}
TURNS = {
    "LogLossBC, the offline start": put("full_exact", 0.5, begun=True, step=0, seed=4),
    **{part: change for begun in STARTS for name, kind in (("sampled token", "mc"), ("full law", "full"))
       for part, change in nuclei(name, begun, estimator=kind).items()},
    **{f"LSM, K = {k}, {name}: rollouts from nuclei of mass at most 0":
       put("full_exact", 1.0, begun=begun, top_k_teacher=k, rule_number=0.0, **LSM)
       for begun, name in STARTS.items() for k in (2, 4, 5) if not (begun and k == 5)},
    "LSM, K = 5, from an offline start": put("full_exact", 0.9, begun=True, top_k_teacher=5, rule_number=0.0, seed=2),
    **{f"LSM, K = 2, {name}: rollouts from nuclei of mass 1":
       put("full_exact", 0.5, begun=begun, top_k_teacher=2, rule_number=1.0, seed=0, **LSM)
       for begun, name in STARTS.items()},
    "more mass stays off": put("off_support", cell(0.3), begun=False, top_k_teacher=2, rule_number=1.0, seed=0, **LSM),
    "less mass is off": put("off_support", cell(0.9), begun=True, top_k_teacher=2, rule_number=1.0, seed=1, **LSM),
    "unrenormalised, K = 4": put("off_support", cell(0.63), method="lsm-unrenormalised", seed=2),
    "echo, sampled token: under sampled": put("repeated", cell(0.1), **ECHO, method="opd-r-top-p", seed=1),
    "echo, LSM, K = 4: under sampled": repeating,
    **{f"echo, {name}: greedy": every(put("full_exact", 1.0, **ECHO, method=method, rule_number=0.0),
                                      put("repeated", cell(0.2), **ECHO, method=method, rule_number=0.0))
       for name, method in (("sampled token", "opd-r-top-p"), ("LSM, K = 4", "lsm"))},
}  # fmt: skip
CHANGES = {"opd_fixes": TURNS}


def test_each_seed_has_one_offline_start():
    """Which is followed by 19 settings, and those are the ones that there are from scratch."""
    known = by_id(flat(runs("cpu")))
    staged = [config for config in known.values() if config.start]
    assert {(known[config.start].method, known[config.start].seed) for config in staged} == {
        ("loglossbc", seed) for seed in SEEDS["cpu"]
    }
    assert all(known[config.start].seed == config.seed for config in staged)
    assert len(staged) == 19 * len(SEEDS["cpu"])
    assert {dataclasses.replace(config, start="") for config in staged} <= set(known.values())


def test_expected_rows_hold():
    assert all(verdicts("opd_fixes", expected()).values())


def test_rows_can_refute_every_claim():
    assert not unturned("opd_fixes", stored("opd_fixes"), TURNS)


def test_the_table_holds_each_setting_and_can_be_drawn():
    """43 settings: 2 × (2 × 5 + 3 × 3), one unrenormalised, 2 × 2 with the echo; 5 seeds each, and 5 diagnostics at
    each position. First stages are in none."""
    rows = expected()
    table = analyse(rows)
    assert len(table) == 43 * (5 + 5 * H)
    assert set(prepared(rows).objective) == {
        "sampled token", "full law", "LSM, K = 2", "LSM, K = 4", "LSM, K = 5", "unrenormalised, K = 4"
    }  # fmt: skip
    with figure_style():
        assert len(draw(table).axes) == 6

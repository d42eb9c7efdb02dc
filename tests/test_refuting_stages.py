"""Rows of `stages` that turn its claims, made from rows under which all of them hold."""

import functools

import numpy as np
import pandas as pd
import pytest
from nail_experiments._stages import BEST, CHAINS, NAMES, ORDERS, SEEDS, gain, prepared, runs, stage, teacher
from nail_experiments.stages import analyse, draw
from refuting import stored, unturned, verdicts

from nail.cli.main import main
from nail.sweep.stages import flat
from nail.sweep.table import read_rows
from nail.training.config import run_id

USUAL = {"answer_exact": 0.96, "usual_exact": 1.0, "perturbed_exact": 0.4, "steerability": 0.2, "follow_rate": 0.1,
         "false_flips": 0.0, "over_selection": 0.6}  # fmt: skip
TOLD = {
    "SFT > OPD": {"answer_exact": 0.98, "steerability": 0.4},
    "SFT > NAIL": {"answer_exact": 0.98, "steerability": 0.4},
    "SFT > RL": {"answer_exact": 0.97, "steerability": 0.3},
    **{f"SFT > {name}(ε = 1)": {"steerability": 0.8, "perturbed_exact": 0.9} for name in ("SFT", "OPD", "NAIL", "RL")},
    "RL > RL": {"answer_exact": 0.5},
    "SFT > OPD > OPD": {"answer_exact": 0.98, "steerability": 0.5, "perturbed_exact": 0.5, "over_selection": 0.4},
    BEST: {"answer_exact": 0.99, "steerability": 0.6, "perturbed_exact": 0.6, "over_selection": 0.3},
    "SFT > OPD(ε = 1) > RL(ε = 1)": {"steerability": 0.9, "perturbed_exact": 0.9, "over_selection": 0.1},
    "SFT > OPD(ε = 1) > OPD(ε = 1)": {"steerability": 0.85, "perturbed_exact": 0.8},
}
"""chain → where it differs from `USUAL`"""


def expected():
    """Rows of the preset `cpu` as docs/steering.md §2.3 expects them, two of each run; nothing is computed."""
    return _expected().copy()


@functools.cache
def _expected():
    rows, chains = [], {}
    for config in flat(runs("cpu")):
        run = run_id(config)
        plain = {"loglossbc": "SFT", "opd-f": "OPD", "nail-f": "NAIL", "grpo": "RL"}[config.method]
        mark = {(0.02, 0.3): "", (1.0, 0.3): "(ε = 1)", (1.0, 0.6): "(ε = 1, η_new = 0.6)"}
        word = plain + mark[config.epsilon, config.eta_new]
        chains[run] = f"{chains[config.start]} > {word}" if config.start else word
        for step in (0, config.steps):
            cost = step * config.batch
            rows.append({
                "run": run, **config.columns(), "start": config.start, "step": step,
                "expert_queries": 0 if plain == "RL" else 13 * cost,
                "verified_rollouts": cost if plain == "RL" else np.nan,
                **(USUAL | TOLD.get(chains[run], {}) if step else dict.fromkeys(USUAL, 0.0)),
            })  # fmt: skip
    return pd.DataFrame(rows)


_LAST = {}


def runs_of(rows, chain, seed):
    """Ids of a chain's runs among these rows, of one seed or of all; chains are found once for the same runs."""
    key = frozenset(rows.run)
    if key not in _LAST:
        _LAST[key] = prepared(rows)[["run", "chain", "seed"]]
    last = _LAST[key]
    return frozenset(last.run[(last.chain == chain) & ((last.seed == seed) | (seed is None))])


def put(chain, metric, value, seed=None):
    """A change: a metric of the rows of a chain, of one seed or of all."""

    def change(rows):
        meant = runs_of(rows, chain, seed)
        assert meant
        return rows.assign(**{metric: rows[metric].mask(rows.run.isin(meant), value)})

    return change


CHANGES = {
    "stages": {
        "accuracy hides": put("SFT", "steerability", 0.51, seed=3),
        "SFT > OPD improves": put("SFT > OPD", "answer_exact", 0.5, seed=1),
        "SFT > NAIL improves": put("SFT > NAIL", "steerability", 0.2),
        "SFT > OPD(ε = 1, η_new = 0.6)": put("SFT > OPD(ε = 1, η_new = 0.6)", "perturbed_exact", 0.51, seed=1),
        "SFT > NAIL(ε = 1, η_new = 0.6)": put("SFT > NAIL(ε = 1, η_new = 0.6)", "perturbed_exact", 0.51, seed=4),
        "better than its teacher": put("SFT > NAIL(ε = 1)", "perturbed_exact", 0.5),
        f"{BEST} goes beyond": put(BEST, "over_selection", 0.4),
        "SFT > OPD(ε = 1) > RL(ε = 1) goes beyond": put("SFT > OPD(ε = 1) > RL(ε = 1)", "steerability", 0.8),
        "RL alone": put("RL > RL", "answer_exact", 0.9999),
        f"is above {BEST} in accuracy": put("RL > OPD > SFT", "answer_exact", 0.9999),
        f"is above {BEST} in steerability": put("OPD > SFT > RL", "steerability", 0.61),
        "RL(ε = 1) in accuracy": put(
            "RL(ε = 1) > OPD(ε = 1) > SFT", "perturbed_exact", 0.95
        ),
        "RL(ε = 1) in steerability": put(
            "OPD(ε = 1) > SFT > RL(ε = 1)", "steerability", 0.95
        ),
        ": SFT > OPD(ε = 1) > RL is more": put("SFT > OPD(ε = 1) > RL", "steerability", 0.9),
        **{f": SFT > {name} is more steerable": put(f"SFT > {name}(ε = 1)", "steerability", 0.0)
           for name in ("SFT", "OPD", "NAIL", "RL")},
        "offline labels restore": put("SFT > RL(ε = 1)", "steerability", 0.95),
    }
}  # fmt: skip


def puts(chain, **values):
    """Changes of several metrics of a chain."""

    def change(rows):
        for metric, value in values.items():
            rows = put(chain, metric, value)(rows)
        return rows

    return change


BETTER, DIVERSE_BEST = {"answer_exact": 0.9999, "steerability": 0.5}, "SFT > OPD(ε = 1) > RL(ε = 1)"
MENDS = {
    "SFT > OPD improves": puts("SFT > OPD", **BETTER),
    "SFT > NAIL improves": puts("SFT > NAIL", **BETTER),
    "better than its teacher": puts("SFT > NAIL(ε = 1)", perturbed_exact=0.9),
    f"{BEST} goes beyond": puts(BEST, perturbed_exact=0.6, over_selection=0.3),
    f"{DIVERSE_BEST} goes beyond": lambda rows: puts(DIVERSE_BEST, perturbed_exact=0.95, over_selection=0.0)(
        put("SFT > OPD(ε = 1) > OPD(ε = 1)", "over_selection", 0.1)(rows)
    ),
    ": SFT > OPD(ε = 1) > RL is more": puts("SFT > OPD(ε = 1) > RL", steerability=0.5),
    ": SFT > RL is more steerable": puts("SFT > RL(ε = 1)", steerability=0.9),
}
"""for the rows that are stored: what would make those claims hold that they refute"""


def test_stored_rows_could_have_said_otherwise():
    assert not unturned("stages", stored("stages"), CHANGES["stages"] | MENDS)


def test_expected_rows_hold():
    assert all(verdicts("stages", expected()).values())


@pytest.mark.parametrize("name", CHANGES)
def test_rows_can_refute_every_claim(name):
    assert not unturned(name, expected(), CHANGES[name])


def test_a_stage_that_teaches_nothing_does_not_inherit():
    """Where a teacher with the right mode leads no further either, low accuracy is not the wrong mode's."""
    found = verdicts("stages", put("SFT > OPD(ε = 1)", "perturbed_exact", 0.3)(expected()))
    (meant,) = (claim for claim in found if claim.startswith("SFT > OPD(ε = 1, η_new = 0.6)"))
    assert not found[meant]


def test_a_chain_is_read_off_the_rows_with_what_its_stages_cost():
    """Every chain that was asked for is there once a seed, beside the stages that they begin with; costs add up."""
    rows = prepared(expected())
    assert set(CHAINS) <= set(rows.chain)
    assert (rows.groupby("chain").seed.nunique() == len(SEEDS["cpu"])).all()
    assert len(rows) == len(flat(runs("cpu")))
    steps, batch = rows.steps.iloc[0], rows.batch.iloc[0]
    for order in ORDERS:
        cost = rows[rows.chain == order].iloc[0]
        assert (cost.updates, cost.queries, cost.rollouts) == (3 * steps, 2 * steps * batch * 13, steps * batch)


def test_gains_are_paired_by_seed():
    """By hand: gains 0.1, 0.2, 0.3, 0.4, 0.5 have the mean 0.3 and Student's interval 0.3 ± 2.776·0.1581/√5, whatever
    the order of the rows and what the seeds have in common."""
    rows = expected()
    for seed in range(1, 6):
        rows = put("SFT > OPD", "steerability", 0.1 * seed**2 + 0.1 * seed, seed)(rows)
        rows = put("SFT > SFT", "steerability", 0.1 * seed**2, seed)(rows)
    found = gain(prepared(rows.sample(frac=1, random_state=0)), "SFT > OPD", "SFT > SFT", "steerability").interval
    np.testing.assert_allclose(found, [0.3, 0.3 - 0.1963, 0.3 + 0.1963], atol=1e-4)


def test_the_teachers_share_of_right_answers_falls_with_its_rate():
    """Nothing is lost at rate 0; swaps, assignments and held-out criteria that leave a prompt's answer are right."""
    rows = prepared(expected())
    right, wrong = (teacher(rows, chain) for chain in ("SFT > NAIL(ε = 1)", "SFT > NAIL(ε = 1, η_new = 0.6)"))
    assert teacher(rows.assign(eta_new=0.0), "SFT > NAIL(ε = 1)") == pytest.approx(1)
    assert 1 > right > wrong > 0.25


def test_the_table_holds_each_chain_and_can_be_drawn():
    table = analyse(expected())
    n = prepared(expected()).chain.nunique()
    assert len(table) == n * len(NAMES) * (1 + 5)
    assert len(draw(table).axes) == 5


def test_stages_differ_in_their_prompts_and_teachers_alone():
    base = runs("cpu")[0][0]
    assert [(one.method, one.epsilon, one.eta_new) for one in (stage(base, "OPD"), stage(base, "NAIL(ε = 1)"))] == [
        ("opd-f", 0.02, 0.3), ("nail-f", 1.0, 0.3),
    ]  # fmt: skip
    assert stage(base, "OPD(ε = 1, η_new = 0.6)").eta_new == 0.6


@pytest.mark.slow
def test_the_figure_at_its_smallest(tmp_path, capsys):
    """Each chain has rows of both seeds with a steerability, and the figure is drawn."""
    assert main(["figure", "stages", "--preset", "smoke", "--out", str(tmp_path)]) == 0
    rows = prepared(read_rows(tmp_path / "stages_rows.csv"))
    assert set(CHAINS) <= set(rows.chain)
    assert rows.steerability.between(-1, 1).all()
    assert {path.suffix for path in tmp_path.glob("stages*")} == {".png", ".pdf", ".csv"}

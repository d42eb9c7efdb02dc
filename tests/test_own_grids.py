"""Figures on a grid of the user's own: what is computed, how it is told, claims that the grid does not decide."""

import io

import numpy as np
import pandas as pd
import pytest
from refuting import stored, verdicts
from sweeping import BASE, QUICK, parts, rows_in, times
from test_training_figures import as_the_paper_says, made_up

from nail.cli.figure_command import own_grid
from nail.cli.main import main
from nail.cli.sweep_command import FigureSweep
from nail.figures import experiment
from nail.figures.claims import Claim, every, inside
from nail.figures.configurations import shown
from nail.figures.own import Own
from nail.figures.plotting import figure_style
from nail.figures.report import read_section
from nail.sweep import engine
from nail.sweep.engine import sweep
from nail.sweep.grid import grid
from nail.sweep.store import open_folder
from nail.sweep.table import read_rows, typed
from nail.training.config import run_id


def size(name, preset="smoke", **own):
    return experiment.size_of(experiment.load(name), preset, Own(**own))


def test_the_axes_and_settings_of_a_preset_are_replaced():
    """Runs of figure 4 on the grid that the command line spells; twenty evaluations, as at cpu."""
    own = own_grid("fig4", "cpu", ("m=3:5", "eta=0,0.2", "width=32"), 2, 1000)
    runs = experiment.load("fig4").runs(size("fig4", "cpu", **own))
    assert {(c.m, c.eta, c.seed, c.method) for c in runs} == {
        (m, eta, seed, method)
        for m in (3, 4) for eta in (0.0, 0.2) for seed in (0, 1) for method in ("loglossbc", "opd-f", "nail-f")
    }  # fmt: skip
    assert len(runs) == 24
    assert {(c.width, c.steps, c.eval_every, c.p) for c in runs} == {(32, 1000, 50, 7)}


def test_a_point_has_the_numbers_that_it_has_in_a_preset():
    """Points are the preset's where the grids agree: nothing of the rest of a grid is in their seeds."""
    found = experiment.load("theory_noise")
    of = [{(p["method"], p["eta"]): p for points in found.points(at) for p in points}
          for at in ("smoke", size("theory_noise", vary={"eta": (0.3, 0.2), "method": ("nail-f",)}))]  # fmt: skip
    assert of[0]["nail-f", 0.3] == of[1]["nail-f", 0.3]
    assert {method for method, _ in of[1]} & {"loglossbc", "dagger"} == set()
    horizons = experiment.load("theory_horizon").points(size("theory_horizon", vary={"H": (2, 5)}))
    assert {p["horizon"] for points in horizons for p in points} == {2, 5}
    assert {p["part"] for points in horizons for p in points} == {"curves"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fig4", "--vary", "H=3"], "vary must be an axis of fig4 (method, m, eta), or with one value a setting"),
        (
            ["theory_noise", "--vary", "m=3"],
            "an axis of theory_noise (eta, method), or with one value a setting of it (H,",
        ),
        (["fig2", "--vary", "m=3,4"], "m must be one value: it is no axis of fig2, got 2 values"),
        (["fig4", "--vary", "m=3,3"], "m must be different values, got 3, 3"),
        (["fig4", "--vary", "m=3", "--vary", "m=4"], "vary must be given once for each axis"),
        (["fig4", "--vary", "m="], "m must be one value or more, got no value"),
        (["fig4", "--vary", "m"], "vary must be field=value"),
        (["fig4", "--vary", "eta=0,1"], "eta must be in [0, 1), got 1.0"),
        (["fig4", "--vary", "steps=9"], "a field of TrainConfig other than task, seed, steps"),
        (["fig4", "--seeds", "0"], "seeds must be in 1.."),
        (["fig1", "--vary", "method=dagger"], "unknown method of fig1 'dagger'"),
        (["theory_noise", "--vary", "eta=0.3,1"], "eta must be in [0, 0.9], got 1.0"),
        (["theory_noise", "--vary", "H=x"], "H must be of type int, got 'x'"),
        (["theory_noise", "--seeds", "2"], "seeds must be left out: theory_noise has replicates instead"),
        (["theory_garnet", "--seeds", "2"], "a grid of your own can be given to fig1, fig2, fig3, fig4, fig5, theory"),
        (["fig4", "--redraw", "--seeds", "2"], "must be left out where nothing is computed"),
        (["all", "--steps", "2"], "must be left out for all figures together"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, tmp_path, capsys):
    assert main(["figure", *words, "--preset", "smoke", "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Figure 4 in one cell with two seeds."""
    out = tmp_path_factory.mktemp("own")
    assert main([*COMMAND.split()[1:], "--seeds", "2", "--out", str(out)]) == 0
    return out


COMMAND = "nail figure fig4 --preset smoke --vary m=3 --vary eta=0.5 --vary method=nail-f --steps 4"


def test_no_preset_is_claimed_that_was_not_run(folder):
    """Rows, the folder's README.md and the report name the command; its claims are undecided."""
    rows = read_rows(folder / "fig4_rows.csv")
    command = f"{COMMAND.removesuffix(' --steps 4')} --seeds 2 --steps 4"
    assert set(rows.preset) == {"own"}
    assert {f"nail figure fig4 {options}" for options in rows.options} == {command}
    assert f"| `{command}` | 10 | 0 of 5, 5 undecided |" in (folder / "README.md").read_text()
    section = read_section(folder, "fig4", folder)
    assert dict(section.provenance)["command"] == [command]
    assert {claim["holds"] for claim in section.claims} == {"undecided"}
    assert not section.problems


def test_seeds_are_added_without_computing_the_others_again(folder):
    before = times(parts(folder))
    assert main([*COMMAND.split()[1:], "--seeds", "3", "--out", str(folder)]) == 0
    after = times(parts(folder))
    assert before.items() <= after.items()
    assert [row["seed"] for path in after if path not in before for row in rows_in(path)] == ["2"] * 5
    assert set(read_rows(folder / "fig4_rows.csv").seed) == {0, 1, 2}


def test_a_sweep_runs_seed_by_seed(tmp_path, monkeypatch):
    """The first lots are of every program, with the first seeds; a folder that has some of them goes on alike."""
    lots = []
    monkeypatch.setattr(engine, "_work", lambda todo, *_: lots.extend((lot.configs[0].H, *lot.runs) for lot in todo))
    configs = grid(BASE, H=(2, 3), seed=range(4))
    sweep(configs, open_folder(tmp_path / "out"), QUICK)
    ids = {(c.H, c.seed): run_id(c) for c in configs}
    assert lots == [(h, ids[h, seed], ids[h, seed + 1]) for seed in (0, 2) for h in (2, 3)]


def test_what_would_be_computed_is_shown_with_a_time(tmp_path, capsys):
    """Figure 2 at cpu takes 6 minutes, with twice the seeds 12; a point of n* costs what its replicates do."""
    found = experiment.load("fig2")
    assert "about 6 minutes" in shown(found, "cpu", size("fig2", "cpu", seeds=5))
    assert "about 12 minutes" in shown(found, "cpu", size("fig2", "cpu", seeds=10))
    noise = experiment.load("theory_noise")
    assert "about 70 seconds" in shown(noise, "cpu", size("theory_noise", "cpu", vary={"replicates": (800,)}))
    words = [*COMMAND.split()[1:], "--seeds", "3", "--show-config", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "fig4, a grid of your own: 3 runs"
    assert [line.strip() for line in printed[2:4]] == ["seed", "0–2"]
    assert "method nail-f" in printed[1]
    assert not (tmp_path / "out").exists()


def test_a_sweep_takes_the_same_options():
    """And hands them to the shards of a job."""
    command = FigureSweep(name="fig4", preset="smoke", vary=("m=3,4", "eta=0.5"), seeds=2, steps=4)
    expected = size("fig4", vary={"m": (3, 4), "eta": (0.5,)}, seeds=2, steps=4)
    assert command.configs() == experiment.load("fig4").runs(expected)
    assert command.command() == "fig4 --preset smoke --vary m=3,4 --vary eta=0.5 --seeds 2 --steps 4".split()


def test_verdicts_of_three_values():
    assert [Claim("", "", "", "", holds).verdict for holds in (True, False, None)] == ["holds", "refuted", "undecided"]
    assert [every(True, True), every(True, None), every(None, False)] == [True, None, False]
    ends = [(0.9, 1.1), (0.8, 0.95), (0.5, 2.0), (1.3, 9.0)]
    assert [inside(interval, 0.85, 1.15) for interval in ends] == [True, False, None, False]


def where(**wanted):
    return lambda rows: (rows[list(wanted)] == wanted).all(axis=1)


def without(**wanted):
    return lambda rows: rows[~where(**wanted)(rows)]


def few(column, values):
    """Only the rows with some values of a column."""
    return lambda rows: rows[rows[column].isin(values)]


def low_noise(rows):
    return rows.assign(eta=rows.eta.clip(upper=0.1))


def beyond(**wanted):
    """All points but two of those `wanted` are beyond the budget."""

    def change(rows):
        found = rows.index[where(**wanted)(rows)][2:]
        rows = rows.astype({"n_star": float, "high": float})
        rows.loc[found, ["n_star", "high"]], rows.loc[found, "censored"] = np.inf, 1
        return rows

    return change


def out_of_budget(rows):
    """The last point of n* is beyond the budget."""
    return rows.assign(censored=rows.censored.mask(rows.horizon == rows.horizon.max(), 1))


def unsure(**wanted):
    """Intervals a million times as wide."""

    def change(rows):
        at, rows = where(**wanted)(rows), rows.astype({"low": float, "high": float})
        return rows.assign(low=rows.low.mask(at, rows.low / 1e3), high=rows.high.mask(at, rows.high * 1e3))

    return change


TWO_SEEDS = few("seed", (0, 1))
LACKING = {
    "fig1": [("every seed of NAIL-F", change) for change in (TWO_SEEDS, low_noise, without(method="opd-f"))],
    "fig2": [
        ("NAIL-F drives", without(method="nail-f", eta=0)), ("NAIL-R drives", TWO_SEEDS),
        ("η=0: NAIL-F reaches", few("eta", (0.5,))), ("η=0: NAIL-R reaches", TWO_SEEDS),
        ("plateaus", lambda rows: rows[rows.step.isin((0, 1250, 2500))]), ("LogLossBC learns", without(method="opd-r")),
        ("DAgger is", without(method="loglossbc")), ("NAIL-F solves", lambda rows: rows.assign(full_exact=0.5)),
        ("NAIL-R solves", without(method="nail-r")), ("DAgger solves", TWO_SEEDS), ("does not solve", low_noise),
    ],
    "fig3": [
        ("the hotter the rollouts", few("seed", (0,))), ("no seed of", without(temperature=0)), 
        ("T = 1", without(temperature=1)),
    ],
    "fig4": [
        ("NAIL-F solves", without(method="nail-f")), ("does not solve", few("eta", (0, 0.25))),
        ("the rarer clean", few("m", (4,))),
        ("LogLossBC does not", lambda rows: rows.assign(full_exact=rows.full_exact.mask(rows.m == 10, 0.9))),
    ],
    "fig5": [
        ("every mixture", without(method="nail-beta")), ("speed depends", few("seed", (0,))),
        ("dependence is strong", without(method="nail-r")),
    ],
    "theory_horizon": [
        ("LogLossBC is exponential", beyond(method="loglossbc")), ("OPD-F is exp", without(method="opd-f")),
        ("n* of OPD-R", beyond(method="opd-r")), ("the exact one", without(method="n_bc")),
        ("law of one level", few("horizon", (4, 6))), ("slope is μ", unsure(method="nail-f")),
        ("DAgger", without(method="nail-f", part="curves")), ("NAIL-R", beyond(method="nail-r")),
        ("genie's number", without(instance="hidden-path")), ("chain's", without(part="tree")),
        ("NAIL-F has the chain's", unsure(part="tree")),
    ],
    "theory_noise": [
        ("the exact one", without(method="n_bc")), ("law of one level", few("eta", (0.1, 0.2))),
        ("larger the factor", few("eta", (0.1,))), ("larger the factor", unsure(method="loglossbc")),
    ],
    "theory_online_exact": [
        ("success(n)", without(kind="success")), ("measured n*(H) at", few("horizon", (4, 8))),
        ("measured n*(H) −", few("horizon", (4, 8))), ("measured n*(H) − μH at A = 2", out_of_budget),
        ("n*(H) of", without(kind="n_star")),
    ],
}  # fmt: skip
"""figure → (part of a statement, rows that lack what the claims with that part need, made from the stored ones)"""


SLOW = {"theory_horizon": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in LACKING])
def test_claims_are_undecided_on_a_grid_that_lacks_what_they_need(name):
    rows, meant = stored(name), set()
    statements = verdicts(name, rows)
    for part, change in LACKING[name]:
        found = {claim: holds for claim, holds in verdicts(name, change(rows.copy())).items() if part in claim}
        assert found, part
        assert set(found.values()) == {None}, (part, found)
        meant |= {claim for claim in statements if part in claim}
    assert meant == set(statements)


OTHERS = {
    "fig1": {"vary": {"method": ("nail-f",)}, "seeds": 1},
    "fig2": {"vary": {"eta": (0.1, 0.2, 0.5), "method": ("nail-f", "jsd-beta")}, "seeds": 2},
    "fig3": {"vary": {"method": ("nail-r",), "temperature": (0.5,)}, "seeds": 1},
    "fig4": {"vary": {"m": (3,), "eta": (0.0,), "method": ("nail-f", "opd-r", "dagger", "nail-r")}, "seeds": 1},
    "fig5": {"vary": {"eta": (0.1, 0.3, 0.5), "beta": (0.5,)}, "seeds": 1},
}
"""grids with one value, or more of them than the presets have"""


@pytest.mark.parametrize("name", OTHERS)
def test_figures_of_runs_are_drawn_on_other_grids(name):
    found = experiment.load(name)
    rows = made_up(name, as_the_paper_says, size(name, "cpu", **OTHERS[name]))
    assert {claim.holds for claim in found.claims(rows)} == {None}
    drawn(found, rows)


def drawn(found, rows):
    """A figure's table is drawn, as it is stored."""
    with figure_style():
        table = pd.read_csv(io.StringIO(found.analyse(rows).to_csv(index=False)), dtype=str, keep_default_na=False)
        found.draw(typed(table.to_dict("records"))).canvas.draw()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("theory_noise", few("eta", (0.3,))), ("theory_noise", few("method", ("opd-f", "n_bc"))),
        ("theory_horizon", few("horizon", (6,))), ("theory_horizon", few("method", ("nail-r", "n_greedy"))),
        ("theory_online_exact", few("horizon", (50,))),
    ],
)  # fmt: skip
def test_figures_of_points_are_drawn_on_other_grids(name, change):
    """Also where a known curve or a learner is missing."""
    found, rows = experiment.load(name), change(stored(name))
    assert False not in {claim.holds for claim in found.claims(rows)}
    drawn(found, rows)

"""Figures 1 to 5: every one at the smoke preset, and what tables and claims make of made-up rows."""

import dataclasses
import io
import re
import shutil
from pathlib import Path

import jaxtyping
import matplotlib
import numpy as np
import pandas as pd
import pytest
from nail_experiments import _training as training
from programs import made_once

from nail.checks import BadInput
from nail.cli.main import main
from nail.figures import experiment
from nail.figures.experiment import PRESETS, add_figure
from nail.figures.plotting import LOOK, figure_style, look
from nail.sweep import store
from nail.sweep.stages import flat
from nail.sweep.table import read_rows, typed
from nail.training.config import run_id
from nail.training.ranges import check

FIGURES = ("fig2", "fig1", "fig3", "fig4", "fig5")
NEVER = 10**9


def figure(name, out):
    assert main(["figure", name, "--preset", "smoke", "--out", str(out)]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Figure 2 alone."""
    return made_once(tmp_path_factory, "figure", lambda out: figure("fig2", out))


@pytest.fixture(scope="module")
def folder_of_all(tmp_path_factory):
    """Every figure, in one folder."""
    return made_once(tmp_path_factory, "figures", lambda out: [figure(name, out) for name in FIGURES])


def test_smoke_preset_leaves_every_file(folder):
    check_files("fig2", folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_figures_share_a_folder(name, folder_of_all):
    check_files(name, folder_of_all)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s5", "self_distillation"])
def test_a_figure_of_tokens_or_stages_leaves_every_file(name, tmp_path):
    figure(name, tmp_path)
    check_files(name, tmp_path)


@pytest.mark.parametrize("name", experiment.names())
def test_every_run_of_every_preset_is_one_that_is_computed(name, monkeypatch):
    """None has an option out of range, or one that it does not read. (Types are not checked here: that takes long.)"""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    found = experiment.load(name)
    for preset in found.cost if found.runs else ():
        configs = flat(found.runs(preset))
        assert configs
        for config in {dataclasses.replace(config, seed=0, start="") for config in configs}:
            check(config)


def check_files(name, folder):
    """Picture, table, claims and rows are there, and the rows are those of the figure's runs."""
    for end in (".png", ".pdf", ".csv", "_claims.csv", "_rows.csv"):
        assert (folder / f"{name}{end}").stat().st_size > 0
    rows = read_rows(folder / f"{name}_rows.csv")
    assert set(rows.preset) == {"smoke"}
    assert set(rows.run) == {run_id(config) for config in flat(experiment.load(name).runs("smoke"))}
    assert set(read_rows(folder / f"{name}_claims.csv").holds) <= {"holds", "refuted", "undecided"}
    assert f"`{name}`" in (folder / "README.md").read_text()


def test_smoke_preset_again_computes_nothing_and_changes_nothing(folder, tmp_path, capsys):
    folder = shutil.copytree(folder, tmp_path / "copy")
    kept = {path: path.read_bytes() for path in folder.glob("fig*") if path.suffix != ".pdf"}
    before = sorted(folder.glob("runs/**/*.csv"))
    figure("fig2", folder)
    assert kept == {path: path.read_bytes() for path in kept}
    assert before == sorted(folder.glob("runs/**/*.csv"))
    assert "measured" in capsys.readouterr().out


def test_rows_can_be_drawn_again_without_runs(folder, tmp_path, capsys):
    """With every chain right from the start the claims follow the rows; nothing is computed; without rows it ends."""
    out = store.open_folder(tmp_path / "out")
    again = ["figure", "fig2", "--redraw", "--out", str(out)]
    assert main(again) == 2
    assert "fig2_rows.csv" in capsys.readouterr().err
    rows = read_rows(folder / "fig2_rows.csv").assign(full_exact=1.0)
    rows.to_csv(out / "fig2_rows.csv", index=False)
    assert main(again) == 0
    assert not (out / "runs").exists()
    claims = read_rows(out / "fig2_claims.csv").set_index("claim").holds
    assert claims[claims.index.str.contains("NAIL-F reaches perfect accuracy")].tolist() == ["holds"]
    assert (out / "fig2.png").stat().st_size > 0


def test_a_preset_that_a_figure_does_not_have_is_refused(monkeypatch, tmp_path, capsys):
    """By `nail figure` and by `nail sweep`, before anything is computed; `all` takes the figures that have it."""
    for command in (["figure"], ["sweep"]):
        assert main([*command, "theory_sampling", "--preset", "laptop", "--out", str(tmp_path / "out")]) == 2
        assert "theory_sampling has (smoke, cpu, paper), got laptop" in capsys.readouterr().err
    made = []
    monkeypatch.setattr(experiment, "make", lambda name, *rest: made.append(name))
    assert main(["figure", "all", "--preset", "laptop", "--out", str(tmp_path / "out")]) == 0
    assert sorted(made) == sorted(FIGURES)
    assert not list(tmp_path.iterdir())


def test_the_laptop_preset_is_the_papers_task():
    """p, m and η of every run are the paper's; the budget is at most the paper's 3 million trajectories."""
    paper = training.PAPER
    for config in experiment.load("fig2").runs("laptop"):
        assert (config.p, config.m, config.recovery) == (paper.p, paper.m, paper.recovery)
        assert config.eta in (0.0, paper.eta)
        assert config.batch * config.steps <= paper.batch * paper.steps


def test_the_document_on_the_laptop_preset_has_its_numbers():
    text = (Path(__file__).parents[1] / "docs/laptop.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", text.split("## Why")[0], re.MULTILINE))
    base = training.BASE["laptop"]
    number = lambda text: float(text.replace("−", "-").replace(",", ""))  # noqa: E731
    assert rows["width, heads, blocks"] == f"{base.width}, {base.heads}, {base.layers}"
    assert rows["initial weights"] == f"N(0, {base.init_std}²)"
    rate, warmup = rows["learning rate, warm-up"].removesuffix(" updates").split(", ")
    assert (number(rate), number(warmup), int(rows["batch"])) == (base.lr, base.warmup, base.batch)
    assert number(rows["budget, trajectories"]) == base.batch * base.steps
    assert int(rows["seeds"]) == len(training.SEEDS["laptop"])


def test_figures_share_their_runs():
    """Figure 1 has no run of its own; the greedy ends of figure 3 and the ends of figure 5 are figure 2's."""
    for preset in PRESETS:
        of = {name: set(experiment.load(name).runs(preset)) for name in FIGURES}
        assert of["fig1"] <= of["fig2"]
        assert len(of["fig3"] & of["fig2"]) == 2 * len(training.SEEDS[preset])
        assert len(of["fig5"] & of["fig2"]) == 4 * len(training.SEEDS[preset])


def made_up(name, solves_at, size="cpu"):
    """Rows of a figure's runs whose full-chain accuracy jumps from 0 to 1 at `solves_at(config)` episodes."""
    rows = []
    for config in flat(experiment.load(name).runs(size)):
        for step in range(0, config.steps + 1, config.eval_every):
            episodes = step * config.batch
            right = float(episodes >= solves_at(config))
            fields = {**vars(config), "temperature": config.rollout_temperature, "step": step}
            metrics = {"full_exact": right, "answer_exact": right, "val_loss": 1.0 - right}
            rows.append({k: str(v) for k, v in {**fields, "episodes": episodes, **metrics}.items()})
    return typed(rows)


def verdicts(name, solves_at):
    return [claim.holds for claim in experiment.load(name).claims(made_up(name, solves_at))]


def as_the_paper_says(config):
    """Episodes until solved: NAIL soon, reverse KL later; LogLossBC and sampled rollouts by q^m."""
    q = 1 - config.eta + config.eta / config.p
    if config.method == "loglossbc" or (config.method == "dagger" and config.eta == 0):
        return 8_000 / q**config.m
    if config.eta > 0 and config.rollout_temperature > 0.5:
        return 48_000 / q**config.m
    reverse = {"nail-r": 1.0, "nail-beta": config.beta}.get(config.method, 0.0)
    return 24_000 * (1 + 2 * reverse + config.rollout_temperature)


@pytest.mark.parametrize("name", ["fig1", "fig3", "fig4", "fig5"])
def test_claims_hold_on_rows_as_the_paper_says(name):
    assert all(verdicts(name, as_the_paper_says))


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_decided_when_nothing_is_ever_solved(name):
    """Then the budget or the network may be why."""
    assert set(verdicts(name, lambda config: NEVER)) == {None}


@pytest.mark.parametrize("name", ["fig1", "fig3", "fig4", "fig5"])
def test_claims_of_a_difference_fail_when_all_solve_alike(name):
    standing = {"fig1": 0, "fig3": 2, "fig4": 1, "fig5": 2}
    assert sum(verdicts(name, lambda config: 16_000)) == standing[name]


def test_figure_2_claims_turn_with_the_data():
    held = verdicts("fig2", lambda c: NEVER if c.method in ("opd-f", "opd-r") else as_the_paper_says(c))
    assert all(held)
    assert sum(verdicts("fig2", lambda config: 16_000)) == 8


@pytest.mark.parametrize("name", ["fig3", "fig4", "fig5"])
def test_a_run_that_never_solves_is_censored_at_its_budget(name):
    """Seed 0 never solves, the others at 32,000: the median stays, its interval is open, the seed is marked."""
    rows = made_up(name, lambda config: NEVER if config.seed == 0 else 32_000)
    table = experiment.load(name).analyse(rows)
    seeds, medians = table[table.kind == "seed"], table[table.kind == "median"]
    assert set(zip(seeds.episodes, seeds.censored, strict=True)) == {(160_000.0, 1), (32_000.0, 0)}
    columns = ["episodes", "low", "high", "level", "censored"]
    assert set(medians[columns].itertuples(index=False, name=None)) == {(32_000.0, 32_000.0, np.inf, 0.9375, 0)}
    assert len(seeds) == len(training.SEEDS["cpu"]) * len(medians)


def test_a_verdict_does_not_hang_on_one_evaluation():
    """Each evaluation of the last quarter by itself at 0 leaves every verdict of figure 2 as it was, and three turn the
    claims that a method solves the task."""
    rows = made_up("fig2", lambda config: 16_000)
    before = [claim.holds for claim in experiment.load("fig2").claims(rows)]
    last = np.unique(rows.episodes)[-5:]
    for at in last:
        spoiled = rows.assign(full_exact=rows.full_exact.mask(rows.episodes == at, 0.0))
        assert [claim.holds for claim in experiment.load("fig2").claims(spoiled)] == before
    spoiled = rows.assign(full_exact=rows.full_exact.mask(rows.episodes.isin(last[:3]), 0.0))
    found = experiment.load("fig2").claims(spoiled)
    assert not any(claim.holds for claim in found if " solves the task (full" in claim.claim)


@pytest.mark.parametrize("name", ["fig1", "fig3", "fig4", "fig5"])
def test_drawing_takes_the_table_as_it_is_stored(name):
    found = experiment.load(name)
    text = found.analyse(made_up(name, as_the_paper_says)).to_csv(index=False)
    with figure_style():
        figure = found.draw(pd.read_csv(io.StringIO(text)))
        figure.canvas.draw()
    assert len(figure.axes) >= 3


def test_mean_and_deviation_are_over_seeds():
    rows = made_up("fig1", lambda config: [0, 80_000, NEVER, NEVER, NEVER][config.seed])
    last = training.curve_rows(rows[rows.method == "nail-f"], "full_exact").iloc[-1]
    np.testing.assert_allclose([last["mean"], last["sd"], last["n_seeds"]], [2 / 5, np.std([1, 1, 0, 0, 0], ddof=1), 5])


def test_figures_are_listed_in_reading_order_and_a_name_is_given_once():
    assert experiment.names()[:7] == ["fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "theory_horizon"]
    assert experiment.load("fig2").name == "fig2"
    with pytest.raises(BadInput, match="fig2"):
        add_figure("fig2", lambda: None)
    with pytest.raises(BadInput, match="did you mean 'theory_garnet'"):
        experiment.load("theory_garnets")


def test_the_style_ends_with_its_block_also_after_an_exception():
    before = dict(matplotlib.rcParams)
    with figure_style():
        assert dict(matplotlib.rcParams) != before
    with pytest.raises(ZeroDivisionError), figure_style():
        matplotlib.rcParams["font.size"] = 1 / 0
    assert dict(matplotlib.rcParams) == before


def test_methods_from_outside_look_like_no_other_and_always_the_same(monkeypatch):
    monkeypatch.setattr("nail.figures.plotting.LOOK", dict(LOOK))
    mine, other = look("my-method"), look("my-other-method")
    assert len({*LOOK.values(), mine, other}) == len(LOOK) + 2
    assert len({each.colour for each in (*LOOK.values(), mine, other)}) == len(LOOK) + 2
    assert (look("my-method"), look("my-other-method")) == (mine, other)
    assert look("nail-f") == LOOK["nail-f"]

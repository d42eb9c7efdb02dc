"""`nail figure` for a figure that takes files of the user's and packages beyond the base installation."""

import pytest

from nail.cli.main import main
from nail.figures import experiment
from nail.lm import extra


def test_the_figure_says_what_it_is_given(tmp_path, capsys):
    """Files at another preset, or of another figure, or missing ones: one sentence, before anything is computed."""
    for given, sentence in [
        (["fig6", "--preset", "cpu", "--student", "m"], "student must be left out: fig6 at preset cpu"),
        (["fig2", "--test", "m"], "test must be left out: fig2 at preset cpu is not computed from it"),
        (["all", "--expert", "m"], "expert must be left out for all figures together"),
        (["fig6", "--redraw", "--expert", "m"], "expert must be left out where nothing is computed"),
        (["fig6", "--preset", "paper", "--student", "m", "--test", "q"], "--expert, --prompts must be given"),
    ]:
        assert main(["figure", *given, "--out", str(tmp_path / "out")]) == 2, given
        printed = capsys.readouterr().err
        assert sentence in printed
        assert printed.count("\n") == 1, printed
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bare(monkeypatch):
    """An installation without the extra; what figures are made is noted instead of made."""
    made = []
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    monkeypatch.setattr(experiment, "make", lambda name, *_: made.append(name))
    return made


@pytest.mark.parametrize(
    ("preset", "why"),
    [("smoke", "nail lm needs packages"), ("paper", "--student, --expert, --prompts, --test must be")],
)
def test_all_figures_are_those_that_can_be_computed(bare, preset, why, tmp_path, capsys):
    assert main(["figure", "all", "--preset", preset, "--out", str(tmp_path)]) == 0
    there = [name for name in experiment.names() if preset in experiment.load(name).cost]
    assert bare == [name for name in there if name != "fig6"]
    assert len(bare) == len(there) - 1 > 10
    printed = capsys.readouterr().err
    assert "nail: fig6 is left out (" in printed
    assert why in printed


def test_the_figure_alone_says_what_to_install(bare, tmp_path, capsys):
    assert main(["figure", "fig6", "--preset", "smoke", "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'nail[lm]'" in capsys.readouterr().err
    assert not bare
    assert not (tmp_path / "out").exists()


def test_rows_that_are_there_are_drawn_without_the_extra(bare, tmp_path):
    """And where they are not, all other figures are drawn."""
    again = ["figure", "all", "--redraw", "--preset", "cpu", "--out", str(tmp_path)]
    assert main(again) == 0
    assert bare == [name for name in experiment.names() if name != "fig6"]
    (tmp_path / "fig6_rows.csv").write_text("")
    bare.clear()
    assert main(again) == 0
    assert bare == experiment.names()


def test_the_command_that_is_shown_can_be_given():
    assert experiment.command("fig2", "paper") == "nail figure fig2 --preset paper"
    assert experiment.command("fig6", "cpu") == "nail figure fig6 --preset cpu"
    assert experiment.command("fig6", "paper").endswith(
        "fig6 --preset paper --student STUDENT --expert EXPERT --prompts PROMPTS --test TEST"
    )

"""`nail plot`: what of any table of rows goes where, the table of the picture by hand, files, what is refused."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from plotting_rows import Line, points, runs, words_of

from nail.cli.main import main
from nail.figures.medians import measurements, tabulate
from nail.figures.picture import draw, picture, picture_at_end
from nail.figures.shown import prepared, shown
from nail.sweep.store import to_csv
from nail.sweep.table import read_rows
from nail.theory.exact import n_bc
from nail.theory.known import n_greedy


def places(rows, **options):
    """(x, y, colour, panels, lines) that are chosen."""
    return tuple(shown(prepared(rows), **options))[1:]


def test_the_axis_with_most_values_is_x_and_methods_are_colours():
    assert places(points()) == ("H", "n_star", "method", ("eta",), None)
    assert places(points(etas=(0.3,))) == ("H", "n_star", "method", (), None)
    assert places(points(), x="eta") == ("eta", "n_star", "method", ("H",), None)
    assert places(runs()) == ("eta", "full_exact", "method", (), None)
    assert places(runs(etas=(0.1, 0.2))) == ("episodes", "full_exact", "method", ("eta",), None)
    assert places(runs(), x="episodes", by="eta") == ("episodes", "full_exact", "eta", ("method",), None)
    assert places(runs(etas=(0.1,)), y="episodes_to_solve")[:3] == ("method", "episodes_to_solve", "method")
    both = pd.concat([points(), points(delta=0.01), points(delta=0.001)])
    assert places(both) == ("H", "n_star", "method", ("delta",), "eta")


def test_a_point_beyond_the_budget_is_drawn_at_the_episodes_that_were_allowed():
    """Which can be fewer than those that were asked for, where a search was held to less."""
    rows = points(budget=20)
    table = draw(rows.assign(allowed=np.where(rows.censored == 1, 7, 20)))[1]
    assert set(table.value[table.censored == 1]) == {7}


def test_of_one_point_measured_twice_the_larger_budget_is_drawn():
    """Of a series that was censored the point beyond the budget is replaced; of others nothing is lost."""
    for budgets in ((20, 200), (200, 20)):
        table = draw(pd.concat([points(budget=budget) for budget in budgets]))[1]
        assert len(table) == len(points(budget=200))
        assert table.censored.sum() == 0
        one = table[(table.method == "loglossbc") & (table.eta == 0.5) & (table.H == 8)].iloc[0]
        assert one.value == n_bc(8, 2, 0.5, 0.1) > 20


def test_the_table_of_seeds_is_medians_and_order_statistics():
    """By hand: values 0, 0.1, …, 0.6 have the median 0.3 between the ends 0 and 0.6 at 1 − 2/2^7."""
    rows = prepared(runs(seeds=7, methods=("nail-f",), accuracy=lambda method, eta, seed, step: 0.1 * seed))
    what = shown(rows)
    table = tabulate(measurements(rows, what), what)
    middle = table[table.kind == "median"]
    np.testing.assert_allclose(middle[["value", "low", "high"]], [[0.3, 0.0, 0.6]] * 3)
    np.testing.assert_allclose(middle.level, 1 - 2 / 2**7)
    assert middle.eta.tolist() == [0.1, 0.2, 0.3]
    assert (table.kind == "seed").sum() == 21


def test_times_to_solve_are_censored_at_the_budget():
    """Of three seeds one solves it by the second evaluation, one at the end, one never: the median is the end."""
    rows = prepared(runs(accuracy=lambda method, eta, seed, step: float(step >= 2 + 2 * seed and eta < 0.25)))
    for y, factor in (("episodes_to_solve", 10), ("queries_to_solve", 30)):
        what = shown(rows, y=y)
        table = tabulate(measurements(rows, what), what)
        middle = table[(table.kind == "median") & (table.method == "nail-f")]
        assert middle.value.tolist() == [4 * factor] * 3
        assert middle.censored.tolist() == [0, 0, 1]
        seeds = table[(table.kind == "seed") & (table.method == "nail-f") & (table.eta == 0.1)]
        assert seeds.value.tolist() == [2 * factor, 4 * factor, 4 * factor]
        assert seeds.censored.tolist() == [0, 0, 1]


def test_bounds_and_exact_curves_stand_in_the_table():
    bound = Line("mine", lambda rows: 3 * rows.H / (1 - rows.eta))
    labels = Line("other", lambda rows: rows.H, unit="labels")
    figure, table = draw(points(), bounds=[bound, labels], exact=True)
    upper, exact = (table[table.kind == kind] for kind in ("upper", "exact"))
    np.testing.assert_allclose(upper.value, 3 * upper.H / (1 - upper.eta))
    for row in exact.itertuples():
        assert row.value == (n_bc if row.method == "loglossbc" else n_greedy)(row.H, 2, row.eta, 0.1)
    assert len(exact) == len(points())
    assert any("other" in text.get_text() for text in figure.findobj(Text))
    in_labels = draw(points(), bounds=[labels], exact=True)[1]
    assert set(in_labels.y) == {"queries"}
    assert set(in_labels.name.dropna()) == {"other", "exact n*"}
    whole = in_labels[(in_labels.kind == "exact") & (in_labels.method == "nail-f")]
    assert whole.value.tolist() == [h * n_greedy(h, 2, e, 0.1) for e, h in zip(whole.eta, whole.H, strict=True)]
    with pytest.raises(ValueError, match="exact must be left out here"):
        draw(points(kernel="never-right"), exact=True)
    with pytest.raises(ValueError, match="bound must be left out where y is not"):
        draw(runs(), bounds=[bound])


def test_what_is_drawn_is_what_the_table_says():
    """Marks of the medians, an open mark with an arrow for each censored point, letters of 7 points or more."""
    figure, table = draw(points(budget=60))
    drawn = [line for axes in figure.axes for line in axes.lines if line.get_marker() not in ("None", None, "")]
    at = {xy for line in drawn for xy in zip(*map(tuple, line.get_data()), strict=True)}
    assert at == set(zip(table.H, table.value, strict=True))
    white = [line for line in drawn if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in white) == table.censored.sum() > 0
    assert all(axes.get_yscale() == "linear" for axes in figure.axes) is False
    for rows, options in ((points(), {}), (runs(), {"x": "episodes"}), (runs(seeds=6), {"x": "method"})):
        found = draw(rows, **options)[0].findobj(Text)
        assert not [text for text in found if text.get_text().strip() and text.get_fontsize() < 7]


def test_files_are_written_whole_and_others_are_left(tmp_path, capsys):
    """From the command line, from stored rows of a folder; no picture takes the place of the rows."""
    (tmp_path / "rows.csv").write_text(to_csv(points().to_dict("records")))
    before = (tmp_path / "rows.csv").read_bytes()
    assert main(["plot", str(tmp_path), "--log", "xy", "--exact"]) == 0
    made = {"rows.csv", "plot.png", "plot.pdf", "plot.csv", "figures.lock"}
    assert {path.name for path in tmp_path.iterdir()} == made
    table = read_rows(tmp_path / "plot.csv")
    pd.testing.assert_frame_equal(table[["H", "value"]], draw(points(), exact=True)[1][["H", "value"]])
    for words, sentence in (
        (["--name", "rows"], "name must be one that is free"),
        (["--name", "a/b"], "name must be the name of a file"),
        (["--y", "full_exact"], "unknown y 'full_exact'"),
        (["--x", "seed"], "unknown x 'seed'"),
        (["--x", "eta", "--by", "eta"], "x, by and panel must be different columns"),
        (["--log", "z"], "unknown log 'z'"),
        (["--style", "nowhere"], "style must be a matplotlib style file"),
        (["--x", "method", "--log", "x"], "log must be without x"),
    ):
        assert main(["plot", str(tmp_path), *words]) == 2
        assert capsys.readouterr().err.startswith(f"nail: {sentence}"), words
    assert (tmp_path / "rows.csv").read_bytes() == before
    assert main(["plot", str(tmp_path / "nowhere")]) == 2


def test_too_many_panels_are_refused():
    many = pd.concat([points(etas=(0.1, 0.2, 0.3, 0.4, 0.5), delta=d) for d in (0.1, 0.2, 0.3, 0.4, 0.5)])
    with pytest.raises(ValueError, match=r"number of panels must be at most 20, got 25 \((eta × delta|delta × eta)\)"):
        draw(many)
    assert places(many, by="eta")[2:] == ("eta", ("delta",), "method")


def test_a_picture_that_cannot_be_drawn_fails_nothing(tmp_path, capsys, monkeypatch):
    """Rows of neither kind, a place that is taken, and an error of any sort are one sentence."""
    (tmp_path / "rows.csv").write_text("a\n1\n")
    picture_at_end(tmp_path)
    (tmp_path / "rows.csv").write_text(to_csv(runs().to_dict("records")))
    (tmp_path / "plot.png").mkdir()
    picture_at_end(tmp_path)
    (tmp_path / "plot.png").rmdir()
    monkeypatch.setattr("nail.figures.picture.draw", lambda *_, **__: 1 / 0)
    picture_at_end(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith(f"nail: no picture was drawn of {tmp_path}") for line in said)


def test_a_style_file_is_over_the_house_s(tmp_path):
    (tmp_path / "mine.mplstyle").write_text("axes.labelsize: 14\n")
    figure = draw(points(), style=tmp_path / "mine.mplstyle")[0]
    assert figure.axes[0].xaxis.label.get_fontsize() == 14
    picture(tmp_path, "mine", points(), style=tmp_path / "mine.mplstyle")
    assert (tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")


def test_of_a_folder_with_runs_and_n_star_one_kind_is_drawn(tmp_path, capsys):
    """n* unless y is a column of the runs, in words; at the end of a training sweep the runs."""
    both = runs().to_dict("records") + points(run="n").to_dict("records")
    columns = dict.fromkeys(name for row in both for name in row)
    (tmp_path / "rows.csv").write_text(to_csv([{name: row.get(name, "") for name in columns} for row in both]))

    def drawn(*words):
        assert main(["plot", str(tmp_path), *words]) == 0
        table = read_rows(tmp_path / "plot.csv")
        assert table[[c for c in table if c in ("H", "eta")]].notna().all(axis=None)
        return set(table.y), len(table), "has training runs and measured n*" in capsys.readouterr().err

    assert drawn() == ({"n_star"}, len(points()), True)
    assert drawn("--bound", "mine: 3*H") == ({"n_star"}, 2 * len(points()), True)
    assert drawn("--y", "queries") == ({"queries"}, len(points()), False)
    alone = len(draw(runs())[1])
    assert drawn("--y", "full_exact") == ({"full_exact"}, alone, False)
    assert drawn("--y", "queries_to_solve") == ({"queries_to_solve"}, alone, False)
    picture_at_end(tmp_path)
    assert set(read_rows(tmp_path / "plot.csv").y) == {"full_exact"}
    assert main(["plot", str(tmp_path), "--y", "nothing"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("unknown y", "n_star", "full_exact", "queries_to_solve"))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_run_that_does_not_solve_has_an_arrow_and_words(seeds):
    """Seed 0 of NAIL-F never solves: with it alone the point, with two others a small open mark, has an arrow."""
    rows = runs(seeds=seeds, accuracy=lambda method, eta, seed, step: float(method == "loglossbc" or seed > 0))
    figure, table = draw(rows, y="queries_to_solve")
    beyond = table[table.censored == 1]
    assert len(beyond) == 3
    assert set(beyond.kind) == {"point" if seeds == 1 else "seed"}
    (axes,) = figure.axes
    assert {note.xy for note in axes.texts} == set(zip(beyond.eta, beyond.value, strict=True))
    assert "Open marks with arrows: beyond the budget." in words_of(figure)


def test_bounds_of_both_sides_and_units(tmp_path, capsys):
    (tmp_path / "rows.csv").write_text(to_csv(points().to_dict("records")))
    sides = ["--bound", "over: 9*H**2", "--lower-bound", "under: H"]
    for words, y in (([], "n_star"), (["--bound-unit", "labels"], "queries")):
        assert main(["plot", str(tmp_path), *sides, *words]) == 0
        table = read_rows(tmp_path / "plot.csv")
        assert set(table.y) == {y}
        for kind, name, power, factor in (("upper", "over", 2, 9), ("lower", "under", 1, 1)):
            line = table[table.kind == kind]
            assert set(line.name) == {name}
            assert (line.value == factor * line.H**power).all()
    capsys.readouterr()
    assert main(["plot", str(tmp_path), *sides, "--bound-unit", "miles"]) == 2
    assert "unit of a bound" in capsys.readouterr().err

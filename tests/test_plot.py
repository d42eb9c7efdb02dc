"""`nail plot`: what of any table of rows goes where, the table of the picture by hand, files, what is refused."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from nail.cli.main import main
from nail.figures.medians import measurements, tabulate
from nail.figures.picture import draw, picture, picture_at_end
from nail.figures.shown import prepared, shown
from nail.sweep.store import to_csv
from nail.sweep.table import read_rows, typed
from nail.theory.exact import n_bc
from nail.theory.known import n_greedy

METHODS = ("loglossbc", "nail-f")


class Line(NamedTuple):
    """A bound, as `nail.complexity.bounds` has them."""

    name: str
    values: Any
    unit: str = "episodes"
    side: str = "upper"


def points(etas=(0.3, 0.5), budget=200, **fields):
    """n* over methods, η and H: the exact one, censored beyond the budget, where a series ends."""
    rows = []
    for method, exact in zip(METHODS, (n_bc, n_greedy), strict=True):
        for eta in etas:
            for horizon in (2, 4, 6, 8):
                n = exact(horizon, 2, eta, 0.1)
                beyond = n > budget
                value, low, high = (math.inf, budget, math.inf) if beyond else (n, 0.9 * n, 1.1 * n)
                ends = {"queries": value * horizon, "queries_low": low * horizon, "queries_high": high * horizon}
                rows.append({
                    "instance": "poison-chain", "method": method, "H": horizon, "A": 2, "eta": eta, "delta": 0.1,
                    "criterion": "mean", "kernel": "uniform", "replicates": 50, "seed": len(rows), **fields,
                    "max_episodes": budget, "n_star": value, "low": low, "high": high, **ends,
                    "censored": int(beyond), "oracle": "labels",
                })  # fmt: skip
                if beyond:
                    break
    return pd.DataFrame(rows)


def runs(seeds=3, etas=(0.1, 0.2, 0.3), methods=METHODS, accuracy=lambda method, eta, seed, step: step / 4, **fields):
    """Training runs of four updates of ten episodes, as text in a table."""
    rows = []
    for method in methods:
        for eta in etas:
            for seed in range(seeds):
                for step in (0, 2, 4):
                    rows.append({
                        "run": f"{method}{eta}{seed}", "method": method, "seed": seed, "step": step,
                        "episodes": 10 * step, "expert_queries": 30 * step,
                        "full_exact": accuracy(method, eta, seed, step), "val_loss": 1.0, "eta": eta,
                        "temperature": float(method == "loglossbc"), "lr": 0.1, **fields,
                    })  # fmt: skip
    return typed([{name: str(value) for name, value in row.items()} for row in rows])


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

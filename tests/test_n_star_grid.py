"""Grids of sample complexities: points, seeds, series, shares, folders, what is refused."""

import inspect
import itertools
import math

import numpy as np
import pytest
from sweeping import Killed, dying, parts, table, times

import nail
from nail.checks import BadInput
from nail.cli.main import main
from nail.complexity.plan import plan
from nail.complexity.points import run_of
from nail.counting import nstar
from nail.counting.drivers import Setting
from nail.counting.nstar import n_star
from nail.envs.instances import garnet, poison_chain
from nail.sweep.store import read_csv

FEW = {"A": 3, "delta": 0.2, "replicates": 64, "max_episodes": 200}
NOT_BURSTS = "noise must be Huber's with one η, where whole paths are learned"
SMALL = "n-star --instance poison-chain --A 3 --delta 0.2 --replicates 64 --max-episodes 200"
TWO = [*SMALL.split(), "--vary", "method=nail-f,loglossbc", "--vary", "eta=0.2,0.4", "--vary", "H=2,3"]


def axes_of(**axes):
    """A plan of `FEW` with these axes."""
    given = {
        "instance": "poison-chain",
        "method": "nail-f",
        "eta": 0.3,
        "H": 2,
        "seed": 0,
        "instances": 4,
        **FEW,
        **axes,
    }
    return plan({name: value if isinstance(value, tuple) else (value,) for name, value in given.items()})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of `TWO`, at once."""
    out = tmp_path_factory.mktemp("grid") / "whole"
    assert main([*TWO, "--out", str(out)]) == 0
    return out


def by_run(out):
    return sorted(read_csv(out / "rows.csv"), key=lambda row: row["run"])


def test_rows_are_those_of_separate_calls():
    """By the seeds that the rows have, no two of which agree; another seed of the user's gives others."""
    found = nail.n_star_grid("poison-chain", ("nail-f", "loglossbc"), H=(2, 3), eta=(0.2, 0.4), **FEW)
    assert [*zip(found.rows.method, found.rows.H, found.rows.eta, strict=True)] == [
        *itertools.product(("nail-f", "loglossbc"), (2, 3), (0.2, 0.4))
    ]
    for row in found.rows.itertuples():
        one = n_star("poison-chain", row.method, row.H, 3, row.eta, 0.2, 64, row.point_seed, 200)
        assert (row.n_star, (row.low, row.high), row.queries) == (one.value, one.interval, one.queries)
        assert (row.queries_low, row.queries_high) == one.query_interval
        assert (row.q, row.R, row.logPi) == pytest.approx((1 - 2 / 3 * row.eta, 1.0, row.H * math.log(3)))
    assert found.axes == ("method", "H", "eta")
    seeds = [point["point_seed"] for seed in (0, 1) for point in axes_of(H=(2, 3), eta=(0.2, 0.4), seed=seed).points]
    assert len(set(seeds)) == 8


def test_a_kill_loses_the_points_at_work(tmp_path, whole):
    """What is done is not measured again, and the table is that of an unbroken run."""
    out = tmp_path / "killed"
    with dying(12), pytest.raises(Killed):
        main([*TWO, "--out", str(out)])
    kept = times(parts(out))
    assert 0 < len(kept) < 8
    assert main([*TWO, "--out", str(out)]) == 0
    assert kept.items() <= times(parts(out)).items()
    assert table(by_run(out)) == table(by_run(whole))


def test_shares_are_disjoint_and_together_the_whole(tmp_path, whole):
    """Also as commands in folders of their own, joined by a merge."""
    grid = axes_of(method=("nail-f", "loglossbc", "opd-f"), H=(2, 3), eta=(0.2, 0.4))
    dealt = [run_of(point) for i in (1, 2, 3, 4) for points in grid.share(i, 4) for point in points]
    assert sorted(dealt) == sorted(map(run_of, grid.points))
    folders = [str(tmp_path / str(i)) for i in (1, 2)]
    for i, out in enumerate(folders):
        assert main([*TWO, "--shard", f"{i + 1}/2", "--out", out]) == 0
        assert len(read_csv(tmp_path / str(i + 1) / "rows.csv")) == 4
    assert main(["sweep", "merge", *folders, "--out", str(tmp_path / "joined")]) == 0
    assert table(by_run(tmp_path / "joined")) == table(by_run(whole))


def test_a_folder_has_the_rows_of_all_its_grids(tmp_path, whole, capsys):
    """And a grid measures what is new of it."""
    out = tmp_path / "out"
    more = [*SMALL.split(), "--eta", "0.2", "--method", "nail-f", "--out", str(out)]
    assert main([*more, "--vary", "H=2,3"]) == 0
    before = times(parts(out))
    assert main([*more, "--vary", "H=3,4"]) == 0
    assert before.items() <= times(parts(out)).items()
    found = nail.read_rows(out)
    assert sorted(found.H) == [2, 3, 4]
    assert "2 of 2 points" in capsys.readouterr().out
    assert main(["sweep", "status", str(out)]) == 0
    assert capsys.readouterr().out.startswith("3 runs: 3 done, 0 running, 0 missing, 0 failed; 3 rows")
    assert main(["sweep", "merge", str(whole), str(out), "--out", str(tmp_path / "both")]) == 0
    assert len(read_csv(tmp_path / "both" / "rows.csv")) == 9
    for name in ("fits.csv", "bounds.csv", "n_star.png", "n_star.pdf", "n_star.csv"):
        assert (out / name).stat().st_size


def test_a_series_ends_at_its_first_point_beyond_the_budget(capsys):
    """The point stays in the table, the costlier ones are named on standard error; others go on."""
    few = {**FEW, "max_episodes": 12}
    found = nail.n_star_grid("poison-chain", ("nail-f", "loglossbc"), H=(6, 2, 4, 8), eta=0.4, **few)
    assert [*zip(found.rows.method, found.rows.H, found.rows.censored, strict=True)] == [
        (method, *point) for method in ("nail-f", "loglossbc") for point in ((6, 1), (2, 0), (4, 0))
    ]
    beyond = found.rows[found.rows.censored == 1]
    assert (beyond.n_star == math.inf).all()
    assert (beyond.max_episodes == 12).all()
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 2
    assert all("beyond 12 episodes at H 6; left out: H 8" in line for line in said)


def test_a_bound_does_not_hold_at_points_that_were_left_out(tmp_path, capsys):
    """A lower bound that n* is above at all points but the one that was not measured; labels of axes and numbers."""
    words = "--H 5 --method loglossbc --delta 0.1 --replicates 400 --max-episodes 20 --vary eta=0.1,0.2,0.3,0.5,0.7"
    bound = ["--lower-bound", "low: 1+1e9*max(0,eta-0.6)**2", "--out", str(tmp_path)]
    assert main(["n-star", "--instance", "poison-chain", "--A", "3", *words.split(), *bound]) == 0
    printed = capsys.readouterr().out
    assert "low, lower, episodes: undecided (1 of 5 points left out); constant" in printed
    assert "rate in log 1/(1−η) " in printed
    assert {row["left_out"] for row in read_csv(tmp_path / "bounds.csv")} == {"1"}
    more = "--method nail-f --eta 0 --vary A=2,3 --vary H=2,3,4 --out"
    assert main([*SMALL.split(), *more.split(), str(tmp_path / "more")]) == 0
    assert "nail-f, A 2: " in capsys.readouterr().out


def test_series_run_along_what_makes_n_star_grow():
    for axes, along in (
        ({"H": (3, 2), "eta": (0.4, 0.2)}, [2, 3]),
        ({"eta": (0.4, 0.2), "delta": (0.1, 0.2)}, [0.2, 0.4]),
        ({"delta": (0.1, 0.3), "method": ("nail-f", "opd-f")}, [0.3, 0.1]),
    ):
        grid = axes_of(**axes)
        name = next(name for name in ("H", "eta", "delta") if name in axes)
        assert [[point[name] for point in points] for points in grid.series] == [along] * 2
    assert [len(points) for points in axes_of(method=("nail-f", "opd-f"), kernel=("uniform", "worst")).series] == [
        1
    ] * 4
    assert [points[0]["eta"] for points in axes_of(H=(2, 3), eta=(0.2, 0.4)).series] == [0.4, 0.2]


def slippery(seed):
    return garnet(seed, 3, 4, 2, 2)


def test_another_definition_is_another_point_with_the_same_seed(tables):
    """The seed follows from the options: a hash of code depends on the version of Python, and numbers must not."""
    given = {"instance": ("poison-chain",), "method": ("mine",), "H": (2,), "A": (3,), "eta": (0.1,), "delta": (0.1,),
             "seed": (0,), "replicates": (4,), "max_episodes": (9,)}  # fmt: skip
    found = []
    for weight in (1, 2):
        nail.add_method(nail.Method("mine", "Mine", "student", score=lambda counts, w=weight: w * counts.labels))
        found += plan(given).points
    assert found[0]["point_seed"] == found[1]["point_seed"]
    assert run_of(found[0]) != run_of(found[1])


def test_instances_of_the_users_own(tables):
    """An instance, a function of the seed, the name of either: their shape is in the rows, and their numbers are those
    of the library."""
    few = {"eta": 0.3, "delta": 0.05, "replicates": 8, "max_episodes": 64}
    nail.add_instance("slippery", "", lambda options, seed: slippery(seed))
    found = nail.n_star_grid((slippery, slippery(0), "slippery"), "nail-f", instances=2, **few)
    assert [*zip(*(found.rows[name] for name in ("H", "S", "A")), strict=True)] == [(3, 4, 2)] * 3
    for row, one in zip(found.rows.itertuples(), (slippery, slippery(0), "slippery"), strict=True):
        expected = n_star(one, "nail-f", **few, seed=row.point_seed, instances=2)
        assert (row.n_star, row.low) == (expected.value, expected.interval[0])
    assert list(found.rows.instances.fillna(0)) == [2, 0, 2]
    assert found.rows.definition.nunique() == 3
    own = plan({"instance": (poison_chain(2, 3),), "method": ("nail-f",), "eta": (0.1,), "delta": (0.1,), "seed": (0,),
                "replicates": (4,), "instances": (1,), "max_episodes": (9,)})  # fmt: skip
    assert own.points[0]["instance"] == "poison-chain (own)"
    assert own.measure.about(own.points[0])["q"] == pytest.approx(1 - 0.1 * 2 / 3)


def test_a_kernel_is_used_and_named(capsys):
    """On one point and on a grid, by level and on tables."""
    few = {"eta": 0.3, "delta": 0.05, "replicates": 8, "max_episodes": 64, "instances": 2}
    found = nail.n_star_grid("garnet", "nail-f", H=2, S=3, A=2, kernel=("uniform", "worst", "0.2,0.8"), **few)
    for row, noise in zip(found.rows.itertuples(), ("uniform", "adversarial", None), strict=True):

        def one(seed, noise=noise):
            drawn = garnet(seed, 2, 3, 2, 2, noise=noise or "uniform")
            return drawn if noise else drawn._replace(kernel=np.array([0.2, 0.8]))

        assert row.mean_loss == n_star(one, "nail-f", **few, seed=row.point_seed).mean_loss
    assert list(found.rows.noise_kernel.str.split(":").str[0]) == ["uniform", "worst", "ν = (0.2, 0.8)"]
    words = [*SMALL.split(), "--method", "nail-f", "--eta", "0.4", "--H", "3", "--json"]
    said = {}
    for kernel in ("uniform", "0.6,0.3,0.1", "never-right"):
        assert main([*words, "--kernel", kernel]) == 0
        said[kernel] = capsys.readouterr().out
    assert all(f'"kernel": "{kernel}"' in text for kernel, text in said.items())
    assert "ν = (0.6, 0.3, 0.1)" in said["0.6,0.3,0.1"]
    value = n_star(
        "poison-chain", "nail-f", 3, 3, 0.4, 0.2, 64, 0, 200, Setting(kernel=np.array([0.6, 0.3, 0.1]))
    ).value
    assert f'"value": {value},' in said["0.6,0.3,0.1"]


def test_functions_of_the_users_own_are_looked_at_beforehand(tables):
    nail.add_method(nail.Method("short", "returns one number", "student", score=lambda counts: counts.labels.sum()))
    for where in ({}, {"instance": "garnet", "S": 3}):
        axes_of(method=("halving", "nail-f"), **where)
        axes_of(method=("halving", "stagger"), kernel=("worst", "never-right"), **where)
        with pytest.raises(BadInput, match="score of the method short returns must be numbers of shape"):
            axes_of(method=("nail-f", "short"), **where)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"kernel": 3}, "unknown kernel '3'"), ({"bounds": ["H"]}, "bounds must be a mapping"),
        ({"lower_bounds": "H"}, "lower_bounds must be a mapping"), ({"out": 3}, "out must be the path of a folder"),
        ({"delta": None}, "delta must be a number, got None"),
        ({"instance": (slippery, slippery)}, "a function is named by its __name__"),
        ({"instance": (slippery(0), slippery(1))}, r"instance._replace\(name=…\)"),
    ],
)  # fmt: skip
def test_what_python_may_be_given_is_looked_at(given, sentence):
    """Also where no types are checked."""
    with pytest.raises(BadInput, match=sentence):
        inspect.unwrap(nail.n_star_grid)(**{"instance": slippery(0), "method": "nail-f", "eta": 0.3, **given})


BAD = [
    ("--vary S=2,3", "unknown axis of poison-chain 'S'"),
    ("--vary H=", "the axis H must be one value or more, got none"),
    ("--vary H=2,2", "name a point twice (1 of 2 differ)"),
    ("--vary H=2,x", "H must be of type int, got 'x'"),
    ("--vary H=2 --vary H=3", "vary must name an option once"),
    ("--vary H", "vary must be field=value"),
    ("--vary seed=0:2000 --vary H=1:60", "the product of the axes must be at most 100,000 points, got 118,000 points"),
    ("--vary eta=0.1,1", "eta must be in [0, 1 − 1e-9], got 1.0"),
    ("--vary method=nail-f,nail-g", "unknown method 'nail-g'"),
    ("--vary method=nail-f,nail-class", "method must be one that is not given a finite class"),
    ("--vary instance=poison-chain,gornet", "unknown instance 'gornet'"),
    (
        "--vary instance=poison-chain,garnet --vary S=2,3",
        "S is no option of the instance poison-chain (its options: A, H)",
    ),
    ("--vary instances=2,3", "instances is no axis of poison-chain"),
    ("--vary H=2,100000000", "replicates × H × A must be at most"),
    ("--vary kernel=uniform,best", "unknown kernel 'best'"),
    ("--kernel 0.5,0.5", "kernel must be a law of A = 3 numbers, got 0.5,0.5"),
    ("--kernel 0.5,0.6,-0.1", "kernel must be a law: numbers of at least 0 with sum 1"),
    ("--kernel 0.5,0.6,0.1 --vary H=2,3", "kernel must be a law: numbers of at least 0 with sum 1"),
    ("--kernel worst --vary method=nail-f,nail-channel", "method must be one that is not told ν, where ν follows π*"),
    ("--vary H=2,3 --epsilon 0.1", "epsilon must be given with criterion pac only"),
    ("--vary H=2,3 --criterion pac", "epsilon must be a number in (0, 1) with criterion pac"),
    ("--instance hidden-path --kernel worst --vary method=nail-f,loglossbc", "kernel must be uniform or never-right"),
    ("--instance hidden-path --kernel never-right --vary method=loglossbc --eta 0.7", "eta must be below (A−1)/A"),
    ("--instance hidden-path --kernel never-right --noise bursts --burst 0.3 --vary method=loglossbc", NOT_BURSTS),
    ("--instance hidden-path --kernel never-right --noise bursts --burst 0.3 --method loglossbc --H 3", NOT_BURSTS),
    ("--instance garnet --S 65 --vary H=2,3", "S must be an integer in 1..64, got 65"),
    ("--instance garnet --instances 65 --vary H=2,3", "instances must be in 1..replicates = 64, got 65"),
    ("--vary H=2,3 --shard 3/2", "shard must be i/n"),
    ("--vary H=2,3 --json", "json must be left out"),
    ("--shard 1/2", "shard must be left out without --vary"),
    ("--vary H=2,3 --bound 'x: 1/(H-2)'", "H=2"),
    ("--bound mine:H+", "mine"),
]


@pytest.mark.parametrize(("words", "sentence"), BAD)
def test_bad_input_is_one_sentence_before_anything_is_measured(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nstar, "crossing", lambda *_, **__: pytest.fail("it is measured"))
    words = words.replace("'", "").replace("x: 1", "x:1")
    assert main([*SMALL.split(), "--method", "nail-f", "--eta", "0.3", *words.split()]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_grid_by_jobs_of_a_cluster(tmp_path, whole):
    """Tried on this machine: shards in folders of their own, then their merge; the same command then draws."""
    out = tmp_path / "out"
    assert main([*TWO, "--slurm", "--cluster", "local", "--shards", "2", "--out", str(out)]) == 0
    assert table(by_run(out)) == table(by_run(whole))
    assert main([*TWO, "--out", str(out)]) == 0
    assert (out / "n_star.png").exists()

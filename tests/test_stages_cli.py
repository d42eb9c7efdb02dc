"""Stages on the command line: `--start` of a folder and of a run."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sweeping import BASE, COMMAND, Killed, dying, prepared_once

from nail.cli.main import main
from nail.figures import experiment
from nail.sweep import engine, folder
from nail.sweep.bring import bring, chains_from
from nail.sweep.folder import Folder
from nail.sweep.store import open_folder, read_csv
from nail.training.config import run_id

SMALL = "--task poison-chain --A 3 --H 2 --batch 4 --n-validation 4 --lr 0.1 --warmup 0 --eval-every 2".split()
FIRST = ["train", *SMALL, "--no-plot", "--method=loglossbc", "--steps=4"]
SECOND = ["train", *SMALL, "--no-plot", "--method=dagger", "--steps=6"]
STAGES = [
    dataclasses.replace(BASE, method=method, steps=steps, seed=seed)
    for seed in (0, 1) for method, steps in (("loglossbc", 4), ("dagger", 6))
]  # fmt: skip
GRID = ["sweep", "grid", *SMALL, "--no-plot", "--method=dagger", "--steps=6", "--vary=lr=0.1,0.2"]


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder of one finished run."""
    out = tmp_path_factory.mktemp("first") / "out"
    assert main([*FIRST, f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """The folder of a run of each of two seeds."""
    out = tmp_path_factory.mktemp("seeds") / "out"
    assert main([*FIRST, "--seeds=2", f"--out={out}"]) == 0
    return out


def rows_of(out):
    return read_csv(Path(out) / "rows.csv")


def starts(out):
    """(seed, seed of the start) of each stage in a table."""
    seed_of = {row["run"]: row["seed"] for row in rows_of(out)}
    found = {(row["run"], row.get("start", "")) for row in rows_of(out)}
    return sorted((seed_of[run], seed_of[start]) for run, start in found if start)


def refused(command, capsys):
    """The sentence of a command that is refused."""
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert (printed.err.count("\n"), printed.out) == (1, "")
    return printed.err


def test_a_run_goes_on_from_the_folder_of_another(first, tmp_path, capsys):
    """And a third from the second's, and all of it stays when the folder is gone; the same command changes nothing."""
    one, two = tmp_path / "one", tmp_path / "two"
    before = shutil.copytree(first, tmp_path / "before")
    assert main([*SECOND, f"--start={before}", f"--out={one}"]) == 0
    said = capsys.readouterr()
    assert "computed again" not in said.err
    assert said.out.startswith("dagger seed 0: 24 episodes")
    assert said.out.count("\n") == 1
    rows = rows_of(one)
    assert [(row["method"], row["step"]) for row in rows] == [
        *(("loglossbc", step) for step in "024"),
        *(("dagger", step) for step in "0246"),
    ]
    assert [row["start"] for row in rows] == [""] * 3 + [rows[0]["run"]] * 4
    assert rows[:3] == [{**row, "start": ""} for row in rows_of(first)]
    shutil.rmtree(before)
    third = [*FIRST, "--lr=0.2", f"--start={one}", f"--out={two}"]
    assert main(third) == 0
    (chain,) = chains_from(str(one), [BASE], tmp_path)
    bring(str(one), chain[-1:], open_folder(tmp_path / "brought"))
    assert all(Folder.read(tmp_path / "brought").keeper(run_id(config)) for config in chain[:-1])
    shutil.rmtree(one)
    kept = (two / "rows.csv").read_bytes()
    assert [row["method"] for row in rows_of(two)] == ["loglossbc"] * 3 + ["dagger"] * 4 + ["loglossbc"] * 3
    capsys.readouterr()
    assert main(["sweep", "status", str(two)]) == 0
    assert "3 runs: 3 done" in capsys.readouterr().out
    assert "must be the id of a run in out, or an output folder of nail" in refused(third, capsys)
    last = ["--start", rows_of(two)[3]["run"]]
    assert main([*FIRST, "--lr=0.2", *last, f"--out={two}"]) == 0
    assert (two / "rows.csv").read_bytes() == kept


def test_a_run_goes_on_in_its_own_folder(first, tmp_path, capsys):
    """By its id; another method would be another chain, and the first command still finds its run."""
    out = shutil.copytree(first, tmp_path / "out")
    (run,) = {row["run"] for row in rows_of(out)}
    assert main([*SECOND, f"--start={run}", f"--out={out}"]) == 0
    assert starts(out) == [("0", "0")]
    there = refused([*SECOND, "--method=nail-f", f"--start={run}", f"--out={out}"], capsys)
    assert "another configuration (method is dagger there and nail-f here)" in there
    assert "named by its id" in refused([*SECOND, f"--start={out}", f"--out={out}"], capsys)
    assert main([*FIRST, f"--out={out}"]) == 0
    assert [{**row, "start": ""} for row in rows_of(first)] == [row for row in rows_of(out) if row["run"] == run]


def test_each_seed_goes_on_from_its_own(seeds, first, tmp_path, capsys):
    """Or all from the only run that there is."""
    for name, folder_, expected in (
        ("own", seeds, [("0", "0"), ("1", "1")]), ("one", first, [("0", "0"), ("1", "0")]),
    ):  # fmt: skip
        out = tmp_path / name
        assert main([*SECOND, "--seeds=2", f"--start={folder_}", f"--out={out}"]) == 0
        assert starts(out) == expected
    missing = refused([*SECOND, "--seeds=3", f"--start={seeds}", f"--out={tmp_path / 'three'}"], capsys)
    assert "one of each seed" in missing
    assert "holds 0 of seed 2" in missing
    assert not (tmp_path / "three").exists()
    assert main([*SECOND, "--seeds=1", f"--start={seeds}", f"--out={tmp_path / 'more'}"]) == 0
    assert main([*SECOND, "--seeds=2", f"--start={seeds}", f"--out={tmp_path / 'more'}"]) == 0
    assert (tmp_path / "more" / "rows.csv").read_bytes() == (tmp_path / "own" / "rows.csv").read_bytes()


def test_a_grid_goes_on_from_a_folder_or_a_run(seeds, tmp_path, capsys):
    """Seed by seed, in shares too; the table has what was asked for, and status all that is there."""
    out, parts = tmp_path / "grid", [tmp_path / "1", tmp_path / "2"]
    grid = [*GRID, "--vary=seed=0:2", f"--start={seeds}"]
    assert main([*grid, f"--out={out}"]) == 0
    first = {row["run"]: row["seed"] for row in rows_of(seeds)}
    rows = [row for row in rows_of(out) if row["run"] not in first]
    assert len(rows) == 2 * 2 * 4
    assert len(rows_of(out)) == len(rows) + len(rows_of(seeds))  # what was brought from there is in the table too
    assert all(first[row["start"]] == row["seed"] for row in rows)
    capsys.readouterr()
    assert main(["sweep", "status", str(out)]) == 0
    assert "6 runs: 6 done" in capsys.readouterr().out
    for i, part in enumerate(parts):
        assert main([*grid, f"--shard={i + 1}/2", f"--out={part}"]) == 0
    assert main(["sweep", "merge", *map(str, parts), f"--out={tmp_path / 'joined'}"]) == 0
    joined = {(row["run"], row["step"]): row["val_loss"] for row in rows_of(tmp_path / "joined")}
    assert joined.items() >= {(row["run"], row["step"]): row["val_loss"] for row in rows}.items()
    start = rows[0]["start"]
    assert main([*GRID, f"--start={start}", f"--out={out}"]) == 0
    assert {row["start"] for row in rows_of(out)} == {"", *first}
    assert main([*GRID, f"--vary=start={','.join(first)}", f"--out={out}"]) == 0
    assert {row["start"] for row in rows_of(out)} == {"", *first}


def test_a_figure_may_be_computed_from_chains(tmp_path, monkeypatch, capsys):
    """Its runs by `nail sweep NAME`, in shares; status says how many wait."""
    chains = tuple(zip(STAGES[::2], STAGES[1::2], strict=True))
    fig2 = experiment.load("fig2")
    monkeypatch.setattr(experiment, "load", lambda _: fig2._replace(runs=lambda _: chains))
    command = ["sweep", "fig2", "--preset=smoke", f"--out={tmp_path / 'out'}"]
    assert main([*command, "--shard=1/2"]) == 0
    assert len({row["run"] for row in rows_of(tmp_path / "out")}) == 2
    capsys.readouterr()
    assert main(["sweep", "status", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "4 runs: 2 done, 0 running, 2 missing, 0 failed" in printed
    assert "waiting for the run that they start from: 1 of the missing" in printed
    assert main(command) == 0
    assert starts(tmp_path / "out") == [("0", "0"), ("1", "1")]


@pytest.mark.slow
def test_killed_while_a_start_is_brought(first, tmp_path):
    """The same command brings the rest, and ends with the same table."""
    expected, at = tmp_path / "expected", 0
    assert main([*SECOND, f"--start={first}", f"--out={expected}"]) == 0
    for at in (2, 3, 4, 6, 8):
        out = tmp_path / str(at)
        with dying(at), pytest.raises(Killed):
            main([*SECOND, f"--start={first}", f"--out={out}"])
        assert main([*SECOND, f"--start={first}", f"--out={out}"]) == 0
        assert (out / "rows.csv").read_bytes() == (expected / "rows.csv").read_bytes()
        assert {len(seen.lot.ids) for seen in Folder.read(out).lots} == {1}
        assert len(Folder.read(out).lots) == 2


def test_a_start_that_cannot_be_is_a_sentence(first, tmp_path, capsys, monkeypatch):
    """Exit code 2, and nothing is made."""
    out = tmp_path / "out"

    def sentence(start, *options):
        found = refused([*SECOND, *options, f"--start={start}", f"--out={out}"], capsys)
        assert not out.exists()
        return found

    assert "the id of a run in out, or an output folder of nail, got nowhere" in sentence("nowhere")
    assert "must be a run that" in sentence("0123456789ab")
    assert "has H 2 where its stage has 3" in sentence(first, "--H=3")
    assert "has task poison-chain where its stage has hidden-path" in sentence(first, "--task=hidden-path")
    cut = shutil.copytree(first, tmp_path / "cut")
    (params,) = cut.glob("runs/*/params.npz")
    params.write_bytes(params.read_bytes()[:-1])
    assert "final parameters of the run" in sentence(cut)
    assert main([*FIRST, f"--out={cut}"]) == 0
    assert main([*SECOND, f"--start={cut}", f"--out={tmp_path / 'mended'}"]) == 0
    unfinished = tmp_path / "unfinished"
    with dying(6), pytest.raises(Killed):
        main([*FIRST, f"--out={unfinished}"])
    assert "is not finished" in sentence(unfinished)
    empty = tmp_path / "empty"
    with dying(2), pytest.raises(Killed):
        main([*FIRST, f"--out={empty}"])
    assert "holds 0 of seed 0" in sentence(empty)
    for module in (engine, folder):
        monkeypatch.setattr(module, "source_hash", lambda: "abcdefabcdef", raising=False)
    assert "another revision of the source computed" in sentence(first)


def test_an_expert_and_a_figure_have_no_start(tmp_path, capsys):
    for command in (["expert", *SMALL], ["sweep", "fig2"]):
        assert "start" in refused([*command, "--start=nowhere", f"--out={tmp_path / 'out'}"], capsys)


@pytest.mark.slow
def test_the_documented_stages(tmp_path):
    """The stages of docs/commands.md word by word, in processes of their own, the second one killed and given again."""
    text = (Path(__file__).parents[1] / "docs/commands.md").read_text()
    commands = [line.split("#")[0].split() for line in text.splitlines() if line.startswith("nail train --task garnet")]
    chain = [command[1:] for command in commands if command[-2:] in (["--out", "A"], ["--out", "B"])]
    assert [command[-1] for command in chain] == ["A", "B"]
    for command in (*chain, [*chain[1][:-1], "C"]):
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *command], cwd=tmp_path, stderr=subprocess.PIPE)
        if command[-1] == "C":
            while not list(tmp_path.glob("C/runs/*/rows/*.csv")) and process.poll() is None:
                pass
            process.kill()
            process.communicate(timeout=120)
            process = subprocess.Popen([sys.executable, "-c", COMMAND, *command], cwd=tmp_path, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    rows = rows_of(tmp_path / "B")
    assert [row["method"] for row in rows[:: len(rows) - 1]] == ["loglossbc", "nail-f"]
    assert (tmp_path / "B" / "rows.csv").read_bytes() == (tmp_path / "C" / "rows.csv").read_bytes()

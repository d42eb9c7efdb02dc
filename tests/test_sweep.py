"""Sweeps: grids, shares, lots that are planned once, revisions, failures, joining, status."""

import dataclasses
import json
import os
import threading
from pathlib import Path

import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeping import (
    BASE,
    CONFIGS,
    IDS,
    OPTIONS,
    QUICK,
    SEGMENTS,
    finished,
    parts,
    prepared_once,
    rewrite,
    rows_in,
    table,
)

from nail.checks import BadInput
from nail.cli.bench.sweeps import bench_sweep
from nail.cli.main import main
from nail.figures import experiment
from nail.noise import Huber
from nail.sweep import engine, folder, identity, memory
from nail.sweep.engine import sweep
from nail.sweep.folder import Folder, collect
from nail.sweep.grid import grid, parse_axis, shard
from nail.sweep.lot import Lot
from nail.sweep.merge import merge
from nail.sweep.plan import ask, asked, load_params, refuse_other_configurations
from nail.sweep.run import RunsFailed, rows_of, run
from nail.sweep.status import status
from nail.sweep.store import open_folder, read_csv, to_csv
from nail.training.config import TrainConfig, run_id
from nail.training.doors import add_noise


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture
def out(tmp_path):
    return open_folder(tmp_path / "out")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    """The table of a sweep that nothing happened to."""
    return table(finished(open_folder(tmp_path_factory.mktemp("unbroken") / "out")))


def lots_in(out):
    return [seen.lot for seen in Folder.read(out).lots]


def test_a_grid_is_the_product_of_its_axes_in_order():
    found = grid(BASE, eta=(0.0, 0.1), seed=range(3))
    assert [(c.eta, c.seed) for c in found] == [(e, s) for e in (0.0, 0.1) for s in range(3)]
    assert {dataclasses.replace(c, eta=BASE.eta, seed=0) for c in found} == {BASE}
    assert parse_axis("seed=0:3,7", BASE) == ("seed", (0, 1, 2, 7))
    assert parse_axis("init-std=none,0.5", TrainConfig()) == ("init_std", (None, 0.5))
    assert parse_axis("channel_aware=true", BASE) == ("channel_aware", (True,))


@pytest.mark.parametrize(
    "axes", [{"etas": [0.1]}, {"eta": []}, {"eta": [0.1, 1.0]}, {"seed": [1, 1]}, {"method": ["nail"]}]
)
def test_bad_grids_are_refused(axes):
    with pytest.raises(BadInput):
        grid(BASE, **axes)


@given(st.permutations(range(12)), st.integers(1, 15))
@settings(max_examples=15)
def test_shares_partition_a_sweep_whatever_its_order(order, count):
    """Disjoint, together the whole, balanced, also in each program, and the same for any order of the runs."""
    configs = grid(BASE, H=(2, 3), seed=range(6))
    shares = [shard(configs, i + 1, count) for i in range(count)]
    assert sorted(run_id(c) for share in shares for c in share) == sorted(map(run_id, configs))
    for m in (2, 3):
        sizes = [sum(m == c.H for c in share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
    other = [shard([configs[i] for i in order], i + 1, count) for i in range(count)]
    assert [set(share) for share in other] == [set(share) for share in shares]


@given(st.integers(1, 300), st.integers(1, 8), st.integers(1, 40), st.booleans())
@settings(max_examples=200)
def test_lots_fit_and_waste_little(runs, devices, per_device, one_by_one):
    """A multiple of the devices, no more than fits, never more rounds (or, batched, lots) than need be."""
    most = devices * per_device
    size = memory.even(runs, most, devices, one_by_one)
    assert size % devices == 0
    assert devices <= size <= most
    lots = -(-runs // size)
    if one_by_one:
        assert lots * size == -(-runs // devices) * devices
        larger = range(size + devices, min(most, runs + devices - 1) + 1, devices)
        assert all(-(-runs // s) * s > lots * size for s in larger if -(-runs // s) < lots)
    else:
        assert lots == -(-runs // most)


def test_lots_follow_memory(out, monkeypatch):
    """With room for the state of one run a device there are two lots; the table does not change by a bit."""
    monkeypatch.setattr(memory, "memory_limit", lambda: 1.5 * memory.run_bytes(BASE))
    rows = sweep(CONFIGS, out).rows
    assert [len(lot.ids) for lot in lots_in(out)] == [2, 2]
    monkeypatch.undo()
    larger = open_folder(out / "larger")
    assert to_csv(sweep(CONFIGS, larger).rows) == to_csv(rows)
    assert [len(lot.ids) for lot in lots_in(larger)] == [4]


def test_a_group_is_compiled_once(out):
    outcome = sweep(grid(BASE, H=(2, 3), seed=range(4)), out, QUICK)
    assert len(outcome.lots) == 4
    assert outcome.programs == 2
    assert outcome.store_seconds > 0


def test_a_folder_is_extended_by_new_runs_only(out, unbroken):
    """Seeds are added and the order changed: what is there is not planned or written again."""
    sweep(CONFIGS[1:3], out, QUICK)
    before = {path: path.stat().st_mtime_ns for path in parts(out)}
    rows = finished(out)
    assert table(rows) == unbroken
    assert before.items() <= {path: path.stat().st_mtime_ns for path in parts(out)}.items()
    assert sorted(len(lot.ids) for lot in lots_in(out)) == [2, 2]
    assert [r["seed"] for r in finished(out, CONFIGS[::-1])[::SEGMENTS]] == ["3", "2", "1", "0"]


@pytest.fixture
def revision(monkeypatch):
    """Sets the revision of the source."""

    def become(name):
        for module in (engine, folder, identity):
            monkeypatch.setattr(module, "source_hash", lambda: name, raising=False)
        identity.provenance.cache_clear()

    yield become
    monkeypatch.undo()
    identity.provenance.cache_clear()


def test_another_revision_is_kept_apart(out, unbroken, revision, capsys):
    """Its unfinished lots are not resumed and its rows not mixed in, unless any revision will do."""
    present = identity.source_hash()
    revision("abcdefabcdef")
    old = finished(out, CONFIGS[:2])
    revision(present)
    assert {row["source_hash"] for row in old} == {"abcdefabcdef"}
    capsys.readouterr()
    taken = sweep(CONFIGS, out, dataclasses.replace(QUICK, any_revision=True))
    assert [row["source_hash"] == "abcdefabcdef" for row in taken.rows] == [True] * 32 + [False] * 32
    assert "revision" not in capsys.readouterr().err
    assert table(sweep(CONFIGS, out, QUICK).rows) == unbroken
    warned = [line for line in capsys.readouterr().err.splitlines() if "abcdefabcdef" in line]
    assert len(warned) == 1
    assert collect(out, CONFIGS[:2], "abcdefabcdef")[0] == old


def test_a_folder_is_read_as_often_as_it_must_be(out, monkeypatch):
    """Once to see what is missing, once under the lock to plan it, once for the rows; and once if nothing is missing.

    Rows of what was done before are read once more, when they are collected.
    """
    reads, rows, real, read_part = [], [], Lot.read, Lot.read_part
    monkeypatch.setattr(Lot, "read", staticmethod(lambda folder: reads.append(folder) or real(folder)))
    monkeypatch.setattr(Lot, "read_part", lambda lot, k: rows.append(k) or read_part(lot, k))
    finished(out, CONFIGS[:2])
    assert len(reads) == 1  # of the one lot that there was: after its runs
    reads.clear(), rows.clear()
    finished(out, CONFIGS[:2])
    assert (len(reads), len(rows)) == (1, SEGMENTS)
    reads.clear(), rows.clear()
    finished(out)
    assert len(reads) == 1 + 1 + 2
    assert rows.count(SEGMENTS - 1) <= 5
    reads.clear()
    status(out)
    assert len(reads) == 2


def test_an_error_fails_its_lot_and_can_be_tried_again(out, unbroken, monkeypatch, capsys):
    """The second lot's program cannot be had: its runs keep the error, the first lot is done, a retry does the rest."""
    real, calls = engine.Programs.get, []

    def get(self, lot):
        calls.append(lot)
        if len(calls) == 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
        return real(self, lot)

    monkeypatch.setattr(engine.Programs, "get", get)
    broken = sweep(CONFIGS, out, QUICK)
    monkeypatch.undo()
    assert len(broken.failures) == 2
    for failure in broken.failures:
        assert failure.error.startswith(f"RuntimeError: RESOURCE_EXHAUSTED: out of memory ({__file__}:")
        assert failure.source_hash == identity.source_hash()
        assert failure.traceback.endswith("RuntimeError: RESOURCE_EXHAUSTED: out of memory\nmore\n")
    assert capsys.readouterr().err.count("Traceback") == 1
    assert table(broken.rows) == "".join(unbroken.splitlines(keepends=True)[: 1 + 2 * SEGMENTS])
    assert (status(out).done, status(out).failed, status(out).missing) == (2, 2, 0)
    assert sweep(CONFIGS, out, QUICK).lots == []
    command = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4", "--runs-per-lot", "2", "--no-plot", "--out", str(out)]
    assert main(command) == 1
    assert "2 of 4 runs failed" in capsys.readouterr().err
    assert main([*command, "--retry-failed"]) == 0
    assert table(read_csv(out / "rows.csv")) == unbroken
    assert (status(out).done, status(out).failed) == (4, 0)


def test_a_run_is_tried_again_when_its_code_has_changed(out, revision, capsys, tables):
    """By itself, be it the source of this package or a definition from outside: both make it another run. The sentence
    names the line of the definition."""
    weight = None

    def channel(config, env, numbers):
        return Huber(numbers.eta, jnp.ones(env.n_actions) / weight)

    add_noise("own", "a definition with a mistake", channel)
    config = dataclasses.replace(BASE, noise="own")
    where = rf"TypeError: .*test_sweep.py:{channel.__code__.co_firstlineno + 1} in channel\)"
    for _ in range(2):
        with pytest.raises(RunsFailed, match=where):
            run(config, out)
    assert capsys.readouterr().err.count("Traceback") == 1
    revision("abcdefabcdef")
    with pytest.raises(RunsFailed, match=where):
        run(config, out)
    assert capsys.readouterr().err.count("Traceback") == 1
    weight = 3
    add_noise("own", "a definition without it", channel)
    assert len(run(config, out)) == SEGMENTS


def test_shards_are_merged_to_the_whole(tmp_path, unbroken, capsys):
    """By the commands: two shares, one of them joined alone first; then status of the join."""
    command = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4", "--runs-per-lot", "2", "--no-plot"]
    one, two, joined = (str(tmp_path / name) for name in ("one", "two", "joined"))
    assert main([*command, "--shard", "1/2", "--out", one]) == 0
    assert main(["sweep", "merge", one, "--out", joined]) == 0
    capsys.readouterr()
    assert main(["sweep", "status", joined, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["asked"], found["done"], found["running"], found["missing"], found["failed"]) == (4, 2, 0, 2, 0)
    assert main([*command, "--shard", "2/2", "--out", two]) == 0
    assert main(["sweep", "merge", two, one, "--out", joined]) == 0
    assert table(read_csv(tmp_path / "joined" / "rows.csv")) == unbroken
    assert sweep(CONFIGS, tmp_path / "joined", QUICK).lots == []


def test_conflicting_parts_are_refused(tmp_path, unbroken):
    """Two parts with the same run: equal rows are fine, another number is not, and nothing is copied then."""
    one, two = (open_folder(tmp_path / name) for name in ("one", "two"))
    finished(one, CONFIGS)
    finished(two, CONFIGS[1:3])
    assert table(merge([one, two], tmp_path / "joined")) == unbroken
    part = parts(two)[3]
    rewrite(part, lambda rows: rows[1].update(val_loss="0.125"))
    with pytest.raises(BadInput, match=rows_in(part)[1]["run"]):
        merge([one, two], tmp_path / "other")
    assert not lots_in(tmp_path / "other")


@pytest.mark.slow
def test_bench_smoke(tmp_path):
    """One of its three programs, two updates: compiled once in each process, and all runs are done."""
    row = bench_sweep(tmp_path / "bench.csv", steps=2, lengths=(2,))
    assert (row["runs"], row["programs"], row["compilations"]) == (15, 1, 1)
    assert 0 < row["store_share"] < 1
    assert row["ratio"] == row["seconds_one"] / row["seconds"]
    assert float(read_csv(tmp_path / "bench.csv")[0]["ratio"]) == row["ratio"]


def test_status_of_a_sweep_at_work(out):
    """Half of a lot is there and its lock is held; the rate follows from the times of the rows."""
    sweep(CONFIGS[:2], out, QUICK)
    (lot,) = lots_in(out)
    for k in range(8, SEGMENTS):
        lot.part(k).unlink()
    ask(out, {run: config.stored for run, config in zip(IDS, CONFIGS, strict=True)})
    assert (status(out).done, status(out).running, status(out).missing) == (0, 0, 4)
    with lot.lock:
        found = status(out)
    assert (found.done, found.running, found.missing, found.rows) == (0, 2, 2, 16)
    assert found.seconds_left * found.episodes_per_s == pytest.approx((30 - 14) * 4 * 2)


def test_status_does_not_wait_for_a_pipe_in_the_place_of_a_lock(out):
    """Nobody holds one."""
    sweep(CONFIGS[:2], out, QUICK)
    (lot,) = lots_in(out)
    lot.part(8).unlink()
    Path(lot.lock.lock_file).unlink(missing_ok=True)
    os.mkfifo(lot.lock.lock_file)
    seen = []
    asking = threading.Thread(target=lambda: seen.append(status(out)), daemon=True)
    asking.start()
    asking.join(timeout=30)
    assert [found.running for found in seen] == [0]


def test_a_folder_of_another_configuration_is_refused(out):
    ask(out, {run: config.stored for run, config in zip(IDS, CONFIGS, strict=True)})
    refuse_other_configurations(out, (dataclasses.replace(BASE, seed=17),))
    with pytest.raises(BadInput, match=r"eta is 0\.3 there and 0\.1 here"):
        refuse_other_configurations(out, (dataclasses.replace(BASE, eta=0.1),))


def test_parameters_of_a_run_are_kept(out):
    """Of each run its own, wherever it lies in its lot."""
    rows_of(CONFIGS[:2], out, keep_params=True)
    tables = [load_params(out, config) for config in CONFIGS[:2]]
    assert tables[0].shape == tables[1].shape
    assert (tables[0] != tables[1]).any()


@pytest.mark.parametrize(
    "arguments",
    [
        ["fig22"],
        ["fig2", "--shard", "0/4"],
        ["fig2", "--shard", "5/4"],
        ["fig2", "--shard", "half"],
        ["fig2", "--preset", "gpu"],
        ["fig2", "--runs-per-lot", "0"],
        ["theory_noise"],
        ["grid", "--vary", "etas=0.1"],
        ["grid", "--vary", "eta"],
        ["grid", "--vary", "eta="],
        ["grid", "--vary", "eta=half"],
        ["grid", "--vary", "seed=1", "--vary", "seed=2"],
        ["merge", "nowhere"],
        ["merge"],
        ["status", "."],
        ["fig2", "--slurm", "--shards", "0", "--cluster", "local"],
        ["fig2", "--slurm", "--slurm-option", "gpu"],
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not list(tmp_path.glob("*/runs"))


def test_a_figure_is_run_as_a_sweep(tmp_path, unbroken, monkeypatch):
    """A share of a figure's runs at a preset; the folder knows of the rest, and the next share extends it."""
    fig2, presets = experiment.load("fig2"), []
    assert len(fig2.runs("smoke")) == 36
    monkeypatch.setattr(experiment, "load", lambda _: fig2._replace(runs=lambda p: presets.append(p) or CONFIGS))
    command = ["sweep", "fig2", "--preset", "smoke", "--runs-per-lot", "2", "--out", str(tmp_path)]
    assert main([*command, "--shard", "1/2"]) == 0
    assert presets == ["smoke"]
    assert len({row["run"] for row in read_csv(tmp_path / "rows.csv")}) == 2
    assert set(asked(tmp_path)) == set(IDS)
    assert main(command) == 0
    assert table(read_csv(tmp_path / "rows.csv")) == unbroken

"""Sweeps: grids, shares, lots that are planned once, revisions, failures, joining, status."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeping import BASE, CONFIGS, OPTIONS, QUICK, SEGMENTS, parts, program_cache, rows_of, table

from nail.checks import BadInput
from nail.cli.bench.sweeps import bench_sweep
from nail.cli.main import main
from nail.sweep import engine, memory
from nail.sweep import identity as provenance
from nail.sweep import plan as plan_module
from nail.sweep import results as results_module
from nail.sweep.engine import sweep
from nail.sweep.grid import grid, parse_axis, shard
from nail.sweep.lot import lots_in
from nail.sweep.merge import collect, merge
from nail.sweep.plan import asked, refuse_other_configurations
from nail.sweep.run import run_all
from nail.sweep.status import status
from nail.sweep.store import open_folder, read_csv, to_csv
from nail.training.config import run_id


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with program_cache(tmp_path_factory.mktemp("programs")):
        yield


@pytest.fixture
def out(tmp_path):
    return open_folder(tmp_path / "out")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    """The table of a sweep that nothing happened to."""
    return table(rows_of(open_folder(tmp_path_factory.mktemp("unbroken") / "out")))


def test_a_grid_is_the_product_of_its_axes_in_order():
    found = grid(BASE, eta=(0.0, 0.1), seed=range(3))
    assert [(c.eta, c.seed) for c in found] == [(e, s) for e in (0.0, 0.1) for s in range(3)]
    assert {dataclasses.replace(c, eta=BASE.eta, seed=0) for c in found} == {BASE}
    assert parse_axis("seed=0:3,7") == ("seed", (0, 1, 2, 7))
    assert parse_axis("init-std=none,0.5") == ("init_std", (None, 0.5))
    assert parse_axis("channel_aware=true") == ("channel_aware", (True,))


@pytest.mark.parametrize(
    "axes", [{"etas": [0.1]}, {"eta": []}, {"eta": [0.1, 1.0]}, {"seed": [1, 1]}, {"method": ["nail"]}]
)
def test_bad_grids_are_refused(axes):
    with pytest.raises(BadInput):
        grid(BASE, **axes)


@given(st.permutations(range(12)), st.integers(1, 15))
@settings(max_examples=15, deadline=None)
def test_shares_partition_a_sweep_whatever_its_order(order, count):
    """Disjoint, together the whole, balanced, also in each program, and the same for any order of the runs."""
    configs = grid(BASE, m=(2, 3), seed=range(6))
    shares = [shard(configs, i + 1, count) for i in range(count)]
    assert sorted(run_id(c) for share in shares for c in share) == sorted(map(run_id, configs))
    for m in (2, 3):
        sizes = [sum(c.m == m for c in share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
    other = [shard([configs[i] for i in order], i + 1, count) for i in range(count)]
    assert [set(share) for share in other] == [set(share) for share in shares]


@given(st.integers(1, 300), st.integers(1, 8), st.integers(1, 40), st.booleans())
@settings(max_examples=200, deadline=None)
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
    outcome = sweep(grid(BASE, m=(2, 3), seed=range(4)), out, QUICK)
    assert len(outcome.lots) == 4
    assert outcome.programs == 2
    assert outcome.store_seconds > 0


def test_a_folder_is_extended_by_new_runs_only(out, unbroken):
    """Seeds are added and the order changed: what is there is not planned or written again."""
    sweep(CONFIGS[1:3], out, QUICK)
    before = {path: path.stat().st_mtime_ns for path in parts(out)}
    rows = rows_of(out)
    assert table(rows) == unbroken
    assert before.items() <= {path: path.stat().st_mtime_ns for path in parts(out)}.items()
    assert sorted(len(lot.ids) for lot in lots_in(out)) == [2, 2]
    assert [r["seed"] for r in rows_of(out, CONFIGS[::-1])[::SEGMENTS]] == ["3", "2", "1", "0"]


def test_another_revision_is_kept_apart(out, unbroken, monkeypatch, capsys):
    """Its unfinished lots are not resumed and its rows not mixed in, unless any revision will do."""
    for module in (engine, results_module, provenance):
        monkeypatch.setattr(module, "source_hash", lambda: "anotherrevision")
    provenance.provenance.cache_clear()
    old = rows_of(out, CONFIGS[:2])
    monkeypatch.undo()
    provenance.provenance.cache_clear()
    assert {row["source_hash"] for row in old} == {"anotherrevision"}
    capsys.readouterr()
    taken = sweep(CONFIGS, out, dataclasses.replace(QUICK, any_revision=True))
    assert [row["source_hash"] == "anotherrevision" for row in taken.rows] == [True] * 32 + [False] * 32
    assert "revision" not in capsys.readouterr().err
    assert table(sweep(CONFIGS, out, QUICK).rows) == unbroken
    warned = [line for line in capsys.readouterr().err.splitlines() if "anotherrevision" in line]
    assert len(warned) == 1
    assert collect(out, CONFIGS[:2], "anotherrevision")[0] == old


def test_the_source_hash_follows_what_computes(tmp_path, monkeypatch):
    """A changed number in a module that the program imports counts; a comment, a docstring, a command do not."""

    def hashed(changes):
        for name, text in {
            "train.py": "from nail.training.losses import loss\nimport nail.policies.table\n", "policies/table.py": "A = 1\n",
            "losses.py": '"""Doc."""\ndef loss(x):\n    """Doc."""\n    return 2 * x\n',
            "cli.py": "import nail.training.train\n", **changes,
        }.items():  # fmt: skip
            (tmp_path / "nail" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "nail" / name).write_text(text)
        provenance.source_hash.cache_clear()
        return provenance.source_hash()

    monkeypatch.setattr(provenance, "HERE", tmp_path / "nail")
    first = hashed({})
    assert hashed({"losses.py": '"""New."""\n\ndef loss(x):  # why\n    return 2 * x\n'}) == first
    assert hashed({"cli.py": "print('new')\n"}) == first
    assert hashed({"losses.py": "def loss(x):\n    return 3 * x\n"}) != first
    assert hashed({"policies/table.py": "A = 2\n"}) != first
    provenance.source_hash.cache_clear()


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
    assert {f.error for f in broken.failures} == {"RuntimeError: RESOURCE_EXHAUSTED: out of memory"}
    assert [f.source_hash for f in broken.failures] == [provenance.source_hash()] * 2
    assert table(broken.rows) == "".join(unbroken.splitlines(keepends=True)[: 1 + 2 * SEGMENTS])
    assert (status(out).done, status(out).failed, status(out).missing) == (2, 2, 0)
    assert sweep(CONFIGS, out, QUICK).lots == []
    command = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4", "--runs-per-lot", "2", "--out", str(out)]
    assert main(command) == 1
    assert "2 of 4 runs failed" in capsys.readouterr().err
    assert main([*command, "--retry-failed"]) == 0
    assert table(read_csv(out / "rows.csv")) == unbroken
    assert (status(out).done, status(out).failed) == (4, 0)


def test_shards_are_merged_to_the_whole(tmp_path, unbroken, capsys):
    """By the commands: two shares, one of them joined alone first; then status of the join."""
    command = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4", "--runs-per-lot", "2"]
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
    rows_of(one, CONFIGS)
    rows_of(two, CONFIGS[1:3])
    assert table(merge([one, two], tmp_path / "joined")) == unbroken
    part = parts(two)[3]
    rows = read_csv(part)
    rows[1]["val_loss"] = "0.125"
    part.write_text(to_csv(rows))
    with pytest.raises(BadInput, match=rows[1]["run"]):
        merge([one, two], tmp_path / "other")
    assert not lots_in(tmp_path / "other")


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
    plan_module.ask(out, CONFIGS)
    assert (status(out).done, status(out).running, status(out).missing) == (0, 0, 4)
    with lot.lock:
        found = status(out)
    assert (found.done, found.running, found.missing, found.rows) == (0, 2, 2, 16)
    assert found.seconds_left * found.episodes_per_s == pytest.approx((30 - 14) * 4 * 2)


def test_a_folder_of_another_configuration_is_refused(out):
    plan_module.ask(out, CONFIGS)
    refuse_other_configurations(out, (dataclasses.replace(BASE, seed=17),))
    with pytest.raises(BadInput, match=r"eta is 0\.3 there and 0\.1 here"):
        refuse_other_configurations(out, (dataclasses.replace(BASE, eta=0.1),))


def test_parameters_of_a_run_are_kept(out):
    """Of each run its own, wherever it lies in its lot."""
    run_all(CONFIGS[:2], out, keep_params=True)
    tables = [plan_module.load_params(out, config) for config in CONFIGS[:2]]
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


def test_a_figure_is_run_as_a_sweep(tmp_path):
    """A share of figure 2 at its smallest size; the folder knows of the rest."""
    assert main(["sweep", "fig2", "--preset", "smoke", "--shard", "1/36", "--out", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert {int(row["step"]) for row in rows} == {0, 10, 20, 30, 40}
    assert len({row["run"] for row in rows}) == 1
    assert len(asked(tmp_path)) == 36

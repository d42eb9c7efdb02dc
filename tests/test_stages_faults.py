"""Kills, damage and failures between stages: the same call goes on, and ends with the table of a sound one."""

import dataclasses
import shutil
import signal
import sys

import pytest
from staging import CHAINS, FIRST, SECOND, THIRD, finished, lot_of
from sweeping import QUICK, SOURCE, Killed, dying, lots_of, parts, prepared_once, start, table, times

from nail.checks import BadInput
from nail.sweep import engine
from nail.sweep.engine import sweep
from nail.sweep.folder import Folder
from nail.sweep.run import RunsFailed, rows_of
from nail.sweep.stages import stages
from nail.sweep.status import status
from nail.sweep.store import open_folder
from nail.training.config import run_id

WORKER = (
    SOURCE
    + """
import json, os
from pathlib import Path
from sweeping import QUICK, dying
from staging import CHAINS
from nail.sweep.engine import sweep
from nail.sweep.store import open_folder
with dying({die_at}, lambda: os.kill(os.getpid(), 9)):
    outcome = sweep(CHAINS, open_folder(Path(sys.argv[1])), QUICK)
print(json.dumps(outcome.lots))
"""
)


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture
def out(tmp_path):
    return open_folder(tmp_path / "out")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """A folder of chains that nothing happened to."""
    out = open_folder(tmp_path_factory.mktemp("whole") / "out")
    finished(out)
    return out


@pytest.fixture(scope="module")
def unbroken(whole):
    return table(finished(whole))


@pytest.mark.slow
def test_killed_before_each_file(tmp_path):
    """Plans, parameters, row parts, checkpoints of each stage: the same call goes on, and ends with the same table."""
    at, chains = 0, CHAINS[:1]
    expected = table(finished(open_folder(tmp_path / "expected"), chains))
    while True:
        at += 1
        out = open_folder(tmp_path / str(at))
        try:
            with dying(at) as calls:
                finished(out, chains)
        except Killed:
            assert len(calls) == at
            before = times(path for path in parts(out) if path.parents[1].name not in unfinished(out))
            assert table(finished(out, chains)) == expected
            assert before.items() <= times(parts(out)).items()
            assert not list(out.glob("runs/*/state/*"))
        else:
            break
    # three stages of a plan, rows, checkpoints after all but the last of them, two with parameters; and what was asked
    assert at - 1 == 1 + 3 + (3 + 4 + 3) + (2 + 3 + 2) + 2


def unfinished(out):
    return {seen.lot.folder.name for seen in Folder.read(out).lots if seen.parts < seen.lot.n_segments}


def test_killed_again_and_again(out, unbroken):
    """What is done is not repeated."""
    kept = {}
    for at in (3, 9, 4, 14, 8, 11, 6):
        with dying(at), pytest.raises(Killed):
            finished(out)
        assert kept.items() <= times(parts(out)).items()
        kept = times(path for path in parts(out) if path.parents[1].name not in unfinished(out))
    assert kept
    assert table(finished(out)) == unbroken
    assert kept.items() <= times(parts(out)).items()


@pytest.mark.slow
def test_two_processes_one_of_them_killed(tmp_path, unbroken):
    """kill -9 between two stages; then two processes at once finish: no lot twice, and the table of one process."""
    worker = [sys.executable, "-c"]
    killed = start([*worker, WORKER.format(die_at=24), str(tmp_path)])
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    done = {seen.lot.folder.name for seen in Folder.read(tmp_path).lots} - unfinished(tmp_path)
    assert done
    other = start([*worker, WORKER.format(die_at=0), str(tmp_path)])
    worked = [*sweep(CHAINS, open_folder(tmp_path), QUICK).lots, *lots_of(other)]
    assert len(worked) == len(set(worked))
    assert not done & set(worked)
    assert table(finished(tmp_path)) == unbroken


@pytest.mark.parametrize("how", ["emptied", "cut", "flipped", "lost", "a folder"])
def test_damaged_parameters_are_computed_again(whole, tmp_path, how, capsys):
    """Of a first stage, when another stage wants them: it is told, and the rows are those without damage."""
    fresh = [(first, third) for first, _, third in CHAINS]
    expected = table(finished(shutil.copytree(whole, tmp_path / "sound"), fresh))
    out = shutil.copytree(whole, tmp_path / "out")
    path = lot_of(out, FIRST[0]).folder / "params.npz"
    content = path.read_bytes()
    if how in ("lost", "a folder"):
        path.unlink()
    if how == "a folder":
        path.mkdir()
    if how in ("emptied", "cut", "flipped"):
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"emptied": b"", "cut": content[:-9], "flipped": flipped}[how])
    assert (status(out).done, status(out).missing) == (9, 0)
    capsys.readouterr()
    assert table(finished(out, fresh)) == expected
    assert ("params.npz.damaged and computed again" in capsys.readouterr().err) == (how != "lost")
    assert path.read_bytes() == content


def test_damage_between_two_stages_is_a_sentence(out, monkeypatch):
    """It comes after the folder was looked at: nothing is computed from it, and the same call mends it."""
    real = engine.Starts.params

    def params(self, lot):
        for keeper in self.keepers.values():
            path = keeper.folder / "params.npz"
            path.write_bytes(path.read_bytes()[:-1])
        return real(self, lot)

    monkeypatch.setattr(engine.Starts, "params", params)
    with pytest.raises(BadInput, match=r"params\.npz is not as it was written"):
        finished(out)
    monkeypatch.undo()
    assert len(finished(out)) == 3 * (3 + 4 + 3)


def test_a_lot_brings_the_starts_of_all_its_runs(out):
    """Two stages of one lot, whose starts have a lot each, were planned and then killed; one of them is asked for."""
    chains = [(FIRST[0], SECOND[0]), (SECOND[1], SECOND[1])]
    with dying(1 + 3 + 1), pytest.raises(Killed):  # asked, three lots
        finished(out, chains)
    assert sorted(len(seen.lot.ids) for seen in Folder.read(out).lots) == [1, 1, 2]
    alone = stages(*chains[0])[1]
    assert len(finished(out, [alone])) == 4
    assert status(out).done == 4


def test_a_start_that_was_not_kept_is_computed_again(out, unbroken, capsys):
    """It is told, and its rows stay; a start in the folder need not be asked for again."""
    finished(out, FIRST)
    assert not lot_of(out, FIRST[0]).has(params=True)
    rows = [path.read_bytes() for path in parts(out)]
    links = [stages(*chain[:2])[1] for chain in CHAINS]
    assert len(finished(out, links)) == 3 * 4
    assert "3 runs that others start from are done without final parameters" in capsys.readouterr().err
    assert rows == [path.read_bytes() for path in parts(out) if path.read_bytes() in rows]
    assert table(finished(out)) == unbroken


def test_a_stage_fails_with_its_start(out, unbroken, capsys):
    """And what starts from it; the other chains are done. Both are tried again together."""
    wild = dataclasses.replace(FIRST[0], lr=1e38, seed=9)
    chains = [*CHAINS, (wild, SECOND[0], THIRD[0])]
    with pytest.raises(RunsFailed, match=r"3 of 12 runs failed; the first is loglossbc, seed 9, .* not finite"):
        rows_of(chains, out, checkpoint_seconds=0.0, runs_per_lot=2)
    said = capsys.readouterr().err
    assert f"start {run_id(wild)} failed: the run {run_id(wild)}, which it starts from, failed" in said
    assert (status(out).done, status(out).failed, status(out).waiting) == (9, 3, 0)
    assert table(finished(out)) == unbroken
    worked = sweep(chains, out, dataclasses.replace(QUICK, retry_failed=True))
    assert len(worked.failures) == len(worked.lots) == 3
    assert sweep(chains, out, QUICK).lots == []
    alone = stages(wild, SECOND[1])[1]
    (failure,) = sweep([alone], out, QUICK).failures
    assert failure.error.endswith("which it starts from, failed")
    assert len(sweep([alone], out, dataclasses.replace(QUICK, retry_failed=True)).lots) == 2

"""Faults that a sweep has to survive: kills at any moment, damaged parts, a full disk, Ctrl-C, two processes.

Kills are mostly exceptions that no handler sees, raised where a file is put in its place; one is a real one.
"""

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jax
import pandas as pd
import pytest
from sweeping import (
    BASE,
    CONFIGS,
    IDS,
    OPTIONS,
    QUICK,
    SEGMENTS,
    Killed,
    checkpointed,
    dying,
    finished,
    lots_of,
    nail,
    parts,
    prepared_once,
    rows_in,
    table,
    times,
    worker,
)  # fmt: skip

from nail.checks import BadInput
from nail.cli.main import main
from nail.sweep import engine
from nail.sweep.engine import sweep
from nail.sweep.folder import Folder
from nail.sweep.run import RunsFailed, rows_of, run
from nail.sweep.status import status
from nail.sweep.store import open_folder
from nail.sweep.table import read_rows
from nail.training import train


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """The folder of a sweep that nothing happened to."""
    out = open_folder(tmp_path_factory.mktemp("unbroken") / "out")
    finished(out)
    return out


@pytest.fixture(scope="module")
def unbroken(whole):
    """Its table."""
    return table(finished(whole))


def test_rows_hold_the_whole_configuration_and_provenance(whole):
    rows = finished(whole)
    assert [(int(r["seed"]), int(r["step"])) for r in rows] == [(s, k) for s in range(4) for k in range(0, 31, 2)]
    row = rows[SEGMENTS - 1]
    assert set(row) >= set(BASE.stored)
    assert set(row) >= {"git_revision", "source_hash", "device", "version_jax", "version_nail", "version_python"}
    assert int(row["episodes"]) == 30 * 4
    assert int(row["expert_queries"]) == 30 * 4 * 2
    assert len(row["position_accuracy"].split()) == 2
    assert row["validation_contexts"] == "1"  # the poison chain has one start, whatever was asked for


def test_run_returns_a_table_and_leaves_it_behind(whole, tmp_path):
    """One configuration or many, a folder by its name: numbers are numbers, and rows.csv is what the commands write."""
    assert len(run(BASE, str(tmp_path / "one"))) == SEGMENTS
    out = tmp_path / "many"
    rows = run(iter(CONFIGS), str(out), runs_per_lot=2)
    pd.testing.assert_frame_equal(rows, read_rows(out))
    assert rows.groupby("seed").step.max().tolist() == [30] * 4
    assert rows.full_exact.tolist() == [float(row["full_exact"]) for row in finished(whole)]


def test_killed_while_compiling(tmp_path, unbroken, monkeypatch):
    def get(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine.Programs, "get", get)
        with pytest.raises(Killed):
            finished(tmp_path)
    assert not parts(tmp_path)
    assert table(finished(tmp_path)) == unbroken


def test_killed_while_writing(tmp_path, unbroken):
    """Again and again, before a file is in its place: plans, row parts, checkpoints. What is there is not repeated."""
    kept, kills = {}, 0
    for at in (1, 2, 3, 1, 2, 4, 7, 12, 3, 30):
        with dying(at) as calls, pytest.raises(Killed):
            finished(tmp_path)
        kills += len(calls) == at
        assert kept.items() <= times(parts(tmp_path)).items()
        kept = checkpointed(tmp_path)
    assert kills == 10
    assert SEGMENTS < len(kept) < 2 * SEGMENTS - 2
    assert table(finished(tmp_path)) == unbroken
    assert kept.items() <= times(parts(tmp_path)).items()
    assert not list(tmp_path.glob("runs/*/state/*"))


@pytest.mark.quick
def test_a_real_kill(tmp_path, unbroken):
    """kill -9 with a checkpoint written but not yet in its place: what is left of that goes away with the rest."""
    process = worker(tmp_path, die_at=9)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert parts(tmp_path)
    assert list(tmp_path.glob("runs/*/*/.*"))
    assert table(finished(tmp_path)) == unbroken
    assert not list(tmp_path.glob("runs/*/*/.*"))


def test_two_processes_share_a_folder(tmp_path, unbroken):
    """Overlapping sweeps at once: no lot is worked on twice, none is lost, the table is as if there had been one."""
    other = worker(tmp_path, first=1)
    worked = [*sweep(CONFIGS, open_folder(tmp_path), QUICK).lots, *lots_of(other)]
    assert len(worked) == len(set(worked)) == len(list(tmp_path.glob("runs/*/lot.json")))
    before = times(parts(tmp_path))
    assert table(finished(tmp_path)) == unbroken
    assert times(parts(tmp_path)) == before


def test_one_device_computes_the_same_numbers(tmp_path, whole, monkeypatch):
    """To the last bit, in lots of the same size."""
    train._initialiser.cache_clear()
    first = jax.local_devices()[:1]
    with monkeypatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: first)
        patch.setattr(jax, "local_device_count", lambda: 1)
        rows = finished(tmp_path)
    train._initialiser.cache_clear()
    but = ("git_revision", "device")
    assert table(rows, but) == table(finished(whole), but)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_part_is_computed_again(tmp_path, whole, unbroken, keep, capsys):
    out = shutil.copytree(whole, tmp_path / "out")
    part = parts(out)[5]
    text = part.read_text()
    part.write_text(text[: int(len(text) * keep)])
    assert table(finished(out)) == unbroken
    assert part.read_text() == text
    assert "computed again" in capsys.readouterr().err


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_what_was_written(tmp_path, unbroken):
    """The 13th flush finds the disk full; the error says so, no run has failed, and the same call goes on."""
    with dying(13, full, "fsync"), pytest.raises(OSError, match="No space left"):
        finished(tmp_path)
    assert 2 <= len(parts(tmp_path)) < SEGMENTS
    assert not list(tmp_path.glob("runs/*/failed/*"))
    assert table(finished(tmp_path)) == unbroken


def test_a_really_full_disk(tmp_path, unbroken):
    """A tmpfs of 256 KiB with 20 left: exit code 1 and one sentence; with room again it goes on from there."""
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "nail", tmp_path]).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        out = open_folder(tmp_path / "out")
        filler = tmp_path / "filler"
        filler.write_bytes(bytes((256 - 4 * 8) * 1024))
        with pytest.raises(OSError, match="No space left") as error:
            finished(out)
        assert error.value.errno == errno.ENOSPC
        assert len(parts(out)) < 2 * SEGMENTS
        filler.unlink()
        assert table(finished(out)) == unbroken
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_control_c_leaves_a_folder_that_resumes(tmp_path):
    """A real one, while stepping: exit code 130, nothing failed, and the runs go on from their last checkpoint."""
    process = nail("sweep", "grid", *OPTIONS, "--steps=40000", "--vary=seed=0:2", f"--out={tmp_path}")
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        # again, as one would: an interrupt may fall into code that JAX calls back, and Python drops it there
        if parts(tmp_path):
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0 if parts(tmp_path) else 0.02)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback (most recent call last)" not in errors.replace("Exception ignored", "")
    assert not list(tmp_path.glob("runs/*/failed/*"))


def test_control_c_while_compiling(tmp_path, monkeypatch, capsys):
    def get(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.Programs, "get", get)
    assert main(["sweep", "grid", *OPTIONS, "--vary=seed=0:2", f"--out={tmp_path}"]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err
    assert (status(tmp_path).missing, status(tmp_path).failed) == (2, 0)


def test_a_loss_that_is_not_finite_fails_its_run_only(tmp_path, unbroken):
    """lr is traced, so the wild run shares the lot of tame ones; their rows are what they are without it."""
    wild = dataclasses.replace(BASE, lr=1e38, weight_decay=0.0, seed=9)
    with pytest.raises(RunsFailed, match=r"1 of 5 runs failed.*dagger, seed 9, .* not finite at update") as failed:
        rows_of((CONFIGS[0], wild, *CONFIGS[1:]), open_folder(tmp_path), checkpoint_seconds=0.0, runs_per_lot=6)
    (failure,) = failed.value.failures
    assert failure.step >= 0
    assert any({failure.run, IDS[0]} <= {row["run"] for row in rows_in(part)} for part in parts(tmp_path))
    assert table(finished(tmp_path)) == unbroken
    with pytest.raises(RunsFailed, match=r"nail sweep … --out .* --retry-failed"):
        rows_of((wild,), open_folder(tmp_path))
    with pytest.raises(RunsFailed, match=r"run\(…, '.*', retry_failed=True\)"):
        run((wild, *CONFIGS), tmp_path)
    assert set(read_rows(tmp_path).run) == set(IDS)
    assert set(Folder.read(tmp_path).failed) == {failure.run}


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadInput, match="holds other files"):
        open_folder(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        open_folder(tmp_path / "thesis.tex")
    with pytest.raises(BadInput, match="written to"):
        open_folder(Path("/proc/nail"))

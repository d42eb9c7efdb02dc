"""Faults that a sweep has to survive: kills at any moment, damaged parts, a full disk, Ctrl-C, two processes."""

import dataclasses
import errno
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sweeping import BASE, CONFIGS, OPTIONS, SEGMENTS, lots_of, nail, parts, program_cache, rows_of, table, worker

from nail.checks import BadInput
from nail.sweep import store
from nail.sweep.run import RunsFailed, run_all
from nail.sweep.store import open_folder
from nail.training.config import TrainConfig


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with program_cache(tmp_path_factory.mktemp("programs")):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """The folder of a sweep that nothing happened to."""
    out = open_folder(tmp_path_factory.mktemp("unbroken") / "out")
    rows_of(out)
    return out


@pytest.fixture(scope="module")
def unbroken(whole):
    """Its table."""
    return table(rows_of(whole))


def wait_for(happened, process, seconds=60):
    """Poll until something happened, or the process ended."""
    end = time.monotonic() + seconds
    while not happened() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def kill(process):
    """kill -9; whether it was still at work."""
    working = process.poll() is None
    process.kill()
    process.communicate()
    return working


def test_rows_hold_the_whole_configuration_and_provenance(whole):
    rows = rows_of(whole)
    assert [(int(r["seed"]), int(r["step"])) for r in rows] == [(s, k) for s in range(4) for k in range(0, 31, 2)]
    row = rows[SEGMENTS - 1]
    assert set(row) >= {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(row) >= {"git_revision", "source_hash", "device", "version_jax", "version_nail", "version_python"}
    assert int(row["episodes"]) == 30 * 4
    assert int(row["expert_queries"]) == 30 * 4 * 2
    assert len(row["position_accuracy"].split()) == 2


def test_killed_while_compiling(tmp_path, unbroken):
    process = worker(tmp_path, cached=False)
    wait_for(lambda: list(tmp_path.glob("runs/*.lock")), process)
    assert kill(process)
    assert not parts(tmp_path)
    assert table(rows_of(tmp_path)) == unbroken


def test_killed_while_stepping(tmp_path, unbroken):
    """Twice, at moments drawn at a fixed seed; what was there is not written again."""
    moments, kills = random.Random(0), 0
    for goal in (1, 12):
        process = worker(tmp_path)
        wait_for(lambda goal=goal: len(parts(tmp_path)) >= goal, process)
        time.sleep(moments.random() * 0.01)
        kills += kill(process)
    assert kills >= 1
    assert 12 <= len(parts(tmp_path)) < 2 * SEGMENTS
    kept = {path: path.stat().st_mtime_ns for path in parts(tmp_path)[:10]}
    assert table(rows_of(tmp_path)) == unbroken
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert not list(tmp_path.glob("runs/*/state/*"))


def test_killed_while_writing(tmp_path, unbroken):
    """With a file written but not yet in place: a lot's plan, its second row part, its second checkpoint."""
    for die_at, there in ((3, 0), (5, 1), (2, 2)):
        process = worker(tmp_path, die_at)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
        assert len(parts(tmp_path)) == there
    assert list(tmp_path.glob("runs/*/*/.*"))
    assert table(rows_of(tmp_path)) == unbroken
    assert not list(tmp_path.glob("runs/*/*/.*"))


def test_two_processes_share_a_folder(tmp_path, unbroken):
    """Overlapping sweeps at once: no lot is worked on twice, none is lost, the table is as if there had been one."""
    both = [worker(tmp_path), worker(tmp_path, first=1)]
    worked = [lot for process in both for lot in lots_of(process)]
    assert len(worked) == len(set(worked)) == len(list(tmp_path.glob("runs/*/lot.json")))
    before = [path.stat().st_mtime_ns for path in parts(tmp_path)]
    assert table(rows_of(tmp_path)) == unbroken
    assert [path.stat().st_mtime_ns for path in parts(tmp_path)] == before


def test_one_device_computes_the_same_numbers(tmp_path, whole):
    """To the last bit, in lots of the same size."""
    lots_of(worker(tmp_path, devices=1))
    but = ("git_revision", "device")
    assert table(rows_of(tmp_path), but) == table(rows_of(whole), but)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_part_is_computed_again(tmp_path, whole, unbroken, keep, capsys):
    out = shutil.copytree(whole, tmp_path / "out")
    part = parts(out)[5]
    text = part.read_text()
    part.write_text(text[: int(len(text) * keep)])
    assert table(rows_of(out)) == unbroken
    assert part.read_text() == text
    assert "computed again" in capsys.readouterr().err


def test_a_full_disk_keeps_what_was_written(tmp_path, unbroken, monkeypatch):
    """The 13th flush finds the disk full; the error says so, no run has failed, and the same call goes on."""
    flushes, real = [], os.fsync

    def fsync(handle):
        flushes.append(handle)
        if len(flushes) == 13:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            rows_of(tmp_path)
    assert 2 <= len(parts(tmp_path)) < SEGMENTS
    assert not list(tmp_path.glob("runs/*/failed/*"))
    assert table(rows_of(tmp_path)) == unbroken


def test_a_really_full_disk(tmp_path, unbroken):
    """A tmpfs of 256 KiB with 20 left: exit code 1 and one sentence; with room again it goes on from there."""
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "nail", tmp_path]).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        out = open_folder(tmp_path / "out")
        filler = tmp_path / "filler"
        filler.write_bytes(bytes((256 - 4 * 8) * 1024))
        with pytest.raises(OSError, match="No space left") as full:
            rows_of(out)
        assert full.value.errno == errno.ENOSPC
        there = len(parts(out))
        assert there < 2 * SEGMENTS
        filler.unlink()
        assert table(rows_of(out)) == unbroken
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_control_c_leaves_a_folder_that_resumes(tmp_path):
    """While compiling and while stepping: exit code 130; then the table is that of an unbroken sweep."""
    command = ["sweep", "grid", *OPTIONS, "--steps=20000", "--vary=seed=0:2", f"--out={tmp_path}"]
    for cached, happened in ((False, lambda: list(tmp_path.glob("runs/*.lock"))), (True, lambda: parts(tmp_path))):
        process = nail(*command, cached=cached)
        wait_for(happened, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert bool(parts(tmp_path)) == cached
    assert not list(tmp_path.glob("runs/*/failed/*"))


def test_a_loss_that_is_not_finite_fails_its_run_only(tmp_path, unbroken):
    """lr is traced, so the wild run shares the lot of tame ones; their rows are what they are without it."""
    wild = dataclasses.replace(BASE, lr=1e38, weight_decay=0.0, seed=9)
    with pytest.raises(RunsFailed, match=r"1 of 5 runs failed.*dagger, seed 9, .* not finite at update") as failed:
        run_all((*CONFIGS, wild), open_folder(tmp_path), checkpoint_seconds=0.0, runs_per_lot=5)
    (failure,) = failed.value.failures
    assert failure.step >= 0
    assert failure.run in parts(tmp_path)[0].read_text()
    assert table(rows_of(tmp_path)) == unbroken
    with pytest.raises(RunsFailed):
        run_all((wild,), open_folder(tmp_path))


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadInput, match="holds other files"):
        open_folder(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        open_folder(tmp_path / "thesis.tex")
    with pytest.raises(BadInput, match="written to"):
        open_folder(Path("/proc/nail"))

"""Faults that a run has to survive: kills at any moment, damaged parts, a full disk, two processes."""

import dataclasses
import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nail import store as store_module
from nail.checks import BadInput
from nail.config import TrainConfig
from nail.run import NotFinite, run_all
from nail.store import GroupStore, open_folder, refuse_other_configurations, to_csv

CONFIG = TrainConfig(
    p=3,
    m=3,
    eta=0.4,
    width=16,
    heads=2,
    batch=8,
    steps=60,
    warmup=2,
    lr=1e-2,
    eval_every=2,
    n_validation=20,
    init_std=0.3,
)
CONFIGS = tuple(dataclasses.replace(CONFIG, method="dagger", seed=seed) for seed in (0, 1))

SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_run import CONFIGS
from nail.run import run_all
from nail.store import open_folder
run_all(CONFIGS, open_folder(Path(sys.argv[1])), checkpoint_seconds=0.0)
"""


def process(out):
    """Another process that runs `CONFIGS` in `out`."""
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", script, str(out)], stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The rows of a run that nothing happened to."""
    return run_all(CONFIGS, open_folder(tmp_path_factory.mktemp("unbroken") / "out"))


def parts(out):
    return len(list(Path(out).glob("runs/*/rows/*.csv")))


def test_rows_hold_the_whole_configuration_and_provenance(unbroken):
    row = unbroken[-1]
    assert len(unbroken) == 2 * 31
    assert [(int(r["seed"]), int(r["step"])) for r in unbroken] == [(s, k) for s in (0, 1) for k in range(0, 61, 2)]
    assert set(row) >= {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(row) >= {"git_revision", "device", "version_jax", "version_nail", "version_python"}
    assert int(row["episodes"]) == 60 * 8
    assert int(row["expert_queries"]) == 60 * 8 * 3
    assert len(row["position_accuracy"].split()) == 3


def test_killed_runs_resume_bit_for_bit(tmp_path, unbroken):
    """kill -9 three times, at moments drawn at a fixed seed between the first row and the last, then once unbroken."""
    moments = random.Random(0)
    kills = 0
    for goal in (1, 8, 16):
        worker = process(tmp_path)
        while parts(tmp_path) < goal and worker.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.1)
        kills += worker.poll() is None
        worker.kill()
        worker.wait()
    assert kills >= 2
    assert 16 <= parts(tmp_path) < 31
    kept = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.glob("runs/*/rows/*.csv"))[:12]}
    rows = run_all(CONFIGS, open_folder(tmp_path))
    assert to_csv(rows) == to_csv(unbroken)
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert not list(tmp_path.glob("runs/*/state/*"))


def test_two_processes_share_a_folder(tmp_path, unbroken):
    """Both end well, and the table is as if there had been one."""
    workers = [process(tmp_path), process(tmp_path)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    assert to_csv(run_all(CONFIGS, open_folder(tmp_path))) == to_csv(unbroken)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_part_is_computed_again(tmp_path, unbroken, keep, capsys):
    run_all(CONFIGS, open_folder(tmp_path))
    part = sorted(tmp_path.glob("runs/*/rows/*.csv"))[5]
    text = part.read_text()
    part.write_text(text[: int(len(text) * keep)])
    assert to_csv(run_all(CONFIGS, open_folder(tmp_path))) == to_csv(unbroken)
    assert "computed again" in capsys.readouterr().err


def test_a_full_disk_keeps_what_was_written(tmp_path, unbroken, monkeypatch):
    """The disk fills up at the 13th flush; the error says so, and the same call goes on once there is room."""
    flushes, real = [], os.fsync

    def fsync(handle):
        flushes.append(handle)
        if len(flushes) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            run_all(CONFIGS, open_folder(tmp_path))
    assert 8 <= parts(tmp_path) < 31
    assert not [path for path in tmp_path.glob("runs/*/rows/*") if path.suffix != ".csv"]
    assert to_csv(run_all(CONFIGS, open_folder(tmp_path))) == to_csv(unbroken)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_its_rows(tmp_path):
    wild = (dataclasses.replace(CONFIG, lr=1e30, warmup=0),)
    with pytest.raises(NotFinite, match=r"nail-f, seed 0, .* not finite at update"):
        run_all(wild, open_folder(tmp_path))
    assert GroupStore(tmp_path, wild).read_rows(0) is not None


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadInput, match="holds other files"):
        open_folder(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        open_folder(tmp_path / "thesis.tex")
    with pytest.raises(BadInput, match="written to"):
        open_folder(Path("/proc/nail"))


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    out = open_folder(tmp_path)
    GroupStore(out, CONFIGS).create()
    refuse_other_configurations(out, CONFIGS)
    other = tuple(dataclasses.replace(c, eta=0.1) for c in CONFIGS)
    with pytest.raises(BadInput, match=r"eta is 0\.4 there and 0\.1 here"):
        refuse_other_configurations(out, other)

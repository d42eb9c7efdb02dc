"""Logs written from stored rows: every value arrives under its metric, at its number of episodes."""

import subprocess
import sys

import pytest

from nail.cli.main import main
from nail.figures.trackers import METRICS, configuration, read_runs
from nail.sweep.store import to_csv

CONFIG = {"task": "modadd", "p": 3, "eta": 0.2, "git_revision": "abc"}


def row(run, method, step):
    loss = "nan" if step == 0 else 1.0 / step
    return {"run": run, "method": method, "step": step, "episodes": 8 * step, "full_exact": step / 20,
            "train_loss": loss, "position_accuracy": "1 0.5", **CONFIG}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Two runs in rows.csv, one of them in a figure's rows too; a figure without training runs beside them."""
    out = tmp_path / "runs"
    out.mkdir()
    rows = [row(run, method, step) for run, method in (("aaa", "nail-f"), ("bbb", "opd-f")) for step in (0, 10, 20)]
    (out / "rows.csv").write_text(to_csv(rows))
    (out / "fig_rows.csv").write_text(to_csv(rows[:3]))
    (out / "theory_rows.csv").write_text(to_csv([{"horizon": 3, "episodes": 5}]))
    return out


def test_tensorboard_events_hold_the_rows(folder, capsys):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    assert main(["log", str(folder), "--to", "tensorboard"]) == 0
    assert "2 runs, 10 values" in capsys.readouterr().out
    found = {}
    for path in (folder / "tensorboard").glob("*/events.*"):
        for event in map(Event.FromString, records(path.read_bytes())):
            for value in event.summary.value:
                if value.tag in METRICS:
                    found[path.parent.name, value.tag, event.step] = value.simple_value
    expected = {}
    for name in ("nail-f-aaa", "opd-f-bbb"):
        for step in (0, 10, 20):
            expected[name, "full_exact", 8 * step] = pytest.approx(step / 20)
            if step:
                expected[name, "train_loss", 8 * step] = pytest.approx(1 / step)
    assert found == expected


def records(data):
    """The records of an event file: length (8 bytes, little-endian), its checksum (4), the record, its checksum (4)."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        yield data[at + 12 : at + 12 + size]
        at += 16 + size


def test_runs_are_taken_once_and_in_order(folder):
    for name in ("rows.csv", "fig_rows.csv"):
        of_none = {"part": "expert", "full_exact": 0.9}
        (folder / name).write_text(to_csv([*(row("aaa", "nail-f", step) for step in (20, 0, 10)), of_none]))
    runs = read_runs(folder)
    assert {run: list(rows.step) for run, rows in runs.items()} == {"aaa": [0, 10, 20]}
    assert {"method": "nail-f", **CONFIG}.items() <= configuration(runs["aaa"]).items()


@pytest.mark.parametrize("writer", ["tensorboardX", "wandb"])
def test_a_missing_extra_is_one_sentence(folder, writer, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, writer, None)
    assert main(["log", str(folder), "--to", writer.lower().removesuffix("x")]) == 2
    printed = capsys.readouterr()
    assert "pip install" in printed.err
    assert printed.err.count("\n") == 1


def test_bad_input_is_one_sentence(folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    for words in (
        [str(empty)],
        [str(tmp_path / "nowhere")],
        [str(folder), "--to", "tensorbord"],
        [str(folder), "--out", str(folder)],
    ):
        assert main(["log", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    (folder / "rows.csv").write_text("run,method\nx")
    assert main(["log", str(folder)]) == 2
    assert "damaged" in capsys.readouterr().err


STRANGE = [
    ("method", "../../outside"), ("method", "/tmp/outside"), ("method", ".."), ("method", ""), ("method", "a/b"),
    ("method", "a" * 200), ("run", "../x"), ("run", "x\0"), ("step", "many"), ("step", "1.5"), ("step", "-1"),
    ("step", ""), ("step", "9" * 30), ("episodes", "nan"),
    ("episodes", "18446744073709551615"), ("train_loss", "little"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), STRANGE)
def test_rows_that_no_run_wrote_are_refused_and_nothing_is_written(folder, column, value, tmp_path, capsys):
    """Names of runs and methods become names of files: none of them leads out of the folder."""
    rows = [row("aaa", "nail-f", step) for step in (0, 10)]
    (folder / "rows.csv").write_text(to_csv([rows[0], {**rows[1], column: value}]))
    before = sorted(tmp_path.rglob("*"))
    assert main(["log", str(folder), "--out", str(tmp_path / "a" / "b" / "logs")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"nail: {column} in {folder / 'rows.csv'} must be")
    assert printed.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from nail.cli.main import main
sys.exit(main())
"""
"""a process whose files cannot grow, as on a full disk"""


def test_a_full_disk_ends_a_log_with_a_sentence(folder):
    """It leaves nothing, so that the same command can be given again."""
    pytest.importorskip("tensorboardX")
    rows = [row("aaa", "nail-f", step) for step in range(0, 2000, 10)]
    (folder / "rows.csv").write_text(to_csv(rows))
    done = subprocess.run([sys.executable, "-c", FULL, "log", str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("nail: [Errno 27] File too large")
    assert done.stderr.count("\n") == 1
    assert not (folder / "tensorboard").exists()
    assert main(["log", str(folder)]) == 0

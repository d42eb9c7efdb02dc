"""Files are put in their places whole: never through a link, never into what is no file, as the umask says."""

import os
import shutil
import socket
import sys

import pytest
from damaging import SWEEP, toy
from sweeping import in_time, prepared_once

from nail.checks import BadInput
from nail.cli.bench import steps
from nail.cli.main import main
from nail.figures import experiment
from nail.sweep import points, store

OF_A_FIGURE = ("toy.png", "toy.pdf", "toy.csv", "toy_claims.csv", "toy_rows.csv", "README.md")
FIGURE = ["figure", "toy", "--preset=smoke"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a figure, a report and a sweep."""
    out = tmp_path_factory.mktemp("made") / "out"
    with prepared_once(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiment.FIGURES, "toy", toy)
        for command in ([*FIGURE, f"--out={out}"], ["report", str(out)], [*SWEEP, f"--out={out}"]):
            assert main(command) == 0
    return out


@pytest.fixture
def out(made, tmp_path, monkeypatch):
    monkeypatch.setitem(experiment.FIGURES, "toy", toy)
    with prepared_once():
        yield shutil.copytree(made, tmp_path / "out")


def put(path, kind):
    """Something that is no file, in place of one."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        here = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(here)


@pytest.mark.parametrize(
    ("command", "names"), [(FIGURE, OF_A_FIGURE), (["report"], ["report.html"]), (SWEEP, ["rows.csv"])]
)
def test_links_are_replaced_and_what_they_point_at_stays(out, tmp_path, command, names):
    """A link to nothing makes nothing where it points."""
    for name in names:
        (tmp_path / name).write_bytes((out / name).read_bytes())
        (out / name).unlink()
        (out / name).symlink_to(f"../{name}")
    if command == FIGURE:
        (out / "toy.pdf").unlink()
        (out / "toy.pdf").symlink_to("../nowhere")
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in names}
    assert main([*command, str(out)] if command == ["report"] else [*command, f"--out={out}"]) == 0
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in names} == before
    assert not (tmp_path / "nowhere").exists()
    assert not [name for name in names if (out / name).is_symlink() or not (out / name).is_file()]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
@pytest.mark.parametrize("name", OF_A_FIGURE)
def test_a_figure_is_refused_before_it_is_computed(out, name, kind, monkeypatch, capsys):
    monkeypatch.setattr("damaging.run_points", lambda *_: pytest.fail("computed"))
    put(out / name, kind)
    with in_time():
        assert main([*FIGURE, f"--out={out}"]) == 2
    said = capsys.readouterr().err
    assert f"{out / name} must be a file" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_a_sweep_and_a_benchmark_are_refused_before_they_are_computed(out, kind, monkeypatch, capsys):
    monkeypatch.setattr(steps, "bench", lambda *_: pytest.fail("computed"))
    put(out / "rows.csv", kind)
    with in_time():
        assert main([*SWEEP, "--steps=7", f"--out={out}"]) == 2
        assert main(["bench", f"--out={out / 'rows.csv'}"]) == 2
    assert capsys.readouterr().err.count("must be a file that can be written") == 2
    assert not (out / "rows.csv").is_file()


@pytest.mark.parametrize("name", OF_A_FIGURE[:5])
def test_a_report_does_not_wait_for_a_pipe(out, name, capsys):
    put(out / name, "pipe")
    with in_time():
        assert main(["report", str(out)]) == 0
    assert (out / "report.html").is_file()


def test_a_lock_that_is_a_link_empties_nothing(out, tmp_path, capsys):
    (tmp_path / "canary").write_text("alive")
    for name, command in (("plan.lock", SWEEP), ("figures.lock", FIGURE)):
        (out / name).unlink()
        (out / name).symlink_to("../canary")
        assert main([*command, f"--out={out}"]) == 2
        assert f"{out / name} must be a file of nail" in capsys.readouterr().err
    assert (tmp_path / "canary").read_text() == "alive"


def test_what_stands_for_an_open_file_is_no_place(tmp_path):
    (tmp_path / "file").write_text("")
    with (tmp_path / "file").open() as file:
        (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{file.fileno()}")
        with pytest.raises(BadInput, match="it is a device"):
            store.write_text(tmp_path / "stdout", "x")


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664), (0o022, 0o644)])
def test_permissions_are_those_of_the_umask(out, tmp_path, umask, mode):
    """Also of what a merge copies."""
    before = os.umask(umask)
    try:
        store.write_text(tmp_path / "text", "x")
        assert main(["sweep", "merge", str(out), f"--out={tmp_path / 'joined'}"]) == 0
    finally:
        os.umask(before)
    copied = [*(tmp_path / "joined").glob("runs/*/lot.json"), tmp_path / "joined" / "rows.csv"]
    assert len(copied) > 2
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "text", *copied)} == {mode}


OPENED = []
WATCHED = [""]


def watch(event, arguments):
    """An audit hook, which stays for as long as the process lives."""
    if event == "open" and WATCHED[0] and isinstance(arguments[2], int):
        path, _, flags = arguments
        written = flags & (os.O_WRONLY | os.O_RDWR) and not os.path.isdir(path)  # a file without a name
        if str(path).startswith(WATCHED[0]) and written:
            OPENED.append(os.path.basename(path))


def test_no_file_is_written_in_its_place(out, tmp_path, monkeypatch):
    """All that is opened to be written has a name of its own first, but for locks."""
    sys.addaudithook(watch)
    monkeypatch.setattr(points, "source_hash", lambda *_: "0123456789ab")  # the points are measured again
    WATCHED[0] = str(tmp_path)
    try:
        for command in ([*FIGURE, f"--out={out}"], ["report", str(out)], [*SWEEP, "--steps=4", f"--out={out}"],
                        ["sweep", "merge", str(out), f"--out={tmp_path / 'joined'}"]):  # fmt: skip
            assert main(command) == 0
    finally:
        WATCHED[0] = ""
    assert len(OPENED) > 30
    assert {".toy.png", ".toy.pdf", ".report.html", ".rows.csv"} <= {name.rpartition(".")[0] for name in OPENED}
    assert not [name for name in OPENED if not name.startswith(".") and not name.endswith(".lock")]

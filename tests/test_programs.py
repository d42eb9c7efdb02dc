"""Compiled programs that outlast a command: no number depends on them, and no fault of theirs ends a command."""

import os
import subprocess
import sys
import time
import zlib

import pytest
from sweeping import CONFIGS, OPTIONS, finished, table

from nail.cli import programs
from nail.cli.programs import cache_folder, tidy
from nail.sweep.store import open_folder, read_csv

COUNT = """
import sys
import jax
from nail.cli.main import main
heard = []
jax.monitoring.register_event_listener(lambda event, **_: heard.append(event))
code = main()
print(*(heard.count(f"/jax/compilation_cache/cache_{what}") for what in ("hits", "misses")))
sys.exit(code)
"""


def sweep_in_a_process(out, home, **settings):
    """Programs that a command read and kept, and what it said; its cache is below `home`."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, "sweep", "grid", *OPTIONS, "--vary=seed=0:4", "--no-plot", f"--out={out}"],
        env={**environment, "XDG_CACHE_HOME": str(home), **settings}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (*map(int, done.stdout.split()), done.stderr)


def test_programs_are_kept_and_change_no_number(tmp_path, monkeypatch):
    """Compiled, then read but for one that is cut off and an old one that is garbled: the table is that without any."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = table(finished(open_folder(tmp_path / "expected"), runs_per_lot=None))
    hits, kept, _ = sweep_in_a_process(tmp_path / "first", tmp_path)
    entries = sorted(cache_folder().glob("*-cache"))
    assert (hits, kept) == (0, len(entries))
    assert kept >= 2
    cut_off, garbled = entries[:2]
    whole = cut_off.read_bytes()
    cut_off.write_bytes(whole[:1000])
    garbled.write_bytes(b"garbled")
    for path, age in ((garbled, 7200), (cache_folder() / "looked-at", 3600)):
        os.utime(path, (time.time() - age,) * 2)
    hits, again, said = sweep_in_a_process(tmp_path / "second", tmp_path)
    assert hits + again == kept
    assert again >= 2
    assert len(cut_off.read_bytes()) > len(whole) / 2
    assert "Error reading" not in said
    for out in ("first", "second"):
        assert table(read_csv(tmp_path / out / "rows.csv")) == expected
    if hits == 0:
        pytest.skip("on this processor XLA cannot load what it kept")
    assert (hits, again) == (kept - 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["folder", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"])
def test_nothing_is_kept_where_it_cannot_or_should_not_be(tmp_path, setting):
    """No folder can be made, or another was chosen, or none at all."""
    home = tmp_path / "home"
    if setting == "folder":
        home.write_text("a file")
    values = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "chosen"), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    chosen = {setting: values[setting]} if setting in values else {}
    hits, kept, said = sweep_in_a_process(tmp_path / "out", home, **chosen)
    assert len(read_csv(tmp_path / "out" / "rows.csv")) > len(CONFIGS)
    assert hits == 0
    assert "Error" not in said
    assert not home.is_dir()
    assert kept == len(list((tmp_path / "chosen").glob("*-cache")))
    assert (kept > 0) == (setting == "JAX_COMPILATION_CACHE_DIR")


def test_programs_used_longest_ago_go_first(tmp_path):
    """Ten bytes each, room for 25: what was read lately stays, whenever it was written."""
    times = {"old": (1, 1), "read": (3, 1), "new": (2, 2)}
    for name, when in times.items():
        path = tmp_path / f"{name}-cache"
        path.write_bytes(zlib.compress(b"ab"))
        os.utime(path, when)
    (tmp_path / "another").write_bytes(bytes(100))
    tidy(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "looked-at", "new-cache", "read-cache"]


@pytest.mark.parametrize("pack", [zlib.compress, lambda content: b"\x28\xb5\x2f\xfd" + content])
def test_an_entry_that_does_not_unpack_goes(tmp_path, pack):
    """Cut off, whoever packed it; a whole one stays."""
    (tmp_path / "whole-cache").write_bytes(zlib.compress(b"program"))
    (tmp_path / "cut-cache").write_bytes(pack(bytes(range(100)))[:-8])
    tidy(tmp_path, 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["looked-at", "whole-cache"]


def test_each_kind_of_processor_has_a_folder(monkeypatch):
    here = cache_folder()
    assert here == cache_folder()
    monkeypatch.setattr(programs, "_processor", lambda: ["another"])
    assert cache_folder().parent == here.parent
    assert cache_folder() != here

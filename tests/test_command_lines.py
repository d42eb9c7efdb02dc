"""Command lines of all sorts: each is done, refused in one sentence with exit code 2, or comes to its long work."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import pytest
from command_lines import KINDS, command_lines, folders, options_of, outcome, without_long_work
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nail.cli.main import main
from nail.lm import roll_call

FINE = ("done", "reached", "refused")


@pytest.fixture
def nothing_long(monkeypatch):
    """The long work is left out, and nobody is waited for."""
    monkeypatch.setattr(roll_call, "SECONDS", 0.0)
    kept = Path.cwd()
    with without_long_work():
        yield
    os.chdir(kept)


def tried(words, terminal):
    """The outcome of a command line in a folder of its own."""
    root = Path(tempfile.mkdtemp())
    try:
        (root / "a" / "b").mkdir(parents=True)
        folders(root / "a" / "b")
        os.chdir(root / "a" / "b")
        return outcome(words, terminal)
    finally:
        os.chdir("/")
        shutil.rmtree(root)


def property_of(examples):
    """The test of so many command lines."""

    @settings(
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(words=command_lines(), terminal=st.booleans())
    def test(nothing_long, words, terminal):
        assert tried(words, terminal) in FINE

    return test


test_command_lines = property_of(40)
test_more_command_lines = pytest.mark.slow(property_of(600))


def test_every_command_is_among_them():
    """All commands, all tasks, all quantities, and each option of the largest command."""
    first = {words[0] for words in KINDS}
    assert first == {*"list train expert figure sweep plot theory n-star bench report log lm".split()}
    assert {words[1] for words in KINDS if words[0] == "sweep"} == {"figure", "grid", "merge", "status"}
    names = {name for group in options_of(KINDS["sweep", "grid", "--task", "modadd"]) for name, *_ in group}
    assert {"vary", "width", "m", "eta", "shard", "process", "slurm-option", "out"} <= names


HUGE = """\
train --width 1000000000
train --width 65536
train --layers 100000
train --m 200000
train --m 8000
train --p 32768 --m 4000
train --batch 2000000000 --steps 1
train --method dagger --batch 65536 --steps 60000
train --task hidden-path --H 6000
train --task poison-chain --H 100000000
train --task garnet --S 1 --H 4000000
train --seeds 999999999999
train --warmup 99999999999999999999
train --lr 1e-320
train --temperature 1e-45
train --eta 0.99999999999999
train --task garnet --eta 1e39
train --steps 2147483648 --batch 1
expert --n-validation 2147483647
sweep grid --vary seed=0:999999999999
sweep grid --vary seed=0:5001 --vary eta=0,0.1
sweep fig2 --shard 1/99999999999999999999999999999999999999999999999999999999999
sweep fig2 --slurm --shards 99999999
theory survival --H 3 --A 1000000000 --eta 0.5
theory bc-exact --H 3 --A 100000 --eta 0.9 --n 9
theory bc-exact --H 90000 --A 2 --eta 0.9 --n 9
theory offline-genie --H 3 --A 3 --eta 0.99999999999999 --n 9
theory hellinger --eta 0.5 --C 1e308
theory offline-n --H 3 --A 3 --eta 0.5 --delta 1e-320
theory lrt-error --H 3 --c 1e-320 --eta 0.5 --n 9
n-star --instance garnet --method nail-f --eta 0.1 --delta 0.1 --instances 20000 --replicates 20000
n-star --instance garnet --method nail-f --eta 0.1 --delta 0.1 --replicates 90000000
n-star --instance hidden-path --method loglossbc --H 9000 --A 2 --eta 0.1 --delta 0.1
n-star --instance poison-chain --method nail-f --H 900000000 --A 2 --eta 0.1 --delta 0.1
bench --seconds inf
bench --seconds nan
bench --out .
"""


@pytest.mark.parametrize("line", HUGE.splitlines())
def test_numbers_that_no_machine_can_do_are_refused(line, nothing_long):
    assert tried(line.split(), terminal=False) == "refused"


@pytest.mark.parametrize("value", ["x" * 5_000, "two\nlines", "\x1b[31m", "│", ""])
def test_a_terminal_with_colours_changes_no_sentence(value, nothing_long):
    for words in (["train", "--p", value], ["train", f"--{value}x", "3"], ["theory", "survival", f"--H={value}"]):
        assert tried(words, terminal=True) == "refused"


def test_a_run_that_fits_is_let_through(nothing_long):
    """Up to the paper's size, and every figure's runs."""
    for words in ("train", "train --method dagger --width 64", "train --task garnet", "sweep fig2 --preset paper"):
        assert tried(words.split(), terminal=False) == "reached"


def nail(*arguments, **environment):
    """A command in a process of its own."""
    command = [sys.executable, "-m", "nail.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, timeout=60)


def test_a_list_where_letters_cannot_be_shown():
    done = nail("list", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_failure():
    done = subprocess.run(f"{sys.executable} -m nail.cli.main list | head -1; echo ${{PIPESTATUS[0]}}",
                          shell=True, executable="/bin/bash", capture_output=True, text=True)  # fmt: skip
    assert done.stdout.splitlines()[1:] in (["141"], ["0"])
    assert not done.stderr


def test_a_platform_that_is_not_here(tmp_path):
    """Each command that computes says so in one sentence."""
    for words in ("train --task garnet --steps 1", " ".join(N_STAR)):
        out = ["--out", str(tmp_path / "out")] if words.startswith("train") else []
        done = nail(*words.split(), *out, JAX_PLATFORMS="cuda")
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(b"nail: JAX_PLATFORMS must name a kind of device that is here, got cuda")
        assert done.stderr.count(b"\n") == 1


N_STAR = "n-star --instance garnet --method nail-f --eta 0.1 --delta 0.1".split()


@pytest.mark.parametrize("setting", ["JAX_NUM_CPU_DEVICES=many", "JAX_NUM_CPU_DEVICES=99999", "JAX_ENABLE_X64=perhaps"])
def test_settings_that_jax_does_not_take(setting):
    name, _, value = setting.partition("=")
    done = nail(*N_STAR, **{name: value})
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"nail: ")
    assert value.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("setting", "value"), [("enable_x64", True), ("default_prng_impl", "rbg"), ("random_seed_offset", 5)]
)
def test_settings_that_change_numbers_are_refused(setting, value, capsys):
    kept = getattr(jax.config, f"jax_{setting}")
    jax.config.update(f"jax_{setting}", value)
    try:
        assert main(N_STAR) == 2
    finally:
        jax.config.update(f"jax_{setting}", kept)
    printed = capsys.readouterr().err
    assert printed.startswith(f"nail: JAX_{setting.upper()} must be left at {kept}")
    assert str(value) in printed
    assert printed.count("\n") == 1


def test_settings_of_other_libraries(tmp_path):
    for setting in ("MPLBACKEND", "TQDM_MININTERVAL"):
        done = nail("figure", "theory_compounding", "--preset=smoke", "--out", str(tmp_path), **{setting: "nonsense"})
        assert done.returncode == 2, done.stderr
        assert b"a variable of the environment must be one that its library takes" in done.stderr
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_is_no_failure(closed):
    command = f"{sys.executable} -m nail.cli.main theory survival --H 3 --A 3 --eta 0.5 {closed}"
    done = subprocess.run(command, shell=True, executable="/bin/bash", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_no_text(nothing_long):
    assert tried(["train", "--expert", "E\udcff"], terminal=False) == "refused"


def test_modules_are_looked_for_in_a_folder_that_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "getcwd", lambda: Path("/no/folder").stat())
    assert main(["list", "--import", "foo"]) == 2
    assert "this one is gone" in capsys.readouterr().err


def test_another_error_of_a_value_keeps_its_traceback(monkeypatch):
    """It is a mistake of the program's, and not of the user's."""
    monkeypatch.setattr("nail.cli.main.parse", lambda *_: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["list"])


def test_paths_are_refused_before_the_work(tmp_path, capsys, nothing_long):
    for words in (
        ["bench", "--preset", "tabular", "--out", str(tmp_path)],
        ["bench", "--preset", "tabular", "--out", "/proc/no/file"],
        ["report", str(tmp_path), "--out", "/dev/null/x"],
        ["train", "--out", "x" * 300],
        ["sweep", "status", "x" * 300],
        ["sweep", "merge", "x/" * 3000, "--out", str(tmp_path / "merged")],
        ["log", "x" * 300],
    ):
        assert main(words) == 2, words
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert len(printed) < 500

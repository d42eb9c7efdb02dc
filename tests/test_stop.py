"""Signals that ask a command to end: what is written before, what is said, exit code 128 + n."""

import os
import signal
import subprocess
import sys
import time

import pytest
from sweeping import OPTIONS, finished, parts, prepared_once, table, times

from nail.cli.main import main
from nail.sweep import stop
from nail.sweep.lot import Lot
from nail.sweep.store import open_folder, read_csv

COMMAND = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4", "--runs-per-lot", "2", "--no-plot"]
PROCESS = """
import hashlib, sys, time
from contextlib import nullcontext
from nail.sweep import stop
stop.PATIENCE, stop.TWICE = float(sys.argv[2]), 0.4
with stop.heeding(), stop.at_work() if sys.argv[1] == "at work" else nullcontext():
    print("here", flush=True)
    # as a program of JAX does: the main thread comes back to Python only after it
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(sys.argv[3]))
    print("asked", stop.asked(), flush=True)
    time.sleep(1.3 * stop.PATIENCE)
print("done", flush=True)
"""


def began(*arguments, ignoring=""):
    """A process that computes; it has begun."""
    command = [sys.executable, "-c", PROCESS, *map(str, arguments)]
    if ignoring:
        command = ["sh", "-c", f"trap '' {ignoring}; exec \"$@\"", "sh", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    return process


LONG = 10**9
"""rounds that take minutes"""


@pytest.mark.parametrize("number", stop.SIGNALS)
def test_a_process_that_has_nothing_to_keep_ends_at_once(number):
    process = began("idle", 60, LONG)
    process.send_signal(number)
    printed, said = process.communicate(timeout=10)
    assert (process.returncode, printed) == (128 + number, "")
    assert said.strip().count("\n") == 0
    assert signal.Signals(number).name in said


def test_a_chunk_that_takes_too_long_is_given_up():
    process = began("at work", 0.3, LONG)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=10)[1]
    assert process.returncode == 143
    assert said.strip().count("\n") == 0


def test_a_second_signal_ends_a_process_at_once():
    """But not the same one, as it comes to a process from Slurm and again from the shell that Slurm told too."""
    process = began("at work", 60, LONG)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143


def test_a_chunk_that_ends_in_time_is_told_of_the_signal():
    """And then it is given the time that it needs: the patience is shorter than what it still takes."""
    process = began("at work", 3, 10**5)
    process.send_signal(signal.SIGUSR1)
    printed, said = process.communicate(timeout=10)
    assert (process.returncode, printed, said) == (0, f"asked {signal.SIGUSR1:d}\ndone\n", "")


def test_signals_that_are_ignored_stay_ignored():
    """`nohup` starts a command so."""
    process = began("at work", 0.1, 10**6, ignoring="HUP")
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=10)[0] == "asked 0\ndone\n"


def test_what_was_there_is_there_again():
    before = [signal.getsignal(number) for number in stop.SIGNALS]
    with stop.heeding():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in stop.SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_sweep_writes_a_checkpoint_and_goes_on_from_it(tmp_path, monkeypatch, capsys):
    """At a signal during the fifth segment: no checkpoint was due, one is written, and nothing is computed twice."""
    real, calls = Lot.write_rows, []

    def signalled(*arguments):
        real(*arguments)
        calls.append(arguments)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            while not stop._came:
                time.sleep(0.01)

    with prepared_once():
        unbroken = table(finished(open_folder(tmp_path / "unbroken")))
        monkeypatch.setattr(Lot, "write_rows", signalled)
        out = tmp_path / "out"
        assert main([*COMMAND, "--out", str(out)]) == 143
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("nail: SIGTERM")
        assert [path.name for path in out.glob("runs/*/state/*.npz")] == ["5.npz"]
        written = times(parts(out))
        assert len(written) == 5
        assert main([*COMMAND, "--out", str(out)]) == 0
        assert times(written) == written
    assert table(read_csv(out / "rows.csv")) == unbroken

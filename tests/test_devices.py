"""Options and flags of XLA that the installed one has not are left out, not passed on."""

import os
import subprocess
import sys

import jax
import pytest

from nail.cli import programs
from nail.training import devices


@pytest.mark.quick
def test_options_that_xla_has_not_are_left_out():
    options = (("xla_nope", True), ("xla_backend_optimization_level", 1))
    assert devices.known_options(options) == {"xla_backend_optimization_level": 1}


@pytest.mark.quick
def test_flags_that_xla_has_not_are_left_out(monkeypatch):
    """XLA ends a process whose XLA_FLAGS hold one; before `EIGEN_UNTIL` it has the flag of `use_all_cores`."""
    known = programs.known_flags("--xla_nope=1", programs.EIGEN)
    assert known == (programs.EIGEN if jax.__version_info__ < programs.EIGEN_UNTIL else known) != "--xla_nope=1"
    monkeypatch.setattr(programs, "EIGEN_UNTIL", (0, 0))
    for flag, there in (("--xla_nope=1", ""), ("--xla_dump_to=", "--xla_dump_to=")):
        monkeypatch.setattr(programs, "EIGEN", flag)
        monkeypatch.setenv("XLA_FLAGS", "")
        programs.use_all_cores()
        assert os.environ["XLA_FLAGS"] == there


@pytest.mark.quick
def test_a_short_run_in_a_process_without_settings_of_the_tests(tmp_path):
    """As a user has it: XLA_FLAGS and the devices are those that the command sets, and the program is a quick one."""
    settings = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    line = "train --task garnet --method loglossbc --lr 0.05 --warmup 0 --steps 500 --eval-every 500".split()
    command = [sys.executable, "-m", "nail.cli.main", *line, "--out", tmp_path]
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 2

"""Options and flags of XLA that the installed one has not are left out, not passed on."""

import os

import jax

from nail.training import devices


def test_options_that_xla_has_not_are_left_out(monkeypatch):
    monkeypatch.setattr(devices, "QUICK", {"xla_nope": True, "xla_backend_optimization_level": 1})
    assert devices.known_options.__wrapped__() == {"xla_backend_optimization_level": 1}


def test_flags_that_xla_has_not_are_left_out(monkeypatch):
    """XLA ends a process whose XLA_FLAGS hold one; before `EIGEN_UNTIL` it has the flag of `use_all_cores`."""
    known = devices.known_flags("--xla_nope=1", devices.EIGEN)
    assert known == (devices.EIGEN if jax.__version_info__ < devices.EIGEN_UNTIL else known) != "--xla_nope=1"
    monkeypatch.setattr(devices, "EIGEN_UNTIL", (0, 0))
    for flag, there in (("--xla_nope=1", ""), ("--xla_dump_to=", "--xla_dump_to=")):
        monkeypatch.setattr(devices, "EIGEN", flag)
        monkeypatch.setenv("XLA_FLAGS", "")
        devices.use_all_cores()
        assert os.environ["XLA_FLAGS"] == there

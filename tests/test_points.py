"""Points of theory figures: measured once, by one revision of their code, whatever happens meanwhile."""

import errno
import json
import os
import threading
import time
from pathlib import Path

import jax
import pytest
from sweeping import Killed, dying, parts, rewrite, times

from nail.checks import BadInput
from nail.counting.nstar import n_star
from nail.counting.spare import take
from nail.sweep import identity, points
from nail.sweep.failures import RunsFailed
from nail.sweep.lot import Lot
from nail.sweep.merge import merge
from nail.sweep.points import run_points, source_of
from nail.sweep.status import status
from nail.sweep.store import open_folder

SERIES = [[{"x": 10 * s + i} for i in range(4)] for s in range(3)]


@pytest.fixture
def out(tmp_path):
    return open_folder(tmp_path / "out")


class Measured:
    """A measurement that counts its calls."""

    def __init__(self, wrong=(), error=None):
        self.calls, self.wrong, self.error = [], set(wrong), error

    def __call__(self, point):
        self.calls.append(point["x"])
        if point["x"] in self.wrong:
            raise self.error
        return [{**point, "row": i, "y": point["x"] ** 2 / 7} for i in range(2)]


def xs(rows):
    return [int(row["x"]) for row in rows[::2]]


def test_each_point_is_measured_once_and_in_order(out):
    measure = Measured()
    rows = run_points("figure", out, SERIES, measure)
    assert xs(rows) == [point["x"] for points in SERIES for point in points]
    assert [float(row["y"]) for row in rows] == [int(row["x"]) ** 2 / 7 for row in rows]
    assert {row["source_hash"] for row in rows} == {source_of(measure)}
    assert rows[0]["version_jax"]
    assert sorted(measure.calls) == sorted(xs(rows))
    assert run_points("figure", out, SERIES, measure) == rows
    assert len(measure.calls) == 12
    assert xs(run_points("other", out, [[{"x": 3}]], measure)) == [3]
    assert len(measure.calls) == 13
    found = status(out)
    assert (found.asked, found.done, found.missing, found.failed) == (13, 13, 0, 0)


def test_a_series_stops_where_it_is_told(out):
    """The points after that are neither measured nor missing."""
    measure = Measured()
    for _ in range(2):
        rows = run_points("figure", out, SERIES, measure, lambda rows: int(rows[0]["x"]) % 10 == 1)
        assert xs(rows) == [0, 1, 10, 11, 20, 21]
    assert len(measure.calls) == 6
    assert (status(out).asked, status(out).done) == (6, 6)


def real_point(point):
    found = n_star("poison-chain", "nail-f", point["H"], 3, eta=0.3, delta=0.3, replicates=64, max_episodes=256)
    return [{**point, "n_star": found.value}]


def test_a_changed_counting_rule_is_measured_again(out, monkeypatch, capsys):
    """Another rule in a module that n* is computed by, far from the measurement: nothing is reused, and one line says
    so. With the old rule the old rows are there again."""

    def measured(changed=None):
        calls = []

        def measure(point):
            calls.append(point)
            return real_point(point)

        measure.__module__ = "nail_experiments._nstar"
        real, identity_text = Path.read_text, changed or (lambda text: text)

        def read_text(path, *arguments, **keywords):
            text = real(path, *arguments, **keywords)
            return identity_text(text) if path == identity.CHECKOUT / "nail" / "counting" / "learners.py" else text

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", read_text)
            patch.setattr(points, "source_hash", identity.source_hash.__wrapped__)
            rows = run_points("figure", out, [[{"H": 2}]], measure)
        return rows, len(calls), capsys.readouterr().err.count("another revision")

    rows, calls, warned = measured()
    assert (calls, warned) == (1, 0)
    again, calls, warned = measured(lambda text: text + "\nTIES = 2\n")
    assert (calls, warned) == (1, 1)
    assert again[0]["source_hash"] != rows[0]["source_hash"]
    assert again[0]["n_star"] == rows[0]["n_star"]
    assert measured(lambda text: text + "\n# a word\n") == (rows, 0, 0)
    assert len(parts(out)) == 2


def test_a_measurement_of_a_notebook_counts_itself():
    """Without a file there is no source: then the function is what is hashed."""

    def of(factor):
        def measure(point):
            return [{"y": factor * point["x"]}]

        measure.__module__ = "no_file"
        return source_of(measure)

    assert of(2) == of(2) != of(3)


def test_two_callers_share_a_folder(out):
    """At once: each point is measured by one of them, and both have all rows."""
    both, rows = [Measured(), Measured()], {}
    begun = [threading.Event(), threading.Event()]

    def call(i):
        def measure(point):
            begun[i].set()
            # two devices hold two of the three series: the other caller always finds one
            assert begun[1 - i].wait(timeout=60)
            return both[i](point)

        rows[i] = run_points("figure", out, SERIES, measure)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(both[0].calls + both[1].calls) == sorted(point["x"] for points in SERIES for point in points)
    assert rows[0] == rows[1]
    assert all(one.calls for one in both)


def test_what_another_process_holds_comes_last(out, capsys):
    """The first point of the first series is held until all the rest has been measured."""
    measure = Measured()
    run_points("figure", out, [SERIES[0][:1]], measure)
    (lot,) = (Lot.read(path.parent) for path in out.glob("runs/*/lot.json"))
    lot.part(0).unlink()
    measure.calls.clear()
    held = threading.Event()

    def hold():
        with lot.lock:
            held.set()
            wait_until(lambda: len(measure.calls) == 8)

    threading.Thread(target=hold).start()
    held.wait()
    assert len(run_points("figure", out, SERIES, measure)) == 24
    assert measure.calls[8:] == [0, 1, 2, 3]
    assert capsys.readouterr().err.count("another process") == 1


def wait_until(happened):
    end = time.monotonic() + 30
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)


def test_a_kill_between_points_repeats_none(out):
    """Before the fifth file is in its place; then from there."""
    measure = Measured()
    with dying(5), pytest.raises(Killed):
        run_points("figure", out, SERIES[:1], measure)
    kept = times(parts(out))
    assert len(kept) == len(measure.calls) - 1 == 1
    assert xs(run_points("figure", out, SERIES[:1], measure)) == [0, 1, 2, 3]
    assert measure.calls == [0, 1, 1, 2, 3]
    assert kept.items() <= times(parts(out)).items()


@pytest.mark.parametrize("keep", [0, 0.6])
def test_a_damaged_part_is_measured_again(out, keep, capsys):
    measure = Measured()
    rows = run_points("figure", out, SERIES[:1], measure)
    part = parts(out)[1]
    text = part.read_text()
    part.write_text(text[: int(keep * len(text))])
    capsys.readouterr()
    assert run_points("figure", out, SERIES[:1], measure) == rows
    assert len(measure.calls) == 5
    assert capsys.readouterr().err.count("computed again") == 1
    assert part.read_text() == text


def test_a_point_that_fails_keeps_its_traceback(out, capsys):
    """It ends its series and no other; its traceback is told once; the next call tries it again."""
    broken = Measured({1, 11}, ZeroDivisionError("no rows\nat all"))
    with pytest.raises(RunsFailed, match=r"2 of 12 points failed; the first is figure, x 1: ZeroDivisionError: no rows "
                       r"\(.*test_points.py:\d+ in __call__\)"):  # fmt: skip
        run_points("figure", out, SERIES, broken)
    assert sorted(broken.calls) == [0, 1, 10, 11, 20, 21, 22, 23]
    printed = capsys.readouterr().err
    assert 1 <= printed.count("Traceback") <= 2
    kept = [json.loads(path.read_text()) for path in out.glob("runs/*/failed/*.json")]
    assert all("in __call__" in failure["traceback"] for failure in kept)
    found = status(out)
    assert (found.asked, found.done, found.missing, found.failed) == (12, 6, 4, 2)
    mended = Measured()
    assert len(run_points("figure", out, SERIES, mended)) == 24
    assert sorted(mended.calls) == [1, 2, 3, 11, 12, 13]
    found = status(out)
    assert (found.done, found.missing, found.failed) == (12, 0, 0)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), BadInput("x must be small")])
def test_a_full_disk_and_bad_input_end_the_figure(out, error):
    """They are no failure of a point."""
    with pytest.raises(type(error), match=str(error).split("]")[-1].strip()):
        run_points("figure", out, SERIES, Measured({0}, error))
    assert not list(out.glob("runs/*/failed/*"))
    assert len(run_points("figure", out, SERIES, Measured())) == 24


def test_parts_are_joined(tmp_path):
    """The points of two folders in a third, where nothing is left to measure; other numbers are refused."""
    one, two = (open_folder(tmp_path / name) for name in ("one", "two"))
    run_points("figure", one, SERIES[:2], Measured())
    run_points("figure", two, SERIES[1:], Measured())
    assert merge([one, two], tmp_path / "joined") == []
    measure = Measured()
    assert len(run_points("figure", tmp_path / "joined", SERIES, measure)) == 24
    assert not measure.calls
    changed = next(path for path in parts(two) if path.relative_to(two) in {p.relative_to(one) for p in parts(one)})
    rewrite(changed, lambda rows: rows[0].update(y="9"))
    with pytest.raises(BadInput, match="different numbers"):
        merge([one, two], tmp_path / "other")


def test_a_free_device_helps_and_is_given_back(out):
    """Of two devices: a lone series is lent the other one, for each of its points anew; with two series none is."""
    seen = []

    def measure(point):
        mine = jax.config.jax_default_device
        taken = [take(), take()]
        seen.append((mine, taken))
        return [{**point}]

    run_points("figure", out, SERIES[:1], measure)
    assert len(seen) == 4
    for mine, (first, second) in seen:
        assert first in jax.local_devices()
        assert first != mine
        assert second is None
    assert take() is None

"""The table of a folder, rows.csv, whatever ended before it was written."""

import threading

import pandas as pd
import pytest
from sweeping import CONFIGS, IDS, SEGMENTS, parts, prepared_once

from nail.sweep import engine
from nail.sweep import finished as finished_module
from nail.sweep.run import run
from nail.sweep.table import read_rows


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


def test_the_table_of_a_folder_has_all_its_finished_runs(tmp_path):
    """Those of earlier calls too; a call returns its own."""
    run(CONFIGS[:3], tmp_path, runs_per_lot=2)
    older = (tmp_path / "rows.csv").read_bytes()
    assert set(run(CONFIGS[3:], tmp_path).run) == {IDS[3]}
    assert set(run(CONFIGS[1], tmp_path).run) == {IDS[1]}
    rows = read_rows(tmp_path)
    assert len(rows) == 4 * SEGMENTS
    assert set(rows.run) == set(IDS)
    pd.testing.assert_frame_equal(rows, read_rows(tmp_path / "rows.csv"))
    (tmp_path / "rows.csv").write_bytes(older)
    pd.testing.assert_frame_equal(rows, read_rows(tmp_path))
    (tmp_path / "rows.csv").unlink()
    pd.testing.assert_frame_equal(rows, read_rows(tmp_path))


def test_the_table_has_what_was_finished_before_an_interrupt(tmp_path, monkeypatch):
    def interrupted(lot, *rest):
        if len(parts(tmp_path)) == SEGMENTS:  # the first of two lots is done
            raise KeyboardInterrupt
        return real(lot, *rest)

    real = engine.Lot.write_rows
    monkeypatch.setattr(engine.Lot, "write_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(CONFIGS, tmp_path, runs_per_lot=2)
    assert set(read_rows(tmp_path / "rows.csv").run) == set(IDS[:2])


def test_of_two_processes_the_last_table_has_the_rows_of_both(tmp_path, monkeypatch):
    """One has read the rows and writes them when the other ends."""
    run(CONFIGS[:2], tmp_path, runs_per_lot=2)
    all_rows, calls = finished_module.finished(tmp_path), []

    def finished_late(*arguments, **options):
        calls.append(threading.get_ident())
        if len(calls) > 1:
            return all_rows
        other.start()
        other.join(0.3)
        return all_rows[:SEGMENTS]

    def end():
        with finished_module.table_written(tmp_path):
            pass

    other = threading.Thread(target=end)
    monkeypatch.setattr(finished_module, "finished", finished_late)
    end()
    other.join()
    assert len(calls) == 2
    assert set(read_rows(tmp_path / "rows.csv").run) == set(IDS[:2])

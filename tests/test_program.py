"""Programs of lots: what is compiled before a lot begins, and what its padding costs."""

import dataclasses
import threading

import jax
import numpy as np
import pytest
from sweeping import BASE, CONFIGS, QUICK, SEGMENTS, Killed, finished, table

from nail.sweep import engine
from nail.sweep.engine import sweep
from nail.sweep.program import prepare
from nail.sweep.store import open_folder

COMPILED = "/jax/core/compile/backend_compile_duration"
"""what JAX tells its listeners of, each time that it compiles (or reads what it compiled before)"""


def test_nothing_is_left_to_compile_when_a_lot_begins():
    """The second segment too: its state was not made by `init`."""
    compiled = []

    def hear(event, *_, **__):
        compiled.append((event, threading.get_ident()))

    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        found = prepare((dataclasses.replace(BASE, A=4, H=3),), size=4)
        assert [event for event, _ in compiled].count(COMPILED) >= 2
        compiled.clear()
        state = found.init(found.numbers)
        for _ in range(2):
            state, _ = found.segment(state, found.numbers)
        assert (COMPILED, threading.get_ident()) not in compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)


def test_padding_does_no_updates(tmp_path, monkeypatch):
    """Three runs on two devices: from the first segment on, also after a kill, the fourth has its budget behind it."""
    seen, real = [], engine.Programs.get

    def get(self, lot):
        found = real(self, lot)

        def segment(state, numbers):
            seen.append(np.array(state.step).tolist())
            if len(seen) == 5:
                raise Killed
            return found.segment(state, numbers)

        return found._replace(segment=segment)

    monkeypatch.setattr(engine.Programs, "get", get)
    options = dataclasses.replace(QUICK, runs_per_lot=3)
    out = open_folder(tmp_path / "padded")
    with pytest.raises(Killed):
        sweep(CONFIGS[:3], out, options)
    rows = table(sweep(CONFIGS[:3], out, options).rows)
    begun = [*range(0, 10, 2), *range(8, 2 * SEGMENTS, 2)]
    assert seen == [[step, step, step, BASE.steps] for step in begun]
    assert rows == table(finished(open_folder(tmp_path / "pairs"))[: 3 * SEGMENTS])

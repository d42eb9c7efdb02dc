"""Whether a run has room is found from shapes; what cannot be read in a folder of figures or of a sweep is told."""

import dataclasses

import filelock
import jax
import pytest
from programs import program_of
from sweeping import BASE, CONFIGS, IDS

from nail.checks import BadInput
from nail.cli.main import main
from nail.figures import experiment
from nail.sweep import memory
from nail.sweep.engine import sweep
from nail.sweep.identity import source_hash
from nail.sweep.lot import Lot
from nail.sweep.plan import ask
from nail.sweep.status import status
from nail.sweep.store import open_folder, to_csv
from nail.training.config import TrainConfig
from nail.training.devices import pad_runs
from nail.training.problem import numbers_of

SMALL = TrainConfig(p=3, m=4, width=16, heads=2, batch=16, steps=50, n_validation=20)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields", [{}, {"method": "dagger"}, {"batch": 64, "layers": 2}, {"width": 64}, {"method": "dpo"}]
)
def test_the_estimate_is_no_more_than_a_program_takes(fields):
    """At least half of what the compiled program has, and never more: nothing is refused that fits."""
    config = dataclasses.replace(SMALL, **fields)
    program, numbers = program_of(config), pad_runs(numbers_of((config,)))
    plan = program.segment.lower(jax.eval_shape(program.init, numbers), numbers).compile().memory_analysis()
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    assert 0.1 * held < memory.least_bytes(config) <= held


def test_what_pairs_are_compared_with_takes_room():
    """The parameters a fifth time, as the state of a run has them; the other rows of a reward have none of it."""
    held = lambda state: sum(leaf.nbytes for leaf in jax.tree.leaves(state))  # noqa: E731
    runs = {method: dataclasses.replace(SMALL, method=method) for method in ("nail-f", "grpo", "dpo")}
    states = {}
    for method, config in runs.items():
        program, numbers = program_of(config), numbers_of((config,) * jax.local_device_count())
        states[method] = program.init(numbers)
    devices, params = jax.local_device_count(), held(states["nail-f"].params)
    plain = memory.least_bytes(runs["nail-f"])
    assert memory.least_bytes(runs["grpo"]) == plain
    assert (memory.least_bytes(runs["dpo"]) - plain) * devices == params
    assert held(states["dpo"]) - held(states["nail-f"]) == params
    assert memory.run_bytes(runs["dpo"]) - memory.run_bytes(runs["nail-f"]) == params // devices


def test_a_run_without_room_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    """In words, with the estimate and what there is; the folder asks for nothing."""
    monkeypatch.setattr(memory, "memory_there", lambda: 2**20)
    monkeypatch.setattr(memory, "make_train", lambda *_: pytest.fail("a program is made"))
    wide = TrainConfig(width=4096)
    with pytest.raises(BadInput, match=r"into the 1 MiB of memory .* width 4096, .* takes at least \d\.\d+ GiB"):
        sweep([wide], open_folder(tmp_path / "out"))
    assert not (tmp_path / "out" / "asked").exists()
    memory.require_room(dataclasses.replace(SMALL, batch=1))


def test_a_limit_of_the_process_or_the_container_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "GROUP_LIMITS", (tmp_path / "none", limit))
    limit.write_text("max\n")
    whole = memory.memory_there()
    assert whole > 2**28
    limit.write_text("1048576\n")
    assert memory.memory_there() == 2**20
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (2**19, 2**19))
    assert memory.memory_there() == 2**19
    assert [memory.in_words(x) for x in (3, 1536, 2.5 * 2**40)] == ["3 bytes", "1.5 KiB", "2.5 TiB"]


def test_status_writes_nothing(tmp_path, monkeypatch):
    """A sweep that is not done, in a folder where no lock can be taken; a lock that a process holds is seen."""
    out = open_folder(tmp_path / "out")
    ask(out, {run: config.stored for run, config in zip(IDS, CONFIGS, strict=True)})
    lot = Lot.new(out, {IDS[0]: BASE.stored}, source_hash()).write()
    before = sorted(out.rglob("*"))
    assert (status(out).missing, status(out).running) == (len(IDS), 0)
    assert sorted(out.rglob("*")) == before
    with lot.lock:
        assert (status(out).missing, status(out).running) == (len(IDS) - 1, 1)
    monkeypatch.setattr(filelock.FileLock, "acquire", lambda *_, **__: pytest.fail("a lock is taken"))
    assert status(out).running == 0
    assert main(["sweep", "status", str(out)]) == 0


def figures(out):
    """A folder with the tables of a figure, as they would be after it was computed."""
    open_folder(out)
    claim = {"claim": "c", "source": "s", "refutes": "r", "measured": "m", "holds": "holds"}
    (out / "fig2_claims.csv").write_text(to_csv([claim]))
    (out / "fig2_rows.csv").write_text(to_csv([{"run": "1", "git_revision": "abc", "preset": "cpu"}]))
    return out


def test_a_damaged_table_of_another_figure_is_told(tmp_path, capsys):
    """The index of the folder names it, and goes on."""
    out = figures(tmp_path / "out")
    assert "1 of 1 | revision abc" in experiment.index(out)
    for content in (b"run,git_rev", b"a,b\n1\n", b"\xff\xfe\n"):
        (out / "fig2_rows.csv").write_bytes(content)
        assert "damaged: to be computed again" in experiment.index(out)
        printed = capsys.readouterr().err
        assert printed.startswith("nail: fig2 is listed in")
        assert printed.count("\n") == 1


def test_rows_that_are_no_figures_rows_are_not_drawn(tmp_path, capsys):
    """Damaged ones, and those of another figure."""
    out = figures(tmp_path / "out")
    for content in (b"run,git_rev", b"\xff\xfe\n", b"run,method\n1,nail-f\n", b"horizon,episodes\n3,x\n"):
        (out / "fig2_rows.csv").write_bytes(content)
        assert main(["figure", "fig2", "--redraw", "--out", str(out)]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith(f"nail: {out / 'fig2_rows.csv'} must hold rows of fig2")
        assert printed.count("\n") == 1
        assert (out / "fig2_rows.csv").read_bytes() == content

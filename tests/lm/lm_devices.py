"""Several devices and several processes: the same run to rounding, one writer, kill and resume, bad input.

Two host devices in this process (tests/conftest.py), and two processes of a jax.distributed job on this machine.
"""

import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file
from tiny import adapted, config_of, left_in, nothing, placed, prompts_of, shaken, train_command

from nail.checks import BadInput
from nail.cli.main import main
from nail.lm import train as training
from nail.lm.fresh import sizes_of, write_fresh
from nail.lm.parallel import team
from nail.lm.problems import problems, vocabulary
from nail.lm.questions import write_questions
from nail.lm.update import begin, make_update
from nail.sweep.store import read_csv

STOPS = (1, 5)
WORDS = vocabulary()
SECONDS = 240
"""until a process of a test must have ended"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A student and an expert of one layer, training and test questions."""
    path = tmp_path_factory.mktemp("models")
    student = write_fresh(path / "student", sizes_of(16, 1, 2, WORDS), WORDS, 0)
    expert = write_fresh(path / "expert", sizes_of(16, 1, 2, WORDS), WORDS, 1)
    write_questions(path / "train.jsonl", [p.as_question() for p in problems(20, 0, "train")])
    write_questions(path / "test.jsonl", [p.as_question() for p in problems(6, 0, "test")])
    return student, expert


def close(found, wanted, share):
    """Each array within `share` of its largest entry."""

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=share * max(float(np.abs(b).max()), 1e-12))

    jax.tree.map(compare, found, wanted)


@pytest.mark.parametrize("name", ["nail-beta", "opd-r", "loglossbc"])
def test_two_devices_are_one_device(folders, name):
    """Tokens, loss, the gradient (Adam's first moment) and the weights after an update.

    Draws are the same ones, so all differences are the rounding of float32 sums in another order: about 1e-7 of the
    largest entry an operation. Adam divides by the gradient's own size, where that is near 0 too: so the weights, whose
    step is the rate, get 1e-3 of it.
    """
    student, expert = adapted(folders[0]), nothing(folders[1])
    student = student._replace(trained=shaken(student))
    prompts = prompts_of(folders[0], 4)
    config = config_of(*folders, method=name, lr=1e-2, expert_temperature=2.0, clip=0.0)
    ends = []
    for devices in (1, 2):
        mesh = team(devices, config.batch, config.micro)
        assert mesh.size == devices
        update, state = make_update(config, student, expert, STOPS, mesh), begin(config, student, mesh)
        given, states = placed(config, student, expert, prompts, mesh), []
        for _ in range(2):
            state = update(state, *given)
            states.append(jax.device_get(state))
        ends.append(states)
    for one, two in zip(*ends, strict=True):
        assert training.asked_since(one) == training.asked_since(two)
        np.testing.assert_allclose(two.loss_sum, one.loss_sum, rtol=1e-5)
        close(*(optax.tree_utils.tree_get(state.moments, "mu") for state in (two, one)), 1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3 * config.lr), two.trained, one.trained)
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(*(
        jax.tree.leaves(state.trained) for state in (ends[0][1], student)), strict=True)) > 0.5 * config.lr  # fmt: skip


def start(commands):
    """A process for each command of a job, with a coordinator of their own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    joined = ["--distributed", "--coordinator", address, "--processes", str(len(commands))]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "nail.cli.main", *command, *joined, "--process", str(i)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i, command in enumerate(commands)
    ]  # fmt: skip


def ended(processes):
    """(exit codes, what was said) of processes, each of which has to end by itself."""
    try:
        said = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def commands_of(folders, out, **given):
    """Two processes' commands; the second is told of another folder, in which nothing may come to be."""
    return [train_command(*folders, path, **given) for path in (out, out.parent / "second")]


@pytest.fixture(scope="module")
def both(folders, tmp_path_factory):
    """The folder of a run by two processes of two devices each, and what they said."""
    out = tmp_path_factory.mktemp("both") / "out"
    return out, *ended(start(commands_of(folders, out)))


def test_two_processes_are_one_device(both, folders, tmp_path):
    """Adapters and rows of six updates by 2 × 2 devices and by one; rounding grows in six updates: 1e-3 of the rate."""
    out, codes, said = both
    assert codes == [0, 0], said
    assert not (out.parent / "second").exists()
    assert "6 questions" in said[0][0]
    assert "questions" not in said[1][0]
    assert main([*train_command(*folders, tmp_path / "one"), "--devices=1"]) == 0
    found, wanted = (load_file(path / "trained" / "adapter_model.safetensors") for path in (out, tmp_path / "one"))
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-3 * 1e-2, err_msg=name)
        assert np.abs(tensor).max() > 0.01
    rows, one = (read_csv(path / "rows.csv") for path in (out, tmp_path / "one"))
    assert [row["devices"] for row in rows] == ["4"] * 3
    assert [row["devices"] for row in one] == ["1"] * 3
    for row, other in zip(rows, one, strict=True):
        for name in ("run", "step", "episodes", "expert_queries", "accuracy", "test_questions", "unfinished"):
            assert row[name] == other[name], name
        for name in ("train_loss", "test_loss", "test_tokens"):
            np.testing.assert_allclose(*(float(r[name] or 0) for r in (row, other)), rtol=1e-4)


def test_two_processes_of_which_one_was_killed_end_as_if_it_had_not_been(both, folders, tmp_path):
    """SIGKILL to the first when the second checkpoint is there: the other ends by itself, both are started again."""
    commands = commands_of(folders, tmp_path / "out")
    processes, path, first = start(commands), tmp_path / "out" / "checkpoint.npz", None
    deadline = time.time() + SECONDS
    while all(process.poll() is None for process in processes) and time.time() < deadline:
        if path.exists():
            inode = path.stat().st_ino
            first = inode if first is None else first
            if inode != first:
                processes[0].send_signal(signal.SIGKILL)
                break
        time.sleep(0.005)
    codes, said = ended(processes)
    assert codes[0] == -signal.SIGKILL, said
    assert codes[1] in (1, -signal.SIGABRT), said
    assert not (tmp_path / "out" / "trained").exists()
    codes, said = ended(start(commands))
    assert codes == [0, 0], said
    assert "goes on after update" in said[0][1]
    assert "goes on after update" not in said[1][1]
    assert left_in(tmp_path / "out") == left_in(both[0])


def test_a_run_goes_on_with_another_number_of_devices(folders, tmp_path, monkeypatch):
    """Half of it by two devices, half by one: the adapters are those of one device to rounding."""
    save, out = training.save, tmp_path / "out"

    def interrupted(setup, out, state, rows):
        save(setup, out, state, rows)
        if int(state.step) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save", interrupted)
        assert main([*train_command(*folders, out), "--devices=2"]) == 130
    for path in (out, tmp_path / "one"):
        assert main([*train_command(*folders, path), "--devices=1"]) == 0
    found, wanted = (load_file(path / "trained" / "adapter_model.safetensors") for path in (out, tmp_path / "one"))
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-3 * 1e-2, err_msg=name)
    assert [row["devices"] for row in read_csv(out / "rows.csv")] == ["2", "2", "1"]


def test_devices_that_are_not_there_and_batches_that_cannot_be_divided(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "load", lambda *_: pytest.fail("weights are loaded"))
    for given, sentence in [
        ({"devices": 3}, "devices must be an integer in 1..2, those of a process, got 3"),
        ({"devices": 0}, "devices must be an integer of at least 1, got 0"),
        ({"devices": 2, "batch": 5, "micro": 1}, "batch must be a multiple of the number of devices (2), got 5"),
        (
            {"devices": 2, "batch": 6, "micro": 2},
            "micro must be a divisor of a device's 3 prompts, or more, got 2",
        ),
    ]:
        assert main(train_command(*folders, tmp_path / "out", **given)) == 2, given
        printed = capsys.readouterr().err
        assert sentence in printed
        assert printed.count("\n") == 1, printed
    assert not (tmp_path / "out").exists()


def test_as_many_devices_as_divide_the_batch_are_taken():
    """Unless told how many: of two, both for 4 prompts, one for 3, one for 6 in micro-batches of 2."""
    assert [team(None, batch, micro).size for batch, micro in ((4, 2), (3, 1), (6, 2), (6, 3), (None, 1))] == [
        2, 1, 1, 2, 2
    ]  # fmt: skip
    with pytest.raises(BadInput, match="devices"):
        team(3, 6)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([{"batch": 3, "micro": 3}] * 2, "batch must be a multiple of the number of processes (2), got 3"),
        ([{"seed": 0}, {"seed": 1}], "all processes of a job must be given the same options, models and files"),
    ],
)
def test_processes_that_cannot_work_together_all_say_why(folders, tmp_path, given, sentence):
    codes, said = ended(start([train_command(*folders, tmp_path / "out", **one) for one in given]))
    assert codes == [2, 2], said
    for _, error in said:
        assert [line for line in error.splitlines() if line.startswith("nail: ")] == [f"nail: {sentence}"], error
        assert "Traceback" not in error
    assert not (tmp_path / "out").exists()

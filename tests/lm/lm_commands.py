"""`nail lm train` and `nail lm evaluate` on tiny models: rows, kill and resume, what is written, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny import config_of, left_in, train_command

from nail.cli.main import main
from nail.lm import train as training
from nail.lm.config import run_id
from nail.lm.questions import Question, read_questions, write_questions
from nail.lm.rows import ENGINE
from nail.sweep import stop
from nail.sweep.store import read_csv


def evaluation(student):
    """Options of an evaluation by other batches than in training, where a last batch is filled up."""
    options = {"test": student.path.parent / "test.jsonl", "kind": "float32", "new-tokens": 8, "batch": 6}
    return [f"--{name}={value}" for name, value in options.items()]


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(train_command(*folders, out)) == 0
    return out


def test_rows_are_like_all_rows(finished):
    rows = read_csv(finished / "rows.csv")
    assert [int(row["step"]) for row in rows] == [0, 3, 6]
    assert [int(row["episodes"]) for row in rows] == [0, 12, 24]
    assert {row["method"] for row in rows} == {"nail-beta"}
    for row in rows:
        assert 0 <= float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"]) <= 1
        assert row["test_questions"] == "6"
        assert 3 < float(row["test_loss"]) < 8
        assert {"git_revision", "source_hash", "device", "version_jax"} <= set(row)
        assert {f"version_{name.replace('-', '_')}" for name in ENGINE} <= set(row)
    queries = [int(row["expert_queries"]) for row in rows]
    assert queries[0] == 0 < queries[1] < queries[2] <= 24 * 8
    assert rows[0]["train_loss"] == ""
    assert np.isfinite([float(row["train_loss"]) for row in rows[1:]]).all()


def test_a_finished_run_is_not_computed_again(finished, folders, monkeypatch):
    before = left_in(finished)
    monkeypatch.setattr(training, "save", lambda *_: pytest.fail("something is computed"))
    assert main(train_command(*folders, finished)) == 0
    assert left_in(finished) == before


def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(finished, folders, tmp_path, monkeypatch):
    """Stopped after each of two checkpoints, one of them with half a file beside it; rows and adapters bit for bit."""
    out, kept, save = tmp_path / "out", [], training.save

    def interrupted(*given):
        save(*given)
        kept.append(1)
        if len(kept) in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", interrupted)
    command = train_command(*folders, out)
    assert main(command) == 130
    (out / ".checkpoint.npz.x").write_bytes(b"half")
    assert main(command) == 130
    assert main(command) == 0
    assert len(kept) == 6
    assert left_in(out) == left_in(finished)


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(finished, folders, tmp_path):
    """SIGKILL to a process of its own when its second checkpoint is there."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "nail.cli.main", *train_command(*folders, out)],
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    first, deadline = None, time.time() + 240
    while process.poll() is None and time.time() < deadline:
        if (out / "checkpoint.npz").exists():
            inode = (out / "checkpoint.npz").stat().st_ino
            first = inode if first is None else first
            if inode != first:
                process.send_signal(signal.SIGKILL)
                break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "trained").exists()
    assert (out / "checkpoint.npz").exists()
    assert main(train_command(*folders, out)) == 0
    assert left_in(out) == left_in(finished)


def test_a_signal_ends_a_run_after_a_checkpoint(finished, folders, tmp_path, monkeypatch, capsys):
    """During the fourth update, where none was due."""
    real, calls, command = training.given, [], train_command(*folders, tmp_path / "out", **{"checkpoint-every": 100})

    def signalled(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            while not stop._came:
                time.sleep(0.01)
        return real(*arguments)

    monkeypatch.setattr(training, "given", signalled)
    assert main(command) == 143
    assert "SIGTERM" in capsys.readouterr().err.splitlines()[-1]
    assert main(command) == 0
    assert [step for _, step in calls] == [0, 1, 2, 3, 4, 5]
    assert left_in(tmp_path / "out")[1] == left_in(finished)[1]


def test_a_damaged_checkpoint_is_set_aside(finished, folders, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "checkpoint.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert main(train_command(*folders, out)) == 0
    assert "is kept as checkpoint.npz.damaged and computed again" in capsys.readouterr().err
    assert left_in(out) == left_in(finished)


def test_all_weights_are_written_as_a_folder_that_is_a_student(folders, tmp_path, capsys):
    out = tmp_path / "out"
    command = train_command(*folders, out, **{"lora-rank": 0, "steps": 2, "method": "loglossbc", "eval-every": 2})
    assert main(command) == 0
    last = read_csv(out / "rows.csv")[-1]
    given = evaluation(folders[0])
    assert main(["lm", "evaluate", "--model", str(out / "trained"), *given, "--out", str(tmp_path / "e")]) == 0
    row = read_csv(tmp_path / "e" / "rows.csv")[0]
    np.testing.assert_allclose(float(row["test_loss"]), float(last["test_loss"]), rtol=1e-4)
    assert row["accuracy"] == last["accuracy"]
    assert "nats per answer token" in capsys.readouterr().out


def test_adapters_are_evaluated_on_their_model(finished, folders, tmp_path):
    given = evaluation(folders[0])
    command = ["lm", "evaluate", "--model", str(folders[0].path), *given]
    assert main([*command, "--adapter", str(finished / "trained"), "--out", str(tmp_path / "a")]) == 0
    assert main([*command, "--out", str(tmp_path / "b")]) == 0
    rows = read_csv(finished / "rows.csv")
    with_it, without = (float(read_csv(tmp_path / name / "rows.csv")[0]["test_loss"]) for name in "ab")
    np.testing.assert_allclose(
        [with_it, without], [float(rows[-1]["test_loss"]), float(rows[0]["test_loss"])], rtol=1e-4
    )
    assert with_it != without


def test_each_pass_takes_every_prompt_once():
    prompts = [[i] for i in range(1, 11)]
    taken = [training.batch_of(prompts, 4, 0, step) for step in range(5)]
    flat = [token for batch in taken for [token] in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(1, 11))
    assert flat[:10] != flat[10:]
    assert training.batch_of(prompts, 4, 1, 0) != taken[0]
    assert len(training.batch_of(prompts, 25, 0, 0)) == 25


def test_a_folder_holds_one_run(finished, folders, capsys):
    assert main(train_command(*folders, finished, lr=2e-2)) == 2
    assert "holds another" in capsys.readouterr().err


def test_what_is_in_the_files_is_part_of_the_identity(folders, tmp_path):
    config = config_of(*folders)
    asked = write_questions(tmp_path / "train.jsonl", read_questions(config.prompts))
    assert run_id(config_of(*folders, prompts=asked)) == run_id(config)
    write_questions(asked, [Question("other")])
    assert run_id(config_of(*folders, prompts=asked)) != run_id(config)
    assert run_id(config_of(*folders, checkpoint_every=7)) == run_id(config)
    assert run_id(config_of(*folders, seed=1)) != run_id(config)


def test_bad_input_is_a_sentence_before_weights_are_loaded(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "load", lambda *_: pytest.fail("weights are loaded"))
    student, expert = folders
    out = tmp_path / "out"
    bare = tmp_path / "bare"
    shutil.copytree(student.path, bare)
    (bare / "model.safetensors").unlink()
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "cut.jsonl").write_text('{"question": "a"}\n{"ques')
    (tmp_path / "open.jsonl").write_text('{"question": "a", "answer": "5"}\n')
    small = tmp_path / "small"
    shutil.copytree(expert.path, small)
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    plain = tmp_path / "plain"
    shutil.copytree(student.path, plain)
    (plain / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = json.loads((plain / "tokenizer_config.json").read_text())
    tokenizer.pop("chat_template", None)
    (plain / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    for given, sentence in [
        ({"student": bare}, "student must be a folder with weights"),
        ({"expert": tmp_path / "none"}, "expert must be a folder of a model"),
        ({"expert": small}, "the same vocabulary, and have 180 and 100 tokens"),
        ({"student": small, "expert": small}, "largest token of the tokenizer of student"),
        ({"student": plain}, "student must have a tokenizer with a chat template"),
        ({"prompts": tmp_path / "empty.jsonl"}, "must hold at least one question"),
        ({"prompts": tmp_path / "cut.jsonl"}, "line 2 of"),
        ({"test": tmp_path / "open.jsonl"}, "line 1 of"),
        ({"expert-temperature": 0}, "expert_temperature must be in"),
        ({"micro": 3}, "micro must be a divisor of batch"),
        ({"method": "dagger"}, "language models know no driver mixture"),
    ]:
        assert main(train_command(student, expert, out, **given)) == 2, given
        printed = capsys.readouterr().err
        assert sentence in printed
        assert printed.count("\n") == 1, printed

"""Rewards, preferences and local supports on the command line: a stage from labels to preferences, and bad input."""

import math

import jax
import pytest

from nail.cli.main import main
from nail.sweep import memory, program
from nail.sweep.store import read_csv

SMALL = "--task poison-chain --A 3 --H 2 --batch 8 --n-validation 4 --lr 0.1 --warmup 0 --eval-every 2".split()
LABELS = ["train", *SMALL, "--no-plot", "--method=loglossbc", "--steps=4"]
PAIRS = ["train", *SMALL, "--no-plot", "--method=dpo", "--group=4", "--steps=6"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder of a finished run that learned from labels."""
    out = tmp_path_factory.mktemp("first") / "out"
    assert main([*LABELS, f"--out={out}"]) == 0
    return out


def rows_of(out):
    return read_csv(out / "rows.csv")


def test_preferences_go_on_from_labels(first, tmp_path):
    """From a folder and from a run: the same rows but for where they are; what they began with is their reference."""
    out = tmp_path / "out"
    assert main([*PAIRS, f"--start={first}", f"--out={out}"]) == 0
    begun, rows = rows_of(first), rows_of(out)
    stage = [row for row in rows if row["method"] == "dpo"]
    assert [row["step"] for row in stage] == ["0", "2", "4", "6"]
    assert {row["start"] for row in stage} == {begun[-1]["run"]}
    for name in ("full_exact", "answer_exact", "val_loss"):
        assert stage[0][name] == begun[-1][name]
    assert [row["verified_rollouts"] for row in stage] == [row["episodes"] for row in stage] == ["0", "16", "32", "48"]
    assert {row["expert_queries"] for row in stage} == {"0"}
    assert {(row["reward"], row["group"], row["dpo_beta"]) for row in stage} == {("chain", "4", "0.1")}
    again = tmp_path / "again"
    assert main([*LABELS, f"--out={again}"]) == 0
    assert main([*PAIRS, f"--start={begun[-1]['run']}", f"--out={again}"]) == 0
    assert [row for row in rows_of(again) if row["method"] == "dpo"] == stage


def test_a_student_that_stands_still_is_its_own_reference(first, tmp_path):
    """With a rate of 1e−30 each pair has d_w = d_l, so a group with pairs has the loss log 2 and another one 0."""
    out = tmp_path / "out"
    assert main([*PAIRS, "--lr=1e-30", "--warmup=0", "--weight-decay=0", f"--start={first}", f"--out={out}"]) == 0
    losses = [float(row["train_loss"]) for row in rows_of(out) if row["method"] == "dpo"][1:]
    groups = [loss / math.log(2) * 4 for loss in losses]  # two updates of two groups between evaluations
    assert max(groups) > 0
    assert groups == pytest.approx([round(x) for x in groups], abs=1e-4)


@pytest.fixture
def no_program(monkeypatch):
    """A program of training is a failure."""
    for module in (memory, program):
        monkeypatch.setattr(module, "make_train", lambda *_: pytest.fail("a program is made"))


@pytest.fixture(scope="module")
def compiled():
    """An event for each program that XLA compiled since the list was emptied."""
    found = []

    def note(event, *_, **__):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


TASKS = {
    "modadd": ("--p=7", 8), "s5": ("--m=2", 8), "defclass": ("--eta=0.1", 26), "garnet": ("--A=4", 4),
    "poison-chain": ("--A=3", 3),
}  # fmt: skip
"""task → an option, and how many actions there are"""
BAD = [
    *((["train", f"--task={task}", f"--method={method}", option, f"--top-k-teacher={k}"],
       f"top_k_teacher must be an integer in 1..A = {most}, got {k}")
      for task, (option, most) in TASKS.items()
      for method, k in (("lsm", 0), ("lsm-tail", -1), ("lsm-unrenormalised", most + 1))),
    *((["train", f"--method={method}", f"--rule-number={p}"], f"rule_number must be in [0, 1], got {p}")
      for method in ("opd-top-p", "opd-r-top-p", "lsm") for p in ("-0.1", "1.1", "nan")),
    *((["train", "--task=garnet", f"--method={method}"], f"task must be one with a reward for {method} to read")
      for method in ("grpo", "dr-grpo", "rft", "rft-online", "dpo")),
    *((["train", f"--method={method}", f"--group={group}"], f"group must be an integer from 2 to the batch (64), got "
       f"{group}") for method, group in (("grpo", 1), ("dr-grpo", 0), ("rft", -3), ("rft-online", 65), ("dpo", 1))),
    (["train", "--method=grpo", "--group=24"], "batch must be a multiple of the group (24), got 64"),
    (["train", "--method=dpo", "--dpo-beta=0"], "dpo_beta must be in [1e-30, 1e+30], got 0"),
    (["train", "--method=dpo", "--dpo-beta=nan"], "dpo_beta must be in [1e-30, 1e+30], got nan"),
    (["train", "--method=grpo", "--reward=chains"], "did you mean 'chain'"),
    (["train", "--task=poison-chain", "--method=grpo", "--reward=answer"], "unknown reward 'answer'"),
    (["train", "--method=grpo", "--mask-first=8"], "mask_first must be different tokens in 0..7"),
    (["sweep", "grid", "--method=grpo", "--vary=group=8,1"], "group must be an integer from 2 to the batch"),
    (["sweep", "grid", "--vary=method=lsm", "--vary=top_k_teacher=2,9"], "in 1..A = 8, got 9"),
    (["sweep", "grid", "--vary=method=lsm", "--vary=rule_number=0.5,2"], "rule_number must be in [0, 1], got 2"),
    (["sweep", "grid", "--task=garnet", "--vary=method=nail-f,grpo"], "task must be one with a reward for grpo"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "said"), BAD, ids=[" ".join(command[1:]) for command, _ in BAD])
@pytest.mark.usefixtures("no_program")
def test_bad_input_is_a_sentence_and_nothing_is_compiled(command, said, compiled, tmp_path, capsys):
    compiled.clear()
    refused([*command, f"--out={tmp_path / 'out'}"], said, capsys)
    assert not compiled
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "changed", "said"),
    [
        ("dpo", ["--H=3"], "has H 2 where its stage has 3"),
        ("grpo", ["--A=4"], "has A 3 where its stage has 4"),
        ("lsm", ["--task=hidden-path"], "has task poison-chain where its stage has hidden-path"),
    ],
)
@pytest.mark.usefixtures("no_program")
def test_a_start_of_another_network_is_a_sentence(method, changed, said, first, tmp_path, capsys):
    """Shapes are looked at, and no program is made."""
    command = [word for word in PAIRS if not word.startswith(("--method", "--group"))]
    group = [] if method == "lsm" else ["--group=4"]
    command += [f"--method={method}", *group, *changed, f"--start={first}", f"--out={tmp_path / 'out'}"]
    refused(command, said, capsys)
    assert not list(tmp_path.iterdir())


def refused(command, said, capsys):
    """One sentence that says `said`, and exit code 2."""
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert (printed.err.count("\n"), printed.out) == (1, "")

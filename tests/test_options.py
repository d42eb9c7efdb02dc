"""Options: each task has its own, and what is wrong on a command line is one sentence."""

import dataclasses

import pytest

import nail
from nail.checks import BadInput
from nail.cli.main import main
from nail.envs.tasks import TASKS
from nail.policies.students import STUDENTS
from nail.sweep.table import read_rows
from nail.training.config import TrainConfig, group_key, run_id
from nail.training.doors import add_noise
from nail.training.ranges import check


def test_a_task_has_its_own_options_and_those_of_its_student():
    common = {field.name for field in dataclasses.fields(TrainConfig)}
    for task in TASKS.values():
        config = TrainConfig(task=task.name)
        kinds = (task.options, STUDENTS[task.student].options)
        own = {field.name for kind in kinds for field in dataclasses.fields(kind)}
        assert {field.name for field in dataclasses.fields(config)} == common | own
        assert check(config) is config
    assert (TrainConfig().p, TrainConfig().m, TrainConfig().width) == (7, 31, 512)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"task": "garnet", "p": 8}, "p is called A in the task garnet"),
        ({"task": "garnet", "m": 8}, "m is called H in the task garnet"),
        ({"task": "hidden-path", "p": 8}, "p is called A in the task hidden-path"),
        ({"task": "garnet", "width": 8}, "unknown field of the task garnet 'width'"),
        ({"task": "poison-chain", "S": 3}, "unknown field of the task poison-chain 'S'"),
        ({"S": 3}, "unknown field of the task modadd 'S'"),
        ({"etta": 0.1}, "unknown field of the task modadd 'etta'; did you mean 'eta'"),
        ({"task": "garnt"}, "unknown task 'garnt'; did you mean 'garnet'"),
        ({"task": "hidden-path", "A": 3, "H": 12}, r"A\^\(H−1\) must be at most 1024, got 3\^11"),
        ({"task": "hidden-path", "A": 1000, "H": 2}, r"A\^\(2H−1\) must be at most 16777216, got 1000\^3"),
        ({"task": "garnet", "S": 65}, "S must be an integer in 1..64, got 65"),
        ({"task": "garnet", "S": 3, "branching": 4}, "branching must be an integer in 1..S = 3, got 4"),
        ({"task": "garnet", "S": 64, "H": 2000}, "H·S²·A must be at most 16777216"),
        ({"task": "poison-chain", "A": 1}, "A must be an integer in 2..32768, got 1"),
        ({"task": "poison-chain", "H": 0}, "H must be an integer of at least 1, got 0"),
        ({"task": "s5", "m": 0}, "m must be an integer of at least 1, got 0"),
        ({"task": "s5", "m": 1025}, "m must be at most 1024, got 1025"),
        ({"task": "s5", "recovery": "echo"}, "unknown recovery 'echo'"),
        ({"task": "s5", "p": 5}, "unknown field of the task s5 'p'"),
        ({"task": "s5", "noise": "canonical"}, r"noise must be one that the task s5 has \(uniform, .*semantic-key\)"),
        ({"noise": "semantic-key"}, "noise must be one that the task modadd has .*, got semantic-key"),
        ({"task": "defclass", "epsilon": -0.1}, r"epsilon must be in \[0, 1\], got -0.1"),
        ({"task": "defclass", "epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
        ({"task": "defclass", "epsilon": float("nan")}, r"epsilon must be in \[0, 1\], got nan"),
        ({"task": "defclass", "eta_new": 1.0}, r"eta_new must be in \[0, 1\), got 1.0"),
        ({"task": "defclass", "eta_new": -0.1}, r"eta_new must be in \[0, 1\), got -0.1"),
        ({"task": "defclass", "eta_new": 1 - 1e-12}, "eta_new must be below 1 when it is rounded to 32 bits"),
        ({"task": "defclass", "negated": 1.5}, r"negated must be in \[0, 1\], got 1.5"),
        ({"task": "defclass", "negated": float("nan")}, r"negated must be in \[0, 1\], got nan"),
        ({"task": "modadd", "noise": "misread"}, "noise must be one that the task modadd has"),
        ({"task": "defclass", "m": 3}, "unknown field of the task defclass 'm'"),
        ({"task": "defclass", "noise": "semantic-key"}, "noise must be one that the task defclass has"),
        ({"rule_number": 0.5}, "rule_number must be left out: nail-f has no rollout rule, got 0.5"),
        ({"method": "opd-top-p", "rule_number": 1.5}, r"rule_number must be in \[0, 1\], got 1.5"),
        ({"method": "opd-top-p", "temperature": 0.5}, "temperature must be left out: opd-top-p has the rollout rule"),
        ({"method": "nailgun"}, "trains a network, and nailgun is for counts: nail n-star --method nailgun"),
        ({"top_k_teacher": 2}, "top_k_teacher must be left out: nail-f has no support of K tokens, got 2"),
        ({"method": "lsm", "top_k_teacher": 0}, r"top_k_teacher must be an integer in 1..A = 8, got 0"),
        ({"method": "lsm-tail", "top_k_teacher": 9}, r"top_k_teacher must be an integer in 1..A = 8, got 9"),
        ({"method": "lsm", "task": "garnet", "A": 3, "top_k_teacher": 4}, "must be an integer in 1..A = 3, got 4"),
        ({"method": "lsm", "rule_number": -0.1}, r"rule_number must be in \[0, 1\], got -0.1"),
        ({"steps": 200_000, "eval_every": 2}, "steps / eval_every must be below 100000: .*, got 100000"),
        ({"steps": 2_000_000_000, "batch": 1, "eval_every": 1}, "steps / eval_every must be below 100000"),
        ({"noise": "temperature", "eta": 0.5}, "eta must be left out: the noise temperature reads no eta, got 0.5"),
        ({"method": "grpo", "eta": 0.5}, "eta must be left out: grpo asks no expert, got 0.5"),
        ({"method": "grpo", "estimator": "full"}, "estimator must be left out: grpo reads no law .*, got 'full'"),
        ({"teacher": "live", "eta": 0.5}, "eta must be left out: no expert is asked for the teacher live, got 0.5"),
        ({"method": "loglossbc", "temperature": 1.0}, "temperature must be left out: the expert plays the rollouts"),
        ({"mask_first": "8"}, "mask_first must be different tokens in 0..7 with blanks between, got '8'"),
        ({"mask_first": "1 1"}, "mask_first must be different tokens in 0..7"),
        ({"mask_first": " "}, "mask_first must be different tokens in 0..7"),
        ({"mask_first": "1,2"}, "mask_first must be different tokens in 0..7"),
        ({"mask_first": "-1"}, "mask_first must be different tokens in 0..7"),
        ({"mask_first": "1", "method": "dagger"}, "mask_first must be left out: dagger learns from older episodes"),
    ],
)  # fmt: skip
def test_what_a_task_or_a_method_does_not_have_is_refused(fields, sentence):
    with pytest.raises(BadInput, match=sentence):
        check(TrainConfig(**fields))


@pytest.mark.parametrize("steps", [199_998, 1])
def test_a_run_has_fewer_than_100000_evaluations(steps):
    assert check(TrainConfig(steps=steps, eval_every=2)).steps == steps


def test_what_is_added_may_read_anything(tables):
    """What a law of noise or a task from outside the package reads is not known: none of its numbers is refused."""
    add_noise("own", "a law", lambda config, env, numbers: None)
    numbers = {"eta": 0.5, "expert_temperature": 2.0}
    assert check(TrainConfig(noise="own", **numbers)).eta == 0.5
    with pytest.raises(BadInput, match="noise must be left out: grpo asks no expert, got 'own'"):
        check(TrainConfig(noise="own", method="grpo"))


def test_options_survive_a_change_and_tell_runs_apart():
    config = TrainConfig(task="garnet", S=3, A=2, H=3)
    changed = dataclasses.replace(config, eta=0.4)
    assert type(changed) is type(config)
    assert (changed.S, changed.A, changed.H, changed.eta) == (3, 2, 3, 0.4)
    ids = {run_id(dataclasses.replace(config, **{name: 4})) for name in ("S", "A", "H")}
    assert len({*ids, run_id(config)}) == 4
    assert run_id(TrainConfig(task="garnet", S=3, A=2, H=3)) == run_id(config)


def test_a_number_of_a_rule_tells_runs_apart():
    runs = nail.grid(TrainConfig(method="opd-top-p"), rule_number=(None, 0.5, 1.0))
    assert [run.rollout_number for run in runs] == [0.9, 0.5, 1.0]
    assert [run.columns()["rule_number"] for run in runs] == [0.9, 0.5, 1.0]
    assert len({run_id(run) for run in runs}) == 3


def test_fields_that_came_later_leave_older_ids_as_they_were():
    """Ids and program hashes of runs as they were before `top_k_teacher` and `mask_first`, which tell runs apart."""
    stored = {
        ("f82b4d908286", "7c948aa2ddb6"): TrainConfig(),
        ("be1ce6921c97", "2bd7afde7d04"): TrainConfig(p=3, m=5, method="opd-top-p", rule_number=0.5, seed=2),
        ("48d56bde0e3e", "051e58a60938"): TrainConfig(task="garnet", S=3, A=2, H=4, method="dagger"),
    }
    assert {(run_id(config), group_key(config)) for config in stored.values()} == set(stored)
    runs = [TrainConfig(method="lsm", mask_first=m, top_k_teacher=k) for m in ("", "0") for k in (None, 2, 4)]
    assert len({run_id(run) for run in runs}) == len({group_key(run) for run in runs}) == 6
    assert [run.columns()["top_k_teacher"] for run in runs[:3]] == [4, 2, 4]
    assert TrainConfig(mask_first="0 12").masked_tokens == (0, 12)


def test_options_of_a_task_on_the_command_line(tmp_path):
    words = "train --task garnet --S 3 --A 2 --H 3 --batch 4 --steps 4 --eval-every 2 --n-validation 4"
    assert main([*words.split(), "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path)
    assert len(rows) == 3
    assert rows[["S", "A", "H", "branching"]].drop_duplicates().values.tolist() == [[3, 2, 3, 2]]
    assert not {"p", "m", "width"} & set(rows.columns)


COMMANDS = """\
train --p 1 | p must be an integer in 2..32768, got 1
train --m 0 | m must be an integer of at least 1, got 0
train --eta 1 | eta must be in [0, 1), got 1.0
train --beta 2 | beta must be in [0, 1], got 2.0
train --temperature -1 | temperature must be 0, or in [1e-30, 1e+30], got -1.0
train --width 64 --heads 5 | heads must be a divisor of the width (64), got 5
train --batch 0 | batch must be an integer of at least 1, got 0
train --steps 0 | steps must be an integer of at least 1, got 0
train --seeds 0 | seeds must be an integer in 1..10000, got 0
train --method nail | unknown method 'nail'; did you mean 'nail-
train --out /proc/nail | out must be a folder that can be written to
train --expert nowhere | expert must be oracle or a folder with a trained expert, got nowhere
train --task garnet --p 8 | --p is called --A in the task garnet
train --task=garnet --m=8 | --m is called --H in the task garnet
train --task garnet --width 8 | unknown option or command --width
train --task poison-chain --S 3 | unknown option or command --S
train --task garnt | unknown task 'garnt'; did you mean 'garnet'?
train --task garnet --noise canonical | noise must be one that the task garnet has
sweep grid --task defclass --vary epsilon=0,2 | epsilon must be in [0, 1], got 2.0
train --method lsm --top-k-teacher few | top_k_teacher must be None or an integer, got 'few'
train --recovery echoes | unknown recovery 'echoes'; did you mean 'echo'?
train --p abc | p must be an integer, got 'abc'
train --seed 1.5 | seed must be an integer, got '1.5'
train --eta high | eta must be a number, got 'high'
train --temperature warm | temperature must be None or a number, got 'warm'
train --p | --p needs a value
n-star --instance poison-chain --method nail-f --noise ring --eta 0.1 --delta 0.1 | noise must be one of huber, bursts
train --p 3 --method | --method needs a value
train --wdth 64 | unknown option or command --wdth; did you mean --width?
train --learning-rate 1 | unknown option or command --learning-rate
train extra | unknown option or command extra
list extra | unknown option or command extra
trian | unknown option or command trian (known: list, train, expert, figure,
figure | nail figure needs a figure
figure fig22 | unknown figure 'fig22'; did you mean 'fig2'?
figure fig2 --preset gpu | unknown preset 'gpu'
sweep | a command must follow, one of figure, grid, merge, status
sweep fig22 | unknown figure 'fig22'; did you mean 'fig2'?
sweep grid --task garnet --p 3 | --p is called --A in the task garnet
sweep grid --task garnet --vary p=3,4 | p is called A in the task garnet
sweep grid --task garnet --vary width=8 | unknown field of the task garnet 'width'
sweep grid --vary task=garnet | an axis must be a field other than task
sweep grid --vary eta=a | eta must be of type float, got 'a'
sweep merge | merge must be given one part or more
bench --methods nail-g | unknown method 'nail-g'; did you mean 'nail-
bench --seconds x | seconds must be a number, got 'x'
theory | a command must follow, one of survival,
theory survivle --H 3 | unknown option or command survivle (known: survival,
expert --eta 0.3 | unknown option or command --eta
theory survival --H 3 --A 4 | nail theory survival needs --eta
theory survival --H x --A 4 --eta 0.1 | H must be an integer, got 'x'
n-star --instance nope --method nail-f | unknown instance 'nope'
report | nail report needs a folder with figures
list --import no_such_module | --import no_such_module must be a module that can be imported (ModuleNotFoundError:
"""


@pytest.mark.parametrize("line", COMMANDS.splitlines())
def test_a_bad_command_line_is_one_sentence_and_exit_code_2(line, capsys, tmp_path, monkeypatch):
    """No traceback, no box, nothing printed beside it."""
    monkeypatch.chdir(tmp_path)
    words, sentence = line.split(" | ")
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"nail: {sentence}")
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize("task", [name for name, row in TASKS.items() if hasattr(row.options, "n_actions")])
def test_the_number_of_actions_is_the_environments(task):
    options = TASKS[task].options()
    assert TASKS[task].environment(options, 0, 8).n_actions == options.n_actions

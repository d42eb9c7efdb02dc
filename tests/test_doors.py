"""Tasks, noise laws, methods and instances from outside: checked when added, and used as the package's own are."""

import dataclasses
import doctest
import inspect
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from outside import Parity, ParityOptions, make_parity
from programs import finished, one

import nail
from nail.checks import BadInput
from nail.cli import parse
from nail.cli.main import main
from nail.envs import play
from nail.envs.bank import make_bank
from nail.envs.environment import TokenTask
from nail.envs.instances import poison_chain
from nail.envs.tasks import TASKS
from nail.envs.tokens import Score, exact_match
from nail.methods import METHOD, Method
from nail.noise import Huber
from nail.sweep.table import read_rows
from nail.training.config import TrainConfig
from nail.training.problem import make_channel, make_environment, make_setup, numbers_of
from nail.training.ranges import check

TRUE = Parity(4, make_bank(2, 4, 0, 8))
BROKEN = {
    "a sum": ({"law": lambda self, place: 0.9 * TRUE.law(place)}, "`law` is no probability vector: sum 0.9"),
    "a sign": (
        {"law": lambda self, place: jnp.array([1.5, -0.5, 0.0])},
        "`law` is no probability vector: .* least -0.5",
    ),
    "a shape": ({"n_actions": 4}, r"`law` has the shape \(3,\) instead of \(4,\)"),
    "laws": (
        {"laws": lambda self, bits, seen: TRUE.laws(bits, TRUE.observations(bits, TRUE.clean_actions(bits)))},
        "`laws` is not `law` at the states of the same episode",
    ),
    "lost": ({"lost": lambda self, place: jnp.bool_(False)}, "`poisoned` is not `lost` at the states"),
    "observations": (
        {"observations": lambda self, bits, actions: jnp.concatenate([jnp.array([0]), actions[:-1]])},
        r"`observations` is not what `observe` shows after `advance` \(step 1\)",
    ),
    "their range": ({"n_observations": 2}, "an observation is outside 0..1"),
    "the path": (
        {
            "clean_actions": lambda self, bits: 1 - TRUE.clean_actions(bits),
            "laws": lambda self, *episode: TRUE.laws(*episode),
            "poisoned": lambda self, *episode: TRUE.poisoned(*episode),
        },
        "a clean action has probability 0 under the clean law on its own path: `advance` and `clean_actions` disagree",
    ),
    "a score": (
        {"score": lambda self, bits, actions: Score(*(2.0 * jnp.float32(part) for part in TRUE.score(bits, actions)))},
        r"the score `full_exact` lies outside \[0, 1\]",
    ),
    "the best score": (
        {"score": lambda self, bits, actions: exact_match(actions, 1 - self.clean_actions(bits))},
        "the score of the clean actions is not 1",
    ),
    "a prompt": (
        {
            "train_context": lambda self, index: TRUE.train_context(index) + 4,
            "start": lambda self, bits: TRUE.start(bits % 2),
            "clean_actions": lambda self, bits: TRUE.clean_actions(bits % 2),
        },
        r"a context is not a prompt of 4 tokens in 0..2",
    ),
    "its length": ({"prompt_length": 5}, "a context is not a prompt of 5 tokens"),
    "a profile": ({"noise_profile": np.ones(3)}, r"`noise_profile` is not 4 numbers in \[0, 1\]"),
    "its numbers": ({"noise_profile": np.array([0, 1, 2, 1])}, r"`noise_profile` is not 4 numbers in \[0, 1\]"),
    "a mistake in Python": ({"law": lambda self, place: TRUE.law(place)[:, None, None, 0]}, "cannot be played: "),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_contradiction_is_one_sentence(what, tables):
    """Each part of a task broken by itself: its environment is not to be had."""
    parts, sentence = BROKEN[what]
    broken = type("Broken", (Parity,), parts)(*TRUE)
    nail.add_task("broken", "", lambda options, seed, n: broken)
    with pytest.raises(BadInput, match=sentence) as error:
        make_environment(TrainConfig(task="broken"))
    assert str(error.value).startswith("task broken")
    assert "\n" not in str(error.value)


def test_a_contradiction_is_said_before_anything_is_compiled_or_kept(tables, tmp_path):
    """And for as long as the task is not mended."""
    broken = type("Broken", (Parity,), {"n_observations": 2})(*TRUE)
    nail.add_task("broken", "", lambda options, seed, n: broken)
    for _ in range(2):
        with pytest.raises(BadInput, match="task broken: an observation is outside"):
            nail.run(TrainConfig(task="broken", width=16, heads=2), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("lot.json"))
    nail.add_task("broken", "", lambda options, seed, n: TRUE)
    assert make_environment(TrainConfig(task="broken")) is TRUE


@pytest.mark.parametrize("part", ["score", "prompt_length", "noise_support"])
def test_a_missing_part_is_named(part, tables, monkeypatch):
    # else the tests' checks of types are the first to notice
    monkeypatch.setattr(play, "_environment", inspect.unwrap(play._environment))
    rest = {name: getattr(TRUE, name) for name in play._parts(TokenTask) if name != part}
    nail.add_task("broken", "", lambda options, seed, n: SimpleNamespace(**rest))
    with pytest.raises(BadInput, match=f"the environment of the task broken must have {part}:"):
        make_environment(TrainConfig(task="broken"))


def test_own_tasks_and_environments_pass():
    for task in TASKS:
        assert nail.check_task(task).horizon == make_environment(TrainConfig(task=task)).horizon
    assert nail.check_task("garnet", S=3, A=2, H=5, branching=3).horizon == 5
    assert nail.check_task(TRUE) is TRUE
    with pytest.raises(BadInput, match="m must be an integer of at least 1"):
        nail.check_task("modadd", m=0)
    with pytest.raises(BadInput, match="unknown task 'modad'"):
        nail.check_task("modad")


@pytest.mark.slow
def test_parity_from_outside_is_modular_addition_at_2_bit_for_bit(tables, tmp_path):
    """All that DAgger measures, whose expert and student both play: two classes, one prompt bank, the same rows."""
    nail.add_task("parity", "running parity of m bits", make_parity, ParityOptions)
    common = dict(
        method="dagger", m=6, eta=0.4, width=16, heads=2, batch=8, steps=20, eval_every=10, lr=1e-2, warmup=2,
        n_validation=5,
    )  # fmt: skip
    measured = ["method", "seed", "step", "full_exact", "answer_exact", "val_loss", "train_loss", "episodes",
                "expert_queries", *(f"position_{h}" for h in range(1, 7))]  # fmt: skip
    tables_of = []
    for task in ("modadd", "parity"):
        base = TrainConfig(task=task, **common, **({"p": 2} if task == "modadd" else {}))
        configs = nail.grid(base, seed=range(2))
        tables_of.append(nail.run(configs, tmp_path / task)[measured])
    assert tables_of[0].equals(tables_of[1])
    assert len(tables_of[0]) == 6
    assert tables_of[0].val_loss.nunique() == 6


@dataclasses.dataclass
class Thawed:
    """Options that can change."""

    n: int = 1


@dataclasses.dataclass(frozen=True)
class Taken:
    """Options that the network has already."""

    width: int = 1


@dataclasses.dataclass(frozen=True)
class Bare:
    """Options without a default."""

    n: int


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(Thawed, "a frozen dataclass"), (int, "a frozen dataclass"), (Taken, "a name that no run has yet, got width"),
     (Bare, "the option n of the task mine must have a default")],
)  # fmt: skip
def test_options_are_a_frozen_dataclass_with_new_names_and_defaults(options, sentence, tables):
    with pytest.raises(BadInput, match=sentence):
        nail.add_task("mine", "", lambda options, seed, n: TRUE, options)
    assert "mine" not in TASKS


def test_names_that_are_taken_are_refused(tables):
    for add in (
        lambda: nail.add_task("modadd", "", make_parity, ParityOptions),
        lambda: nail.add_instance("garnet", "", lambda options, seed: poison_chain(2, 3)),
        lambda: nail.add_noise("uniform", "", lambda c, env, numbers: Huber(0.0, jnp.ones(3) / 3)),
        lambda: nail.add_method(METHOD["nail-f"]),
    ):
        with pytest.raises(BadInput, match="must be one that the package does not use"):
            add()


def test_what_is_added_is_used(tables):
    """An instance, a noise law and a method, each as its row says; unknown before."""
    with pytest.raises(BadInput, match="unknown task 'two'"):
        TrainConfig(task="two")
    nail.add_instance("two", "", lambda options, seed: poison_chain(2, 3, np.array([2, 1])))
    nail.add_noise("first", "", lambda c, env, numbers: Huber(numbers.eta, jnp.eye(env.n_actions)[0]))
    nail.add_method(Method("mine", "Mine", "student", beta=1.0, temperature=0.5))
    config = check(TrainConfig(task="two", noise="first", method="mine", batch=8, steps=20, lr=0.1, warmup=0))
    assert config.rollout_temperature == 0.5
    env = make_environment(config)
    assert env.clean_actions(env.train_context(jnp.uint32(0))).tolist() == [2, 1]
    noisy = make_channel(make_setup(config), one(numbers_of((config,)))).probs(jnp.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(noisy, [config.eta, 0, 1 - config.eta], atol=1e-6)
    state, rows = finished(config)
    assert np.isfinite(rows[-1].train_loss[0])
    assert np.abs(state.params[0, 0, 0]).max() > 0.1


MODULE = """
import jax.numpy as jnp
import nail
from nail.envs.instances import poison_chain
from nail.methods import Method
from nail.noise import Huber

nail.add_instance("two-steps", "two steps", lambda options, seed: poison_chain(2, 3))
nail.add_noise("first-action", "plays action 0", lambda c, env, n: Huber(n.eta, jnp.eye(env.n_actions)[0]))
nail.add_method(Method("warm", "NAIL-F at T = 0.3", "student", temperature=0.3, summary="warm rollouts"))
"""


@pytest.fixture
def module(tables, tmp_path, monkeypatch):
    """A module in the current folder that adds a task, a noise law and a method."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "additions.py").write_text(MODULE)
    yield "additions"
    sys.modules.pop("additions", None)
    parse.imported.clear()


def test_an_imported_module_is_known_to_the_commands(module, tmp_path, capsys):
    assert main(["list", "--import", module]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("two-steps", "first-action", "warm  ", "warm rollouts"))
    words = "train --task two-steps --noise first-action --method warm --batch 4 --steps 4 --eval-every 2 --out out"
    assert main([f"--import={module}", *words.split()]) == 0
    rows = read_rows(tmp_path / "out")
    assert set(zip(rows.task, rows.noise, rows.method, strict=True)) == {("two-steps", "first-action", "warm")}
    assert rows.step.tolist() == [0, 2, 4]
    assert (rows.temperature == 0.3).all()


@pytest.mark.parametrize(("text", "error"), [("1 / 0", "ZeroDivisionError"), (None, "ModuleNotFoundError")])
def test_a_module_that_cannot_be_imported_is_one_sentence(text, error, module, tmp_path, capsys):
    if text:
        (tmp_path / "additions.py").write_text(text)
    assert main(["list", "--import", module if text else "no_such_module"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("nail: --import ")
    assert error in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize("door", nail.__all__)
def test_examples_of_the_doors_run(door, tables, tmp_path, monkeypatch):
    """Every door has one, and what it shows is what comes."""
    monkeypatch.chdir(tmp_path)
    found = getattr(nail, door)
    names = {"nail": nail, **vars(sys.modules[found.__module__]), **{n: getattr(nail, n) for n in nail.__all__}}
    example = doctest.DocTestParser().get_doctest(found.__doc__, names, door, None, None)
    assert example.examples
    said = []
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append).failed == 0, (
        "".join(said)
    )


def test_doors_are_named_before_they_are_opened():
    assert set(nail.__all__) <= set(dir(nail))
    with pytest.raises(AttributeError, match="no attribute 'add_tasks'"):
        _ = nail.add_tasks


@pytest.mark.parametrize("kind", [int | str, tuple, list[int]])
def test_an_option_has_one_plain_type(kind, tables):
    """A command line and a stored configuration read values back by their type, so there is one, and a plain one."""
    options = dataclasses.make_dataclass("Odd", [("odd", kind, None)], frozen=True)
    with pytest.raises(BadInput, match="option odd of the task mine must be of one type"):
        nail.add_instance("mine", "", lambda options, seed: poison_chain(2, 2), options)
    assert "mine" not in TASKS

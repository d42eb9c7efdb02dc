"""Each option of each method changes the program of a run, or a number that the program reads, or is refused.

Programs of tiny runs are traced and compared, without what they compute and do not use; none is compiled.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.interpreters.partial_eval import dce_jaxpr

from nail.checks import BadInput
from nail.envs.tasks import TASKS
from nail.methods import trained_methods
from nail.training.config import TRACED, TrainConfig
from nail.training.diagnose import diagnose
from nail.training.evaluate import evaluate
from nail.training.privileged import began_with
from nail.training.problem import Numbers, make_setup, numbers_of
from nail.training.ranges import check
from nail.training.train import make_train
from nail.training.unread import refuse_unread
from nail.training.update import TrainState, buffer_shape, initial_params, optimiser, update


def fields_that_decide(row):
    """Of a method's row, what the conditions of `nail.training.unread` look at."""
    support = {"renormalised": "exact", "unrenormalised": "exact"}.get(row.support, row.support)
    return row.driver, row.signal, row.reward == "pairs", row.aggregate, row.beta is None, row.rule, support


METHODS = list({fields_that_decide(row): row.name for row in trained_methods()}.values())
"""one of those that agree in them: NAIL-F and OPD-F, say, read the same options"""
COMMON = {"batch": 8, "steps": 60, "eval_every": 3, "n_validation": 40, "warmup": 2, "lr": 0.1}
TASK = {
    "poison-chain": {"A": 4, "H": 2}, "garnet": {"S": 3, "A": 4, "H": 2}, "modadd": {"p": 7, "m": 3}, "s5": {"m": 1},
    "defclass": {},
}  # fmt: skip
"""task → its options"""
CHANGED = {
    "noise": "temperature", "eta": 0.5, "expert_temperature": 2.0, "expert": "a folder", "beta": 0.25,
    "temperature": 0.5, "rule_number": 0.5, "top_k_teacher": 2, "mask_first": "1", "reward": "chain", "group": 4,
    "dpo_beta": 0.5, "teacher": "live", "teacher_sees": "answer", "teacher_rate": 0.5, "estimator": "full",
    "channel_aware": True, "dagger_rounds": 3, "dagger_decay": 0.25, "dagger_buffer": 16, "batch": 16, "steps": 30,
    "lr": 0.2, "warmup": 3, "weight_decay": 0.1, "clip": 2.0, "decode": "parallel", "eval_every": 4, "n_validation": 30,
    "diagnose": True, "old_task": "A=4", "steer": True, "bank_seed": 1, "seed": 1, "start": "0123456789ab",
    "A": 5, "H": 3, "S": 4, "branching": 1, "p": 5, "m": 2, "recovery": "none", "epsilon": 1.0, "eta_new": 0.5,
    "burst": 0.75, "profile": "1 0.5", "negated": 1.0, "slots": "answer", "shown": 0.5,
    "width": 8, "heads": 1, "layers": 2, "init_std": 0.25, "precision": "bfloat16", "reuse": "off",
}  # fmt: skip
"""option → another value"""
OUTSIDE = {
    "task": "another task has another class of configurations",
    "method": "is varied beside",
    "allow_imperfect_expert": "says what is refused, and is no part of a run's identity",
    "n_validation": "is exact with one prompt on this task, and varied on another",
    "reward": "has one value on this task, and is varied on another",
}
"""option that is not changed on the first task → why"""
CASES = [
    ("poison-chain", {}, [field.name for field in dataclasses.fields(TrainConfig) if field.name not in OUTSIDE]),
    ("poison-chain", {}, ["A", "H"]),
    ("poison-chain", {"noise": "temperature"}, ["eta", "expert_temperature"]),
    ("poison-chain", {"diagnose": True}, ["eta", "temperature"]),
    ("poison-chain", {"teacher": "average"}, ["noise", "eta", "teacher_rate", "estimator", "beta"]),
    ("poison-chain", {"estimator": "full"}, ["beta", "top_k_teacher"]),
    ("garnet", {}, ["S", "branching"]),
    ("modadd", {"recovery": "follow"}, ["p", "m", "recovery"]),
    ("modadd", {}, ["n_validation", "reward"]),
    ("s5", {}, ["m", "recovery"]),
    ("defclass", {}, ["epsilon", "eta_new", "negated", "slots", "shown", "steer"]),
    ("defclass", {"slots": "answer"}, ["shown", "teacher_sees"]),
    ("defclass", {"slots": "answer", "teacher": "live"}, ["eta"]),
]  # fmt: skip
"""(task, what else is set, options that are changed); students are tables, which see no prompt"""
OF_A_LAW = [
    ("poison-chain", {"noise": "distributional"}, ["eta", "expert_temperature"]),
    ("poison-chain", {"noise": "bursts"}, ["eta", "burst", "profile"]),
    ("poison-chain", {"noise": "profile", "profile": "0 1"}, ["eta", "profile", "burst"]),
    ("s5", {"noise": "semantic-key"}, ["eta", "expert_temperature"]),
    ("defclass", {"noise": "canonical"}, ["eta", "eta_new", "expert_temperature"]),
    ("defclass", {"noise": "misread"}, ["eta", "eta_new", "expert_temperature"]),
]
"""the same for one method, where a law of noise is all that matters"""
NETWORK = ["width", "heads", "layers", "init_std", "precision", "reuse"]


class Traced:
    """What a function computes of its arguments: the text of its program, and which of them it reads."""

    def __init__(self, function, *arguments):
        traced = jax.make_jaxpr(function)(*arguments)
        jaxpr, used = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
        read = {id(variable) for part in (jaxpr.outvars, *(eqn.invars for eqn in jaxpr.eqns)) for variable in part}
        consts = [pair for pair in zip(traced.jaxpr.constvars, traced.consts, strict=True) if id(pair[0]) in read]
        text = str(jaxpr.replace(constvars=[variable for variable, _ in consts]))
        self.text = re.sub("0x[0-9a-f]+", "", text), [np.asarray(value).tobytes() for _, value in consts]
        self.used = used

    def numbers(self):
        """The numbers of a run that are read, where these are the first arguments."""
        return {name for name, is_read in zip(Numbers._fields, self.used, strict=False) if is_read}


@pytest.fixture
def tables(monkeypatch):
    """Every task with a softmax table as student, and no types checked: traced in a fraction of the time."""
    before = dict(TASKS)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for name, row in before.items():
        dict.__setitem__(TASKS, name, row._replace(student="table"))
    yield
    dict.update(TASKS, before)


def config_of(task, method, **fields):
    return TrainConfig(task=task, method=method, **TASK[task], **{**COMMON, **fields})


def setup_of(config):
    """The setup, with a network of zeros for a trained expert."""
    setup = make_setup(config)
    if config.expert == "oracle":
        return setup
    return make_setup(config, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), params_of(setup)))


def params_of(setup):
    return jax.eval_shape(setup.policy.init, jax.random.key(0))


@functools.cache
def numbers(config):
    return jax.tree.map(lambda x: np.asarray(x)[0], numbers_of((config,)))


@functools.cache
def an_update(config):
    """One update of a run."""
    setup, whole, real = setup_of(config), jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32)
    params = params_of(setup)
    moments = jax.eval_shape(optimiser(config.clip, config.weight_decay).init, params)
    kept = params if began_with(config, setup.method.reward == "pairs") else None
    average = params if config.teacher == "average" else None
    state = TrainState(whole, params, moments, buffer_shape(setup), real, whole, whole, kept, average)
    return Traced(lambda numbers, state: update(setup, numbers, state), numbers(config), state)


@functools.cache
def _evaluation(config):
    setup, seed, parallel = make_setup(config), jnp.int32(0), config.decode == "parallel"
    return Traced(
        lambda params: (initial_params(setup.policy, seed), evaluate(setup.env, setup.policy, params, parallel)),
        params_of(setup),
    )  # fmt: skip


@functools.cache
def a_diagnosis(config):
    """What a run that diagnoses its method computes for it at an evaluation."""
    if not config.diagnose:
        return Traced(lambda: 0)
    setup = setup_of(config)
    return Traced(lambda numbers, params: diagnose(setup, numbers, params), numbers(config), params_of(setup))


@functools.cache
def a_segment(config):
    """All that a run computes from one checkpoint to the next."""
    program, runs = make_train(config), numbers_of((config,) * jax.local_device_count())
    return Traced(lambda numbers, state: program.segment(state, numbers), runs, jax.eval_shape(program.init, runs))


def an_evaluation(config):
    """What every run computes before its first update and in evaluations, whatever its method: traced once for all."""
    own = [field.name for kind in config.definitions for field in dataclasses.fields(kind.options)]
    names = ("task", "bank_seed", "n_validation", "decode", *own)
    return _evaluation(TrainConfig(**{name: getattr(config, name) for name in names}))


def around_updates(config):
    """A segment of NAIL-F with its own update: the rest is the same for every method, but for a diagnosis of it."""
    names = ("steps", "eval_every", "diagnose", "steer", "old_task")
    return a_segment(TrainConfig(task=config.task, **TASK[config.task], **{n: getattr(config, n) for n in names}))


PARTS = (an_evaluation, around_updates, an_update, a_diagnosis)


def is_read(before, after):
    """Whether two configurations have different programs, or different numbers of those that the programs read."""
    pairs = zip(TRACED, numbers(before), numbers(after), strict=True)
    changed = {name for name, old, new in pairs if old != new}
    if any(changed & part(before).numbers() for part in (an_update, a_diagnosis)):
        return True
    return any(part(before).text != part(after).text for part in PARTS)


def is_refused(config, by=check):
    try:
        by(config)
    except BadInput:
        return True
    return False


def changes(method, cases):
    """(configuration, the same with another value of one option, what was done) for each option of the cases."""
    for task, fields, names in cases:
        base = config_of(task, method, **fields)
        for name in names if not is_refused(base) else ():
            changed = dataclasses.replace(base, **{name: CHANGED[name]})
            assert changed != base
            yield base, changed, (task, fields, name)


@pytest.mark.parametrize("method", METHODS)
def test_an_option_is_read_or_refused(method, tables):
    cases = [*CASES, *(OF_A_LAW if method == "nail-f" else ())]
    unread = [
        what for base, changed, what in changes(method, cases) if not (is_refused(changed) or is_read(base, changed))
    ]
    assert not unread


@pytest.mark.parametrize("method", ["loglossbc", "lsm", "nail-f", "grpo"])
def test_what_is_refused_as_unread_is_unread(method, tables):
    """It changes no part of a run's program: no option is refused in vain.

    Groups would be made without a reward too, and only repeat prompts.
    """
    found = [change for change in changes(method, CASES) if is_refused(change[1], refuse_unread)]
    assert len(found) >= 10
    read = [what for base, changed, what in found if is_read(base, changed)]
    assert {name for _, _, name in read} <= {"group"}


@pytest.mark.parametrize("name", NETWORK)
def test_an_option_of_the_network_is_read_by_every_method(name):
    base = config_of("modadd", "nail-f", width=4, heads=2)
    assert an_evaluation(base).text != an_evaluation(dataclasses.replace(base, **{name: CHANGED[name]})).text


@pytest.mark.parametrize("method", ["loglossbc", "nail-f", "lsm"])
def test_what_a_teacher_sees_is_read(method):
    """By a network, which sees the prompt."""
    base = config_of("defclass", method, width=4, heads=2, slots="answer", teacher="live")
    assert is_read(base, check(dataclasses.replace(base, teacher_sees="answer")))

"""Whether a row of nail/methods.py is one, and whether its objective can be had at a rollout."""

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nail.checks import require
from nail.learners import Functions, Oracle
from nail.methods import Method

BESIDE = ("name", "label", "summary", "driver", "functions")
"""fields of a method whose learner has a state of its own"""


def check_method(row: Any) -> Method:
    """`row` unchanged, or `BadInput` naming the first field that is not what `Method` says of it."""
    require(isinstance(row, Method), "a method", repr(row), "a `nail.methods.Method`")
    for name, kind in get_type_hints(Method).items():
        known = get_args(kind)
        if get_origin(kind) is Literal:
            require(getattr(row, name) in known, f"{name} of the method {row.name}", repr(getattr(row, name)),
                    f"one of {', '.join(known)}")  # fmt: skip
    require(row.beta is None or 0 <= row.beta <= 1, f"beta of the method {row.name}", row.beta, "None or in [0, 1]")
    require(row.temperature >= 0, f"temperature of the method {row.name}", row.temperature, "at least 0")
    _check_support(row)
    _check_reward(row)
    _check_own(row)
    _check_loss(row)
    return row


def _check_support(row: Method) -> None:
    """A support of the expert's most likely tokens has a K, and is one of a forward or a reverse KL."""
    k, local = f"top_k_teacher of the method {row.name}", row.support != "all"
    if not local:
        require(row.top_k_teacher is None, k, row.top_k_teacher, "None where the support is all tokens")
        return
    require(isinstance(row.top_k_teacher, int) and row.top_k_teacher >= 1, k, row.top_k_teacher, "an integer from 1 on")
    require(row.divergence == "kl", f"divergence of the method {row.name}", row.divergence, "kl on a local support")
    require(row.beta in (0, 1), f"beta of the method {row.name}", row.beta,
            "0 or 1 on a local support: it is a forward or a reverse KL's")  # fmt: skip


def _check_reward(row: Method) -> None:
    """A reward has groups, and no other part of an objective beside it."""
    group, unread = f"group of the method {row.name}", row.reward == "unread"
    if unread:
        require(row.group is None, group, row.group, "None where the reward is unread")
        return
    require(isinstance(row.group, int) and row.group >= 2, group, row.group, "an integer of at least 2")
    _require_plain(row, ("divergence", "beta", "support", "aggregate", "decides"), "where the reward is read")
    alone = row.driver == "student" or (row.driver == "expert" and row.reward in ("filter", "pairs"))
    require(alone, f"driver of the method {row.name}", row.driver,
            "student where the reward is read (or expert, with filter or pairs)")  # fmt: skip
    random = row.driver == "expert" or row.temperature > 0 or row.rule is not None
    require(random, f"temperature of the method {row.name}", row.temperature, "above 0: a group's rollouts must differ")


def _check_loss(row: Method) -> None:
    """A loss of its own is a function, and no other part of an objective stands beside it."""
    if row.loss is None:
        return
    require(callable(row.loss), f"loss of the method {row.name}", repr(row.loss), "a function")
    replaced = ("divergence", "beta", "action", "support", "reward", "decides")
    _require_plain(row, replaced, "beside a loss of its own")


def _check_own(row: Method) -> None:
    """What a row has for functions is functions, with a known oracle, and the fields that they stand for are plain."""
    for part in ("score", "law"):
        found = getattr(row, part)
        require(found is None or callable(found), f"{part} of the method {row.name}", repr(found), "a function")
    replaced = {"decides", "reward", "loss"} if row.own else set()
    if row.functions is not None:
        replaced = set(row._fields).difference(BESIDE)
        _check_functions(row.name, row.functions)
    _require_plain(row, [name for name in row._fields if name in replaced], "beside functions of one's own")


def _check_functions(name: str, row: Functions) -> None:
    for part in ("init", "play", "update", "decide", "ask"):
        found = getattr(row, part)
        ok = callable(found) or (part == "ask" and found is None)
        require(ok, f"{part} of the learner {name}", repr(found), "a function")
    known = get_args(Oracle)
    require(row.oracle in known, f"oracle of the learner {name}", repr(row.oracle), f"one of {', '.join(known)}")


def _require_plain(row: Method, fields: Iterable[str], where: str) -> None:
    """Raise `BadInput` naming the first of some fields that does not have its default."""
    for name in fields:
        value, plain = getattr(row, name), Method._field_defaults[name]
        require(value == plain, f"{name} of the method {row.name}", value, f"{plain} {where}")


def check_scored(row: Method, estimator: str, temperature: float) -> None:
    """Raise `BadInput` unless the law that drew the rollout's token is known, where the row is scored by it, and has a
    score function: that of a rollout at `temperature`, or of the row's rule."""
    if not row.scores_rollout(estimator):
        return
    require(row.driver == "student" and not row.aggregate, f"action of the method {row.name}", row.action,
            "auxiliary unless the student alone played the tokens that are learned from")  # fmt: skip
    if row.rule is None:
        require(temperature > 0, "temperature", temperature,
                f"above 0: {row.name} is scored by the law of the rollout's token, which is greedy at 0")  # fmt: skip
    else:
        require(row.rule.law is not None, f"law of the rule {row.rule.name}", row.rule.law,
                f"a function: {row.name} is scored by the law of the rollout's token")  # fmt: skip

"""Options that a run would not read: given another value than their default they are refused, so that no sweep is flat.

Which options are read follows from the fields of the method, the noise law and the teacher.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from nail.checks import require
from nail.envs.noises import NOISES
from nail.envs.tasks import TASKS
from nail.methods import METHOD, Method
from nail.training.config import TrainConfig


class Condition(NamedTuple):
    """When some options are read."""

    options: tuple[str, ...]
    holds: Callable[[TrainConfig, Method], bool]
    """whether a run of this configuration, whose method has this row, reads them"""
    otherwise: str
    """why not, with {method}, {rule}, {noise} and {teacher} for their names"""


def _student_plays(config: TrainConfig, row: Method) -> bool:
    """In training, or in a diagnosis: evaluations are greedy."""
    return row.driver != "expert" or config.diagnose


def _noise_reads(name: str) -> Condition:
    def holds(config: TrainConfig, row: Method) -> bool:
        read = NOISES[config.noise].reads
        return read is None or name in read

    return Condition((name,), holds, f"the noise {{noise}} reads no {name}")


EXPERT = ("noise", "eta", "expert_temperature", "expert", "recovery", "eta_new")
"""options of the noisy expert"""
CONDITIONS: tuple[Condition, ...] = (
    Condition(EXPERT, lambda c, row: row.asks or c.own_teacher or c.diagnose, "{method} asks no expert"),
    Condition(EXPERT, lambda c, row: c.asks or not c.own_teacher, "no expert is asked for the teacher {teacher}"),
    *map(_noise_reads, ("eta", "expert_temperature", "eta_new")),
    Condition(("beta",), lambda c, row: row.loss is None, "{method} has a loss of its own"),
    Condition(("beta",), lambda c, row: row.beta is None, "{method} has a β of its own"),
    Condition(("rule_number",), lambda c, row: row.rule is not None, "{method} has no rollout rule"),
    Condition(("temperature",), lambda c, row: row.rule is None, "{method} has the rollout rule {rule}"),
    Condition(("temperature", "rule_number"), _student_plays, "the expert plays the rollouts of {method}"),
    Condition(("top_k_teacher",), lambda c, row: row.support != "all", "{method} has no support of K tokens"),
    Condition(("estimator",), lambda c, row: row.signal != "reward", "{method} reads no law of the expert"),
    Condition(("estimator",), lambda c, row: row.samples_terms,
              "{method} is exact on its support and samples no token"),
    Condition(("reward", "group"), lambda c, row: row.signal == "reward", "{method} reads no reward"),
    Condition(("dpo_beta",), lambda c, row: row.reward == "pairs", "{method} compares no pairs"),
    Condition(("dagger_rounds", "dagger_decay"), lambda c, row: row.driver == "mixture",
              "no mixture with the expert plays the rollouts of {method}"),
    Condition(("dagger_buffer",), lambda c, row: row.aggregate, "{method} keeps no older episodes"),
    Condition(("teacher_rate",), lambda c, row: c.teacher == "average", "the teacher is {teacher} and no average"),
)  # fmt: skip
"""option by option; one with several conditions is read where all hold, one with none by every run. What a law of noise
that was added from outside reads is not known, nor what an option of such a task does: none of these is refused"""


def refuse_unread(config: TrainConfig) -> None:
    """Raise `BadInput` naming the first option that has another value than its default and is not read."""
    row = METHOD[config.method]
    names = {"method": row.name, "rule": row.rule and row.rule.name, "noise": config.noise, "teacher": config.teacher}
    known = TrainConfig if config.task not in TASKS.own else type(config)
    defaults = {field.name: field.default for field in dataclasses.fields(known)}
    for condition in CONDITIONS:
        changed = [name for name in condition.options if name in defaults and getattr(config, name) != defaults[name]]
        if changed and not condition.holds(config, row):
            value = getattr(config, changed[0])
            said = repr(value) if isinstance(value, str) else value
            require(False, changed[0], said, f"left out: {condition.otherwise.format(**names)}")

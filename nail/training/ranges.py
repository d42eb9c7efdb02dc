"""What a configuration may hold, checked before anything is compiled."""

import dataclasses
import re

import numpy as np

from nail.checks import LARGE, MAX_COUNT, SMALL, BadInput, is_text, require, require_known
from nail.envs.noises import NOISES
from nail.envs.tasks import SLOTS, TASKS
from nail.method_checks import check_scored
from nail.methods import METHOD, require_trained
from nail.training.config import TrainConfig, config_class
from nail.training.derived import OWN_TEACHERS
from nail.training.unread import refuse_unread

ESTIMATORS = ("mc", "full")
DECODES = ("sequential", "parallel")
RUN = re.compile("[0-9a-f]{12}")
"""id of a run"""
MOST = {"n_validation": 10_000_000}
"""field → largest number of it, where that is less than the largest of a 32-bit counter"""
MAX_PARTS = 100_000
"""largest number of evaluations of a run: the rows of each are a file, and all of them are read again by a resume"""


def check(config: TrainConfig) -> TrainConfig:
    """Return `config` unchanged, or raise `BadInput` naming the first field that is out of range."""
    task, student = config_class(config.task).definitions
    require_trained(config.method)
    for name, known in [("noise", NOISES), ("estimator", ESTIMATORS), ("decode", DECODES)]:
        require_known(name, getattr(config, name), known)
    for name, value in vars(config).items():
        if isinstance(value, str):
            require(is_text(value), name, repr(value), "text, or a path, that UTF-8 can write")
    laws = ", ".join(noise.name for noise in NOISES.values() if noise.allowed(config.task))
    require(NOISES[config.noise].allowed(config.task), "noise", config.noise,
            f"one that the task {config.task} has ({laws})")  # fmt: skip
    for options in (task.options, student.options):
        options.check(config)
    for name, least in [
        ("dagger_rounds", 1), ("dagger_buffer", 0), ("batch", 1), ("steps", 1), ("warmup", 0), ("eval_every", 1),
        ("n_validation", 1), ("bank_seed", 0), ("seed", 0),
    ]:  # fmt: skip
        value, most = getattr(config, name), MOST.get(name, MAX_COUNT)
        require(value >= least, name, value, f"an integer of at least {least}")
        require(value <= most, name, value, f"at most {most}")
    require(config.batch * config.steps < 2**32, "batch × steps", config.batch * config.steps, "below 2^32 episodes")
    evaluations = -(-config.steps // config.eval_every)
    require(evaluations < MAX_PARTS, "steps / eval_every", evaluations, f"below {MAX_PARTS}: each evaluation is a file")
    require(0 <= config.eta < 1, "eta", config.eta, "in [0, 1)")
    require(np.float32(config.eta) < 1, "eta", config.eta, "below 1 when it is rounded to 32 bits")
    NOISES[config.noise].check(config, None)
    require(0 <= config.beta <= 1, "beta", config.beta, "in [0, 1]")
    require(0 <= config.dagger_decay <= 1, "dagger_decay", config.dagger_decay, "in [0, 1]")
    if config.temperature is not None:
        _require_kept(config, "temperature", LARGE, zero=True)
    for name, most in (("expert_temperature", LARGE), ("lr", 1e38), ("clip", LARGE)):
        _require_kept(config, name, most)
    require(0 <= config.weight_decay <= LARGE, "weight_decay", config.weight_decay, f"in [0, {LARGE:g}]")
    if config.steer:
        steered = ", ".join(row.name for row in TASKS.values() if row.steering)
        require(task.steering, "steer", True, f"left out: {task.name} has no perturbations ({steered} has)")
        require(not getattr(config, "sees", ()), "steer", True, "left out where the prompt has slots")
    _check_rule(config)
    _check_law(config)
    _check_reward(config)
    _check_teacher(config)
    refuse_unread(config)
    _check_old_task(config)
    require(not config.start or RUN.fullmatch(config.start), "start", config.start,
            "12 hexadecimal digits, the id of a run (or left out)")  # fmt: skip
    check_tokens(config, getattr(config, "n_actions", None))
    if METHOD[config.method].aggregate:
        require(config.dagger_buffer or config.batch * config.steps <= MAX_COUNT, "dagger_buffer", 0,
                f"an integer in 1..{MAX_COUNT} where batch × steps is above that")  # fmt: skip
    if config.dagger_buffer:
        require(
            config.dagger_buffer % config.batch == 0, "dagger_buffer", config.dagger_buffer,
            f"a multiple of the batch ({config.batch})",
        )  # fmt: skip
    return config


def _check_rule(config: TrainConfig) -> None:
    """The number of the rollout rule, where the method has one, is in the rule's range."""
    rule = METHOD[config.method].rule
    if rule is not None:
        number = config.rollout_number
        require(rule.least <= number <= rule.most, "rule_number", number, f"in [{rule.least:g}, {rule.most:g}]")


def _check_law(config: TrainConfig) -> None:
    """The rollout's token has a law where the loss is scored by it, and β says whether a Jensen–Shannon divergence is
    at one of its ends, where it is another by convention."""
    row = METHOD[config.method]
    check_scored(row, config.estimator, config.rollout_temperature)
    if row.divergence == "jsd" and 0 < config.beta < 1:
        require(0 < np.float32(config.beta) < 1, "beta", config.beta, "0, 1, or neither when it is rounded to 32 bits")


def _check_reward(config: TrainConfig) -> None:
    """What reads a reward has one that its task gives, and groups that fill the batch."""
    row, given = METHOD[config.method], config_class(config.task).definitions[0].rewards
    if config.dpo_beta is not None:
        _require_kept(config, "dpo_beta", LARGE)
    if row.signal != "reward":
        return
    giving = ", ".join(task.name for task in TASKS.values() if task.rewards)
    require(given, "task", config.task, f"one with a reward for {row.name} to read ({giving})")
    if config.reward is not None:
        require_known("reward", config.reward, given)
    group = config.group_size
    require(2 <= group <= config.batch, "group", group, f"an integer from 2 to the batch ({config.batch})")
    require(config.batch % group == 0, "batch", config.batch, f"a multiple of the group ({group})")
    require(row.driver == "expert" or config.sampled, "temperature", config.temperature,
            "above 0: rollouts of a group must differ")  # fmt: skip
    require(not config.channel_aware, "channel_aware", True, f"left out: {row.name} reads no label of the channel")


def _check_teacher(config: TrainConfig) -> None:
    """A teacher that is the student's own network has what it needs, and the noisy expert nothing of it."""
    row, sees, given = METHOD[config.method], config.teacher_sees, getattr(config, "sees", ())
    require_known("teacher", config.teacher, ("expert", *OWN_TEACHERS))
    require_known("teacher_sees", sees, ("prompt", *SLOTS[1:]))
    require(0 < config.average_rate <= 1, "teacher_rate", config.average_rate, "in (0, 1]")
    require(np.float32(config.average_rate) > 0, "teacher_rate", config.average_rate,
            "above 0 when it is rounded to 32 bits")  # fmt: skip
    if not config.own_teacher:
        require(sees == "prompt", "teacher_sees", sees, "prompt where the teacher is the expert, who reads the task")
        return
    require(row.signal != "reward", "teacher", config.teacher, f"expert: {row.name} reads a reward and no teacher")
    require(not row.aggregate, "teacher", config.teacher, f"expert: {row.name} learns from older episodes too")
    require(not config.channel_aware, "channel_aware", True, "left out: the teacher passes no channel")
    require(not config.diagnose, "diagnose", True, "left out: it asks the expert, who is not this run's teacher")
    slots = ", ".join(given) or "none"
    require(sees == "prompt" or sees in given, "teacher_sees", sees,
            f"what slots of the prompt are for, or prompt (slots of this task: {slots})")  # fmt: skip


def require_start(config: TrainConfig) -> TrainConfig:
    """Return `config` unchanged, or raise `BadInput` if its teacher is frozen and it is no stage.

    It is asked when the runs of a chain have their starts.
    """
    require(config.teacher != "frozen" or config.start, "start", repr(config.start),
            "a run where the teacher is frozen: it is the network that the run begins with")  # fmt: skip
    return config


def _check_old_task(config: TrainConfig) -> None:
    """`old_task` names options of the task with values that they may have."""
    said, names = repr(config.old_task), [field.name for field in dataclasses.fields(config.definitions[0].options)]
    try:
        written = config.old_options
    except ValueError as error:
        raise BadInput(f"old_task must be options as name=value with blanks between, got {said}") from error
    for name in written:
        require_known("option of old_task", name, names)
    try:
        old = config.old_config
    except (ValueError, KeyError) as error:
        raise BadInput(f"old_task must have values of the options' types, got {said}") from error
    require(len(written) == len(config.old_task.split()), "old_task", said, "options that are each given once")
    require(written or not config.old_task, "old_task", said, "options as name=value, or left out")
    if written:
        config.definitions[0].options.check(old)


def check_tokens(config: TrainConfig, n_actions: int | None) -> None:
    """K of the support and the masked tokens fit the method and its actions 0..A−1 (`n_actions` None: A is not known).

    Raises `BadInput`.
    """
    row, k, masked, most = METHOD[config.method], config.top_k_teacher, config.mask_first, n_actions or MAX_COUNT
    if k is not None:
        require(1 <= k <= most, "top_k_teacher", k, f"an integer in 1..{f'A = {most}' if n_actions else most}")
    if not masked:
        return
    words = masked.split()
    tokens = {int(word) for word in words if word.isascii() and word.isdecimal() and len(word) <= 10}
    fits = len(words) == len(tokens) > 0 and max(tokens) < most
    require(fits, "mask_first", repr(masked), f"different tokens in 0..{most - 1} with blanks between")
    require(not row.aggregate, "mask_first", repr(masked), f"left out: {config.method} learns from older episodes too")


def _require_kept(config: TrainConfig, name: str, most: float, zero: bool = False) -> None:
    """A positive number (or `zero`) is one that a program keeps in 32 bits."""
    value = getattr(config, name)
    said = f"{'0, or ' if zero else ''}in [{SMALL:g}, {most:g}]"
    require((zero and value == 0) or SMALL <= value <= most, name, value, said)

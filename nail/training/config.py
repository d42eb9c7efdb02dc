"""The configuration of a run: every default in one place (what is allowed: nail/training/ranges.py).

Field texts are the help texts of the command line. The defaults are the paper's protocol (docs/paper.md §1.1).
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nail.checks import BadInput, require_known
from nail.envs.noises import NOISES
from nail.envs.tasks import TASKS, Task
from nail.methods import METHOD
from nail.policies.students import STUDENTS, Student
from nail.registry import Options
from nail.training.derived import Derived
from nail.training.kinds import as_declared

TRACED = ("seed", "eta", "beta", "temperature", "rule_number", "expert_temperature", "lr", "burst")
"""fields that are numbers to the compiled program: runs that differ in these alone share one compilation"""
_OUTSIDE_RUN_IDENTITY = ("allow_imperfect_expert",)
_LATER = {
    "top_k_teacher": None, "mask_first": "", "diagnose": False, "start": "", "reward": None, "group": None,
    "dpo_beta": None, "steer": False, "negated": 0.0, "slots": "none", "shown": 0.0, "teacher": "expert",
    "teacher_sees": "prompt", "teacher_rate": None, "old_task": "", "burst": 0.5, "profile": "",
}  # fmt: skip
"""fields that came after runs had been stored, and the values at which they are no part of a run's identity"""


@dataclass(frozen=True)
class TrainConfig(Derived):
    """One training run: the fields below, and the options of its task and of the task's student.

    `TrainConfig(task="modadd", p=7, m=31, width=512, …)` has p, m and recovery from the task and width, heads, layers,
    init_std and precision from the transformer; `TrainConfig(task="garnet", S=8, A=4, H=8, …)` has S, A, H, branching
    and no field of a network. Raises `BadInput` for an unknown task and for a field that the task does not have. A run
    refuses a field that it would not read and that differs from its default (nail/training/unread.py).

        >>> dataclasses.replace(TrainConfig(p=3, m=5), m=7).m
        7
    """

    task: str = "modadd"
    """environment: a token task by a transformer (modadd: modular addition with a chain of thought; s5: composition of
    permutations; defclass: definitions in the prompt), or a tabular MDP with a softmax table as student, whose instance
    is drawn from bank_seed: poison-chain, hidden-path, garnet; see `nail list`"""
    noise: str = "uniform"
    """corruption of the expert: uniform (Huber mixture, uniform kernel over the task's actions), temperature, or one of
    the laws of token tasks: see `nail list`"""
    eta: float = 0.2
    """corruption rate η of the noise, 0 ≤ η < 1"""
    expert_temperature: float = 1.0
    """temperature t of the noisy expert's law π^(1/t) when noise is temperature, 1e-30 ≤ t ≤ 1e30"""
    burst: float = 0.5
    """ρ = P(corrupted → corrupted) from one step to the next when noise is bursts, max(0, 2 − 1/η) ≤ ρ < 1; at ρ = η
    the steps are independent; what a method reads as probabilities are the marginals, those of noise uniform"""
    profile: str = ""
    """weights w_h in [0, 1] when noise is profile, as "0 0 1 1" with one a position: the rate at position h is η·w_h"""
    expert: str = "oracle"
    """clean expert: oracle, or the folder of a trained expert (see `nail expert`)"""
    allow_imperfect_expert: bool = False
    """accept a trained expert that is not perfect on the validation prompts"""
    method: str = "nail-f"
    """learner, a row of the methods table: see `nail list`"""
    beta: float = 0.5
    """weight β of the reverse KL in nail-beta, interpolation of jsd-beta, 0 ≤ β ≤ 1"""
    temperature: float | None = None
    """temperature T of the student's rollout, 0 (greedy) or 1e-30 ≤ T ≤ 1e30; default: the method's own"""
    rule_number: float | None = None
    """number of the rollout rule of a method that has one (top-p: the mass p); default: the rule's own"""
    top_k_teacher: int | None = None
    """K ≥ 1 of a method whose objective has the expert's K most likely tokens as support, at most the number of
    actions; default: the method's own (or all actions where they are fewer)"""
    mask_first: str = ""
    """tokens as numbers with blanks between, "0 3": the first position of an episode where each of them was played is
    left out of the objective's mean; default: none"""
    reward: str | None = None
    """for a method that reads a reward: answer (1 if the episode's answer is right, else 0) or chain (1 if all of it
    is); default: the task's first"""
    group: int | None = None
    """for a method that reads a reward: episodes of one prompt, 2 ≤ group ≤ batch, which is a multiple of it; default:
    the method's own (8)"""
    dpo_beta: float | None = None
    """for a method that compares pairs of a group: β of the preference, 1e-30 ≤ β ≤ 1e30; default: 0.1"""
    teacher: str = "expert"
    """whose law the method learns from: expert (the noisy one), or the student's own network: frozen (as the run
    began), live (as it is, without gradient), average (a moving average of it); docs/post_training.md §5"""
    teacher_sees: str = "prompt"
    """what a teacher of the student's own network sees: prompt (what the student sees), or its slots filled too: answer
    (the right one), demonstration (a chain of the noisy expert)"""
    teacher_rate: float | None = None
    """of an average teacher: weight ρ of the student after each update, 0 < ρ ≤ 1; default: 0.02"""
    estimator: str = "mc"
    """objective from one sampled token per prefix (mc) or from the whole law (full)"""
    channel_aware: bool = False
    """let the student model the clean law and pass it through the known channel before the loss"""
    dagger_rounds: int = 20
    """rounds i of DAgger in the whole budget; the expert drives with probability β_i = decay^i,
    1 ≤ rounds < 2^31"""
    dagger_decay: float = 0.5
    """decay of DAgger's β_i from round to round, 0 ≤ decay ≤ 1"""
    dagger_buffer: int = 0
    """DAgger's data set in episodes, the oldest replaced first, below 2^31; 0 holds the whole budget, batch × steps"""
    batch: int = 64
    """episodes per update, 1 ≤ batch < 2^31"""
    steps: int = 46_875
    """updates ≥ 1; the budget is batch × steps < 2^32 episodes of H expert queries each"""
    lr: float = 1e-5
    """AdamW learning rate after warm-up, constant from then on, 1e-30 ≤ lr ≤ 1e38"""
    warmup: int = 2_000
    """linear warm-up from 1e−6, in updates, 0 ≤ warmup < 2^31"""
    weight_decay: float = 0.0
    """AdamW weight decay, 0 ≤ decay ≤ 1e30"""
    clip: float = 1.0
    """global-norm clip of the gradient, 1e-30 ≤ clip ≤ 1e30"""
    decode: str = "sequential"
    """rollouts: sequential (token by token), or parallel (passes over the whole chain until it no longer changes, which
    is the same rollout: 1 pass for a student that knows the task, up to H before; `nail bench` times both)"""
    eval_every: int = 500
    """updates between evaluations, 1 ≤ eval_every < 2^31, with steps/eval_every < 100,000; one before the first update
    and one after the last"""
    n_validation: int = 5_000
    """held-out prompts per evaluation, 1 ≤ n_validation ≤ 10,000,000, never trained on (at most a tenth of all prompts
    of modadd and s5: p^m, 120^m)"""
    diagnose: bool = False
    """also say in each row, position by position, what the student's own rollouts meet: advantages at the tokens played
    (mean, 5 % quantile, share below 0), mass off the support, repetitions; `nail.training.diagnose`"""
    old_task: str = ""
    """options of the task, as "epsilon=0 shown=0": each evaluation is made once more on held-out prompts of the task
    with these, and rows say what a stage has kept (columns old_…; docs/post_training.md §5.4); default: none"""
    steer: bool = False
    """of a task with perturbations: also say in each row how the student's labels follow its prompt when that is
    perturbed; `nail.training.steering`"""
    bank_seed: int = 0
    """seed of the prompt bank, or of a tabular instance and its chance, shared by all methods and seeds,
    0 ≤ seed < 2^31"""
    seed: int = 0
    """seed of initialisation, noise and rollouts, 0 ≤ seed < 2^31"""
    start: str = ""
    """run that this one goes on from: its id, 12 hexadecimal digits (column run of rows.csv), of a run in the output
    folder; on the command line also the folder of a finished `nail train`, of which each run takes the run of its own
    seed (or the only one); left out: a fresh start (docs/stages.md)"""

    def __new__(cls, *positional: Any, **fields: Any) -> "TrainConfig":
        """An instance of the class that has the task's fields."""
        if cls is TrainConfig:
            cls = config_class(fields.get("task", positional[0] if positional else "modadd"))
        refuse_unknown(cls, fields)
        made_for = cls.definitions[0].name
        if fields.get("task", made_for) != made_for:
            raise BadInput(
                f"task of a configuration cannot be replaced ({made_for} by {fields['task']}): make a new one"
            )
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Numbers become Python's own, those of a field with a fraction floats: equal runs have one id."""
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, as_declared(field, getattr(self, field.name)))

    def __reduce__(self) -> Any:
        """Classes of configurations are made on demand: pickled by their fields."""
        return _rebuilt, (dataclasses.asdict(self),)

    @property
    def stream(self) -> int:
        """The seed of a run's random numbers: `seed`, and in a stage a negative one, a hash of it and of `start`.

        So no stage draws what its start drew, and stages of one seed from different starts differ (docs/stages.md §2).
        """
        return -1 - int(content_hash([self.start, self.seed]), 16) % 2**31 if self.start else self.seed

    @property
    def stored(self) -> dict[str, Any]:
        """The fields as folders keep them and ids are made of them: those of `_LATER` only where they are used."""
        own = {name: field.default for name, field in self.__dataclass_fields__.items()}
        return {
            name: value
            for name, value in vars(self).items()
            if not (name in _LATER and value == _LATER[name] == own[name])
        }

    def columns(self) -> dict[str, Any]:
        """The fields as a row shows them: defaults that depend on others worked out."""
        known = {"temperature": self.rollout_temperature}
        if METHOD[self.method].rule is not None:
            known["rule_number"] = self.rollout_number
        if self.support_size is not None:
            known["top_k_teacher"] = self.support_size
        if self.group_size is not None:
            known |= {"reward": self.reward_read, "group": self.group_size}
        if METHOD[self.method].reward == "pairs":
            known["dpo_beta"] = self.preference_beta
        if self.teacher == "average":
            known["teacher_rate"] = self.average_rate
        if "burst" in (NOISES[self.noise].reads or ()):
            known["burst"] = self.burst
        if hasattr(self, "initial_std"):
            known["init_std"] = self.initial_std
        return {**self.stored, **known}


def config_class(task: str) -> type[TrainConfig]:
    """The class of the configurations of a task: `TrainConfig` with the task's and its student's options as fields.

    Raises `BadInput` for an unknown task.
    """
    row = TASKS.find(task)
    return _class_of(row, STUDENTS.find(row.student))


@functools.cache
def _class_of(task: Task, student: Student) -> type[TrainConfig]:
    body = {"task": task.name, "__annotations__": {"task": str}, "__doc__": TrainConfig.__doc__}
    bases = (*(kind for kind in (student.options, task.options) if kind is not Options), TrainConfig)
    body |= {"__module__": __name__, "definitions": (task, student)}
    return dataclass(frozen=True)(type("TrainConfig", bases, body))


def plain(config: TrainConfig) -> TrainConfig:
    """`config` as an instance of `config_class`, without what a subclass (a command) added."""
    names = [field.name for field in dataclasses.fields(config_class(config.task))]
    return TrainConfig(**{name: getattr(config, name) for name in names})


def _rebuilt(fields: dict[str, Any]) -> TrainConfig:
    return TrainConfig(**fields)


def refuse_unknown(kind: type[TrainConfig], names: Iterable[str]) -> None:
    """Raise `BadInput` for the first name that is no field of a class of configurations, with what it is called."""
    task, known = kind.definitions[0], [field.name for field in dataclasses.fields(kind)]
    for name in names:
        if name in dict(task.renamed):
            raise BadInput(f"{name} is called {dict(task.renamed)[name]} in the task {task.name}")
        require_known(f"field of the task {task.name}", name, known)


def static_part(config: TrainConfig) -> dict[str, Any]:
    """What fixes the compiled program: every field but the traced ones, and whether rollouts are sampled at all."""
    return {**_identity(config, (*TRACED, "start")), "sampled": config.sampled}


def run_id(config: TrainConfig) -> str:
    """Content hash of a run: 12 hexadecimal digits of SHA-256 over its fields and what was added from outside."""
    return content_hash(_identity(config))


def _identity(config: TrainConfig, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields that tell runs apart, and fingerprints of definitions that are not the package's own."""
    fields = {k: v for k, v in config.stored.items() if k not in (*left_out, *_OUTSIDE_RUN_IDENTITY)}
    named = ((TASKS, config.task), (NOISES, config.noise), (METHOD, config.method))
    added = {table.kind: found for table, name in named if (found := table.fingerprint(name))}
    return {**fields, "definitions": added} if added else fields


def content_hash(content: Any) -> str:
    """12 hexadecimal digits of SHA-256 over the canonical JSON of `content`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def group_key(config: TrainConfig) -> str:
    """What all runs of one compiled program have in common, as a hash."""
    return content_hash(static_part(config))


def group(configs: tuple[TrainConfig, ...]) -> list[tuple[TrainConfig, ...]]:
    """Runs that share one compiled program, in order of first appearance."""
    groups: dict[str, list[TrainConfig]] = {}
    for config in configs:
        groups.setdefault(group_key(config), []).append(config)
    return [tuple(members) for members in groups.values()]

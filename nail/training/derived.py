"""What follows from a configuration's fields: defaults that depend on others, worked out."""

import dataclasses
from typing import TYPE_CHECKING, Any

from nail.methods import METHOD
from nail.training.kinds import kinds_of

OWN_TEACHERS = ("frozen", "live", "average")
"""teachers that are the student's own network (docs/post_training.md §5.1)"""


_READ = {int: int, float: float, str: str, bool: {"true": True, "false": False}.__getitem__}


class Derived:
    """Properties of a `TrainConfig`."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def rollout_temperature(self) -> float:
        """The temperature that the student's rollouts have: the configured one, or else the method's own."""
        return METHOD[self.method].temperature if self.temperature is None else self.temperature

    @property
    def rollout_number(self) -> float:
        """The number of the method's rollout rule: the configured one, or else the rule's own; 0 without a rule."""
        rule = METHOD[self.method].rule
        own = 0.0 if rule is None else rule.default
        return own if self.rule_number is None else self.rule_number

    @property
    def support_size(self) -> int | None:
        """K of the method's support, the configured one or else the method's own; None: the support is all tokens."""
        own = METHOD[self.method].top_k_teacher
        return own if self.top_k_teacher is None else self.top_k_teacher

    @property
    def reward_read(self) -> str | None:
        """The reward of the method's episodes: the configured one, or else the task's first; None: none is read."""
        rewards = self.definitions[0].rewards if METHOD[self.method].signal == "reward" else ()
        return self.reward or next(iter(rewards), None)

    @property
    def group_size(self) -> int | None:
        """Episodes of one prompt, the configured number or else the method's own; None: each has its own prompt."""
        return METHOD[self.method].group if self.group is None else self.group

    @property
    def preference_beta(self) -> float:
        """β of DPO."""
        return 0.1 if self.dpo_beta is None else self.dpo_beta

    @property
    def masked_tokens(self) -> tuple[int, ...]:
        """The tokens of `mask_first`; raises `ValueError` where they are no numbers."""
        return tuple(int(token) for token in self.mask_first.split())

    @property
    def sampled(self) -> bool:
        """Whether the student's rollouts are random."""
        return METHOD[self.method].rule is not None or self.rollout_temperature > 0

    @property
    def own_teacher(self) -> bool:
        """Whether the law that is learned from is that of the student's own network."""
        return self.teacher in OWN_TEACHERS

    @property
    def average_rate(self) -> float:
        """ρ of a moving average of the student."""
        return 0.02 if self.teacher_rate is None else self.teacher_rate

    @property
    def old_options(self) -> dict[str, str]:
        """Options of `old_task`, name → value as it is written; raises `ValueError` where it is no "name=value"."""
        return dict(word.split("=", 1) for word in self.old_task.split())

    @property
    def old_config(self) -> Any:
        """The configuration at the options of `old_task`; raises `ValueError` or `KeyError` where a value is not of its
        option's type."""
        kinds = {field.name: kinds_of(field)[0] for field in dataclasses.fields(self.definitions[0].options)}
        given = {name: _READ[kinds[name]](value) for name, value in self.old_options.items()}
        return dataclasses.replace(self, **given, old_task="")

    @property
    def asks(self) -> bool:
        """Whether the noisy expert is asked at every position: as the method's signal, to play, or to demonstrate."""
        return self.teacher_sees == "demonstration" if self.own_teacher else METHOD[self.method].asks

"""The learners, one row each: who drives, which sample, which divergence (docs/theory.md §2). A new method is a new row."""

from typing import Literal, NamedTuple


class Method(NamedTuple):
    """One learner.

    The learner loop reads these fields and nothing else about a method: no branch on a name anywhere.
    """

    name: str
    """on the command line and in results"""
    label: str
    """in legends"""
    driver: Literal["expert", "student", "mixture"]
    """who chooses the actions of an episode: the noisy expert, the student, or per step the expert with
    probability β_i and else the student"""
    divergence: Literal["kl", "jsd"] = "kl"
    """(1−β)·forward KL + β·reverse KL, or the generalised Jensen–Shannon divergence"""
    beta: float | None = 0.0
    """0: forward KL, 1: reverse KL, None: the configuration's `beta`"""
    temperature: float = 0.0
    """of the student's rollout: 0 greedy, 1 sampled from its own law"""
    action: Literal["auxiliary", "rollout"] = "auxiliary"
    """the action of the reverse KL's score function: a fresh draw from the student, or the rollout's own token"""
    aggregate: bool = False
    """whether updates draw on all episodes so far instead of the newest batch"""
    summary: str = ""
    """one line for `nail list`"""


METHODS: tuple[Method, ...] = (
    Method("loglossbc", "LogLossBC", "expert", summary="offline log loss on the noisy expert's own chains"),
    Method(
        "dagger", "DAgger", "mixture", aggregate=True,
        summary="expert/student mixture drives, log loss on all data so far",
    ),
    Method("opd-f", "OPD-F", "student", temperature=1.0, summary="sampled rollouts, forward KL"),
    Method(
        "opd-r", "OPD-R", "student", beta=1.0, temperature=1.0, action="rollout",
        summary="sampled rollouts, reverse KL on the rollout's tokens",
    ),
    Method("nail-f", "NAIL-F", "student", summary="greedy rollouts, forward KL"),
    Method("nail-r", "NAIL-R", "student", beta=1.0, summary="greedy rollouts, reverse KL on auxiliary tokens"),
    Method("nail-beta", "NAIL-β", "student", beta=None, summary="greedy rollouts, (1−β)·forward + β·reverse KL"),
    Method(
        "jsd-beta", "JSD-β", "student", divergence="jsd", beta=None,
        summary="greedy rollouts, generalised Jensen–Shannon divergence",
    ),
)  # fmt: skip

METHOD: dict[str, Method] = {row.name: row for row in METHODS}

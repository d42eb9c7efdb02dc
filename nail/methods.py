"""The learners, one row each: who drives, which sample, which divergence (docs/theory.md §2).

A new method is a new row. Two loops read it: the training of a network (nail/training), and the count-based learners
(nail/counting), which derive what they do from the same fields. How a rollout picks a token: nail/rules.py. What is no
field is a function: of counts (`score`, `law`), or a learner with a state of its own (nail/learners.py).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from nail.checks import BadInput, require_known
from nail.learners import Functions, halving, selective, stagger
from nail.registry import Table, document_fields
from nail.rules import TOP_P, Rule


class Method(NamedTuple):
    """One learner.

    The loops read these fields and nothing else about a method: no branch on a name anywhere. What is no combination of
    them is a function of one's own: a `loss` of a network (docs/loss.md), a `score` or a `law` of counts
    (docs/learner.md), here the counts with half a label more for action 0:

        >>> import jax.numpy as jnp
        >>> def ahead(counts):
        ...     return counts.labels + jnp.where(jnp.arange(counts.labels.shape[-1]) == 0, 0.5, 0.0)
        >>> nail.add_method(nail.Method("first", "Leans to action 0", "student", score=ahead))
        >>> nail.n_star("poison-chain", "first", 4, 4, eta=0.3, delta=0.1).oracle
        'labels'

    and the squared Hellinger distance as a loss:

        >>> def hellinger(logp, law, label):
        ...     return jnp.sum((jnp.exp(logp / 2) - jnp.sqrt(law)) ** 2)
        >>> nail.add_method(nail.Method("nail-h", "NAIL, Hellinger", "student", loss=hellinger))
        >>> nail.TrainConfig(method="nail-h").rollout_temperature
        0.0
    """

    name: str
    """on the command line and in results"""
    label: str
    """in legends"""
    driver: Literal["expert", "student", "mixture"]
    """who chooses the actions of an episode: the noisy expert, the student, or per step the expert with
    probability β_i (`expert_share`) and else the student"""
    divergence: Literal["kl", "jsd"] = "kl"
    """(1−β)·forward KL + β·reverse KL, or the generalised Jensen–Shannon divergence"""
    beta: float | None = 0.0
    """0: forward KL, 1: reverse KL, None: the configuration's `beta`"""
    temperature: float = 0.0
    """of the student's rollout: 0 greedy, 1 sampled from its own law"""
    action: Literal["auxiliary", "rollout"] = "auxiliary"
    """the action of the reverse KL's score function: a fresh draw from the student's law as the loss has it, or the
    rollout's own token, which counts p/q times: q is the law that drew it (nail/rules.py)"""
    support: Literal["all", "renormalised", "tail", "unrenormalised"] = "all"
    """tokens that a KL sums over: all of them, or the expert's K most likely ones: both laws renormalised there; as
    they are, with a term for the rest (of the reverse KL a sampled one, of the forward KL that of one token in the
    place of all others); as they are (docs/post_training.md §1)"""
    top_k_teacher: int | None = None
    """K of a method with such a support, where the configuration does not say; None: the support is all tokens"""
    loss: Callable[[Any, Any, Any], Any] | None = None
    """objective of the user's own at one position, in the place of a divergence: (the student's log-probabilities (A,),
    the noisy expert's law (A,), a label () drawn from it) → (), a pure function that JAX differentiates; it is mapped
    and averaged over positions and batch (docs/loss.md). A network's alone: counts have no loss"""
    reward: Literal["unread", "standardised", "centred", "filter", "pairs"] = "unread"
    """what the task's verifiable reward r of an episode does (docs/post_training.md §4): nothing, and the expert is
    asked at every prefix; or nothing else is read than r: the log loss on what was played is weighted by r less its
    group's mean, over the group's standard deviation or not; by r itself; or pairs of a group are compared (DPO)"""
    group: int | None = None
    """episodes of one prompt where the reward is read and the configuration does not say; None: it is unread"""
    aggregate: bool = False
    """whether updates of a network draw on all episodes so far instead of the newest batch (counts keep all anyway)"""
    rule: Rule | None = None
    """how a student's token is picked in a rollout; None: argmax of logits + T·Gumbel at the rollout's temperature T"""
    decides: Literal["fit", "plurality", "channel", "class"] = "fit"
    """what the final policy is: the fitted law's mode; the label counted most, which minimises the 0–1 loss; the Bayes
    rule of a known channel; the Bayes mixture over a finite class. A network fits laws: the others are for counts (its
    loss sees the channel by `TrainConfig.channel_aware`)"""
    told: Literal["truth", "eta", "kernel"] = "truth"
    """the channel that `channel` and `class` believe in: the true one, or one with a wrong η, or with a wrong ν"""
    summary: str = ""
    """one line for `nail list`"""
    score: Callable[[Any], Any] | None = None
    """of counts (`nail.counting.own.Counts`): the final policy, and a greedy student, play the argmax of what this
    returns, (.., A), ties to the lowest action; None: as `decides` says, or the law's mode where `law` is given"""
    law: Callable[[Any], Any] | None = None
    """of counts: the fitted law (.., A), probability vectors, which a sampled student and an auxiliary token are drawn
    from; None: the optimum of the divergence"""
    functions: Functions | None = None
    """a count-based learner with a state of its own (`nail.add_learner`), which decides who drives"""

    @property
    def own(self) -> bool:
        """Whether functions stand for fields: such rows are for counts."""
        return self.score is not None or self.law is not None or self.functions is not None

    @property
    def trains(self) -> bool:
        """Whether a network can be trained by this row."""
        return self.decides == "fit" and not self.own

    @property
    def signal(self) -> Literal["labels", "laws", "reward"]:
        """What an update reads: the noisy expert's sampled tokens, also its probabilities, or the task's reward."""
        if self.reward != "unread":
            return "reward"
        labels = self.divergence == "kl" and self.beta == 0 and self.support == "all" and self.loss is None
        return "labels" if labels else "laws"

    @property
    def asks(self) -> bool:
        """Whether the noisy expert is asked for anything: as a signal, or to play."""
        return self.signal != "reward" or self.driver != "student"

    @property
    def samples_terms(self) -> bool:
        """Whether an estimator samples terms of the objective: on a support only those of a reverse KL's tail."""
        return self.support == "all" or (self.support == "tail" and self.beta == 1)

    def scores_rollout(self, estimator: str) -> bool:
        """Whether the objective is scored by the law that drew the rollout's token: a policy gradient, or by the
        estimator mc a reverse KL (its tail, on a support) at that token."""
        if self.signal == "reward":
            return self.reward in ("standardised", "centred")
        reads = self.signal == "laws" and self.samples_terms
        return reads and self.action == "rollout" and estimator == "mc"


def expert_share(decay: Any, episodes: Any, per_round: Any) -> Any:
    """DAgger's β_i = decay^i, the probability that the expert plays a step of round i = ⌊episodes/per_round⌋.

    `episodes` is the number of episodes before this one, `per_round` how many a round has; β_0 = 1: the first round is
    the expert's own (arXiv 1011.0686, §3). Counts take rounds of one episode. The arguments may be traced numbers.
    """
    return decay ** (episodes // per_round)


_ROWS: tuple[Method, ...] = (
    Method("loglossbc", "LogLossBC", "expert", summary="offline log loss on the noisy expert's own chains"),
    Method("bc-r", "BC-R", "expert", beta=1.0, summary="the noisy expert's own chains, reverse KL on auxiliary tokens"),
    Method(
        "dagger", "DAgger", "mixture", aggregate=True,
        summary="expert/student mixture drives, log loss on all data so far",
    ),
    Method("opd-f", "OPD-F", "student", temperature=1.0, summary="sampled rollouts, forward KL"),
    Method(
        "opd-r", "OPD-R", "student", beta=1.0, temperature=1.0, action="rollout",
        summary="sampled rollouts, reverse KL on the rollout's tokens",
    ),
    Method(
        "opd-f-top-k", "OPD-F, top-K", "student", temperature=1.0, support="unrenormalised", top_k_teacher=4,
        summary="sampled rollouts, forward KL summed over the expert's K most likely tokens only",
    ),
    Method(
        "opd-f-top-k-tail", "OPD-F, top-K and tail", "student", temperature=1.0, support="tail", top_k_teacher=4,
        summary="sampled rollouts, forward KL on the expert's K most likely tokens and one token for all others",
    ),
    Method(
        "opd-top-p", "OPD-F, top-p", "student", temperature=1.0, rule=TOP_P,
        summary="rollouts sampled from the nucleus of mass p, forward KL",
    ),
    Method(
        "opd-r-top-p", "OPD-R, top-p", "student", beta=1.0, temperature=1.0, action="rollout", rule=TOP_P,
        summary="rollouts sampled from the nucleus of mass p, reverse KL's terms inside it, on the rollout's tokens",
    ),
    Method(
        "lsm", "LSM", "student", beta=1.0, temperature=1.0, action="rollout", rule=TOP_P, support="renormalised",
        top_k_teacher=4, summary="top-p rollouts, reverse KL renormalised on the expert's K most likely tokens",
    ),
    Method(
        "lsm-tail", "LSM, tail-corrected", "student", beta=1.0, temperature=1.0, action="rollout", rule=TOP_P,
        support="tail", top_k_teacher=4,
        summary="top-p rollouts, reverse KL summed over the expert's K most likely tokens, sampled on others inside p",
    ),
    Method(
        "lsm-unrenormalised", "LSM, unrenormalised", "student", beta=1.0, temperature=1.0, action="rollout",
        rule=TOP_P, support="unrenormalised", top_k_teacher=4,
        summary="top-p rollouts, reverse KL summed over the expert's K most likely tokens only",
    ),
    Method("nail-f", "NAIL-F", "student", summary="greedy rollouts, forward KL"),
    Method("nail-r", "NAIL-R", "student", beta=1.0, summary="greedy rollouts, reverse KL on auxiliary tokens"),
    Method("nail-beta", "NAIL-β", "student", beta=None, summary="greedy rollouts, (1−β)·forward + β·reverse KL"),
    Method(
        "jsd-beta", "JSD-β", "student", divergence="jsd", beta=None,
        summary="greedy rollouts, generalised Jensen–Shannon divergence",
    ),
    Method(
        "grpo", "GRPO", "student", temperature=1.0, reward="standardised", group=8,
        summary="sampled rollouts, policy gradient of the reward, standardised within a prompt's group",
    ),
    Method(
        "dr-grpo", "Dr. GRPO", "student", temperature=1.0, reward="centred", group=8,
        summary="sampled rollouts, policy gradient of the reward less its mean within a prompt's group",
    ),
    Method(
        "rft", "RFT, offline", "expert", reward="filter", group=8,
        summary="log loss on those of the noisy expert's own chains that the reward accepts",
    ),
    Method(
        "rft-online", "RFT, online", "student", temperature=1.0, reward="filter", group=8,
        summary="log loss on those of the student's sampled chains that the reward accepts",
    ),
    Method(
        "dpo", "DPO", "student", temperature=1.0, reward="pairs", group=8,
        summary="sampled rollouts, preference of a prompt's right chains over its wrong ones",
    ),
    Method(
        "opd-channel", "OPD-F, channel-aware", "student", temperature=1.0, decides="channel",
        summary="sampled rollouts of the clean law behind the known channel, forward KL through it",
    ),
    Method("nailgun", "NAILGUN", "student", decides="plurality", summary="greedy rollouts, 0–1 loss: needs no η, no ν"),
    Method(
        "nail-channel", "NAIL (η, ν known)", "student", decides="channel",
        summary="greedy rollouts, the Bayes rule of the known channel",
    ),
    Method(
        "nail-class", "NAIL (finite class)", "student", decides="class",
        summary="greedy rollouts, the Bayes mixture over a finite class",
    ),
    Method(
        "nail-wrong-eta", "NAIL (wrong η)", "student", decides="channel", told="eta",
        summary="nail-channel, told a wrong η",
    ),
    Method(
        "nail-wrong-nu", "NAIL (wrong ν)", "student", decides="channel", told="kernel",
        summary="nail-channel, told a wrong ν",
    ),
    Method(
        "halving", "Halving", "student", functions=halving(),
        summary="drops actions whose log likelihood trails by log(AH/δ), plays the first one left",
    ),
    Method(
        "nail-selective", "NAIL, selective", "student", functions=selective(),
        summary="greedy rollouts, asks only where the lead in log likelihood is below log(AH/δ)",
    ),
    Method(
        "stagger", "STAGGER", "student", functions=stagger(),
        summary="greedy rollouts, one labelled step an episode, drawn uniformly",
    ),
)  # fmt: skip

METHOD = Table("method", _ROWS)


def trained_methods() -> list[Method]:
    """The rows by which a network can be trained, those that were added from outside included."""
    return [row for row in METHOD.values() if row.trains]


def require_trained(name: str) -> None:
    """Raise `BadInput` unless a network can be trained by the method called `name`."""
    if name in METHOD and not METHOD[name].trains:
        raise BadInput(
            f"method must be one that trains a network, and {name} is for counts: nail n-star --method {name}"
        )
    require_known("method", name, [row.name for row in trained_methods()])


document_fields(__name__)

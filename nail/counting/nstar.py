"""n*: the smallest number of episodes after which a learner is good enough, in mean or in probability over replicates.

Episodes are doubled until the mean loss reaches its target, every octave being read at evenly spaced checkpoints, and
the octave that contains the crossing is bisected. All numbers of episodes share their random numbers (common random
numbers), so the curve that is bisected is one curve. How an interval comes of it: nail/counting/crossing.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from scipy.stats import beta

from nail.checks import require, require_known
from nail.counting import INSTANCES, levels, paths
from nail.counting.channels import by_level, check_channel, with_noise
from nail.counting.crossing import ROUNDING, NStar, Octaves, Watch, crossing
from nail.counting.drivers import EXPERT, Setting, complete, is_number
from nail.counting.kernels import Wrong, refuse_told
from nail.counting.layered import exact_regret, greedy, greedy_and_asked, simulation
from nail.counting.learners import Learner, learner
from nail.counting.own import Answers, begin_own, reads_counts
from nail.counting.spare import take
from nail.envs.instances import Instance
from nail.envs.play import check_once
from nail.envs.tasks import TASKS
from nail.methods import METHOD, Method
from nail.noise import Channel

POINTS = 256
"""checkpoints an octave: n* is exact up to 2·POINTS episodes and to 1/POINTS of its value beyond"""
AHEAD = 64
"""checkpoints that are simulated before the curve is looked at again, a divisor of POINTS"""
LONG = 2048
"""episodes from which on devices that are free help"""
PATHS_POINTS, PATHS_AHEAD = 16, 4
"""the same two of the best-path search"""
HOPELESS = 1e-9
"""probability of so many losses at the target, below which the best-path search does not look closer"""
PATHS_DRAW = 256
"""episodes that are drawn together for the best-path search"""
PATHS_BYTES = 2**30
"""largest data set of the best-path search"""
MDP_CELLS, MDP_ENTRIES = 2**26, 2**27
"""largest replicates × H × S × A on any other instance, and instances × entries of a transition table"""
MDP_POINTS = 32
"""checkpoints an octave on any other instance"""
CRITERIA = ("mean", "pac")
"""of n*: mean regret at most δ, or regret at most ε with probability at least 1 − δ"""
Factory = Callable[[int], Instance]


def oracle(method: str) -> str:
    """What the learner reads of the noisy expert at each step: "labels" (a sampled action), "probabilities" (that of
    one action, exact: the reverse KL's score function) or "labels and probabilities" (NAIL-β); what `nail.add_learner`
    was told. Numbers of queries of different oracles do not compare. Raises as `learner`. Source: docs/theory.md §2."""
    row = METHOD.find(method)
    if row.functions is not None:
        return row.functions.oracle
    if learner(method).query is None:
        return "labels"
    return "probabilities" if row.beta == 1 else "labels and probabilities"


def _strides(first: int) -> Iterator[tuple[int, int]]:
    """(episodes before, stride) of octaves of `first` checkpoints each: 0..first, first..2·first, ..4·first, ..."""
    before, stride = 0, 1
    while True:
        yield before, stride
        before += first * stride
        stride = before // first


def level_octaves(
    method: str, horizon: int, n_actions: int, setting: Setting, replicates: int, seed: int, budget: int
) -> Octaves:
    """Whether a learner that decides level by level fails, from n = 0 on, in parts of an octave."""
    row, setting = learner(method, by_level=True), complete(setting, n_actions)
    pad = setting.noise is None and not reads_counts(METHOD[method])
    setting = by_level(setting, horizon, levels.padded(horizon) if pad else horizon)
    check_channel(setting.noise, method, np.eye(n_actions)[np.arange(horizon) % n_actions])
    kept = begin_own(METHOD[method], row.told, (horizon, n_actions), setting, replicates)
    parts = [levels.begin(horizon, n_actions, replicates, seed, kept, pad)]
    yield np.array([0]), *_failures(row, levels.advance(row, parts[0], setting, 0, AHEAD)[1], 1)
    for octave, stride in _strides(POINTS):
        for before in range(octave, octave + POINTS * stride, AHEAD * stride):
            if before >= budget:
                return
            parts = levels.shared(list(parts), take) if before >= LONG else parts
            # all devices are at work before the first is waited for
            parts, found = zip(*[levels.advance(row, part, setting, stride, AHEAD) for part in parts], strict=True)
            seen = jax.tree.map(lambda *each: np.concatenate([np.asarray(part) for part in each]), *found)
            yield before + stride * np.arange(1, AHEAD + 1), *_failures(row, seen, AHEAD)


def _failures(row: Learner, seen: Any, points: int) -> tuple[np.ndarray, ...]:
    """Of what `levels.advance` has seen at its first checkpoints: who fails (R, points), and of a learner with a state
    of its own the answers until then (R, points)."""
    success, *answers = seen if row.counts_answers else (seen,)
    return ~np.asarray(success)[:, :points], *(np.asarray(each, float)[:, :points] for each in answers)


def path_budget(horizon: int, replicates: int, max_episodes: int) -> int:
    """Episodes that the best-path search can hold; raises `BadInput` if these are fewer than it draws together."""
    require(replicates * horizon * PATHS_DRAW <= PATHS_BYTES, "replicates × H", replicates * horizon,
            f"at most {PATHS_BYTES // PATHS_DRAW} where whole trajectories are kept")  # fmt: skip
    return max(1, min(max_episodes, PATHS_BYTES // (replicates * horizon)))


def path_octaves(
    horizon: int, n_actions: int, setting: Setting, replicates: int, seed: int, budget: int, target: float
) -> Octaves:
    """Whether LogLossBC fails on the hidden path, from n = 0 on, in parts of an octave; of a part whose end is
    hopelessly above the target, only the end (bisection looks inside no other)."""
    eta = complete(setting, n_actions).eta
    actions, right = paths.expert_paths(horizon, n_actions, setting, replicates, seed, 0, 0)
    yield np.array([0]), ~paths.success(actions, right, n_actions, eta)[:, None]
    for octave, stride in _strides(PATHS_POINTS):
        for before in range(octave, octave + PATHS_POINTS * stride, PATHS_AHEAD * stride):
            if before >= budget:
                return
            checkpoints = before + stride * np.arange(1, PATHS_AHEAD + 1)
            drawn = [actions]
            for first in range(actions.shape[1], checkpoints[-1], PATHS_DRAW):
                new, right = paths.expert_paths(horizon, n_actions, setting, replicates, seed, PATHS_DRAW, first + 1)
                drawn.append(new)
            actions = np.concatenate(drawn, axis=1)
            end = ~paths.success(actions[:, : checkpoints[-1]], right, n_actions, eta)
            if beta.ppf(HOPELESS, max(end.sum(), 1), replicates - end.sum() + 1) > target and end.any():
                yield checkpoints[-1:], end[:, None]
                continue
            inside = [~paths.success(actions[:, :n], right, n_actions, eta) for n in checkpoints[:-1]]
            yield checkpoints, np.stack([*inside, end], axis=1)


def instance_octaves(
    drawn: list[Instance], method: str, setting: Setting, replicates: int, seed: int, budget: int,
    candidates: Float[np.ndarray, "N H S A"] | None = None, pool: bool = False, epsilon: float | None = None,
) -> Octaves:  # fmt: skip
    """From n = 0 on, exact regret of each replicate on one instance, or the mean over replicates on each of several
    instances; with `pool`, of all replicates of all instances alike. With `epsilon`, whether regret is above it: of
    each replicate of one instance, or where each instance has one, else the share of each instance's replicates. Of a
    learner with a state of its own also the answers, their mean where losses are means."""
    each, counts = replicates // len(drawn), not learner(method).counts_answers
    read = greedy if counts else greedy_and_asked
    runs = [simulation(read, one, method, setting, each, seed, candidates, i * each) for i, one in enumerate(drawn)]
    alike = len(drawn) == 1 or pool or (each == 1 and epsilon is not None)

    def losses(stride, points):
        seen = [run(stride, MDP_POINTS) for run in runs]
        played, *answers = (seen,) if counts else zip(*seen, strict=True)
        found = [exact_regret(one, actions[:, :points]) for one, actions in zip(drawn, played, strict=True)]
        if epsilon is not None:
            found = [loss > epsilon * (1.0 + ROUNDING) for loss in found]
        answers = [[np.asarray(one[:, :points], float) for one in part] for part in answers]
        if not alike:
            found, *answers = ([one.mean(0, keepdims=True) for one in part] for part in (found, *answers))
        return np.concatenate(found), *map(np.concatenate, answers)

    yield np.array([0]), *losses(0, 1)
    for before, stride in _strides(MDP_POINTS):
        if before >= budget:
            return
        yield before + stride * np.arange(1, MDP_POINTS + 1), *losses(stride, MDP_POINTS)


def draw(instance: str | Instance | Factory, seed: int, count: int, replicates: int) -> list[Instance]:
    """The instance itself, or one for each of seed, seed+1, .. from a function or the tabular task of that name.

    Raises `BadInput` for an unknown name, what is or gives no `Instance`, different horizons, a bad count.
    """
    if isinstance(instance, str):
        tabular = {name: partial(row.instance, row.options()) for name, row in TASKS.items() if row.instance}
        require_known("instance", instance, tabular)
        check_once(TASKS[instance])
        instance = tabular[instance]
    drawn = [instance]
    if callable(instance):
        require(1 <= count <= replicates, "instances", count, f"in 1..replicates = {replicates}")
        drawn = [instance(seed)]
        entries = count * drawn[0].mdp.P.size if isinstance(drawn[0], Instance) else 0
        require(entries <= MDP_ENTRIES, "instances × entries of P", entries, f"at most {MDP_ENTRIES}")
        drawn += [instance(seed + i) for i in range(1, count)]
    for one in drawn:
        require(isinstance(one, Instance), "instance", one, "a name, an Instance or a function seed → Instance")
    same = all(one.mdp.horizon == drawn[0].mdp.horizon for one in drawn)
    require(same, "horizons", "different ones", "the same for all seeds")
    return drawn


def _said(eta: Any, delta: Any, setting: Setting | None, counts: dict[str, Any]) -> Setting:
    """The setting with the η that was said; raises `BadInput` for two different ones and for what is no number."""
    setting = setting or Setting()
    require(is_number(delta), "delta", delta, "a number")
    for name, value in counts.items():
        require(value is None or isinstance(value, int | np.integer), name, value, "a whole number")
    if eta is None:
        return setting
    require(is_number(eta), "eta", eta, "a number in [0, 1)")
    same = setting.eta is None or (is_number(setting.eta) and eta == setting.eta)
    require(same, "eta", eta, f"that of setting, {setting.eta}, or not given")
    return setting._replace(eta=eta)


def check_criterion(criterion: str, epsilon: Any, delta: float, by_level: bool) -> None:
    """Raise `BadInput` for an unknown criterion, an ε that it does not read or is missing, or δ that it cannot have."""
    require_known("criterion", criterion, CRITERIA)
    require(delta > 0.0, "delta", delta, "positive")
    require(delta < 1.0 or (criterion == "mean" and not by_level), "delta", delta, "in (0, 1)")
    if criterion == "mean":
        require(epsilon is None, "epsilon", epsilon, "given with criterion pac only")
        return
    most = 1.0 if by_level else np.inf
    fine = epsilon is not None and is_number(epsilon) and 0.0 < epsilon < most
    require(fine, "epsilon", epsilon, f"a number in (0, {most:g}) with criterion pac")


def check_path(row: Method) -> None:
    """Raise `BadInput` for a learner that the hidden path, of which informative states alone are simulated, would tell
    what it cannot know: which prefix is off the path, or, offline, which labels are on it."""
    other = f"another one for the method {row.name}: its prefixes off the path are not simulated (give the tree, "
    own = row.functions is None and not (row.own and row.driver == "expert")
    require(own, "instance", "hidden-path", other + "nail.envs.instances.hidden_path(H, A, secret))")


def n_star(
    instance: str | Instance | Factory, method: str, horizon: int | None = None, n_actions: int | None = None,
    eta: float | None = None, delta: float = 0.1, replicates: int = 2000, seed: int = 0, max_episodes: int = 100_000,
    setting: Setting | None = None, instances: int = 20, candidates: Float[np.ndarray, "N H S A"] | None = None,
    watch: Watch = lambda episodes, loss: None, criterion: str = "mean", epsilon: float | None = None, points: int = 1,
    noise: Channel | None = None,
) -> NStar:  # fmt: skip
    """Smallest number of episodes after which the learner's regret J(π*) − J(π̂) is <= δ in mean over replicates, or
    with the criterion "pac" <= ε = `epsilon` with probability >= 1 − δ over replicates.

    `instance` is one of

    - "poison-chain" or "hidden-path", with `horizon` and `n_actions`: each replicate has its own secret, and regret is
      1 − the probability of all H right actions. LogLossBC on the hidden path is held to `PATHS_BYTES` of trajectories;
    - an `Instance`: any finite MDP, with its own kernel ν unless `setting` has one. Regret is exact;
    - a function seed → `Instance`, called with seed, seed+1, ..: `instances` of them, with replicates // instances
      replicates each; the interval is then over instances, not replicates;
    - the name of another tabular task ("garnet", or one of `nail.add_instance`): that function at the task's default
      options.

    Ties go to the lowest action, so on a fixed instance whose right action is 0 a learner is right before it has seen
    anything. Draw right actions at random:

    >>> from nail.envs.instances import garnet
    >>> n_star(lambda seed: garnet(seed, 4, 6, 3, 2), "nail-f", eta=0.3, delta=0.02, replicates=200).value
    31

    With "pac" `mean_loss` is the share of wrong replicates. On the two named instances regret is 0 or 1, so "pac" is
    "mean". On one instance the interval is Clopper and Pearson's over replicates; over several it is Chernoff's of the
    share of wrong replicates of an instance, whose upper end takes log 40 / −log(1−δ) instances (36 at δ = 0.1), and
    with one replicate an instance Clopper and Pearson's again. With `points`, episodes go on until the interval that
    holds at so many points at once (`NStar.wider`) has settled.

    `setting` holds the other numbers (kernel, what a learner is told, β, decay). η is `eta` or the setting's, 0.5 if
    neither is given. `noise` is another channel of labels (docs/noise.md): `nail.noise.Huber` with rates by level (H,)
    on the two names, or by state (`ByState`) what broadcasts to (H, S) on others; `Bursts`; or a named tuple of yours
    with a function `probs` from laws to laws. `candidates` is the finite class of nail-class, and
    `watch` hears how far the search is. Raises `BadInput` for an unknown instance or method, a method that counts
    cannot stand for, H or A where the instance has its own, laws that are no laws, two different η, η outside [0, 1), ρ
    as `check_burst`, rates of another shape, δ <= 0 (or >= 1 on the two names, or with "pac"), an unknown criterion, ε
    <= 0 (or >= 1 on the two names) or none with "pac", any with "mean", replicates, instances, max_episodes or points <
    1, what is no number where one is asked for. Source: docs/theory.md §4.1, §4.2, §5.
    """
    counts = {"horizon": horizon, "n_actions": n_actions, "replicates": replicates, "seed": seed,
              "max_episodes": max_episodes, "instances": instances}  # fmt: skip
    setting, budget = with_noise(_said(eta, delta, setting, counts), noise), max_episodes
    require(max_episodes >= 1, "max_episodes", max_episodes, "at least 1")
    require(replicates >= 1, "replicates", replicates, "at least 1")
    check_criterion(criterion, epsilon, delta, instance in INSTANCES)
    if instance == "hidden-path":
        check_path(METHOD.find(method))
    if instance in INSTANCES:
        require(horizon is not None and n_actions is not None, "horizon, n_actions", (horizon, n_actions), "given")
        if isinstance(setting.kernel, Wrong):
            refuse_told(method)
        if instance == "hidden-path" and learner(method, by_level=True).driver is EXPERT:
            levels.begin(horizon, n_actions, 1, 0)
            setting, budget = paths.as_uniform(setting, n_actions), path_budget(horizon, replicates, max_episodes)
            octaves = path_octaves(horizon, n_actions, setting, replicates, seed, budget, delta)
        else:
            octaves = level_octaves(method, horizon, n_actions, setting, replicates, seed, budget)
    else:
        require(horizon is None and n_actions is None, "horizon, n_actions", (horizon, n_actions), "the instance's own")
        drawn = draw(instance, seed, instances, replicates)
        cells = replicates * drawn[0].mdp.r.size
        require(cells <= MDP_CELLS, "replicates × H × S × A", cells, f"at most {MDP_CELLS}")
        horizon = drawn[0].mdp.horizon
        octaves = instance_octaves(drawn, method, setting, replicates, seed, budget, candidates, epsilon=epsilon)
    asked, shares = oracle(method), criterion == "pac"
    answers = Answers(octaves, horizon * (2 if asked == "labels and probabilities" else 1))
    together = max(points, 2) if learner(method).counts_answers else points
    return answers.counted(crossing(answers.octaves(), delta, horizon, budget, asked, watch, together, shares))

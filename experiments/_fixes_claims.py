"""What `opd_fixes` claims, and what would refute it (docs/post_training.md §1.6)."""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float

from nail.figures.experiment import Claim
from nail.stats import trend_test

from ._training import LEVEL, SOLVED, UNSOLVED, each_seed, late, per_seed, times_by

SAMPLED, FULL = "sampled token", "full law"
SCRATCH, OFFLINE = "from scratch", "from an offline start"
NARROW, WIDE = 0.5, 0.9
"""masses up to which, and from which on, rollouts of a student equal to the noisy law are greedy, and are not"""
LEAST = 1 - 1 / math.e
"""mass that leaves the support at the minimum without renormalisation, where the support holds all of the expert's"""
NUCLEI, ENDS, ECHO = "docs/post_training.md §1.3", "docs/post_training.md §1.2", "docs/post_training.md §1.4"


def claims_of(rows: pd.DataFrame) -> list[Claim]:
    """All claims, each with its numbers; `rows` as `opd_fixes.prepared` gives them, first stages left out."""
    settings = dict(iter(rows.groupby(["recovery", "begun", "objective"], sort=False)))
    found = [_unsolved_start_claim(rows)]
    for (recovery, begun, objective), part in settings.items():
        name = f"{objective}, {begun}"
        if recovery == "echo":
            found += _echo_claims(part, objective)
        elif objective in (SAMPLED, FULL):
            found += _nucleus_claims(part, name)
        elif objective.startswith("LSM"):
            found.append(_solves(part, name, 0.0, ENDS))
        else:
            found.append(_collapse_claim(part, objective))
    two = {begun: settings["none", begun, "LSM, K = 2"] for begun in (SCRATCH, OFFLINE)}
    found += [_does_not_solve(part, f"LSM, K = 2, {begun}", 1.0, ENDS) for begun, part in two.items()]
    return [*found, _leak_claim(two[SCRATCH]), _kept_claim(two)]


def _unsolved_start_claim(rows: pd.DataFrame) -> Claim:
    """Each start's accuracy is in the rows of all stages that go on from it."""
    begun = rows[(rows.begun == OFFLINE) & (rows.step == 0)].groupby("seed").full_exact.first()
    return Claim(
        f"LogLossBC, the offline start: it does not solve the task itself (full chain < {UNSOLVED}, every seed)",
        "docs/theory.md §3.3", f"one seed at {UNSOLVED} or more at its end",
        f"full-chain accuracy per seed: {per_seed(begun)}", bool((begun < UNSOLVED).all()),
    )  # fmt: skip


def _nucleus_claims(rows: pd.DataFrame, name: str) -> list[Claim]:
    """The prediction of docs/post_training.md §1.3, from both of its sides, and the order between."""
    masses, times = times_by(rows, "rule_number")
    p = trend_test(times, masses, np.random.default_rng(0))
    return [
        _solves(rows, name, NARROW, NUCLEI), _does_not_solve(rows, name, WIDE, NUCLEI),
        Claim(
            f"{name}: the wider the nucleus, the later the task is solved (Page's test, masses permuted within "
            f"seeds, p < {LEVEL:g})", NUCLEI, f"p ≥ {LEVEL:g}",
            f"p = {p:.2g}; thousand episodes per seed: "
            + "; ".join(f"mass {x:g}: {each_seed(column)}" for x, column in zip(masses, times.T, strict=True)),
            p < LEVEL,
        ),
        _threshold_claim(rows, name),
    ]  # fmt: skip


def _threshold_claim(rows: pd.DataFrame, name: str) -> Claim:
    """The masses next to the threshold: below it rollouts of a fitted student are greedy, above it they are not."""
    row, accuracies = next(rows.itertuples()), _accuracies(rows)
    threshold = 1 - row.eta + row.eta / row.p
    below, above = max(x for x in accuracies if x <= threshold), min(x for x in accuracies if x > threshold)
    return Claim(
        f"{name}: past the threshold 1−η+η/p = {threshold:.3g} accuracy falls, from mass {below:g} to mass {above:g} "
        "(every seed)", NUCLEI, f"one seed that is as good at mass {above:g} (median over the last quarter)",
        _measured({mass: accuracies[mass] for mass in (below, above)}),
        bool((accuracies[below] > accuracies[above]).all()),
    )  # fmt: skip


def _accuracies(rows: pd.DataFrame) -> dict[float, Float[np.ndarray, " seeds"]]:
    """Mass of the nucleus → full-chain accuracy per seed over the last quarter."""
    return {mass: late(chosen, "full_exact") for mass, chosen in rows.groupby("rule_number")}


def _measured(accuracies: dict[float, np.ndarray]) -> str:
    return "full-chain accuracy per seed: " + "; ".join(f"mass {x:g}: {per_seed(v)}" for x, v in accuracies.items())


def _solves(rows: pd.DataFrame, name: str, most: float, source: str) -> Claim:
    accuracies = _accuracies(rows[rows.rule_number <= most])
    return Claim(
        f"{name}: rollouts from nuclei of mass at most {most:g} solve the task (full chain ≥ {SOLVED}, every "
        "seed)", source, f"one seed below {SOLVED} over the last quarter (median of its evaluations)",
        _measured(accuracies),
        all((values >= SOLVED).all() for values in accuracies.values()),
    )  # fmt: skip


def _does_not_solve(rows: pd.DataFrame, name: str, least: float, source: str) -> Claim:
    accuracies = _accuracies(rows[rows.rule_number >= least])
    return Claim(
        f"{name}: rollouts from nuclei of mass {least:g} or more do not solve the task (full chain < {UNSOLVED}, "
        "every seed)", source, f"one seed at {UNSOLVED} or more over the last quarter (median of its evaluations)",
        _measured(accuracies), all((values < UNSOLVED).all() for values in accuracies.values()),
    )  # fmt: skip


def _first_off(rows: pd.DataFrame) -> Float[np.ndarray, " seeds"]:
    """Mass off the support at the first position with sampled rollouts, per seed."""
    return late(rows[rows.rule_number == 1.0], "first_off")


def _leak_claim(rows: pd.DataFrame) -> Claim:
    row = next(rows.itertuples())
    own, mass = row.eta * (row.p - 2) / row.p, _first_off(rows)
    return Claim(
        f"LSM, K = 2, {SCRATCH}, sampled rollouts: more mass stays off the support than the expert has there (first "
        "position, every seed)", ENDS,
        f"one seed with a mass of {own:.3g} or less at the first position (median over the last quarter)",
        f"mass per seed: {per_seed(mass)}; the expert's: {own:.3g}", bool((mass > own).all()),
    )  # fmt: skip


def _kept_claim(two: dict[str, pd.DataFrame]) -> Claim:
    scratch, offline = _first_off(two[SCRATCH]), _first_off(two[OFFLINE])
    return Claim(
        f"LSM, K = 2, sampled rollouts: less mass is off the support {OFFLINE} than {SCRATCH} (first position, every "
        "seed)", ENDS, "one seed with as much or more (median over the last quarter)",
        f"mass per seed: {per_seed(offline)}, {SCRATCH}: {per_seed(scratch)}", bool((offline < scratch).all()),
    )  # fmt: skip


def _collapse_claim(rows: pd.DataFrame, objective: str) -> Claim:
    mass = late(rows, "off")
    return Claim(
        f"{objective}: at least {LEAST:.3g} of the mass leaves the support (every seed)", ENDS,
        "one seed with less (mean over positions, median over the last quarter)", f"mass per seed: {per_seed(mass)}",
        bool((mass >= LEAST).all()),
    )  # fmt: skip


def _echo_claims(rows: pd.DataFrame, objective: str) -> list[Claim]:
    """Sampled rollouts learn to repeat, whatever the objective; greedy ones stay where there is nothing to echo."""
    sampled, greedy = (rows[rows.rule_number == mass] for mass in (1.0, 0.0))
    before, after = sampled[sampled.step == 0].repeats.to_numpy(), late(sampled, "repeats")
    mended, accuracy = late(greedy, "repeats"), late(greedy, "full_exact")
    return [
        Claim(
            f"echo, {objective}: under sampled rollouts repetition rises (every seed)", ECHO,
            "one seed whose share of repeated tokens over the last quarter is not above that before training",
            f"share per seed before: {per_seed(before)}; after: {per_seed(after)}", bool((after > before).all()),
        ),
        Claim(
            f"echo, {objective}: greedy rollouts mend it (they solve the task and repeat less, every seed)", ECHO,
            f"one seed with greedy rollouts whose full-chain accuracy over the last quarter is below {SOLVED}, or that "
            "repeats as often as with sampled ones",
            f"share of repeated tokens per seed: {per_seed(mended)}, sampled: {per_seed(after)}; full-chain accuracy: "
            f"{per_seed(accuracy)}", bool(((accuracy >= SOLVED) & (mended < after)).all()),
        ),
    ]  # fmt: skip

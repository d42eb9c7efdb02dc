"""Rows that refute: every claim of a figure is fed rows under which its verdict turns."""

from pathlib import Path

from nail.figures import experiment
from nail.sweep.table import read_rows

FIGURES = Path(__file__).parent.parent / "figures"


def stored(name):
    """The rows of a figure that are kept in figures/, those of the preset `cpu`."""
    return read_rows(FIGURES / f"{name}_rows.csv")


def verdicts(name, rows):
    """Statement → whether it holds of these rows; None if they do not decide it."""
    claims = experiment.load(name).claims(rows)
    assert all(claim.refutes for claim in claims), "a claim does not say what would refute it"
    found = {claim.claim: None if claim.holds is None else bool(claim.holds) for claim in claims}
    assert len(found) == len(claims), "two claims make the same statement"
    return found


def unturned(name, rows, changes):
    """What is left to be wished of `changes` (part of a statement → function of rows), in sentences.

    The claims whose statement contains the part must turn when the rows are changed: from holding to refuted, or, where
    the measurement refutes them already, the other way round. Every claim must be turned by some change.
    """
    before, left, turned = verdicts(name, rows), [], set()
    for part, change in changes.items():
        meant = {claim for claim in before if part in claim}
        after = verdicts(name, change(rows.copy()))
        left += [] if meant else [f"{name}: no claim says {part!r}"]
        left += [f"{name}: not turned by the change for {part!r}: {claim}" for claim in meant
                 if after.get(claim) is not (not before[claim])]  # fmt: skip
        turned |= meant
    return left + [f"{name}: no change for: {claim}" for claim in before if claim not in turned]

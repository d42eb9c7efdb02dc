"""A claim of a figure: a statement, what would refute it, what its rows must have, what was measured, the verdict."""

from collections.abc import Callable
from typing import NamedTuple

from nail.checks import printable
from nail.registry import document_fields

HOLDS, REFUTED, UNDECIDED = "holds", "refuted", "undecided"
"""the words of a verdict"""
OLDER = {"does not hold": REFUTED}
"""words of tables that were written before there were three → the words now"""


class Claim(NamedTuple):
    """A statement that a figure is to support, what would refute it, said beforehand, and what was measured.

    Where `holds` is None the claim is undecided: the rows lack something that it `needs`.
    """

    claim: str
    source: str
    refutes: str
    """what rows would have to show for the claim to fall, thresholds included"""
    measured: str
    holds: bool | None
    needs: str = ""
    """what rows must have for a verdict, whatever it is"""

    @property
    def verdict(self) -> str:
        """holds, refuted or undecided."""
        return UNDECIDED if self.holds is None else HOLDS if self.holds else REFUTED


def judged(
    claim: str, source: str, refutes: str, needs: dict[str, bool], measure: Callable[[], tuple[str, bool | None]]
) -> Claim:
    """A claim with its verdict where the rows have all that it needs, else one that is undecided.

    `needs` says of each need whether the rows have it; `measure` gives (what was measured, whether the claim holds, or
    None) and is called only then.
    """
    lacking, said = [need for need, there in needs.items() if not there], "; ".join(needs)
    if lacking:
        return Claim(claim, source, refutes, f"not judged: these rows lack {'; '.join(lacking)}", None, said)
    measured, holds = measure()
    return Claim(claim, source, refutes, measured, None if holds is None else bool(holds), said)


def every(*verdicts: bool | None) -> bool | None:
    """Whether all of some statements hold: one that is refuted refutes them together, else an undecided one leaves them
    undecided."""
    return False if False in verdicts else None if None in verdicts else True


def inside(interval: tuple[float, float], low: float, high: float) -> bool | None:
    """Whether what an interval is for lies in [low, high]: refuted where the interval is narrow enough to lie in there
    and does not, or lies wholly outside; undecided where it is wider than [low, high] and meets it."""
    if low <= interval[0] and interval[1] <= high:
        return True
    apart = interval[1] < low or interval[0] > high
    return False if apart or interval[1] - interval[0] <= high - low else None


def verdict_of(word: str) -> str:
    """The verdict that a table of claims says, in the words of today; another word as it is."""
    return OLDER.get(word, word)


def print_claims(claims: list[Claim]) -> None:
    """A readable table on standard output."""
    for claim in claims:
        word = claim.verdict.upper() if claim.holds is False else claim.verdict
        print(f"{word:>13}  {printable(claim.claim)} ({claim.source})")
        print(f"{'':>13}  measured: {printable(claim.measured)}")
        print(f"{'':>13}  refuted by: {printable(claim.refutes)}")
        if claim.holds is None:
            print(f"{'':>13}  needs: {printable(claim.needs)}")


document_fields(__name__)
